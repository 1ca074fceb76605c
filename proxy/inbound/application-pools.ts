import type { DataPlane } from '../connection/data-plane.ts';
import type { HttpProtocol } from '../connection/http-sessions.ts';
import { type ConnectionOwner, type PooledConnection, SessionPool } from '../connection/session-pool.ts';
import type { Address } from '../native/socket.ts';
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

/** The connections to one address of the application in one HTTP version. */
export type ApplicationPool = SessionPool<PooledConnection>;

/** What the pools need of the worker. */
export type PoolSurroundings = Pick<DataPlane, 'metrics'> & {
  readonly loop: Pick<DataPlane['loop'], 'now' | 'arm'>;
  readonly limits: HttpLimits;
};

/** Empty pools are forgotten once there are more pools than this, or twice those that were in use when that was last done. */
const KEPT = 64;

/**
 * The HTTP connections from this sidecar to the application, shared by the requests of all peers. One a worker. A pool that falls empty stays for a
 * while: what closes its connection after each request would else have a pool made for each.
 */
export class ApplicationPools {
  readonly #around: PoolSurroundings;
  readonly #make: (place: ApplicationPlace, owner: ConnectionOwner<PooledConnection>) => PooledConnection;
  readonly #pools = new Map<string, ApplicationPool>();
  #bound = KEPT;

  constructor(
    around: PoolSurroundings,
    make: (place: ApplicationPlace, owner: ConnectionOwner<PooledConnection>) => PooledConnection,
  ) {
    this.#around = around;
    this.#make = make;
  }

  /** For use at once: one that is empty may be forgotten at the next call. */
  of(place: ApplicationPlace): ApplicationPool {
    const known = this.#pools.get(place.key);
    if (known !== undefined) return known;
    if (this.#pools.size >= this.#bound) this.#forgetEmpty();
    const pool = this.#makePool(place);
    this.#pools.set(place.key, pool);
    return pool;
  }

  get size(): number {
    return this.#pools.size;
  }

  #forgetEmpty(): void {
    for (const [key, pool] of this.#pools) if (pool.empty) this.#pools.delete(key);
    this.#bound = Math.max(KEPT, 2 * this.#pools.size);
  }

  #makePool(place: ApplicationPlace): ApplicationPool {
    const { loop, limits, metrics } = this.#around;
    const pool: ApplicationPool = new SessionPool(place.protocol, {
      limits,
      loop,
      make: (owner) => this.#make(place, owner),
      failsAll: false,
      onConnectFailed: () => {},
      onConnections: (change) => metrics.httpPool('inbound', change),
      mayWait: () => pool.waiting < limits.maxPendingRequests,
      onWaiting: (change) => metrics.httpPending(change),
    });
    return pool;
  }

  /** At the worker's end. */
  close(detail: string): void {
    for (const pool of this.#pools.values()) pool.close(detail);
    this.#pools.clear();
  }
}
