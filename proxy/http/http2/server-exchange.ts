import { ErrorCode } from '../../http2/frames.ts';
import type { NativeBuffer } from '../../native/memory.ts';
import type { HeaderList } from '../../protocol/hpack/header-list.ts';
import type { LocalReply, RequestHead, ResponseHead, Trailers } from '../../protocol/http-head.ts';
import type { HttpLimits } from '../../worker/messages.ts';
import type { AbortFault, RequestEvents, ServerExchange } from '../exchange.ts';
import { type BreakKind, ExchangeStream, type HttpConnection } from './exchange-stream.ts';
import type { Fault } from './field-rules.ts';
import { Http2RequestHead, replyList, responseList } from './heads.ts';
import { readRequest } from './request-rules.ts';

/** What a session does with the streams that a client opens. */
export interface ServerExchangeOwner {
  readonly limits: HttpLimits;
  /** The head is complete and good. */
  onRequest(exchange: ServerExchange): void;
  onRejected(status: number, detail: string, head: RequestHead | null): void;
}

const ABORT_FAULTS: { readonly [kind in BreakKind]: AbortFault } = {
  refused: 'disconnect',
  reset: 'disconnect',
  lost: 'disconnect',
  fault: 'protocol',
  timeout: 'timeout',
  evicted: 'evicted',
};

/** Stands for the head until there is one: nobody sees the exchange before. */
const NO_HEAD = new Http2RequestHead(
  { method: '', target: '', authority: '', scheme: 'http', contentLength: null, receivedBytes: 0 },
  [],
);

/** A request that a client has opened a stream for. */
export class Http2ServerExchange extends ExchangeStream implements ServerExchange {
  head = NO_HEAD;
  bodyless = false;
  readonly #owner: ServerExchangeOwner;
  #events: RequestEvents | null = null;
  /** The final response has begun. */
  #responded = false;
  /** It ended before it was complete. `status`: of the response that was sent in place of another; 0: none. */
  #aborted: { readonly detail: string; readonly fault: AbortFault; readonly status: number } | null = null;
  #lastWord = 0;

  constructor(connection: HttpConnection, id: number, sendWindow: number, owner: ServerExchangeOwner) {
    super(connection, id, sendWindow);
    this.#owner = owner;
  }

  get joined(): boolean {
    return this.#responded;
  }

  get responded(): boolean {
    return this.#responded;
  }

  // ---- what comes ----

  protected onHead(headers: HeaderList | null, ends: boolean): boolean {
    const read: Http2RequestHead | Fault =
      headers === null
        ? { status: 431, detail: 'the head is larger than allowed' }
        : readRequest(headers, ends, this.#owner.limits);
    if (!(read instanceof Http2RequestHead)) {
      this.#reject(read, ends);
      return true;
    }
    this.head = read;
    this.bodyless = ends;
    this.expectBody(read.contentLength);
    if (ends) this.noteEnd(true);
    this.#owner.onRequest(this);
    return true;
  }

  /** A malformed request is answered and reset (RFC 9113, 8.1.1); one that is too large is well-formed, and what is left of it is not wanted. */
  #reject({ status, detail }: Fault, ends: boolean): void {
    this.#responded = true;
    const { output } = this.connection;
    output.sendHeaders(this.id, replyList({ status, headers: [], body: '' }, 0), true);
    if (status === 400) output.sendReset(this.id, ErrorCode.PROTOCOL_ERROR);
    else if (!ends) output.sendReset(this.id, ErrorCode.NO_ERROR);
    this.end();
    this.#owner.onRejected(status, detail, null);
    this.connection.notePeerFault();
  }

  protected onBody(from: NativeBuffer, start: number, end: number): void {
    this.#events?.onRequestBody(from, start, end);
  }

  protected onMessageEnd(trailers: Trailers | null): void {
    if (!this.bodyless) this.#events?.onRequestEnd(trailers);
  }

  protected onDrained(): void {
    this.#events?.onResponseDrain();
  }

  protected onBroken(kind: BreakKind, detail: string): void {
    this.#aborted = { detail, fault: ABORT_FAULTS[kind], status: this.#lastWord };
    if (this.#events !== null) this.#tellLater();
  }

  /** Perhaps it ended by a call of the listener's own. */
  #tellLater(): void {
    this.connection.loop.later(() => {
      const [events, aborted] = [this.#events, this.#aborted];
      this.#events = null;
      if (aborted !== null) events?.onRequestAborted(aborted.detail, aborted.fault, aborted.status);
    });
  }

  /**
   * Silent for too long. Where it is the client that is waited for, its body or its window, that is the end of it. A response is waited for by
   * whoever the request was sent to; but perhaps it was sent to nobody yet: no request waits for ever.
   */
  check(now: number): void {
    const { streamIdleTimeoutMs } = this.#owner.limits;
    const silent = now - this.lastActivity;
    if (streamIdleTimeoutMs === 0 || silent <= streamIdleTimeoutMs) return;
    const detail = `no bytes for ${streamIdleTimeoutMs} ms`;
    if (this.outbox.waits || (!this.peerEnded && !this.held)) this.break('timeout', detail, ErrorCode.CANCEL);
    else if (!this.#responded && silent > 2 * streamIdleTimeoutMs) this.#expire(detail);
  }

  #expire(detail: string): void {
    this.#responded = true;
    this.#lastWord = 504;
    this.connection.output.sendHeaders(this.id, replyList({ status: 504, headers: [], body: '' }, 0), true);
    this.break('timeout', detail, this.peerEnded ? -1 : ErrorCode.NO_ERROR);
  }

  // ---- the response ----

  receive(events: RequestEvents): void {
    this.#events = events;
    if (this.#aborted !== null) this.#tellLater();
    this.openReader();
  }

  informational(head: ResponseHead): void {
    if (!this.over && !this.#responded) this.#send(responseList(head), false);
  }

  respond(head: ResponseHead, ends: boolean): void {
    if (this.over || this.#responded) return;
    this.#responded = true;
    if (this.#send(responseList(head), ends) && ends) this.outbox.endedByHeaders();
  }

  override write(from: NativeBuffer, start: number, end: number): void {
    if (this.#responded && this.head.method !== 'HEAD') super.write(from, start, end);
  }

  override finish(trailers: Trailers | null): void {
    if (this.#responded) super.finish(trailers);
  }

  reply(response: LocalReply): void {
    if (this.over || this.#responded) return;
    this.#responded = true;
    const body = Buffer.from(response.body, 'utf8');
    const ends = body.length === 0 || this.head.method === 'HEAD';
    if (!this.#send(replyList(response, body.length), ends)) return;
    if (ends) this.outbox.endedByHeaders();
    else {
      this.outbox.write(body, 0, body.length);
      this.outbox.end(null);
    }
  }

  abort(detail: string): void {
    if (this.over) return;
    this.#events = null;
    this.break('reset', detail, ErrorCode.INTERNAL_ERROR);
  }

  /** @returns false where the head is larger than HPACK is given: the stream is reset, nothing could be said in its place. */
  #send(list: HeaderList, ends: boolean): boolean {
    this.lastActivity = this.connection.loop.now;
    try {
      this.connection.output.sendHeaders(this.id, list, ends);
      return true;
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.break('reset', `the response's head cannot be sent: ${error.message}`, ErrorCode.INTERNAL_ERROR);
      return false;
    }
  }
}
