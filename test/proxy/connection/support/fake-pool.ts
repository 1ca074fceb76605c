import type { HttpProtocol } from '../../../../proxy/connection/http-sessions.ts';
import {
  type ConnectionOwner,
  type ConnectionSeeker,
  type PooledConnection,
  SessionPool,
} from '../../../../proxy/connection/session-pool.ts';
import type { WaitingPlace } from '../../../../proxy/connection/waiting-line.ts';
import type { ClientExchange, ClientSession } from '../../../../proxy/http/exchange.ts';
import { type Timer, TimerWheel } from '../../../../proxy/reactor/timers.ts';

/** A clock that the test turns. Timers fire up to 32 ms late. */
export class FakeLoop {
  now = 0;
  readonly #wheel = new TimerWheel();

  arm(timer: Timer, delayMs: number): void {
    this.#wheel.arm(timer, delayMs, this.now);
  }

  /** Fires what is due by then. */
  until(now: number): void {
    this.now = now;
    this.#wheel.advance(now);
  }
}

/** A session that carries nothing: requests are begun and ended by the test. */
class FakeSession implements ClientSession {
  active = 0;
  idleSince = 0;
  retiring = false;
  closed: string | null = null;
  readonly #connection: FakeConnection;
  most: number;

  constructor(connection: FakeConnection, most: number) {
    this.#connection = connection;
    this.most = most;
  }

  get room(): number {
    return this.retiring || this.closed !== null ? 0 : Math.max(0, this.most - this.active);
  }

  begin(): ClientExchange {
    if (this.room === 0) throw new Error('begun on a session without room');
    this.active++;
    return {} as ClientExchange;
  }

  retire(): void {
    this.retiring = true;
    if (this.active === 0) this.close('retired');
  }

  close(detail: string): void {
    if (this.closed !== null) return;
    this.closed = detail;
    this.#connection.owner.onGone(this.#connection, detail);
  }
}

export class FakeConnection implements PooledConnection {
  listIndex = -1;
  served = 0;
  ready = false;
  keepsUnused = true;
  givenUp = false;
  outdatedBy: string | null = null;
  distrustedBy: string | null = null;
  readonly owner: ConnectionOwner<FakeConnection>;
  readonly session: FakeSession;
  readonly #loop: FakeLoop;
  readonly #opensAtOnce: boolean;

  constructor(owner: ConnectionOwner<FakeConnection>, room: number, loop: FakeLoop, opensAtOnce = false) {
    this.owner = owner;
    this.session = new FakeSession(this, room);
    this.#loop = loop;
    this.#opensAtOnce = opensAtOnce;
  }

  open(): void {
    if (this.#opensAtOnce) this.connect();
  }

  connect(): void {
    this.session.idleSince = this.#loop.now;
    this.owner.onOpen(this);
  }

  fail(reason = 'ECONNREFUSED'): void {
    this.owner.onConnectFailed(this, reason);
  }

  /** A request on it is over. */
  finishOne(): void {
    this.session.active--;
    this.session.idleSince = this.#loop.now;
    if (this.session.retiring && this.session.active === 0) this.session.close('retired');
    else this.owner.onRoom(this);
  }

  outdated(): string | null {
    return this.outdatedBy;
  }

  distrusted(): string | null {
    return this.distrustedBy;
  }

  close(): void {
    this.givenUp = true;
  }
}

export class FakeSeeker implements ConnectionSeeker<PooledConnection> {
  waiting: WaitingPlace<ConnectionSeeker<PooledConnection>> | null = null;
  got: PooledConnection | null = null;
  failure: string | null = null;
  /** False: it leaves what it is given, as a request that is over does. */
  wants = true;

  onConnection(connection: PooledConnection): void {
    this.got = connection;
    if (this.wants) connection.session.begin({} as never, true, {} as never);
  }

  onNoConnection(reason: string): void {
    this.failure = reason;
  }
}

interface FakeOptions {
  readonly version?: HttpProtocol;
  /** Exchanges a session takes at a time. */
  readonly room?: number;
  readonly opensAtOnce?: boolean;
  readonly failsAll?: boolean;
  readonly maxConnectionsPerEndpoint?: number;
  readonly maxIdlePerEndpoint?: number;
  readonly idlePoolTimeoutMs?: number;
  readonly maxWaiting?: number;
}

/** A pool over connections that the test connects, breaks and ends. */
export class FakePool {
  readonly loop = new FakeLoop();
  readonly made: FakeConnection[] = [];
  connectFailures = 0;
  connections = 0;
  waiting = 0;
  readonly pool: SessionPool<FakeConnection>;

  constructor(options: FakeOptions = {}) {
    const { version = 'http/1', room = version === 'h2' ? 10 : 1, maxWaiting = 100, failsAll = true } = options;
    this.pool = new SessionPool<FakeConnection>(version, {
      limits: { maxConnectionsPerEndpoint: 100, maxIdlePerEndpoint: 100, idlePoolTimeoutMs: 60_000, ...options },
      loop: this.loop,
      make: (owner) => {
        const connection = new FakeConnection(owner, room, this.loop, options.opensAtOnce);
        this.made.push(connection);
        return connection;
      },
      failsAll,
      onConnectFailed: () => this.connectFailures++,
      onConnections: (change) => {
        this.connections += change;
      },
      mayWait: () => this.waiting < maxWaiting,
      onWaiting: (change) => {
        this.waiting += change;
      },
    });
  }

  at(index: number): FakeConnection {
    const connection = this.made[index];
    if (connection === undefined) throw new Error(`no connection ${index} was made`);
    return connection;
  }

  seek(fresh = false): FakeSeeker {
    const seeker = new FakeSeeker();
    this.pool.seek(seeker, fresh);
    return seeker;
  }

  /** A new connection that carries a request. */
  busy(): FakeConnection {
    const count = this.made.length;
    this.seek();
    if (this.made.length === count) throw new Error('it was served by one that was there');
    const connection = this.at(count);
    connection.connect();
    return connection;
  }
}
