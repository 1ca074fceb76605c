import { type Restable, RestingEndpoints } from './resting-endpoints.ts';

/** One workload behind a service port, as a balancer hands it out. */
export interface BalancedEndpoint<T> {
  /** The workload's name: what keeps an endpoint itself when the list changes. */
  readonly name: string;
  readonly target: T;
  /** Picks not released yet. */
  readonly active: number;
}

class Endpoint<T> implements BalancedEndpoint<T>, Restable {
  readonly name: string;
  target: T;
  active = 0;
  /** In the service's endpoint list now; one that is not lives on only until its last pick is released. */
  listed = true;
  /** Its rest is over and one caller is trying it; until it tells, the endpoint rests on. */
  onProbe = false;
  /** Where it stands in the balancer's array of available ones; -1: not there. */
  index = -1;
  level = 0;
  due = 0;
  list: Restable['list'] = null;
  previous: Restable | null = null;
  next: Restable | null = null;

  constructor(name: string, target: T) {
    this.name = name;
    this.target = target;
  }
}

/**
 * Chooses an endpoint for each new connection: of two drawn at random the one with fewer active (power of two choices). One that failed rests for
 * 1 s, then 2, 4 … 60 s; after a rest a single connection tries it. Where nothing else is left, resting ones are chosen among all the same.
 *
 * Every pick MUST be released once; before that the caller tells `succeeded` or `failed` as soon as it knows.
 * A listed endpoint is ALWAYS in exactly one place: available or resting. No clock, no randomness of its own; `pick` is O(1).
 */
export class Balancer<T> {
  readonly #random: () => number;
  readonly #byName = new Map<string, Endpoint<T>>();
  readonly #available: Endpoint<T>[] = [];
  readonly #resting = new RestingEndpoints<Endpoint<T>>();
  #listed: Endpoint<T>[] = [];

  /** @param random answers in [0, 1). */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** How many endpoints there are, resting ones included. */
  get size(): number {
    return this.#listed.length;
  }

  /** Takes a new list. Endpoints of a name that stays keep their active count and their rest; a name given twice counts once. */
  update(endpoints: Iterable<{ readonly name: string; readonly target: T }>): void {
    for (const endpoint of this.#listed) endpoint.listed = false;
    const before = this.#listed;
    this.#listed = [];
    for (const { name, target } of endpoints) {
      const known = this.#byName.get(name);
      if (known?.listed) continue;
      const endpoint = known ?? new Endpoint(name, target);
      endpoint.listed = true;
      endpoint.target = target;
      this.#listed.push(endpoint);
      this.#byName.set(name, endpoint);
      if (endpoint.index === -1 && endpoint.list === null) this.#makeAvailable(endpoint);
    }
    for (const endpoint of before) if (!endpoint.listed) this.#drop(endpoint);
  }

  /** An endpoint, now counted as active; null where the list is empty. `now` in milliseconds of a monotonic clock. */
  pick(now: number): BalancedEndpoint<T> | null {
    let endpoint = this.#resting.takeDue(now);
    if (endpoint === null) {
      endpoint = this.#lessActive(this.#available.length > 0 ? this.#available : this.#listed);
    } else {
      endpoint.onProbe = true;
      this.#resting.restWhileTried(endpoint, now);
    }
    if (endpoint !== null) endpoint.active++;
    return endpoint;
  }

  /** The endpoint took a connection: whatever was held against it is forgotten. */
  succeeded(picked: BalancedEndpoint<T>): void {
    const endpoint = picked as Endpoint<T>;
    endpoint.onProbe = false;
    endpoint.level = 0;
    this.#resting.remove(endpoint);
    if (endpoint.listed && endpoint.index === -1) this.#makeAvailable(endpoint);
  }

  /** The endpoint refused, or did not answer in time. Of many that fail at once only the first counts: a rest is not drawn out by them. */
  failed(picked: BalancedEndpoint<T>, now: number): void {
    const endpoint = picked as Endpoint<T>;
    if (!endpoint.listed || (endpoint.list !== null && !endpoint.onProbe)) return;
    endpoint.onProbe = false;
    this.#makeUnavailable(endpoint);
    this.#resting.remove(endpoint);
    this.#resting.rest(endpoint, now);
  }

  /** The connection that `pick` was for is over. */
  release(picked: BalancedEndpoint<T>): void {
    const endpoint = picked as Endpoint<T>;
    endpoint.active--;
    if (!endpoint.listed && endpoint.active === 0) this.#byName.delete(endpoint.name);
  }

  #lessActive(among: readonly Endpoint<T>[]): Endpoint<T> | null {
    const count = among.length;
    const first = Math.floor(this.#random() * count);
    const one = among[first];
    if (count < 2 || one === undefined) return one ?? null;
    // One of the others, each equally likely.
    const other = among[(first + 1 + Math.floor(this.#random() * (count - 1))) % count] ?? one;
    return other.active < one.active ? other : one;
  }

  #makeAvailable(endpoint: Endpoint<T>): void {
    endpoint.index = this.#available.length;
    this.#available.push(endpoint);
  }

  #makeUnavailable(endpoint: Endpoint<T>): void {
    if (endpoint.index === -1) return;
    const last = this.#available.pop();
    if (last !== undefined && last !== endpoint) {
      this.#available[endpoint.index] = last;
      last.index = endpoint.index;
    }
    endpoint.index = -1;
  }

  #drop(endpoint: Endpoint<T>): void {
    this.#makeUnavailable(endpoint);
    this.#resting.remove(endpoint);
    endpoint.onProbe = false;
    endpoint.level = 0;
    if (endpoint.active === 0) this.#byName.delete(endpoint.name);
  }
}
