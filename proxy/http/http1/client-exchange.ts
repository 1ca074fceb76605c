import type { NativeBuffer } from '../../native/memory.ts';
import type { Trailers } from '../../protocol/http-head.ts';
import type { Http1RequestHead } from '../../protocol/http1/request-head.ts';
import type { Channel } from '../../reactor/channel.ts';
import type { ClientExchange, ResponseEvents } from '../exchange.ts';
import type { BodyWriter } from './body-writer.ts';

/** What an exchange needs of its session. */
export interface RequestCarrier {
  readonly channel: Channel;
  readonly writer: BodyWriter;
  /** All of the request was written. */
  onRequestWritten(): void;
  /** Raw: no more will be written. */
  onRawFinished(): void;
  /** What was to be written contradicts the request's head. */
  onBadRequestBody(detail: string): void;
  onAbandoned(detail: string): void;
  onPaused(): void;
  onResumed(): void;
  /** Something passed in the request's direction. */
  touch(): void;
}

/** One request on an HTTP/1 connection to whoever answers. */
export class Http1ClientExchange implements ClientExchange {
  readonly head: Http1RequestHead;
  readonly events: ResponseEvents;
  readonly #carrier: RequestCarrier;
  /** Nothing more is written. */
  #written: boolean;
  #raw = false;
  #paused = false;
  #over = false;

  constructor(carrier: RequestCarrier, head: Http1RequestHead, ends: boolean, events: ResponseEvents) {
    this.#carrier = carrier;
    this.head = head;
    this.#written = ends;
    this.events = events;
  }

  get written(): boolean {
    return this.#written;
  }

  get paused(): boolean {
    return this.#paused;
  }

  /** Of the session: both directions carry raw bytes from now on. */
  becomeRaw(): void {
    this.#raw = true;
    this.#written = false;
  }

  /** Of the session: nothing that is still said has an effect. */
  release(): void {
    this.#over = true;
  }

  write(from: NativeBuffer, start: number, end: number): void {
    if (this.#over || this.#written) return;
    if (this.#carrier.writer.write(from, start, end)) this.#carrier.touch();
    else this.#carrier.onBadRequestBody('a request longer than its Content-Length');
  }

  finish(trailers: Trailers | null): void {
    if (this.#over || this.#written) return;
    this.#written = true;
    if (this.#raw) this.#carrier.onRawFinished();
    else if (this.#carrier.writer.finish(trailers)) this.#carrier.onRequestWritten();
    else this.#carrier.onBadRequestBody('a request shorter than its Content-Length');
  }

  abort(detail: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#carrier.onAbandoned(detail);
  }

  get congested(): boolean {
    return !this.#over && this.#carrier.channel.congested;
  }

  pause(): void {
    if (this.#over || this.#paused) return;
    this.#paused = true;
    this.#carrier.onPaused();
  }

  resume(): void {
    if (this.#over || !this.#paused) return;
    this.#paused = false;
    this.#carrier.onResumed();
  }
}
