import type { DataPlane } from '../connection/data-plane.ts';
import type { HttpProtocol } from '../connection/http-sessions.ts';
import type { ClientSession, ClientSessionOwner } from '../http/exchange.ts';
import type { Address } from '../native/socket.ts';
import { Timer } from '../reactor/timers.ts';
import type { HttpLimits } from '../worker/messages.ts';

/** Where requests of one connection go: found once for all of them. */
export interface ApplicationPlace {
  readonly at: Address;
  readonly protocol: HttpProtocol;
  /** Stands for both. */
  readonly key: string;
}

export function placeOf(at: Address, protocol: HttpProtocol): ApplicationPlace {
  return { at, protocol, key: `${protocol}|${at.address}|${at.port}` };
}

const NOTHING = (): void => {};

/** A request that wants a connection to the application. Exactly one of the two comes, unless it gives up. */
export interface SessionSeeker {
  /** Begin the request on it now, or leave it. May come from within `seek`. @param fresh it has carried nothing yet */
  onSession(session: ClientSession, fresh: boolean): void;
  /** `UF`: the application refused; `UO`: too many wait. NEVER from within `seek`. */
  onNoSession(flag: 'UF' | 'UO', reason: string): void;
}

/** Connects to the application and makes a session of it. Exactly one of the two comes, later than the call, unless it is cancelled. */
export type Connect = (
  at: Address,
  protocol: HttpProtocol,
  owner: ClientSessionOwner,
  events: { onConnected(session: ClientSession): void; onFailed(reason: string): void },
) => { cancel(): void };

/** What the pool needs of the worker. */
export type PoolSurroundings = Pick<DataPlane, 'loop' | 'metrics'> & { readonly limits: HttpLimits };

/** The HTTP connections from this sidecar to the application, shared by the requests of all peers. One a worker. */
export class ApplicationPool {
  readonly #around: PoolSurroundings;
  readonly #connect: Connect;
  readonly #groups = new Map<string, ApplicationGroup>();

  constructor(around: PoolSurroundings, connect: Connect) {
    this.#around = around;
    this.#connect = connect;
  }

  /** @param fresh no connection that has carried anything: for what an idle one has just failed @returns a way to give up while nothing was given */
  seek(place: ApplicationPlace, fresh: boolean, seeker: SessionSeeker): () => void {
    const { key } = place;
    let group = this.#groups.get(key);
    if (group === undefined) {
      group = new ApplicationGroup(this.#around, place, this.#connect, () => this.#groups.delete(key));
      this.#groups.set(key, group);
    }
    return group.seek(seeker, fresh);
  }

  /** At the worker's end. */
  close(detail: string): void {
    for (const group of [...this.#groups.values()]) group.close(detail);
  }
}

/**
 * The connections to one address of the application in one version. The one that was used last is used next. ALWAYS: at most
 * `maxConnectionsPerEndpoint` are open or being made, at most `maxPendingRequests` wait. HTTP/1: a request each, a connection made for each that
 * waits; HTTP/2: as many requests as the session has room for, one connection made at a time.
 */
class ApplicationGroup implements ClientSessionOwner {
  readonly #around: PoolSurroundings;
  readonly #at: Address;
  readonly #protocol: HttpProtocol;
  readonly #connect: Connect;
  readonly #onEmpty: () => void;
  readonly #sessions = new Set<ClientSession>();
  /** Those that have carried nothing yet. */
  readonly #fresh = new Set<ClientSession>();
  /** Sessions that had room when they were put here, the last used at the end. */
  readonly #ready: ClientSession[] = [];
  /** Being made. */
  readonly #making = new Set<{ cancel(): void }>();
  /** Wanting a session; true: a fresh one. */
  readonly #waiting = new Map<SessionSeeker, boolean>();
  readonly #idle = new Timer(() => this.#closeIdle());

  constructor(around: PoolSurroundings, { at, protocol }: ApplicationPlace, connect: Connect, onEmpty: () => void) {
    this.#around = around;
    this.#at = at;
    this.#protocol = protocol;
    this.#connect = connect;
    this.#onEmpty = onEmpty;
  }

  seek(seeker: SessionSeeker, wantsFresh: boolean): () => void {
    // At the limit none can be made: any will have to do.
    const fresh = wantsFresh && !this.#full;
    const session = fresh ? null : this.#takeReady();
    if (session !== null) {
      seeker.onSession(session, this.#fresh.delete(session));
      this.#putReady(session);
      return NOTHING;
    }
    if (this.#waiting.size >= this.#around.limits.maxPendingRequests) {
      let wanted = true;
      this.#around.loop.later(() => {
        if (wanted) seeker.onNoSession('UO', 'too many requests wait for the application');
      });
      return () => {
        wanted = false;
      };
    }
    this.#waiting.set(seeker, fresh);
    this.#around.metrics.httpPending(1);
    this.#connectWanted();
    return () => this.#stopWaiting(seeker);
  }

  #stopWaiting(seeker: SessionSeeker): void {
    if (this.#waiting.delete(seeker)) this.#around.metrics.httpPending(-1);
  }

  #takeReady(): ClientSession | null {
    for (let session = this.#ready.pop(); session !== undefined; session = this.#ready.pop()) {
      if (session.room > 0) return session;
    }
    return null;
  }

  #putReady(session: ClientSession): void {
    if (!this.#sessions.has(session) || session.room === 0) return;
    if (!this.#ready.includes(session)) this.#ready.push(session);
    if (session.active > 0) return;
    const { maxIdlePerEndpoint, idlePoolTimeoutMs } = this.#around.limits;
    if (this.#ready.length > maxIdlePerEndpoint) {
      // Whichever has been idle for longest makes room.
      const oldest = this.#ready.findIndex(({ active }) => active === 0);
      this.#ready.splice(oldest, 1)[0]?.close('more idle connections than are kept');
    }
    if (!this.#idle.armed) this.#around.loop.arm(this.#idle, idlePoolTimeoutMs);
  }

  /** How many connections those who wait need made for them. */
  #wantedConnections(): number {
    // A fresh one has yet to say how much room it has.
    if (this.#protocol === 'h2') return this.#fresh.size > 0 ? 0 : Math.min(1, this.#waiting.size);
    return this.#waiting.size;
  }

  get #full(): boolean {
    return this.#sessions.size + this.#making.size >= this.#around.limits.maxConnectionsPerEndpoint;
  }

  #connectWanted(): void {
    while (this.#making.size < this.#wantedConnections() && !this.#full) {
      const attempt = this.#connect(this.#at, this.#protocol, this, {
        onConnected: (session) => {
          this.#making.delete(attempt);
          this.#connected(session);
        },
        onFailed: (reason) => {
          this.#making.delete(attempt);
          this.#failed(reason);
        },
      });
      this.#making.add(attempt);
    }
  }

  #connected(session: ClientSession): void {
    this.#sessions.add(session);
    this.#fresh.add(session);
    this.#around.metrics.httpPool('inbound', 1);
    this.#serve(session);
  }

  /** HTTP/1: each that waits has a connection made for it, so the eldest hears of the failure; HTTP/2: all wait for the same one. */
  #failed(reason: string): void {
    const detail = `application at ${this.#at.address}:${this.#at.port}: ${reason}`;
    const told = this.#protocol === 'h2' ? this.#waiting.size : 1;
    for (const seeker of [...this.#waiting.keys()].slice(0, told)) {
      this.#stopWaiting(seeker);
      seeker.onNoSession('UF', detail);
    }
    this.#connectWanted();
    this.#dropIfEmpty();
  }

  #serve(session: ClientSession): void {
    for (const [seeker, wantsFresh] of this.#waiting) {
      if (session.room === 0) break;
      if (wantsFresh && !this.#fresh.has(session)) continue;
      this.#stopWaiting(seeker);
      seeker.onSession(session, this.#fresh.delete(session));
    }
    this.#putReady(session);
    this.#connectWanted();
  }

  onRoom(session: ClientSession): void {
    if (this.#sessions.has(session)) this.#serve(session);
  }

  onSessionEnd(session: ClientSession, detail: string): void {
    if (!this.#sessions.delete(session)) return;
    this.#around.metrics.httpPool('inbound', -1);
    const at = this.#ready.indexOf(session);
    if (at >= 0) this.#ready.splice(at, 1);
    if (this.#fresh.delete(session)) {
      // NEVER connect again and again to an application that takes connections only to end them.
      this.#failed(detail);
      return;
    }
    this.#connectWanted();
    this.#dropIfEmpty();
  }

  #closeIdle(): void {
    const { loop, limits } = this.#around;
    let next = Number.POSITIVE_INFINITY;
    for (const session of [...this.#ready]) {
      if (session.active > 0) continue;
      const left = session.idleSince + limits.idlePoolTimeoutMs - loop.now;
      if (left <= 0) session.close('idle');
      else next = Math.min(next, left);
    }
    if (next !== Number.POSITIVE_INFINITY) loop.arm(this.#idle, next);
  }

  #dropIfEmpty(): void {
    if (this.#sessions.size > 0 || this.#making.size > 0 || this.#waiting.size > 0) return;
    this.#around.loop.cancel(this.#idle);
    this.#onEmpty();
  }

  close(detail: string): void {
    for (const seeker of [...this.#waiting.keys()]) {
      this.#stopWaiting(seeker);
      seeker.onNoSession('UF', detail);
    }
    for (const attempt of this.#making) attempt.cancel();
    this.#making.clear();
    for (const session of [...this.#sessions]) session.close(detail);
    this.#dropIfEmpty();
  }
}
