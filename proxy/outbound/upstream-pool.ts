import type { HttpLimits } from '../worker/messages.ts';
import type { ConnectFailure, Upstream, UpstreamConnector, UpstreamOwner, UpstreamVersion } from './upstream.ts';

/** Somebody who wants to send one request. */
export interface UpstreamSeeker {
  /** Begin the request on it now, or leave it. May come from within `seek`. */
  onUpstream(upstream: Upstream): void;
  /** There is none: the endpoint could not be connected. NEVER from within `seek`. */
  onNoUpstream(failure: ConnectFailure): void;
}

/** What a pool needs of its surroundings. */
export interface PoolEnvironment {
  readonly limits: Pick<HttpLimits, 'maxConnectionsPerEndpoint' | 'maxIdlePerEndpoint' | 'idlePoolTimeoutMs'>;
  make(owner: UpstreamOwner): UpstreamConnector;
  now(): number;
  /** Calls `UpstreamPool.closeIdle` after so many milliseconds; one call at most is planned at a time. */
  planIdleCheck(delayMs: number): void;
  /** Once for each attempt to connect, however many waited for it. */
  onConnectFailed(): void;
  onConnections(change: number): void;
  /** Whether one more may wait. */
  mayWait(): boolean;
  onWaiting(change: number): void;
}

/**
 * The connections to one endpoint in one HTTP version, shared by all application connections. The one that was used last is used next, so that
 * those which are not needed fall idle and end. ALWAYS: at most `maxConnectionsPerEndpoint` are open or being made, and each one that waits is
 * served in turn, told of a failure, or has given up. HTTP/1: one request each; HTTP/2: as many as the session has room for.
 */
export class UpstreamPool implements UpstreamOwner {
  readonly #env: PoolEnvironment;
  readonly #multiplexed: boolean;
  /** Open ones. */
  readonly #open = new Set<UpstreamConnector>();
  readonly #making = new Set<UpstreamConnector>();
  /** Open ones that had room when they were put here (`ready`), the last used at the end. */
  readonly #ready: UpstreamConnector[] = [];
  readonly #waiting = new Set<UpstreamSeeker>();
  #idleCheckPlanned = false;
  #closed = false;

  constructor(version: UpstreamVersion, env: PoolEnvironment) {
    this.#multiplexed = version === 'h2';
    this.#env = env;
  }

  /** Open or being made. */
  get connections(): number {
    return this.#open.size + this.#making.size;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Nothing is open, being made or waited for. */
  get empty(): boolean {
    return this.connections === 0 && this.#waiting.size === 0;
  }

  /**
   * Gives an upstream with room, now if there is one. @param fresh only one that has carried nothing yet: for what an idle one has just failed
   * @returns `given`, or `waiting` until one of the seeker's events comes, or `overflow`: too many wait already
   */
  seek(seeker: UpstreamSeeker, fresh = false): 'given' | 'waiting' | 'overflow' {
    const { maxConnectionsPerEndpoint } = this.#env.limits;
    if (!fresh || this.connections >= maxConnectionsPerEndpoint) {
      const upstream = this.#takeReady();
      if (upstream !== null) {
        this.#give(upstream, seeker);
        return 'given';
      }
    }
    if (!this.#env.mayWait()) return 'overflow';
    this.#waiting.add(seeker);
    this.#env.onWaiting(1);
    this.#makeWanted();
    return this.#waiting.has(seeker) ? 'waiting' : 'given';
  }

  giveUp(seeker: UpstreamSeeker): void {
    if (this.#waiting.delete(seeker)) this.#env.onWaiting(-1);
  }

  #takeReady(): UpstreamConnector | null {
    for (let upstream = this.#ready.pop(); upstream !== undefined; upstream = this.#ready.pop()) {
      upstream.ready = false;
      if (upstream.outdated() === null && upstream.session.room > 0) return upstream;
      // Over, or it will be: it ends by itself when its last request has.
      upstream.session.retire();
    }
    return null;
  }

  #give(upstream: UpstreamConnector, seeker: UpstreamSeeker): void {
    upstream.served++;
    seeker.onUpstream(upstream);
    if (this.#open.has(upstream) && upstream.session.room > 0) this.#putReady(upstream);
  }

  #putReady(upstream: UpstreamConnector): void {
    if (this.#closed || upstream.outdated() !== null) {
      upstream.session.retire();
      return;
    }
    if (!upstream.ready) {
      upstream.ready = true;
      this.#ready.push(upstream);
    }
    if (upstream.session.active > 0) return;
    this.#boundIdle();
    if (!this.#idleCheckPlanned) this.#planIdleCheck(this.#env.limits.idlePoolTimeoutMs);
  }

  /** Whichever has been idle for longest makes room. */
  #boundIdle(): void {
    const { maxIdlePerEndpoint } = this.#env.limits;
    if (this.#ready.length <= maxIdlePerEndpoint) return;
    const at = this.#ready.findIndex(({ session }) => session.active === 0);
    this.#ready[at]?.session.close('more idle connections than are kept');
  }

  /** HTTP/1: one for each that waits; HTTP/2: one at a time, and none while one has yet to say how much room it has. */
  #makeWanted(): void {
    const { maxConnectionsPerEndpoint } = this.#env.limits;
    while (
      !this.#closed &&
      this.connections < maxConnectionsPerEndpoint &&
      this.#making.size < (this.#multiplexed ? Math.min(1, this.#waiting.size) : this.#waiting.size) &&
      !(this.#multiplexed && this.#hasUnripe())
    ) {
      const upstream = this.#env.make(this);
      this.#making.add(upstream);
      this.#env.onConnections(1);
      upstream.open();
    }
  }

  #hasUnripe(): boolean {
    for (const { served, session } of this.#open) if (served === 0 && session.room === 0) return true;
    return false;
  }

  onOpen(upstream: UpstreamConnector): void {
    this.#making.delete(upstream);
    this.#open.add(upstream);
    if (this.#waiting.size === 0 && !upstream.keepsUnused) upstream.session.close('nobody waits for it any more');
    else this.onRoom(upstream);
  }

  onRoom(upstream: UpstreamConnector): void {
    if (!this.#open.has(upstream)) return;
    // What was sent for before our certificate or trust changed still goes; nobody else's does.
    const mayServe = upstream.outdated() === null || upstream.served === 0;
    while (mayServe && this.#open.has(upstream) && upstream.session.room > 0) {
      const [seeker] = this.#waiting;
      if (seeker === undefined) break;
      this.giveUp(seeker);
      upstream.served++;
      seeker.onUpstream(upstream);
    }
    if (this.#open.has(upstream) && upstream.session.room > 0) this.#putReady(upstream);
    this.#makeWanted();
  }

  onConnectFailed(upstream: UpstreamConnector, failure: ConnectFailure): void {
    if (!this.#making.delete(upstream)) return;
    this.#env.onConnections(-1);
    this.#env.onConnectFailed();
    this.#failWaiting(failure);
  }

  /** All at once: another endpoint may take them, and this one has just shown that it will not. */
  #failWaiting(failure: ConnectFailure): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    this.#env.onWaiting(-waiting.length);
    for (const seeker of waiting) seeker.onNoUpstream(failure);
  }

  onGone(upstream: UpstreamConnector, detail: string): void {
    if (!this.#open.delete(upstream)) return;
    this.#env.onConnections(-1);
    if (upstream.ready) this.#ready.splice(this.#ready.indexOf(upstream), 1);
    upstream.ready = false;
    // NEVER connect again and again to an endpoint that takes connections only to end them.
    if (upstream.served === 0 && this.#waiting.size > 0) this.#failWaiting({ flags: 'CONNECT', reason: detail });
    else this.#makeWanted();
  }

  #planIdleCheck(delayMs: number): void {
    this.#idleCheckPlanned = true;
    this.#env.planIdleCheck(delayMs);
  }

  /** Ends those that have been idle for long, or may not be used any more; plans the next look. */
  closeIdle(): void {
    this.#idleCheckPlanned = false;
    const { idlePoolTimeoutMs } = this.#env.limits;
    const now = this.#env.now();
    let next = Number.POSITIVE_INFINITY;
    for (const upstream of [...this.#ready]) {
      const { session } = upstream;
      if (session.active > 0) continue;
      const left = session.idleSince + idlePoolTimeoutMs - now;
      if (left <= 0 || session.room === 0 || upstream.outdated() !== null) session.close('idle');
      else next = Math.min(next, left);
    }
    if (next !== Number.POSITIVE_INFINITY) this.#planIdleCheck(next);
  }

  /**
   * Our certificate, trust or the revocations changed: idle ones end at once, others after their requests, those of distrusted peers with them.
   * What is being made goes on for whoever waits.
   */
  reconsider(): void {
    for (const upstream of [...this.#open]) {
      const distrust = upstream.distrusted();
      if (distrust !== null) upstream.session.close(distrust);
      else if (upstream.outdated() !== null) upstream.session.retire();
    }
  }

  /** The endpoint is gone, or is reached in another way: no new requests; those under way may end. */
  retire(detail: string): void {
    this.#closed = true;
    for (const upstream of this.#making) {
      upstream.close(detail);
      this.#env.onConnections(-1);
    }
    this.#making.clear();
    for (const upstream of [...this.#open]) upstream.session.retire();
    this.#failWaiting({ flags: 'CONNECT', reason: detail });
  }
}
