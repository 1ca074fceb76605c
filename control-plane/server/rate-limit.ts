/** Token buckets by key, bounded in number: a key that has not been seen lately has a full bucket, so forgetting it changes nothing. */
export class RateLimit {
  readonly #burst: number;
  readonly #perSecond: number;
  readonly #now: () => number;
  readonly #buckets = new Map<string, { level: number; at: number }>();
  readonly #maxKeys = 50_000;

  /** `now` in milliseconds, monotonic. */
  constructor(burst: number, perSecond: number, now: () => number = () => performance.now()) {
    this.#burst = burst;
    this.#perSecond = perSecond;
    this.#now = now;
  }

  /** Whether one more is within the limit; it counts where it is. */
  take(key: string): boolean {
    const now = this.#now();
    const before = this.#buckets.get(key);
    const level =
      before === undefined
        ? this.#burst
        : Math.min(this.#burst, before.level + ((now - before.at) / 1000) * this.#perSecond);
    this.#buckets.delete(key);
    this.#buckets.set(key, { level: level < 1 ? level : level - 1, at: now });
    this.#trim(now);
    return level >= 1;
  }

  /** Buckets stand in the order of their last use: the first ones have refilled longest. */
  #trim(now: number): void {
    const refillMs = (this.#burst / this.#perSecond) * 1000;
    for (const [key, { at }] of this.#buckets) {
      if (now - at < refillMs && this.#buckets.size <= this.#maxKeys) return;
      this.#buckets.delete(key);
    }
  }
}
