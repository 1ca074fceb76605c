import type { BodyDecoder, BodySink } from '../../protocol/http1/body-decoder.ts';

/** Joins the payload of several chunks where it lies, over their heads and ends, which have been read. */
class Gatherer implements BodySink {
  start = 0;
  end = 0;

  onBody(bytes: Buffer, start: number, end: number): void {
    if (this.end === this.start) this.start = this.end = start;
    if (start !== this.end) bytes.copyWithin(this.end, start, end);
    this.end += end - start;
  }
}

/** Scratch of one call: decoding never yields. */
const gatherer = new Gatherer();

/** What one read brought of a body. */
export interface Payload {
  /** `[start, end)` of the bytes; the same where there is none. */
  readonly start: number;
  readonly end: number;
}

/** The payload of the last `takePayload`; valid until the next. */
export const payload: Payload = gatherer;

/**
 * Takes what belongs to the message out of `bytes[start, end)`, of which it may overwrite what it takes: many small chunks become one piece, `payload`.
 * @returns the position after it
 */
export function takePayload(decoder: BodyDecoder, bytes: Buffer, start: number, end: number): number {
  gatherer.start = 0;
  gatherer.end = 0;
  return decoder.decode(bytes, start, end, gatherer);
}
