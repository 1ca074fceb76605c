import { ErrorCode } from '../../http2/frames.ts';
import type { NativeBuffer } from '../../native/memory.ts';
import type { HeaderList } from '../../protocol/hpack/header-list.ts';
import type { RequestHead, Trailers } from '../../protocol/http-head.ts';
import type { HttpLimits } from '../../worker/messages.ts';
import type { ClientExchange, ExchangeFailure, ResponseEvents } from '../exchange.ts';
import { type BreakKind, ExchangeStream, type HttpConnection } from './exchange-stream.ts';
import { requestList } from './heads.ts';
import { isBodyless, readResponse } from './response-rules.ts';

/** Interim responses before the final one: HEADERS are under no window. */
const MAX_INTERIM = 64;

const FAILURES: { readonly [kind in BreakKind]: ExchangeFailure['kind'] } = {
  refused: 'refused',
  reset: 'reset',
  lost: 'reset',
  fault: 'protocol',
  timeout: 'timeout',
  evicted: 'evicted',
};

/** A request that we have opened a stream for. */
export class Http2ClientExchange extends ExchangeStream implements ClientExchange {
  readonly #limits: HttpLimits;
  readonly #method: string;
  #events: ResponseEvents | null;
  /** The final response has begun. */
  #answered = false;
  #interim = 0;
  /** When the request was complete; 0: it is not yet. */
  #sentAt = 0;

  constructor(
    connection: HttpConnection,
    id: number,
    sendWindow: number,
    limits: HttpLimits,
    method: string,
    events: ResponseEvents,
  ) {
    super(connection, id, sendWindow);
    this.#limits = limits;
    this.#method = method;
    this.#events = events;
    this.openReader();
  }

  get joined(): boolean {
    return this.#answered;
  }

  /** Sends the head. Whatever fails is told later. */
  begin(head: RequestHead, ends: boolean): void {
    try {
      this.connection.output.sendHeaders(this.id, requestList(head), ends);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.break('refused', `the request's head cannot be sent: ${error.message}`, ErrorCode.CANCEL);
      return;
    }
    if (ends && !this.over) this.outbox.endedByHeaders();
  }

  // ---- what comes ----

  protected onHead(headers: HeaderList | null, ends: boolean): boolean {
    const head = headers === null ? 'the head is larger than allowed' : readResponse(headers, ends);
    if (typeof head === 'string') {
      this.fault(head, ErrorCode.PROTOCOL_ERROR);
      return true;
    }
    if (head.status < 200) {
      if (++this.#interim > MAX_INTERIM) {
        this.fault('interim responses without end', ErrorCode.ENHANCE_YOUR_CALM);
        return true;
      }
      this.#tell((events) => events.onInformational(head));
      return false;
    }
    const bodyless = isBodyless(this.#method, head.status);
    if (ends && !bodyless && head.contentLength !== null && head.contentLength > 0) {
      this.fault('the body is shorter than its content-length', ErrorCode.PROTOCOL_ERROR);
      return true;
    }
    this.#answered = true;
    this.expectBody(bodyless ? 0 : head.contentLength);
    if (ends) this.noteEnd(true);
    this.#tell((events) => events.onResponse(head, ends));
    if (ends) this.settle();
    return true;
  }

  #tell(what: (events: ResponseEvents) => void): void {
    if (this.#events === null) return;
    try {
      what(this.#events);
    } catch (error) {
      this.onListenerFault(error);
    }
  }

  protected onBody(from: NativeBuffer, start: number, end: number): void {
    this.#events?.onResponseBody(from, start, end);
  }

  protected onMessageEnd(trailers: Trailers | null): void {
    this.#events?.onResponseEnd(trailers);
  }

  protected onDrained(): void {
    this.#events?.onRequestDrain();
  }

  override onOutboxEnd(): void {
    this.#sentAt = this.connection.loop.now;
    super.onOutboxEnd();
  }

  /** Perhaps it ended by a call of the listener's own: that one hears of it later. */
  protected onBroken(kind: BreakKind, detail: string): void {
    const events = this.#events;
    this.#events = null;
    if (events === null) return;
    this.connection.loop.later(() => events.onFailed({ kind: FAILURES[kind], detail }));
  }

  check(now: number): void {
    const { streamIdleTimeoutMs, requestTimeoutMs } = this.#limits;
    if (requestTimeoutMs > 0 && this.#sentAt > 0 && !this.peerEnded && now - this.#sentAt > requestTimeoutMs) {
      this.break('timeout', `no complete response in ${requestTimeoutMs} ms`, ErrorCode.CANCEL);
    } else if (streamIdleTimeoutMs > 0 && !this.held && now - this.lastActivity > streamIdleTimeoutMs) {
      this.break('timeout', `no bytes for ${streamIdleTimeoutMs} ms`, ErrorCode.CANCEL);
    }
  }

  // ---- the request ----

  abort(detail: string): void {
    if (this.over) return;
    this.#events = null;
    this.break('reset', detail, ErrorCode.CANCEL);
  }
}
