import type { HeaderList } from '../protocol/hpack/header-list.ts';
import type { Loop } from '../reactor/loop.ts';
import type { FrameOutput } from './output.ts';
import type { Http2Stream } from './stream.ts';

export interface OutboxEvents {
  /** `congested` is not true any more. Never from within a call of the outbox. */
  onOutboxDrain(): void;
  /** END_STREAM is on its way, after everything that was written; also from within `end`. */
  onOutboxEnd(): void;
}

/**
 * What is written to one stream: it leaves as DATA as far as the windows and the room allow, and the rest waits here. Whoever writes stops while
 * it is `congested`: then no more waits than one read's worth.
 */
export class StreamOutbox {
  readonly #loop: Loop;
  readonly #output: FrameOutput;
  readonly #stream: Http2Stream;
  readonly #events: OutboxEvents;
  #waiting: Buffer[] = [];
  #congested = false;
  /** `undefined`: not ended. */
  #trailers: HeaderList | null | undefined = undefined;
  #endSent = false;
  /** How many bytes may leave before `unlimited`. */
  #allowance: number;

  constructor(loop: Loop, output: FrameOutput, stream: Http2Stream, events: OutboxEvents, allowance: number) {
    this.#loop = loop;
    this.#output = output;
    this.#stream = stream;
    this.#events = events;
    this.#allowance = allowance;
  }

  get congested(): boolean {
    return this.#congested;
  }

  /** All was written and has left. */
  get endSent(): boolean {
    return this.#endSent;
  }

  /** Whether bytes, or the end, wait for the peer's window or for room. */
  get waits(): boolean {
    return this.#waiting.length > 0;
  }

  write(bytes: Buffer, start: number, end: number): void {
    if (this.#trailers !== undefined || start >= end) return;
    const sent = this.#waiting.length > 0 ? 0 : this.#send(bytes, start, end);
    if (start + sent < end) this.#waiting.push(Buffer.from(bytes.subarray(start + sent, end)));
    if (this.#waiting.length > 0) this.#congested = true;
  }

  #send(bytes: Buffer, start: number, end: number): number {
    const sent = this.#output.sendData(this.#stream, bytes, start, Math.min(end, start + this.#allowance));
    this.#allowance -= sent;
    if (sent > 0) this.#stream.lastActivity = this.#loop.now;
    return sent;
  }

  /** Nothing more will be written. */
  end(trailers: HeaderList | null): void {
    if (this.#trailers !== undefined) return;
    this.#trailers = trailers;
    if (this.#waiting.length === 0) this.#sendEnd();
  }

  /** A header block that is on its way has ended the stream already. */
  endedByHeaders(): void {
    this.#trailers = null;
    this.#endSent = true;
    this.#events.onOutboxEnd();
  }

  #sendEnd(): void {
    this.#endSent = true;
    if (this.#trailers === null || this.#trailers === undefined) this.#output.sendEnd(this.#stream.id);
    else this.#output.sendHeaders(this.#stream.id, this.#trailers, true);
    this.#events.onOutboxEnd();
  }

  /** No bound but the windows from now on. */
  unlimited(): void {
    this.#allowance = Number.POSITIVE_INFINITY;
    this.pump();
  }

  /** Window or room came back: sends what waits. */
  pump(): void {
    while (this.#waiting.length > 0) {
      const first = this.#waiting[0] as Buffer;
      const sent = this.#send(first, 0, first.length);
      if (sent < first.length) {
        if (sent > 0) this.#waiting[0] = first.subarray(sent);
        return;
      }
      this.#waiting.shift();
    }
    if (this.#trailers !== undefined) {
      if (!this.#endSent) this.#sendEnd();
    } else if (this.#congested) {
      this.#congested = false;
      this.#events.onOutboxDrain();
    }
  }

  clear(): void {
    this.#waiting = [];
    this.#trailers = null;
    this.#endSent = true;
  }
}
