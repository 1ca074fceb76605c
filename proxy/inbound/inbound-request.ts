import { normalizePath } from '../../policy/path-normalization.ts';
import type { Claims, ConnectionAttributes, RequestAttributes, RequestDecider } from '../../policy/types.ts';
import type { DataPlane } from '../connection/data-plane.ts';
import { ForwardedRequest, type Forwarder } from '../connection/forwarded-request.ts';
import { isGrpc, replyFor } from '../connection/local-reply.ts';
import type { ConnectionRecord } from '../connection/record.ts';
import { RequestRecord, type ResponseFlag } from '../connection/request-record.ts';
import type { ConnectionSeeker, PooledConnection } from '../connection/session-pool.ts';
import type { WaitingPlace } from '../connection/waiting-line.ts';
import type { ExchangeFailure, ServerExchange } from '../http/exchange.ts';
import { editInboundRequest, setTraceContext } from '../http/forwarding/request-headers.ts';
import { ensureRequestId } from '../http/forwarding/request-id.ts';
import type { RequestHead, Trailers } from '../protocol/http-head.ts';
import { maySendAgain } from '../protocol/retry.ts';
import type { Listed } from '../reactor/live-list.ts';
import type { ApplicationPlace, ApplicationPool } from './application-pools.ts';
import { refusalOf } from './authorizer.ts';
import type { InboundServices } from './services.ts';
import type { TokenOutcome, VerifiedToken } from './token-authenticator.ts';

/** The connection that a request came on. */
export interface RequestOrigin {
  readonly record: ConnectionRecord;
  readonly attributes: ConnectionAttributes;
  /** Of the policies in force now; null: none has been received yet. */
  readonly decider: RequestDecider | null;
  readonly application: ApplicationPlace;
  /** `X-Forwarded-Client-Cert` of its peer; null: it showed no certificate. */
  readonly clientCertificate: string | null;
  /** The request brought a token whose signature was computed in vain. */
  onForgery(): void;
  /** The request is over. */
  onOver(request: InboundRequest): void;
}

type RefusedToken = Extract<TokenOutcome, { kind: 'refused' }>;

/** What a denied caller is told, as by Istio's sidecars. */
const DENIED = 'RBAC: access denied';

export function recordOf(plane: DataPlane, connection: ConnectionRecord): RequestRecord {
  const { source, from, destination, to, service, originalDestination, transport, tls } = connection;
  const record = new RequestRecord(plane, 'inbound', source, from, destination, to);
  record.service = service;
  record.originalDestination = originalDestination;
  record.transport = transport;
  record.tls = tls;
  return record;
}

/** What the head says of itself; also of one that was refused before anything else looked at it. */
export function noteHead(record: RequestRecord, head: RequestHead): void {
  record.version = head.version;
  record.method = head.method;
  record.authority = head.authority;
  record.userAgent = head.get('user-agent');
  record.grpc = isGrpc(head);
}

/** Without the query, which may hold secrets. */
export function rawPath(target: string): string {
  const end = target.search(/[?#]/);
  return end < 0 ? target : target.slice(0, end);
}

/**
 * One request that came for this workload: made plain, decided, and only then sent to the application. While it is under way it is decided again
 * whenever the policies change. ALWAYS: its connection knows of it before it is decided.
 */
export class InboundRequest implements Forwarder, RequestAttributes, ConnectionSeeker<PooledConnection>, Listed {
  listIndex = -1;
  waiting: WaitingPlace<ConnectionSeeker<PooledConnection>> | null = null;
  readonly #plane: DataPlane;
  readonly #services: InboundServices;
  readonly #origin: RequestOrigin;
  readonly #head: RequestHead;
  readonly #forwarded: ForwardedRequest;
  path = '';
  query = '';
  /** Null: the request shows none. */
  #token: VerifiedToken | null = null;
  /** Null iff it does not wait for a connection to the application. */
  #waitsIn: ApplicationPool | null = null;
  /** It was sent on a connection that had carried others before. */
  #reused = false;
  #retried = false;

  constructor(plane: DataPlane, services: InboundServices, origin: RequestOrigin, exchange: ServerExchange) {
    this.#plane = plane;
    this.#services = services;
    this.#origin = origin;
    this.#head = exchange.head;
    const record = recordOf(plane, origin.record);
    noteHead(record, exchange.head);
    this.#forwarded = new ForwardedRequest(exchange, record, this);
  }

  // ---- what policies see ----

  get method(): string {
    return this.#head.method;
  }

  get host(): string {
    return this.#head.authority;
  }

  header(name: string): readonly string[] {
    return this.#head.all(name);
  }

  // ---- top to bottom ----

  admit(): void {
    try {
      if (!this.#normalize()) return;
      this.#editHead();
      if (!this.#authenticate() || !this.#authorize()) return;
      this.#seek(false);
    } catch (error) {
      this.#forwarded.fail(error);
    }
  }

  /** The path that policies see is the path that the application gets. */
  #normalize(): boolean {
    const { record } = this.#forwarded;
    const { target } = this.#head;
    const normal = normalizePath(target, this.#services.authorizer.pathNormalization);
    if (normal === null) {
      record.path = rawPath(target);
      this.#refuse(400, 'Bad Request', 'DPE', 'the path cannot be normalised');
      return false;
    }
    const { path, query } = normal;
    this.path = path;
    this.query = query;
    record.path = path;
    if (path.length + query.length !== target.length || !target.startsWith(path)) this.#head.setTarget(path + query);
    return true;
  }

  #editHead(): void {
    const head = this.#head;
    const { record } = this.#forwarded;
    editInboundRequest(head, this.#origin.clientCertificate);
    record.requestId = ensureRequestId(head, this.#plane.random);
    const trace = record.follow(head.get('traceparent'));
    setTraceContext(head, trace.traceparent, trace.carried);
  }

  /** What the user's token proves; removes it from the request where it is not to be passed on. */
  #authenticate(): boolean {
    const { record } = this.#forwarded;
    const outcome = this.#services.tokens.authenticate(this.#head);
    if (outcome.kind === 'refused') {
      // First, so that the answer says that it is the last.
      if (outcome.forged) this.#origin.onForgery();
      this.#refuseToken(outcome, 'UAEX', outcome.detail);
      return false;
    }
    if (outcome.kind !== 'verified') return true;
    this.#token = outcome;
    record.userPrincipal = outcome.principal;
    // A token that stood in the query is gone from it.
    this.query = this.#head.target.slice(this.path.length);
    return true;
  }

  #refuseToken({ status, reason, challenge }: RefusedToken, flag: ResponseFlag, detail: string): void {
    this.#refuse(status, reason, flag, detail, [['www-authenticate', challenge]]);
  }

  get #claims(): Claims {
    return this.#token?.claims ?? null;
  }

  #authorize(): boolean {
    const { decider, attributes } = this.#origin;
    const { record } = this.#forwarded;
    if (decider !== null) {
      record.decision = this.#services.authorizer.admitRequest(decider, attributes, this, this.#claims);
      if (record.decision.allowed) return true;
    }
    this.#refuse(403, DENIED, '-', refusalOf(record.decision));
    return false;
  }

  /** A connection to the application, which may be there at once. */
  #seek(fresh: boolean): void {
    const pool = this.#services.pools.of(this.#origin.application);
    this.#waitsIn = pool;
    const found = pool.seek(this, fresh);
    if (found === 'given') return;
    if (found === 'waiting') {
      this.#forwarded.wait();
      return;
    }
    this.#waitsIn = null;
    this.#refuse(503, 'upstream overflow', 'UO', 'too many requests wait for the application');
  }

  onConnection(connection: PooledConnection): void {
    this.#waitsIn = null;
    this.#reused = connection.served > 1;
    this.#forwarded.send(connection.session);
  }

  onNoConnection(reason: string): void {
    this.#waitsIn = null;
    this.#refuse(503, 'upstream connect error', 'UF', reason);
  }

  /** An idle connection may have been closed by the application just when the request was sent: that is worth one more try on a new one. */
  onFailedBeforeResponse(failure: ExchangeFailure): boolean {
    if (!this.#reused || this.#retried || !maySendAgain(failure.kind, this.method)) return false;
    this.#retried = true;
    this.#plane.metrics.httpRetry();
    this.#seek(true);
    return true;
  }

  onRequestTrailers(trailers: Trailers): void {
    this.#services.tokens.removeOutputs(trailers);
  }

  // ---- life ----

  /** Answers by ourselves, or ends the response where it has begun. */
  #refuse(
    status: number,
    message: string,
    flag: ResponseFlag,
    detail: string,
    headers: readonly (readonly [string, string])[] = [],
  ): void {
    this.#forwarded.refuse(replyFor(this.#head, status, message, headers), flag, detail);
  }

  /** After the policies, or the rules and keys of tokens, changed. A request that has not been decided yet will be by the new ones. */
  reconsider(): void {
    const { record } = this.#forwarded;
    if (record.decision === null) return;
    try {
      if (!this.#reconsiderToken()) return;
      const decision = this.#origin.decider?.decide(this, this.#claims) ?? null;
      record.decision = decision;
      if (decision?.allowed === true) return;
      this.#refuse(403, DENIED, 'LR', `ended by a policy change: ${refusalOf(decision)}`);
    } catch (error) {
      this.#forwarded.fail(error);
    }
  }

  /** Nobody vouches for a token whose issuer or key is gone. Where no rule is left at all it is what a new request's would be: none. */
  #reconsiderToken(): boolean {
    if (this.#token === null) return true;
    const outcome = this.#services.tokens.reconsider(this.#head, this.#token);
    if (outcome.kind === 'refused') {
      this.#refuseToken(outcome, 'LR', `ended by a change of the token rules: ${outcome.detail}`);
      return false;
    }
    if (outcome.kind !== 'verified') this.#token = null;
    return true;
  }

  /** Its connection ends at once. */
  terminate(detail: string): void {
    this.#forwarded.abort('LR', detail);
  }

  onOver(): void {
    this.#waitsIn?.giveUp(this);
    this.#waitsIn = null;
    this.#origin.onOver(this);
  }
}
