import type { DataPlane } from '../connection/data-plane.ts';
import { ForwardedRequest, type Forwarder } from '../connection/forwarded-request.ts';
import type { HttpProtocol } from '../connection/http-sessions.ts';
import { brokenOff, replyFor } from '../connection/local-reply.ts';
import { partyOf } from '../connection/party.ts';
import type { RequestRecord, ResponseFlag } from '../connection/request-record.ts';
import type { ConnectionSeeker } from '../connection/session-pool.ts';
import type { WaitingPlace } from '../connection/waiting-line.ts';
import type { ExchangeFailure, ServerExchange } from '../http/exchange.ts';
import { editOutboundRequest, setTraceContext } from '../http/forwarding/request-headers.ts';
import { ensureRequestId } from '../http/forwarding/request-id.ts';
import type { ResponseHead } from '../protocol/http-head.ts';
import { isServerFailure, maySendAgain } from '../protocol/retry.ts';
import type { Listed } from '../reactor/live-list.ts';
import type { HttpDestination, PickedEndpoint, UpstreamPool } from './http-destination.ts';
import type { AheadOfAnswer, TunnelRefusal, Upstream } from './upstream.ts';

const UNAVAILABLE = 503;

/** Bodies of our own answers, as Envoy's. */
const NO_ENDPOINT = 'no healthy upstream';
const NO_ROUTE = 'no route to the destination';
const DENIED = 'RBAC: access denied';

/** How a request ended that counts against the endpoint that had it. */
const ENDPOINT_FAULTS: ReadonlySet<ResponseFlag> = new Set<ResponseFlag>(['UC', 'UR', 'UPE', 'UT']);

/**
 * One request of the application: an endpoint is chosen, a connection to it is taken or made, and the two are joined. What an endpoint has not
 * processed is sent once more, to another. ALWAYS: a pick is released once, and nothing is waited for once the request is over.
 */
export class OutboundRequest implements Forwarder, ConnectionSeeker<Upstream>, AheadOfAnswer, Listed {
  listIndex = -1;
  waiting: WaitingPlace<ConnectionSeeker<Upstream>> | null = null;
  readonly #plane: DataPlane;
  readonly #destination: HttpDestination;
  readonly #version: HttpProtocol;
  readonly #onOver: (request: OutboundRequest) => void;
  readonly #forwarded: ForwardedRequest;
  #picked: PickedEndpoint | null = null;
  /** Null iff it does not wait for a connection. */
  #waitsIn: UpstreamPool | null = null;
  #upstream: Upstream | null = null;
  #retried = false;

  constructor(
    plane: DataPlane,
    destination: HttpDestination,
    version: HttpProtocol,
    exchange: ServerExchange,
    record: RequestRecord,
    onOver: (request: OutboundRequest) => void,
  ) {
    this.#plane = plane;
    this.#destination = destination;
    this.#version = version;
    this.#onOver = onOver;
    this.#forwarded = new ForwardedRequest(exchange, record, this);
  }

  start(): void {
    try {
      this.#editHead();
      if (this.#destination.refresh()) this.#attempt(null, false);
      else this.#refuse('NR', NO_ROUTE, 'the registry has no such destination any more');
    } catch (error) {
      this.#forwarded.fail(error);
    }
  }

  #editHead(): void {
    const { head, record } = this.#forwarded;
    editOutboundRequest(head);
    record.requestId = ensureRequestId(head, this.#plane.random);
    const trace = record.follow(head.get('traceparent'));
    setTraceContext(head, trace.traceparent, trace.carried);
  }

  /** Ends it at once: what the client has got of a response is not whole. */
  abort(flag: ResponseFlag, detail: string): void {
    this.#forwarded.abort(flag, detail);
  }

  #attempt(avoid: PickedEndpoint | null, fresh: boolean): void {
    const picked = this.#destination.pick(avoid);
    if (picked === null) {
      this.#refuse('UH', NO_ENDPOINT, 'the destination has no endpoint');
      return;
    }
    this.#picked = picked;
    const pool = picked.target.pool(this.#version);
    this.#waitsIn = pool;
    const found = pool.seek(this, fresh);
    if (found === 'given') return;
    const { endpoint } = picked.target;
    const { record } = this.#forwarded;
    record.destination = partyOf(endpoint.workload, null);
    record.to = endpoint;
    if (found === 'waiting') {
      this.#forwarded.wait();
      return;
    }
    this.#waitsIn = null;
    this.#refuse('UO', brokenOff('overflow'), `too many requests wait for a connection to ${endpoint.name}`);
  }

  #refuse(flag: ResponseFlag, message: string, detail: string): void {
    this.#forwarded.refuse(replyFor(this.#forwarded.head, UNAVAILABLE, message), flag, detail);
  }

  /** Nothing more comes of this endpoint. @param fault it counts against it */
  #leave(fault: boolean): PickedEndpoint | null {
    const picked = this.#picked;
    this.#picked = null;
    this.#upstream?.forget(this);
    this.#upstream = null;
    if (picked === null) return null;
    if (fault) this.#destination.failed(picked);
    this.#destination.release(picked);
    return picked;
  }

  // ---- the connection ----

  onConnection(upstream: Upstream): void {
    this.#waitsIn = null;
    if (this.#forwarded.over || this.#picked === null) return;
    const { record } = this.#forwarded;
    const { endpoint } = this.#picked.target;
    this.#upstream = upstream;
    record.transport = upstream.transport;
    record.tls = upstream.tls;
    record.destination = partyOf(endpoint.workload, upstream.principal);
    record.to = endpoint;
    upstream.awaitAnswer(this);
    this.#forwarded.send(upstream.session);
  }

  onNoConnection(reason: string): void {
    this.#waitsIn = null;
    if (this.#forwarded.over) return;
    this.#forwarded.record.attempts++;
    // The pool has told the balancer, once for all who waited.
    const picked = this.#leave(false);
    if (!this.#retried && this.#destination.size > 1) this.#again(picked, false);
    else this.#giveUp(reason);
  }

  #again(avoid: PickedEndpoint | null, fresh: boolean): void {
    this.#retried = true;
    this.#plane.metrics.httpRetry();
    this.#attempt(avoid, fresh);
  }

  #giveUp(reason: string): void {
    this.#refuse(this.#retried ? 'URX' : 'UF', brokenOff('remote connection failure'), reason);
  }

  onRefused({ status, certain, reason }: TunnelRefusal): void {
    if (this.#forwarded.over) return;
    const name = this.#picked?.name ?? '';
    if (status === 403) {
      // The endpoint's decision, not its failure: no other endpoint is asked.
      this.#leave(false);
      this.#forwarded.refuse(replyFor(this.#forwarded.head, status, DENIED), '-', `${name}: ${reason}`);
    } else if (this.#forwarded.bodySent) {
      this.#leave(status !== 0 || !certain);
      this.#giveUp(`${name}: ${reason}`);
    }
    // Else the session is about to tell, and it is tried again.
  }

  // ---- the exchange ----

  onResponseHead(head: ResponseHead): void {
    this.#upstream?.forget(this);
    const { upstreamMs } = this.#forwarded.record;
    if (this.#picked !== null && upstreamMs !== null && head.status < 500) {
      this.#destination.answered(this.#picked, upstreamMs);
    }
  }

  onFailedBeforeResponse(failure: ExchangeFailure): boolean {
    const refusal = this.#upstream?.refusal ?? null;
    const kind = refusal?.certain === true ? 'refused' : failure.kind;
    // It says itself that it has not begun: that is no failure, unless its sidecar had to say so for it.
    const fault = kind !== 'refused' || (refusal !== null && refusal.status !== 0);
    const reused = (this.#upstream?.served ?? 0) > 1;
    // A sole endpoint is asked again where only the connection, kept for long, may have been at fault.
    const alone = this.#destination.size < 2;
    if (!this.#retried && maySendAgain(kind, this.#forwarded.head.method) && (reused || !alone)) {
      this.#again(this.#leave(fault), alone);
      return true;
    }
    const connected = refusal === null && kind !== 'refused';
    if (connected && !(kind === 'reset' && this.#retried)) return false;
    this.#leave(fault);
    this.#giveUp(refusal?.reason ?? failure.detail);
    return true;
  }

  onOver(flag: ResponseFlag): void {
    this.#waitsIn?.giveUp(this);
    this.#waitsIn = null;
    const { record } = this.#forwarded;
    const picked = this.#picked;
    if (picked !== null && flag === '-' && !isServerFailure(record.status, record.grpcStatus)) {
      this.#destination.succeeded(picked);
    }
    this.#leave(ENDPOINT_FAULTS.has(flag) || (flag === '-' && isServerFailure(record.status, record.grpcStatus)));
    this.#onOver(this);
  }
}
