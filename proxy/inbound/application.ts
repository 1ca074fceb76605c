import { networkInterfaces } from 'node:os';
import type { Address } from '../native/socket.ts';
import { unmapped } from '../protocol/ip-address.ts';
import type { WorkerConfig } from '../worker/messages.ts';

/** How long a list of the machine's addresses is believed when it does not have the one asked for, milliseconds. */
const REFRESH_MS = 5_000;

/** Where connections that came for this workload are delivered. */
export class Application {
  readonly #config: WorkerConfig;
  readonly #now: () => number;
  readonly #exposed: ReadonlyMap<number, Address>;
  readonly #own: ReadonlySet<number>;
  #addresses: ReadonlySet<string>;
  #readAt = Number.NEGATIVE_INFINITY;

  constructor(config: WorkerConfig, now: () => number) {
    this.#config = config;
    this.#now = now;
    this.#addresses = new Set(config.workload.addresses);
    this.#exposed = new Map(config.expose.map(({ port, application }) => [port, application]));
    const listeners = [config.inbound.listen, config.inbound.tunnel, config.outbound.listen];
    this.#own = new Set([...config.ownPorts, ...listeners.flatMap((at) => (at === null ? [] : [at.port]))]);
  }

  /** Whether the address is the workload's own. */
  isOwn(address: string): boolean {
    if (this.#addresses.has(address)) return true;
    if (this.#config.workload.addresses.length > 0 || this.#now() - this.#readAt < REFRESH_MS) return false;
    this.#readAt = this.#now();
    const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
    // Loopback is never a destination that somebody else may name: what listens there trusts the machine.
    this.#addresses = new Set(all.flatMap((one) => (one.internal ? [] : [unmapped(one.address)])));
    return this.#addresses.has(address);
  }

  /** Where to dial for `target`; a string says why it must not be. */
  locate(target: Address): Address | string {
    if (!this.isOwn(target.address)) return `${target.address} is not an address of this workload`;
    const exposed = this.#exposed.get(target.port);
    if (exposed !== undefined) return exposed;
    if (this.#own.has(target.port)) return `port ${target.port} is the sidecar itself`;
    return target;
  }
}
