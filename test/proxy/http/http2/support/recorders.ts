import type {
  AbortFault,
  ClientSession,
  ClientSessionOwner,
  ExchangeFailure,
  RequestEvents,
  RequestHandler,
  ResponseEvents,
  ServerExchange,
} from '../../../../../proxy/http/exchange.ts';
import type { NativeBuffer } from '../../../../../proxy/native/memory.ts';
import type { RequestHead, ResponseHead, Trailers } from '../../../../../proxy/protocol/http-head.ts';
import { HTTP_LIMITS } from '../../../support/http-limits.ts';

export { HTTP_LIMITS as LIMITS };

const lines = (trailers: Trailers | null): readonly (readonly [string, string])[] | null =>
  trailers === null ? null : [...trailers.lines()];

/** A request as a handler sees it. */
export class SeenRequest implements RequestEvents {
  readonly exchange: ServerExchange;
  readonly head: RequestHead;
  readonly body: Buffer[] = [];
  ended = false;
  trailers: readonly (readonly [string, string])[] | null = null;
  aborted = '';
  fault = '';
  /** By the session, as it told when it broke off. */
  statusSent = -1;
  drains = 0;

  constructor(exchange: ServerExchange) {
    this.exchange = exchange;
    this.head = exchange.head;
  }

  onRequestBody(from: NativeBuffer, start: number, end: number): void {
    this.body.push(Buffer.from(from.bytes.subarray(start, end)));
  }

  onRequestEnd(trailers: Trailers | null): void {
    this.ended = true;
    this.trailers = lines(trailers);
  }

  onResponseDrain(): void {
    this.drains++;
  }

  onRequestAborted(detail: string, fault: AbortFault, status: number): void {
    this.aborted = detail;
    this.fault = fault;
    this.statusSent = status;
  }

  get text(): string {
    return Buffer.concat(this.body).toString('latin1');
  }
}

export class SeenRequests implements RequestHandler {
  readonly all: SeenRequest[] = [];
  readonly rejected: { readonly status: number; readonly detail: string }[] = [];
  readonly ends: string[] = [];
  /** What to do with each. */
  on: (request: SeenRequest) => void = () => {};

  onRequest(exchange: ServerExchange): void {
    const request = new SeenRequest(exchange);
    this.all.push(request);
    exchange.receive(request);
    this.on(request);
  }

  onRejected({ status, detail }: { readonly status: number; readonly detail: string }): void {
    this.rejected.push({ status, detail });
  }

  onSessionEnd(detail: string): void {
    this.ends.push(detail);
  }

  get last(): SeenRequest {
    const last = this.all.at(-1);
    if (last === undefined) throw new Error('no request came');
    return last;
  }
}

/** A response as whoever asked sees it. */
export class SeenResponse implements ResponseEvents {
  readonly informational: number[] = [];
  head: ResponseHead | null = null;
  bodyless = false;
  readonly body: Buffer[] = [];
  ended = false;
  trailers: readonly (readonly [string, string])[] | null = null;
  failure: ExchangeFailure | null = null;
  drains = 0;

  onInformational(head: ResponseHead): void {
    this.informational.push(head.status);
  }

  onResponse(head: ResponseHead, ends: boolean): void {
    this.head = head;
    this.bodyless = ends;
  }

  onResponseBody(from: NativeBuffer, start: number, end: number): void {
    this.body.push(Buffer.from(from.bytes.subarray(start, end)));
  }

  onResponseEnd(trailers: Trailers | null): void {
    this.ended = true;
    this.trailers = lines(trailers);
  }

  onRequestDrain(): void {
    this.drains++;
  }

  onFailed(failure: ExchangeFailure): void {
    if (this.failure !== null) throw new Error('failed twice');
    this.failure = failure;
  }

  get text(): string {
    return Buffer.concat(this.body).toString('latin1');
  }
}

export class SeenSession implements ClientSessionOwner {
  rooms = 0;
  readonly ends: string[] = [];

  onRoom(): void {
    this.rooms++;
  }

  onSessionEnd(_session: ClientSession, detail: string): void {
    this.ends.push(detail);
  }
}
