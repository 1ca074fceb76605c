import type { Decision } from '../../policy/types.ts';
import type { Address } from '../native/socket.ts';
import type { TlsFacts } from '../native/tls-session.ts';
import type { HttpVersion } from '../protocol/http-head.ts';
import { requestLine } from './access-log-line.ts';
import type { DataPlane } from './data-plane.ts';
import { GrpcMessages } from './grpc-messages.ts';
import type { Party, ServiceFacts } from './party.ts';
import type { Transport } from './record.ts';
import { spanOf } from './request-record-span.ts';
import type { TraceContext } from './trace-context.ts';

/**
 * Why a request did not go as it should, in Envoy's words (`%RESPONSE_FLAGS%`): the values of `response_flags` for HTTP. A denial by policy is `-` with 403, as there.
 * DPE: the client broke the protocol; DC: it went away. NR: no route; UH: no healthy endpoint; UF: none could be connected; UC: the endpoint's
 * connection ended; UR: it reset the stream; UPE: it broke the protocol; UO: a limit on connections or pending requests; UT: too slow; SI: idle;
 * URX: retried in vain; UAEX: the user's token was refused; LR: reset by the sidecar itself (policy change, drain, revocation). OM: its
 * reader was so slow that what waited for it kept all others on the connection waiting.
 */
export type ResponseFlag =
  | '-'
  | 'DPE'
  | 'DC'
  | 'NR'
  | 'UH'
  | 'UF'
  | 'UC'
  | 'UR'
  | 'UPE'
  | 'UO'
  | 'UT'
  | 'SI'
  | 'URX'
  | 'UAEX'
  | 'LR'
  | 'OM';

/**
 * What is known of one request, and its only way to be told of: `end` exactly once writes the metrics, the access-log line and the span. Facts are
 * set as they become known; bytes and messages are counted as they pass.
 */
export class RequestRecord {
  readonly direction: 'inbound' | 'outbound';
  readonly source: Party;
  readonly from: Address;
  destination: Party;
  to: Address;
  service: ServiceFacts | null = null;
  originalDestination: Address | null = null;
  transport: Transport = 'unknown';
  tls: TlsFacts | null = null;
  version: HttpVersion = 'http/1.1';
  method = '';
  /** Normalised, without query. */
  path = '';
  authority = '';
  userAgent: string | null = null;
  requestId: string | null = null;
  /** Inbound: what policy said; null before it was asked. */
  decision: Decision | null = null;
  /** `iss/sub` of the verified token. */
  userPrincipal: string | null = null;
  grpc = false;
  /** Of the final response, whoever made it; 0: none was sent. */
  status = 0;
  grpcStatus: number | null = null;
  attempts = 0;
  /** Bodies and heads, as Istio counts them. */
  requestBytes = 0;
  responseBytes = 0;

  /** Set by `follow`. */
  trace: TraceContext | null = null;
  /** Of gRPC. */
  requestMessages = 0;
  responseMessages = 0;
  /** What `end` was told, and what follows from it. */
  flags: ResponseFlag = '-';
  detail = '';
  verdict: 'allowed' | 'denied' | 'failed' = 'allowed';
  /** Since the record was made, milliseconds. */
  durationMs = 0;
  /** From the first byte of the request to that of the response; null: there was none. Milliseconds. */
  ttfbMs: number | null = null;
  /** From when the request was last handed to whoever answers to the first byte of the response. Milliseconds. */
  upstreamMs: number | null = null;
  readonly #plane: DataPlane;
  readonly #startedAt: number;
  #sentAt: number | null = null;
  #requestScan: GrpcMessages | null = null;
  #responseScan: GrpcMessages | null = null;
  #ended = false;

  constructor(
    plane: DataPlane,
    direction: 'inbound' | 'outbound',
    source: Party,
    from: Address,
    destination: Party,
    to: Address,
  ) {
    this.#plane = plane;
    this.direction = direction;
    this.source = source;
    this.from = from;
    this.destination = destination;
    this.to = to;
    this.#startedAt = plane.loop.now;
    plane.metrics.httpRequests(direction, 1);
  }

  /** Whether the peer showed an identity. */
  get mutualTls(): boolean {
    return this.transport === 'hbone' || this.transport === 'mtls';
  }

  /**
   * Takes the request's `traceparent` (all lines of it; null: none). The next hop gets the `traceparent` of what is returned, and the caller's
   * `tracestate` only where that is `carried`.
   */
  follow(traceparent: string | null): TraceContext {
    const trace = this.#plane.traces.next(traceparent);
    this.trace = trace;
    return trace;
  }

  /** The request was handed to whoever answers. */
  sent(): void {
    this.#sentAt = this.#plane.loop.now;
  }

  /** The first byte of the response came. */
  answered(): void {
    const { now } = this.#plane.loop;
    this.ttfbMs = now - this.#startedAt;
    if (this.#sentAt !== null) this.upstreamMs = now - this.#sentAt;
  }

  /** gRPC: bytes of the body, of which messages are counted (length-prefixed, 5 bytes before each). */
  requestBody(bytes: Buffer, start: number, end: number): void {
    this.requestBytes += end - start;
    if (!this.grpc) return;
    this.#requestScan ??= new GrpcMessages();
    this.#requestScan.scan(bytes, start, end);
    this.requestMessages = this.#requestScan.count;
  }

  responseBody(bytes: Buffer, start: number, end: number): void {
    this.responseBytes += end - start;
    if (!this.grpc) return;
    this.#responseScan ??= new GrpcMessages();
    this.#responseScan.scan(bytes, start, end);
    this.responseMessages = this.#responseScan.count;
  }

  /** An exception of ours within this request: the loop counts it and writes it to the log. */
  reportFault(error: unknown): void {
    this.#plane.loop.later(() => {
      throw error;
    });
  }

  /** @param detail why, for a person; empty where all went well. */
  end(flag: ResponseFlag, detail: string): void {
    if (this.#ended) return;
    this.#ended = true;
    const { loop, metrics, requestSeries } = this.#plane;
    this.flags = flag;
    this.detail = detail;
    this.verdict = this.#verdict();
    this.durationMs = loop.now - this.#startedAt;
    metrics.httpRequests(this.direction, -1);
    requestSeries.count(this, this, loop.now);
    this.#log();
    this.#trace();
  }

  /** Denied: by policy, for want of one, or for the user's token; also by the sidecar at the other end, as far as it says so. */
  #verdict(): 'allowed' | 'denied' | 'failed' {
    if (this.decision?.allowed === false || this.flags === 'UAEX') return 'denied';
    if (this.flags !== '-') return 'failed';
    if (this.detail === '') return 'allowed';
    // Our own answer, which gRPC puts into its status.
    return isDenial(this.status) || isGrpcDenial(this.grpcStatus) ? 'denied' : 'failed';
  }

  #log(): void {
    const { accessLog, config } = this.#plane;
    if (config.accessLog === 'off' || (config.accessLog === 'denied' && this.verdict !== 'denied')) return;
    if (accessLog.accepts()) accessLog.writeLine(requestLine(this, this.#plane.unixNow()));
  }

  #trace(): void {
    const { trace } = this;
    if (trace === null || trace.spanId === null) return;
    const { spans, loop } = this.#plane;
    if (!spans.accepts()) return;
    const context = { ...trace, spanId: trace.spanId };
    spans.write(spanOf(this, context, spans.unixNanos(this.#startedAt), spans.unixNanos(loop.now)));
  }
}

const isDenial = (status: number): boolean => status === 401 || status === 403;
/** PERMISSION_DENIED and UNAUTHENTICATED. */
const isGrpcDenial = (status: number | null): boolean => status === 7 || status === 16;
