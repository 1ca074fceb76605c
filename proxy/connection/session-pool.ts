import type { ClientSession } from '../http/exchange.ts';
import { type Listed, LiveList } from '../reactor/live-list.ts';
import type { Loop } from '../reactor/loop.ts';
import { Timer } from '../reactor/timers.ts';
import type { HttpLimits } from '../worker/messages.ts';
import type { HttpProtocol } from './http-sessions.ts';
import { WaitingLine, type WaitingPlace } from './waiting-line.ts';

/** A connection that requests are sent over, from its making to its end. */
export interface PooledConnection extends Listed {
  /** @throws Error before it is open. */
  readonly session: ClientSession;
  /** Requests begun on it so far; counted by its pool. */
  served: number;
  /** The pool's mark: it stands among those that have room. */
  ready: boolean;
  /**
   * It may wait for its first request. False where the other side looks at the first bytes to find out what they are, and stops waiting for them: what
   * comes too late would not be taken for HTTP.
   */
  readonly keepsUnused: boolean;
  open(): void;
  /** Why it must take no new requests (it was refused, our certificate or our trust changed since it was made, its tunnel drains); null where it may. */
  outdated(): string | null;
  /** Why it must end now: its peer is not trusted any more; null where it may go on. */
  distrusted(): string | null;
  /** Gives up where it is not open yet, else ends it at once. No event follows the former. */
  close(detail: string): void;
}

/** What a connection tells its pool. */
export interface ConnectionOwner<C> {
  /** Connected: its `session` is there. May come from within `open`. */
  onOpen(connection: C): void;
  /** It could not be connected; nothing else comes. NEVER from within `open`. @param reason for a person */
  onConnectFailed(connection: C, reason: string): void;
  /** A request has ended, or the other side allows more. */
  onRoom(connection: C): void;
  /** After `onOpen`, once: it is gone. */
  onGone(connection: C, detail: string): void;
}

/** Somebody who wants to send one request. */
export interface ConnectionSeeker<C> {
  /** Begin the request on it now, or leave it. May come from within `seek`. */
  onConnection(connection: C): void;
  /** There is none: no connection could be made. NEVER from within `seek`. @param reason for a person */
  onNoConnection(reason: string): void;
  /** Null iff it does not wait. Touched by its pool alone. */
  waiting: WaitingPlace<ConnectionSeeker<C>> | null;
}

/** What a pool needs of its surroundings. */
export interface PoolEnvironment<C> {
  readonly limits: Pick<HttpLimits, 'maxConnectionsPerEndpoint' | 'maxIdlePerEndpoint' | 'idlePoolTimeoutMs'>;
  readonly loop: Pick<Loop, 'now' | 'arm'>;
  make(owner: ConnectionOwner<C>): C;
  /**
   * All who wait hear of an attempt that failed: something else may take them. Else, in HTTP/1, where an attempt is made for each that waits, the eldest
   * alone.
   */
  readonly failsAll: boolean;
  /** Once for each attempt to connect, however many waited for it. */
  onConnectFailed(): void;
  onConnections(change: number): void;
  /** Whether one more may wait. */
  mayWait(): boolean;
  onWaiting(change: number): void;
}

/**
 * The connections to one address in one HTTP version, shared by all who send requests there. The one that was used last is used next, so that those
 * which are not needed fall idle and end. ALWAYS: at most `maxConnectionsPerEndpoint` are open or being made, and each one that waits is served in
 * turn, told of a failure, or has given up. HTTP/1: one request each; HTTP/2: as many as the session has room for.
 */
export class SessionPool<C extends PooledConnection> implements ConnectionOwner<C> {
  readonly #env: PoolEnvironment<C>;
  readonly #multiplexed: boolean;
  readonly #open = new LiveList<C>();
  readonly #making = new LiveList<C>();
  /** Open ones that had room when they were put here (`ready`), the last used at the end. */
  readonly #ready: C[] = [];
  readonly #waiting = new WaitingLine<ConnectionSeeker<C>>();
  readonly #idle = new Timer(() => this.#closeIdle());
  #closed = false;

  constructor(protocol: HttpProtocol, env: PoolEnvironment<C>) {
    this.#multiplexed = protocol === 'h2';
    this.#env = env;
  }

  /** Open or being made. */
  get connections(): number {
    return this.#open.size + this.#making.size;
  }

  /** Who waits for one. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Nothing is open, being made or waited for. */
  get empty(): boolean {
    return this.connections === 0 && this.#waiting.size === 0;
  }

  get #full(): boolean {
    return this.connections >= this.#env.limits.maxConnectionsPerEndpoint;
  }

  // ---- seeking ----

  /**
   * Gives a connection with room, now if there is one. @param wantsFresh only one that has carried nothing yet: for what an idle one has just failed
   * @returns `given`, or `waiting` until one of the seeker's events comes, or `overflow`: too many wait already
   */
  seek(seeker: ConnectionSeeker<C>, wantsFresh: boolean): 'given' | 'waiting' | 'overflow' {
    // Where no other may be made, any will have to do.
    const fresh = wantsFresh && !this.#full;
    if (!fresh) {
      const connection = this.#takeReady();
      if (connection !== null) {
        this.#give(connection, seeker);
        if (this.#open.has(connection) && connection.session.room > 0) this.#putReady(connection);
        return 'given';
      }
    }
    if (this.#closed || !this.#env.mayWait()) return 'overflow';
    seeker.waiting = this.#waiting.join(seeker, fresh);
    this.#env.onWaiting(1);
    this.#makeWanted();
    return seeker.waiting === null ? 'given' : 'waiting';
  }

  /** Nothing happens where it does not wait. */
  giveUp(seeker: ConnectionSeeker<C>): void {
    if (seeker.waiting === null) return;
    this.#waiting.leave(seeker.waiting);
    seeker.waiting = null;
    this.#env.onWaiting(-1);
  }

  #give(connection: C, seeker: ConnectionSeeker<C>): void {
    connection.served++;
    seeker.onConnection(connection);
  }

  #takeReady(): C | null {
    for (let connection = this.#ready.pop(); connection !== undefined; connection = this.#ready.pop()) {
      connection.ready = false;
      if (connection.outdated() === null && connection.session.room > 0) return connection;
      // Over, or it will be: it ends by itself when its last request has.
      connection.session.retire();
    }
    return null;
  }

  #putReady(connection: C): void {
    if (this.#closed || connection.outdated() !== null) {
      connection.session.retire();
      return;
    }
    if (!connection.ready) {
      connection.ready = true;
      this.#ready.push(connection);
    }
    if (connection.session.active > 0) return;
    this.#boundIdle();
    if (!this.#idle.armed) this.#env.loop.arm(this.#idle, this.#env.limits.idlePoolTimeoutMs);
  }

  /** Whichever has been idle for longest makes room. */
  #boundIdle(): void {
    const { maxIdlePerEndpoint } = this.#env.limits;
    if (this.#ready.length <= maxIdlePerEndpoint) return;
    const at = this.#ready.findIndex(({ session }) => session.active === 0);
    this.#ready[at]?.session.close('more idle connections than are kept');
  }

  // ---- making ----

  /** HTTP/1: one for each that waits; HTTP/2: one at a time, and none while one has yet to say how much room it has. */
  #makeWanted(): void {
    while (
      !this.#closed &&
      !this.#full &&
      this.#making.size < (this.#multiplexed ? Math.min(1, this.#waiting.size) : this.#waiting.size) &&
      !(this.#multiplexed && this.#hasUnripe())
    ) {
      const connection = this.#env.make(this);
      this.#making.add(connection);
      this.#env.onConnections(1);
      connection.open();
    }
  }

  #hasUnripe(): boolean {
    for (const { served, session } of this.#open) if (served === 0 && session.room === 0) return true;
    return false;
  }

  onOpen(connection: C): void {
    this.#making.delete(connection);
    this.#open.add(connection);
    if (this.#waiting.size === 0 && !connection.keepsUnused) connection.session.close('nobody waits for it any more');
    else this.onRoom(connection);
  }

  onRoom(connection: C): void {
    if (!this.#open.has(connection)) return;
    const unused = connection.served === 0;
    // What was sent for before our certificate or trust changed still goes; nobody else's does.
    const mayServe = unused || connection.outdated() === null;
    while (mayServe && this.#open.has(connection) && connection.session.room > 0) {
      const seeker = this.#waiting.eldest(unused);
      if (seeker === null) break;
      this.giveUp(seeker);
      this.#give(connection, seeker);
    }
    if (this.#open.has(connection) && connection.session.room > 0) this.#putReady(connection);
    this.#makeWanted();
  }

  // ---- ends ----

  onConnectFailed(connection: C, reason: string): void {
    if (!this.#making.has(connection)) return;
    this.#making.delete(connection);
    this.#env.onConnections(-1);
    this.#env.onConnectFailed();
    this.#fail(reason);
  }

  onGone(connection: C, detail: string): void {
    if (!this.#open.has(connection)) return;
    this.#open.delete(connection);
    this.#env.onConnections(-1);
    const idle = connection.ready;
    if (idle) this.#ready.splice(this.#ready.indexOf(connection), 1);
    connection.ready = false;
    // NEVER connect again and again to what takes connections only to end them. One that has waited for a request says nothing of those being made.
    if (connection.served === 0 && !idle) this.#fail(detail);
    else this.#makeWanted();
  }

  #fail(reason: string): void {
    this.#tell(this.#env.failsAll || this.#multiplexed ? this.#waiting.size : 1, reason);
    this.#makeWanted();
  }

  /** First they leave the line: who is told may join it again at once. */
  #tell(count: number, reason: string): void {
    const told: ConnectionSeeker<C>[] = [];
    while (told.length < count) {
      const seeker = this.#waiting.eldest(true);
      if (seeker === null) break;
      this.giveUp(seeker);
      told.push(seeker);
    }
    for (const seeker of told) seeker.onNoConnection(reason);
  }

  /** Ends those that have been idle for long, or may not be used any more. */
  #closeIdle(): void {
    const { limits, loop } = this.#env;
    let next = Number.POSITIVE_INFINITY;
    for (const connection of this.#ready.slice()) {
      const { session } = connection;
      if (session.active > 0) continue;
      const left = session.idleSince + limits.idlePoolTimeoutMs - loop.now;
      if (left <= 0 || session.room === 0 || connection.outdated() !== null) session.close('idle');
      else next = Math.min(next, left);
    }
    if (next !== Number.POSITIVE_INFINITY) loop.arm(this.#idle, next);
  }

  /**
   * Our certificate, trust or the revocations changed: idle ones end at once, others after their requests, those of distrusted peers with them.
   * What is being made goes on for whoever waits.
   */
  reconsider(): void {
    for (const connection of this.#open.all()) {
      const distrust = connection.distrusted();
      if (distrust !== null) connection.session.close(distrust);
      else if (connection.outdated() !== null) connection.session.retire();
    }
  }

  /** What it leads to is gone, or is reached in another way: no new requests; those under way may end. */
  retire(detail: string): void {
    this.#stop(detail);
    for (const connection of this.#open.all()) connection.session.retire();
  }

  /** Ends everything at once. */
  close(detail: string): void {
    this.#stop(detail);
    for (const connection of this.#open.all()) connection.session.close(detail);
  }

  #stop(detail: string): void {
    this.#closed = true;
    for (const connection of this.#making.all()) {
      this.#making.delete(connection);
      this.#env.onConnections(-1);
      connection.close(detail);
    }
    this.#tell(this.#waiting.size, detail);
  }
}
