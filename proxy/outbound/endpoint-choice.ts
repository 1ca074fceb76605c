import { type BalancedEndpoint, Balancer } from '../protocol/balancer.ts';
import type { Destination, Endpoint } from '../protocol/destinations.ts';

export type Picked = BalancedEndpoint<Endpoint>;

/** The balancer of one destination, kept up to date with the registry; it lives as long as the destination is used. */
export class EndpointChoice {
  readonly #balancer: Balancer<Endpoint>;
  readonly #now: () => number;
  #version = -1;
  lastUsed = 0;

  constructor(now: () => number, random: () => number) {
    this.#balancer = new Balancer(random);
    this.#now = now;
  }

  /** Takes the endpoints of the destination as it is now; costs nothing where it has not changed. */
  update(destination: Exclude<Destination, { kind: 'unknown' }>): void {
    this.lastUsed = this.#now();
    if (destination.version === this.#version) return;
    this.#version = destination.version;
    const endpoints = destination.kind === 'service' ? destination.endpoints : [destination.endpoint];
    this.#balancer.update(endpoints.map((endpoint) => ({ name: endpoint.name, target: endpoint })));
  }

  pick(): Picked | null {
    return this.#balancer.pick(this.#now());
  }

  succeeded(picked: Picked): void {
    this.#balancer.succeeded(picked);
  }

  /** Also gives the pick back. */
  failed(picked: Picked): void {
    this.#balancer.failed(picked, this.#now());
    this.#balancer.release(picked);
  }

  release(picked: Picked): void {
    this.#balancer.release(picked);
  }
}
