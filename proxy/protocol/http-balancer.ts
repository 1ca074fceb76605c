import type { BalancedEndpoint } from './balancer.ts';
import { OutlierHistory } from './outlier.ts';
import { PeakEwma } from './peak-ewma.ts';

/** What an endpoint that could not be connected is believed to take, so that requests go elsewhere before it is ejected, milliseconds. */
const UNREACHABLE_MS = 1_000;

class Endpoint<T> implements BalancedEndpoint<T> {
  readonly name: string;
  target: T;
  active = 0;
  /** In the service's endpoint list now; one that is not lives on only until its last pick is released. */
  listed = true;
  /** Where it stands in the balancer's array of available ones; -1: not there. */
  index = -1;
  readonly rtt: PeakEwma;
  readonly history = new OutlierHistory();

  constructor(name: string, target: T, now: number) {
    this.name = name;
    this.target = target;
    this.rtt = new PeakEwma(now);
  }

  cost(now: number): number {
    return this.rtt.estimate(now) * (this.active + 1);
  }
}

/**
 * Chooses an endpoint for each request: of two drawn at random the one where it will be answered sooner (power of two choices; response time by
 * peak EWMA, times the requests under way). Endpoints that fail 5 times running are ejected for a while.
 *
 * Every pick MUST be released once; before that the caller tells what became of it, where it knows.
 * A listed endpoint is ALWAYS in exactly one place, available or ejected. NEVER more than half of them are ejected. No clock, no randomness of its own.
 */
export class HttpBalancer<T> {
  readonly #random: () => number;
  readonly #byName = new Map<string, Endpoint<T>>();
  readonly #available: Endpoint<T>[] = [];
  #ejected: Endpoint<T>[] = [];
  /** When the first of the ejected comes back. */
  #nextReturn = Number.POSITIVE_INFINITY;
  #listed = 0;

  /** @param random answers in [0, 1). */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** How many endpoints there are, ejected ones included. */
  get size(): number {
    return this.#listed;
  }

  get ejected(): number {
    return this.#ejected.length;
  }

  /** Takes a new list. Endpoints of a name that stays keep what is known of them; a name given twice counts once. `now` in monotonic milliseconds. */
  update(endpoints: Iterable<{ readonly name: string; readonly target: T }>, now: number): void {
    for (const endpoint of this.#byName.values()) endpoint.listed = false;
    this.#listed = 0;
    for (const { name, target } of endpoints) {
      const known = this.#byName.get(name);
      if (known?.listed) continue;
      const endpoint = known ?? new Endpoint(name, target, now);
      endpoint.listed = true;
      endpoint.target = target;
      this.#listed++;
      this.#byName.set(name, endpoint);
      if (endpoint.index === -1 && !this.#ejected.includes(endpoint)) this.#makeAvailable(endpoint);
    }
    for (const endpoint of [...this.#byName.values()]) if (!endpoint.listed) this.#drop(endpoint);
    this.#keepHalf();
    this.#noteNextReturn();
  }

  #drop(endpoint: Endpoint<T>): void {
    this.#makeUnavailable(endpoint);
    const at = this.#ejected.indexOf(endpoint);
    if (at >= 0) this.#ejected.splice(at, 1);
    if (endpoint.active === 0) this.#byName.delete(endpoint.name);
  }

  /** The list may have become shorter: who is due first comes back early. */
  #keepHalf(): void {
    if (this.#ejected.length <= this.#listed >> 1) return;
    this.#ejected.sort((a, b) => a.history.ejectedUntil - b.history.ejectedUntil);
    for (const early of this.#ejected.splice(0, this.#ejected.length - (this.#listed >> 1))) this.#makeAvailable(early);
  }

  /**
   * An endpoint, now counted as active; null where the list is empty.
   * @param avoid an earlier pick that failed: chosen again only where there is no other, ejected or not
   */
  pick(now: number, avoid: BalancedEndpoint<T> | null = null): BalancedEndpoint<T> | null {
    if (now >= this.#nextReturn) this.#bringBack(now);
    const endpoint = this.#cheaper(now, avoid as Endpoint<T> | null);
    if (endpoint !== null) endpoint.active++;
    return endpoint;
  }

  #cheaper(now: number, avoid: Endpoint<T> | null): Endpoint<T> | null {
    const all = this.#available;
    const shunned = avoid !== null && avoid.index >= 0 && all.length > 1 ? avoid.index : -1;
    // What was ejected may be back; what has just failed is not.
    if (avoid !== null && avoid === all[0] && all.length === 1) return this.#ejected[0] ?? avoid;
    const count = shunned >= 0 ? all.length - 1 : all.length;
    // The last one stands in for the one to avoid.
    const at = (index: number): Endpoint<T> | null => all[index === shunned ? count : index] ?? null;
    const first = Math.floor(this.#random() * count);
    const one = at(first);
    if (count < 2 || one === null) return one;
    // One of the others, each equally likely.
    const other = at((first + 1 + Math.floor(this.#random() * (count - 1))) % count) ?? one;
    return other.cost(now) < one.cost(now) ? other : one;
  }

  /** The response's head came. Of a failure's speed nothing is learnt: an endpoint must not attract requests by refusing them fast. */
  answered(picked: BalancedEndpoint<T>, rttMs: number, now: number): void {
    (picked as Endpoint<T>).rtt.observe(rttMs, now);
  }

  succeeded(picked: BalancedEndpoint<T>): void {
    (picked as Endpoint<T>).history.succeeded();
  }

  /** It answered with an error of its own, or its connection broke. @returns whether it has been ejected for it. */
  failed(picked: BalancedEndpoint<T>, now: number): boolean {
    const endpoint = picked as Endpoint<T>;
    const enough = endpoint.history.failed();
    if (!enough || endpoint.index === -1 || this.#ejected.length + 1 > this.#listed >> 1) return false;
    this.#makeUnavailable(endpoint);
    endpoint.history.eject(now);
    this.#ejected.push(endpoint);
    this.#noteNextReturn();
    return true;
  }

  /** The endpoint of that name could not be connected, or is not who it should be. @returns as `failed`. */
  unreachable(name: string, now: number): boolean {
    const endpoint = this.#byName.get(name);
    if (endpoint === undefined) return false;
    endpoint.rtt.observe(UNREACHABLE_MS, now);
    return this.failed(endpoint, now);
  }

  /** The request that `pick` was for is over. */
  release(picked: BalancedEndpoint<T>): void {
    const endpoint = picked as Endpoint<T>;
    endpoint.active--;
    if (!endpoint.listed && endpoint.active === 0) this.#byName.delete(endpoint.name);
  }

  #bringBack(now: number): void {
    const still: Endpoint<T>[] = [];
    for (const endpoint of this.#ejected) {
      if (endpoint.history.ejectedUntil <= now) this.#makeAvailable(endpoint);
      else still.push(endpoint);
    }
    this.#ejected = still;
    this.#noteNextReturn();
  }

  #noteNextReturn(): void {
    this.#nextReturn = Number.POSITIVE_INFINITY;
    for (const { history } of this.#ejected) this.#nextReturn = Math.min(this.#nextReturn, history.ejectedUntil);
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
}
