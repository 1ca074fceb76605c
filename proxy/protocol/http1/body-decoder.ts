import type { HttpLimits } from '../../worker/messages.ts';
import { ChunkHeadReader } from './chunk-head.ts';
import type { Http1Trailers } from './fields.ts';
import { type BodyFraming, NO_BODY } from './framing.ts';
import { CR, LF } from './grammar.ts';
import { TrailerSection } from './trailer-section.ts';

/** Who gets the payload. NEVER begins or decodes from within. */
export interface BodySink {
  /** Bytes of the payload where they lie: `bytes[start, end)`, at least one. */
  onBody(bytes: Buffer, start: number, end: number): void;
}

/** Where in a chunked body it is. */
const HEAD = 0;
const DATA = 1;
const DATA_CR = 2;
const DATA_LF = 3;
const TRAILERS = 4;

/**
 * Takes the bodies of one connection's messages apart, one after the other (RFC 9112, sections 6 and 7). Nothing is copied but trailers. ALWAYS: the result
 * depends on the bytes alone, not on how they were split; after `failure` nothing more of the connection can be understood.
 */
export class BodyDecoder {
  readonly #limits: HttpLimits;
  #framing: BodyFraming = NO_BODY;
  #done = true;
  #failure: string | null = null;
  #state = HEAD;
  /** Bytes of the body, or of the chunk, that are still to come. */
  #left = 0;
  readonly #head = new ChunkHeadReader();
  #section: TrailerSection | null = null;

  constructor(limits: HttpLimits) {
    this.#limits = limits;
  }

  get framing(): BodyFraming {
    return this.#framing;
  }

  /** The message is complete. */
  get done(): boolean {
    return this.#done;
  }

  /** Why the body cannot be understood, for the log; null: it can. */
  get failure(): string | null {
    return this.#failure;
  }

  /** Of a message that is done; null where it had none. */
  get trailers(): Http1Trailers | null {
    return this.#section?.trailers ?? null;
  }

  /** A new message, of which the head has been read. */
  begin(framing: BodyFraming): void {
    this.#framing = framing;
    this.#done = framing.kind === 'none';
    this.#failure = null;
    this.#left = framing.kind === 'length' ? framing.length : 0;
    this.#section = null;
    this.#enter(HEAD);
  }

  /**
   * Takes what belongs to the message out of `bytes[start, end)`.
   * @returns the position after it, `end` unless it is now `done` or has a `failure`
   */
  decode(bytes: Buffer, start: number, end: number, sink: BodySink): number {
    if (this.#done || this.#failure !== null || start >= end) return start;
    switch (this.#framing.kind) {
      case 'none':
        return start;
      case 'length': {
        const after = this.#payload(bytes, start, end, sink);
        if (this.#left === 0) this.#done = true;
        return after;
      }
      case 'chunked':
        return this.#decodeChunked(bytes, start, end, sink);
      case 'until-close':
      case 'raw':
        sink.onBody(bytes, start, end);
        return end;
    }
  }

  /** The connection ends here: that completes a body without an end of its own, and cuts off every other. */
  endOfInput(): void {
    if (this.#done || this.#failure !== null) return;
    if (this.#framing.kind === 'until-close' || this.#framing.kind === 'raw') this.#done = true;
    else this.#failure = 'the connection ended within a body';
  }

  #payload(bytes: Buffer, start: number, end: number, sink: BodySink): number {
    const after = Math.min(end, start + this.#left);
    this.#left -= after - start;
    sink.onBody(bytes, start, after);
    return after;
  }

  #decodeChunked(bytes: Buffer, start: number, end: number, sink: BodySink): number {
    let p = start;
    while (p < end && !this.#done && this.#failure === null) {
      switch (this.#state) {
        case HEAD:
          p = this.#readHead(bytes, p, end);
          break;
        case DATA:
          p = this.#payload(bytes, p, end, sink);
          if (this.#left === 0) this.#state = DATA_CR;
          break;
        case DATA_CR:
        case DATA_LF:
          p = this.#readDataEnd(bytes, p);
          break;
        default:
          p = this.#readTrailers(bytes, p, end);
      }
    }
    return p;
  }

  #enter(state: number): void {
    this.#state = state;
    if (state === HEAD) this.#head.reset();
  }

  #readHead(bytes: Buffer, start: number, end: number): number {
    const head = this.#head;
    const p = head.read(bytes, start, end);
    if (head.failure !== null) this.#failure = head.failure;
    else if (head.done) {
      this.#left = head.size;
      this.#state = head.size === 0 ? TRAILERS : DATA;
    }
    return p;
  }

  #readDataEnd(bytes: Buffer, p: number): number {
    if (bytes[p] !== (this.#state === DATA_CR ? CR : LF)) this.#failure = 'a chunk does not end with CRLF';
    else this.#enter(this.#state === DATA_CR ? DATA_LF : HEAD);
    return p + 1;
  }

  #readTrailers(bytes: Buffer, start: number, end: number): number {
    if (this.#section === null) {
      if (start + 1 < end && bytes[start] === CR && bytes[start + 1] === LF) {
        this.#done = true;
        return start + 2;
      }
      this.#section = new TrailerSection(this.#limits);
    }
    const after = this.#section.take(bytes, start, end);
    this.#failure = this.#section.failure;
    this.#done = this.#section.done;
    return after;
  }
}
