import type {
  ClientExchange,
  ClientSession,
  ExchangeFailure,
  RequestEvents,
  ResponseEvents,
  ServerExchange,
} from '../http/exchange.ts';
import type { NativeBuffer } from '../native/memory.ts';
import type { LocalReply, RequestHead, ResponseHead, Trailers } from '../protocol/http-head.ts';
import type { RequestRecord, ResponseFlag } from './request-record.ts';

/** Whoever sends a request on: the inbound path to the application, the outbound path to an endpoint. */
export interface Forwarder {
  /** The response's head may still be changed. */
  onResponseHead(head: ResponseHead): void;
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
};

/** Envoy's body of a 503 of its own. @param why in its words: `overflow`, `remote connection failure`, `connection termination` … */
export function brokenOff(why: string): string {
  return `upstream connect error or disconnect/reset before headers. reset reason: ${why}`;
}

/**
 * One request on its way through the sidecar: joins the exchange with whoever asked to one with whoever answers, with back-pressure in both
 * directions. ALWAYS: exactly one of response, local reply and abort reaches whoever asked, and the record ends exactly once.
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
  /** After 101, or a 2xx of CONNECT: each direction ends by itself, and the request is over when both have. */
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
    this.#client = session.begin(this.exchange.head, this.exchange.bodyless, this);
    if (this.#receiving) this.exchange.resume();
    else this.#receive();
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
    this.record.requestBody(from.bytes, start, end);
    client.write(from, start, end);
    if (client.congested) this.exchange.pause();
  }

  onRequestEnd(trailers: Trailers | null): void {
    this.#requestComplete = true;
    this.#bodySent = true;
    this.#client?.finish(trailers);
    if (this.#rawAnswerEnded && !this.#over) this.#complete();
  }

  onResponseDrain(): void {
    this.#client?.resume();
  }

  onRequestAborted(detail: string, fault: 'disconnect' | 'protocol' | 'timeout'): void {
    if (this.#over) return;
    const client = this.#client;
    this.#client = null;
    const flag = fault === 'disconnect' ? 'DC' : fault === 'protocol' ? 'DPE' : 'SI';
    client?.abort(detail);
    this.#end(flag, detail);
  }

  // ---- from whoever answers ----

  onInformational(head: ResponseHead): void {
    if (this.#over) return;
    this.#informed = true;
    this.exchange.informational(head);
  }

  onResponse(head: ResponseHead, ends: boolean): void {
    if (this.#over) return;
    this.#responseBegun = true;
    const { record } = this;
    record.answered();
    record.status = head.status;
    this.#raw = head.status === 101 || (this.head.method === 'CONNECT' && head.status >= 200 && head.status <= 299);
    if (this.#raw && !ends) this.#requestComplete = false;
    record.responseBytes += head.receivedBytes;
    this.#noteGrpcStatus(head);
    this.#forwarder.onResponseHead(head);
    this.exchange.respond(head, ends);
    if (ends) this.#complete();
  }

  onResponseBody(from: NativeBuffer, start: number, end: number): void {
    if (this.#over) return;
    this.record.responseBody(from.bytes, start, end);
    this.exchange.write(from, start, end);
    if (this.exchange.congested) this.#client?.pause();
  }

  onResponseEnd(trailers: Trailers | null): void {
    if (this.#over) return;
    if (trailers !== null) this.#noteGrpcStatus(trailers);
    this.exchange.finish(trailers);
    if (this.#raw && !this.#requestComplete) this.#rawAnswerEnded = true;
    else this.#complete();
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
    this.exchange.reply(reply);
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
    this.record.end(flag, detail);
    this.#forwarder.onOver(flag);
  }
}

/** gRPC's codes for HTTP's, as Envoy's local replies have them (grpc/doc/http-grpc-status-mapping.md). */
const GRPC_STATUS: { readonly [status: number]: number } = {
  400: 13,
  401: 16,
  403: 7,
  404: 12,
  429: 14,
  502: 14,
  503: 14,
  504: 14,
};
const GRPC_UNKNOWN = 2;

export function isGrpc(head: RequestHead): boolean {
  const type = head.get('content-type');
  return type !== null && /^application\/grpc(?:$|[+;\s])/i.test(type);
}

/** A local reply in the form that the caller understands: for gRPC trailers only, with HTTP status 200. */
export function replyFor(
  head: RequestHead,
  status: number,
  message: string,
  headers: readonly (readonly [string, string])[] = [],
): LocalReply {
  if (!isGrpc(head)) return { status, headers: [['content-type', 'text/plain'], ...headers], body: message };
  return {
    status: 200,
    headers: [
      ['content-type', 'application/grpc'],
      ['grpc-status', String(GRPC_STATUS[status] ?? GRPC_UNKNOWN)],
      ['grpc-message', encodeURI(message)],
      ...headers,
    ],
    body: '',
  };
}

function grpcStatusOf(reply: LocalReply): number {
  return Number(reply.headers.find(([name]) => name === 'grpc-status')?.[1] ?? GRPC_UNKNOWN);
}
