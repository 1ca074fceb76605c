import type { DataPlane } from '../connection/data-plane.ts';
import type { HttpProtocol } from '../connection/http-sessions.ts';
import { type ServiceFacts, serviceFacts } from '../connection/party.ts';
import { SessionPool } from '../connection/session-pool.ts';
import type { BalancedEndpoint } from '../protocol/balancer.ts';
import type { Destination, Endpoint } from '../protocol/destinations.ts';
import { HttpBalancer } from '../protocol/http-balancer.ts';
import type { TunnelPool } from './tunnel-pool.ts';
import type { Upstream } from './upstream.ts';
import { UpstreamConnection } from './upstream-connection.ts';

/** The connections to one endpoint in one HTTP version. */
export type UpstreamPool = SessionPool<Upstream>;

/** An endpoint with the connections to it. */
export class PooledEndpoint {
  /** As the registry has it now; how it is reached never changes. */
  endpoint: Endpoint;
  readonly #make: (version: HttpProtocol, of: PooledEndpoint) => UpstreamPool;
  #http1: UpstreamPool | null = null;
  #h2: UpstreamPool | null = null;

  constructor(endpoint: Endpoint, make: (version: HttpProtocol, of: PooledEndpoint) => UpstreamPool) {
    this.endpoint = endpoint;
    this.#make = make;
  }

  pool(version: HttpProtocol): UpstreamPool {
    if (version === 'h2') {
      this.#h2 ??= this.#make('h2', this);
      return this.#h2;
    }
    this.#http1 ??= this.#make('http/1', this);
    return this.#http1;
  }

  pools(): readonly UpstreamPool[] {
    return [this.#http1, this.#h2].filter((pool) => pool !== null);
  }
}

export type PickedEndpoint = BalancedEndpoint<PooledEndpoint>;

function reachedAlike(a: Endpoint, b: Endpoint): boolean {
  return (
    a.address === b.address &&
    a.port === b.port &&
    a.protocol === b.protocol &&
    a.tunnel?.address === b.tunnel?.address &&
    a.tunnel?.port === b.tunnel?.port &&
    a.workload.identity === b.workload.identity
  );
}

/**
 * One destination of HTTP requests: who serves it, how they do, and the connections to them, shared by all application connections of the worker.
 * It follows the registry: an endpoint that goes, or is reached in another way, gets no new requests.
 */
export class HttpDestination {
  readonly #plane: DataPlane;
  readonly #tunnels: TunnelPool;
  readonly #locate: () => Destination;
  readonly #balancer: HttpBalancer<PooledEndpoint>;
  #endpoints = new Map<string, PooledEndpoint>();
  /** Pools of former endpoints, whose last requests are still under way. */
  readonly #retired = new Set<UpstreamPool>();
  #registry = -1;
  #version = -1;
  #known = false;
  #pending = 0;
  /** Application connections that send their requests here. */
  users = 0;
  lastUsed = 0;
  service: ServiceFacts | null = null;

  /** @param locate the destination as the registry has it now @param random answers in [0, 1) */
  constructor(plane: DataPlane, tunnels: TunnelPool, locate: () => Destination, random: () => number = Math.random) {
    this.#plane = plane;
    this.#tunnels = tunnels;
    this.#locate = locate;
    this.#balancer = new HttpBalancer(random);
  }

  /** Takes the endpoints as they are now; costs nothing where the registry has not changed. @returns whether there is such a destination */
  refresh(): boolean {
    const { view, loop } = this.#plane;
    this.lastUsed = loop.now;
    const { registry } = view.versions;
    if (registry === this.#registry) return this.#known;
    this.#registry = registry;
    const destination = this.#locate();
    this.#known = destination.kind !== 'unknown';
    if (destination.kind === 'unknown') {
      this.#version = -1;
      this.#take([]);
      return false;
    }
    this.service = destination.kind === 'service' ? serviceFacts(destination.service) : null;
    if (destination.version !== this.#version) {
      this.#version = destination.version;
      this.#take(destination.kind === 'service' ? destination.endpoints : [destination.endpoint]);
    }
    return true;
  }

  #take(endpoints: readonly Endpoint[]): void {
    const before = this.#endpoints;
    const now = new Map<string, PooledEndpoint>();
    for (const endpoint of endpoints) {
      if (now.has(endpoint.name)) continue;
      const known = before.get(endpoint.name);
      if (known !== undefined && reachedAlike(known.endpoint, endpoint)) {
        known.endpoint = endpoint;
        now.set(endpoint.name, known);
      } else now.set(endpoint.name, new PooledEndpoint(endpoint, (version, of) => this.#makePool(version, of)));
    }
    this.#endpoints = now;
    this.#balancer.update(
      [...now].map(([name, target]) => ({ name, target })),
      this.#plane.loop.now,
    );
    // Last, since those who waited for a connection there go elsewhere at once.
    for (const [name, former] of before) if (now.get(name) !== former) this.#retire(former);
  }

  #retire(former: PooledEndpoint): void {
    for (const pool of former.pools()) {
      this.#retired.add(pool);
      pool.retire(`${former.endpoint.name} is no endpoint any more`);
    }
  }

  #makePool(version: HttpProtocol, of: PooledEndpoint): UpstreamPool {
    const { loop, config, metrics } = this.#plane;
    const { name } = of.endpoint;
    return new SessionPool(version, {
      limits: config.http,
      loop,
      make: (owner) => new UpstreamConnection(this.#plane, this.#tunnels, of.endpoint, version, owner),
      // Another endpoint may take them, and this one has just shown that it will not.
      failsAll: true,
      onConnectFailed: () => this.#countEjection(this.#balancer.unreachable(name, loop.now)),
      onConnections: (change) => metrics.httpPool('outbound', change),
      mayWait: () => this.#pending < config.http.maxPendingRequests,
      onWaiting: (change) => {
        this.#pending += change;
        metrics.httpPending(change);
      },
    });
  }

  #countEjection(ejected: boolean): void {
    if (ejected) this.#plane.metrics.httpEjection();
  }

  /** Endpoints that there are. */
  get size(): number {
    return this.#balancer.size;
  }

  /** Null where there is none. @param avoid chosen again only where there is no other. The pick MUST be released once. */
  pick(avoid: PickedEndpoint | null): PickedEndpoint | null {
    return this.#balancer.pick(this.#plane.loop.now, avoid);
  }

  answered(picked: PickedEndpoint, rttMs: number): void {
    this.#balancer.answered(picked, rttMs, this.#plane.loop.now);
  }

  succeeded(picked: PickedEndpoint): void {
    this.#balancer.succeeded(picked);
  }

  failed(picked: PickedEndpoint): void {
    this.#countEjection(this.#balancer.failed(picked, this.#plane.loop.now));
  }

  release(picked: PickedEndpoint): void {
    this.#balancer.release(picked);
  }

  /** Our certificate, trust or the revocations changed, or a tunnel drains: see `SessionPool.reconsider`. */
  reconsider(): void {
    for (const pooled of this.#endpoints.values()) for (const pool of pooled.pools()) pool.reconsider();
    for (const pool of this.#retired) pool.reconsider();
  }

  /** Whether nothing would be lost if it were forgotten. */
  get idle(): boolean {
    for (const pool of this.#retired) if (pool.empty) this.#retired.delete(pool);
    if (this.users > 0 || this.#retired.size > 0) return false;
    for (const pooled of this.#endpoints.values()) if (pooled.pools().some((pool) => !pool.empty)) return false;
    return true;
  }
}
