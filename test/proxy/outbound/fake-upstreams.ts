import type { ClientExchange, ClientSession } from '../../../proxy/http/exchange.ts';
import type { ConnectFailure, Upstream, UpstreamConnector, UpstreamOwner } from '../../../proxy/outbound/upstream.ts';
import { type PoolEnvironment, UpstreamPool, type UpstreamSeeker } from '../../../proxy/outbound/upstream-pool.ts';

/** A session that carries nothing: requests are begun and ended by the test. */
class FakeSession implements ClientSession {
  active = 0;
  idleSince = 0;
  retiring = false;
  closed: string | null = null;
  readonly #upstream: FakeUpstream;
  most: number;

  constructor(upstream: FakeUpstream, most: number) {
    this.#upstream = upstream;
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
    this.#upstream.owner.onGone(this.#upstream, detail);
  }
}

export class FakeUpstream implements UpstreamConnector {
  readonly owner: UpstreamOwner;
  readonly transport = 'hbone';
  readonly tls = null;
  readonly principal = null;
  readonly refusal = null;
  readonly session: FakeSession;
  served = 0;
  ready = false;
  givenUp = false;
  keepsUnused = true;
  outdatedBy: string | null = null;
  distrustedBy: string | null = null;
  readonly #now: () => number;
  readonly #opensAtOnce: boolean;

  constructor(owner: UpstreamOwner, room: number, now: () => number, opensAtOnce: boolean) {
    this.owner = owner;
    this.session = new FakeSession(this, room);
    this.#now = now;
    this.#opensAtOnce = opensAtOnce;
  }

  open(): void {
    if (this.#opensAtOnce) this.connect();
  }

  connect(): void {
    this.session.idleSince = this.#now();
    this.owner.onOpen(this);
  }

  fail(reason = 'ECONNREFUSED'): void {
    this.owner.onConnectFailed(this, { flags: 'CONNECT', reason });
  }

  /** A request on it is over. */
  finishOne(): void {
    this.session.active--;
    this.session.idleSince = this.#now();
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

  awaitAnswer(): void {}
  forget(): void {}
}

export class FakeSeeker implements UpstreamSeeker {
  got: Upstream | null = null;
  failure: ConnectFailure | null = null;
  /** False: it leaves what it is given, as a request that is over does. */
  wants = true;

  onUpstream(upstream: Upstream): void {
    this.got = upstream;
    if (this.wants) upstream.session.begin({} as never, true, {} as never);
  }

  onNoUpstream(failure: ConnectFailure): void {
    this.failure = failure;
  }
}

interface FakeOptions {
  readonly version?: 'http/1' | 'h2';
  /** Exchanges a session takes at a time. */
  readonly room?: number;
  readonly opensAtOnce?: boolean;
  readonly maxConnectionsPerEndpoint?: number;
  readonly maxIdlePerEndpoint?: number;
  readonly idlePoolTimeoutMs?: number;
  readonly maxWaiting?: number;
}

/** A pool over upstreams that the test connects, breaks and ends. */
export class FakePool {
  now = 0;
  readonly made: FakeUpstream[] = [];
  connectFailures = 0;
  connections = 0;
  waiting = 0;
  /** Delay of the next look at idle ones, as it was planned; null: none is. */
  idleCheckIn: number | null = null;
  readonly pool: UpstreamPool;

  constructor(options: FakeOptions = {}) {
    const { version = 'http/1', room = version === 'h2' ? 10 : 1, opensAtOnce = false, maxWaiting = 100 } = options;
    const env: PoolEnvironment = {
      limits: { maxConnectionsPerEndpoint: 100, maxIdlePerEndpoint: 100, idlePoolTimeoutMs: 60_000, ...options },
      make: (owner) => {
        const upstream = new FakeUpstream(owner, room, () => this.now, opensAtOnce);
        this.made.push(upstream);
        return upstream;
      },
      now: () => this.now,
      planIdleCheck: (delayMs) => {
        this.idleCheckIn = delayMs;
      },
      onConnectFailed: () => this.connectFailures++,
      onConnections: (change) => {
        this.connections += change;
      },
      mayWait: () => this.waiting < maxWaiting,
      onWaiting: (change) => {
        this.waiting += change;
      },
    };
    this.pool = new UpstreamPool(version, env);
  }

  at(index: number): FakeUpstream {
    const upstream = this.made[index];
    if (upstream === undefined) throw new Error(`no upstream ${index} was made`);
    return upstream;
  }

  seek(fresh = false): FakeSeeker {
    const seeker = new FakeSeeker();
    this.pool.seek(seeker, fresh);
    return seeker;
  }

  /** An upstream that has carried a request and is idle now. */
  idle(): FakeUpstream {
    const count = this.made.length;
    this.seek();
    if (this.made.length === count) throw new Error('it was served by one that was there');
    const upstream = this.at(count);
    upstream.connect();
    return upstream;
  }
}
