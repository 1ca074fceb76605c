import type {
  AbortFault,
  ClientExchange,
  ClientSession,
  ExchangeFailure,
  RequestEvents,
  ResponseEvents,
  ServerExchange,
} from '../http/exchange.ts';
import { editRequestTrailers, editResponse } from '../http/forwarding/request-headers.ts';
import type { NativeBuffer } from '../native/memory.ts';
import type { LocalReply, RequestHead, ResponseHead, Trailers } from '../protocol/http-head.ts';
import { brokenOff, grpcStatusOf, replyFor } from './local-reply.ts';
import type { RequestRecord, ResponseFlag } from './request-record.ts';

/** Whoever sends a request on: the inbound path to the application, the outbound path to an endpoint. */
export interface Forwarder {
  /** What heads lose trailers lose, too. */
  onRequestTrailers?(trailers: Trailers): void;
  /** The response's head is about to be passed on. */
  onResponseHead?(head: ResponseHead): void;
  /**
   * It failed before any byte of a response. @returns true where the forwarder takes care of it (tries again by `send`, now or later, or ends it
   * by `refuse`); only asked while nothing of the request's body has been sent.
   */
  onFailedBeforeResponse(failure: ExchangeFailure): boolean;
  /** Once, whatever became of it; after the record was written. `flag` as in the record. */
  onOver(flag: ResponseFlag): void;
}

/** What a failed exchange is to the client: RFC 9110, 15.6. */
const FAILURES: {
  readonly [kind in ExchangeFailure['kind']]: {
    readonly status: number;
    readonly flag: ResponseFlag;
    /** As Envoy's local replies have it. */
    readonly body: string;
  };
} = {
  refused: { status: 503, flag: 'UF', body: brokenOff('remote connection failure') },
  reset: { status: 503, flag: 'UC', body: brokenOff('connection termination') },
  protocol: { status: 502, flag: 'UPE', body: brokenOff('protocol error') },
  timeout: { status: 504, flag: 'UT', body: 'upstream request timeout' },
  evicted: { status: 503, flag: 'OM', body: brokenOff('overload') },
};

/** What it is where whoever asked is gone. */
const ABORTS: { readonly [fault in AbortFault]: ResponseFlag } = {
  disconnect: 'DC',
  protocol: 'DPE',
  timeout: 'SI',
  evicted: 'OM',
};

/** What is a bug of ours, not the other side's. */
const INTERNAL_ERROR = 'internal error';

/**
 * One request on its way through the sidecar: joins the exchange with whoever asked to one with whoever answers, with back-pressure in both
 * directions. ALWAYS: exactly one of response, local reply and abort reaches whoever asked, and the record ends exactly once. An exception in what
 * happens to it ends this request at once, and is reported; the sessions that told of it do not notice.
 */
export class ForwardedRequest implements RequestEvents, ResponseEvents {
  readonly exchange: ServerExchange;
  readonly record: RequestRecord;
  readonly #forwarder: Forwarder;
  #client: ClientExchange | null = null;
  /** Body bytes were handed to a client exchange: the request cannot be sent again. */
  #bodySent = false;
  #requestComplete: boolean;
  #responseBegun = false;
  /** A 1xx has been passed on: whoever answers has begun to. */
  #informed = false;
  #receiving = false;
  /** HTTP/1 after 101, or a 2xx of CONNECT: each direction ends by itself, and the request is over when both have. */
  #raw = false;
  #rawAnswerEnded = false;
  #over = false;

  constructor(exchange: ServerExchange, record: RequestRecord, forwarder: Forwarder) {
    this.exchange = exchange;
    this.record = record;
    this.#forwarder = forwarder;
    this.#requestComplete = exchange.bodyless;
    record.requestBytes += exchange.head.receivedBytes;
  }

  get over(): boolean {
    return this.#over;
  }

  get responseBegun(): boolean {
    return this.#responseBegun;
  }

  get head(): RequestHead {
    return this.exchange.head;
  }

  /** Something of the body is on its way: the request cannot be sent to anybody else. */
  get bodySent(): boolean {
    return this.#bodySent;
  }

  /** Sends the request on by a session that has room. May be called again after `onFailedBeforeResponse`. */
  send(session: ClientSession): void {
    if (this.#over) return;
    this.record.attempts++;
    this.record.sent();
    try {
      this.#client = session.begin(this.exchange.head, this.exchange.bodyless, this);
      if (this.#receiving) this.exchange.resume();
      else this.#receive();
    } catch (error) {
      this.fail(error);
    }
  }

  /** Listens to whoever asked while there is nowhere to send the request yet: a client that goes away must be noticed. */
  wait(): void {
    if (this.#receiving || this.#over) return;
    this.exchange.pause();
    this.#receive();
  }

  #receive(): void {
    this.#receiving = true;
    this.exchange.receive(this);
  }

  // ---- from whoever asked ----

  onRequestBody(from: NativeBuffer, start: number, end: number): void {
    const client = this.#client;
    if (client === null) return;
    this.#bodySent = true;
    try {
      this.record.requestBody(from.bytes, start, end);
      client.write(from, start, end);
      if (client.congested) this.exchange.pause();
    } catch (error) {
      this.fail(error);
    }
  }

  onRequestEnd(trailers: Trailers | null): void {
    this.#requestComplete = true;
    this.#bodySent = true;
    try {
      if (trailers !== null) {
        editRequestTrailers(trailers);
        this.#forwarder.onRequestTrailers?.(trailers);
      }
      this.#client?.finish(trailers);
      if (this.#rawAnswerEnded && !this.#over) this.#complete();
    } catch (error) {
      this.fail(error);
    }
  }

  onResponseDrain(): void {
    this.#client?.resume();
  }

  onRequestAborted(detail: string, fault: AbortFault, status: number): void {
    if (this.#over) return;
    if (status !== 0) this.record.status = status;
    const client = this.#client;
    this.#client = null;
    client?.abort(detail);
    this.#end(ABORTS[fault], detail);
  }

  // ---- from whoever answers ----

  onInformational(head: ResponseHead): void {
    if (this.#over) return;
    this.#informed = true;
    try {
      editResponse(head);
      this.exchange.informational(head);
    } catch (error) {
      this.fail(error);
    }
  }

  onResponse(head: ResponseHead, ends: boolean): void {
    if (this.#over) return;
    try {
      this.#respond(head, ends);
    } catch (error) {
      this.fail(error);
    }
  }

  #respond(head: ResponseHead, ends: boolean): void {
    const { record } = this;
    record.answered();
    record.status = head.status;
    record.responseBytes += head.receivedBytes;
    this.#noteGrpcStatus(head);
    editResponse(head);
    this.#forwarder.onResponseHead?.(head);
    this.#responseBegun = true;
    // In HTTP/2 the directions of CONNECT are those of every other stream.
    this.#raw = head.version !== 'h2' && !ends && this.#switches(head.status);
    if (this.#raw) this.#requestComplete = false;
    this.exchange.respond(head, ends);
    if (ends) this.#complete();
  }

  /** What follows is no HTTP any more. */
  #switches(status: number): boolean {
    return status === 101 || (this.head.method === 'CONNECT' && status >= 200 && status <= 299);
  }

  onResponseBody(from: NativeBuffer, start: number, end: number): void {
    if (this.#over) return;
    try {
      this.record.responseBody(from.bytes, start, end);
      this.exchange.write(from, start, end);
      if (this.exchange.congested) this.#client?.pause();
    } catch (error) {
      this.fail(error);
    }
  }

  onResponseEnd(trailers: Trailers | null): void {
    if (this.#over) return;
    try {
      if (trailers !== null) {
        this.#noteGrpcStatus(trailers);
        editResponse(trailers);
      }
      this.exchange.finish(trailers);
      if (this.#raw && !this.#requestComplete) this.#rawAnswerEnded = true;
      else this.#complete();
    } catch (error) {
      this.fail(error);
    }
  }

  #noteGrpcStatus(fields: ResponseHead | Trailers): void {
    if (!this.record.grpc) return;
    const text = fields.get('grpc-status');
    if (text !== null) this.record.grpcStatus = /^\d{1,2}$/.test(text) && Number(text) <= 16 ? Number(text) : 2;
  }

  /** The response is whole. A request that is not, is not wanted any more by whoever answered it. */
  #complete(): void {
    const client = this.#client;
    this.#client = null;
    if (!this.#requestComplete) client?.abort('answered before the request was complete');
    this.#end('-', '');
  }

  onRequestDrain(): void {
    if (!this.#over) this.exchange.resume();
  }

  onFailed(failure: ExchangeFailure): void {
    if (this.#over) return;
    this.#client = null;
    try {
      this.#failed(failure);
    } catch (error) {
      this.fail(error);
    }
  }

  #failed(failure: ExchangeFailure): void {
    if (this.#responseBegun) {
      this.exchange.abort(failure.detail);
      this.#end(FAILURES[failure.kind].flag, failure.detail);
      return;
    }
    if (!this.#bodySent && !this.#informed) {
      // Whatever the client sends meanwhile waits: it has not been sent anywhere.
      this.exchange.pause();
      if (this.#forwarder.onFailedBeforeResponse(failure)) return;
    }
    const { status, flag, body } = FAILURES[failure.kind];
    this.refuse(replyFor(this.head, status, body), flag, failure.detail);
  }

  // ---- life ----

  /** An exception in what happens to it: its callers go on. */
  fail(error: unknown): void {
    this.record.reportFault(error);
    if (!this.#over) this.refuse(replyFor(this.head, 500, INTERNAL_ERROR), '-', INTERNAL_ERROR);
  }

  /** Answers by ourselves; only before the response has begun, else it is aborted. */
  refuse(reply: LocalReply, flag: ResponseFlag, detail: string): void {
    if (this.#over) return;
    if (this.#responseBegun) {
      this.abort(flag, detail);
      return;
    }
    const client = this.#client;
    this.#client = null;
    client?.abort(detail);
    this.record.status = reply.status;
    this.record.responseBytes += reply.body.length;
    if (this.record.grpc) this.record.grpcStatus = grpcStatusOf(reply);
    try {
      this.exchange.reply(reply);
    } catch (error) {
      this.record.reportFault(error);
      this.exchange.abort(INTERNAL_ERROR);
    }
    this.#end(flag, detail);
  }

  /** Ends both sides at once. */
  abort(flag: ResponseFlag, detail: string): void {
    if (this.#over) return;
    const client = this.#client;
    this.#client = null;
    client?.abort(detail);
    this.exchange.abort(detail);
    this.#end(flag, detail);
  }

  /** The one way out. */
  #end(flag: ResponseFlag, detail: string): void {
    this.#over = true;
    try {
      this.record.end(flag, detail);
    } catch (error) {
      this.record.reportFault(error);
    }
    this.#forwarder.onOver(flag);
  }
}
