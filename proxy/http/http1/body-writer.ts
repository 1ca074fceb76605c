import type { NativeBuffer } from '../../native/memory.ts';
import type { Trailers } from '../../protocol/http-head.ts';
import {
  CHUNK_END_BYTES,
  lastChunkBytes,
  MAX_CHUNK_HEAD_BYTES,
  writeChunkEnd,
  writeChunkHead,
  writeLastChunk,
} from '../../protocol/http1/body-encoder.ts';
import { Http1Trailers } from '../../protocol/http1/fields.ts';
import { type BodyFraming, NO_BODY } from '../../protocol/http1/framing.ts';
import type { Channel } from '../../reactor/channel.ts';
import { wireBuffer } from './wire.ts';

/**
 * Writes the bodies of one connection's messages, one after the other. NEVER more or less than was declared: the peer would take what follows for
 * part of the body, or part of the body for what follows.
 */
export class BodyWriter {
  readonly #channel: Channel;
  #framing: BodyFraming = NO_BODY;
  /** Bytes of a body of known length that are still to be written. */
  #left = 0;

  constructor(channel: Channel) {
    this.#channel = channel;
  }

  /** A new message, of which the head has been written. */
  begin(framing: BodyFraming): void {
    this.#framing = framing;
    this.#left = framing.kind === 'length' ? framing.length : 0;
  }

  /** @returns false where the body is longer than was declared: nothing is written then. */
  write(from: NativeBuffer, start: number, end: number): boolean {
    // An empty chunk would end the body.
    if (start >= end) return true;
    switch (this.#framing.kind) {
      case 'chunked':
        this.#writeChunk(from, start, end);
        return true;
      case 'until-close':
      case 'raw':
        this.#channel.write(from, start, end);
        return true;
      default:
        if (end - start > this.#left) return false;
        this.#left -= end - start;
        this.#channel.write(from, start, end);
        return true;
    }
  }

  #writeChunk(from: NativeBuffer, start: number, end: number): void {
    const wire = wireBuffer(MAX_CHUNK_HEAD_BYTES);
    this.#channel.write(wire, 0, writeChunkHead(wire.bytes, 0, end - start));
    this.#channel.write(from, start, end);
    writeChunkEnd(wire.bytes, 0);
    this.#channel.write(wire, 0, CHUNK_END_BYTES);
  }

  /**
   * The body is complete. Trailers go where there is a place for them, a chunked body, whether the peer has asked for them or not: its parser has to read
   * them in any case, and whoever sent them knows better than a proxy what they are for (RFC 9110, section 6.5.1).
   * @returns false where the body is shorter than was declared
   */
  finish(trailers: Trailers | null): boolean {
    if (this.#framing.kind !== 'chunked') return this.#left === 0;
    const own = trailers instanceof Http1Trailers ? trailers : null;
    const wire = wireBuffer(lastChunkBytes(own));
    this.#channel.write(wire, 0, writeLastChunk(wire.bytes, 0, own));
    return true;
  }
}
