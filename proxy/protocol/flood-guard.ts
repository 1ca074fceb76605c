/**
 * A leaky bucket that tells a flood from use: each hit fills it by one, and it leaks `limit` an interval. Meant for frames that cost
 * the peer nothing and us something: RST_STREAM (rapid reset, CVE-2023-44487), SETTINGS, PING, empty frames.
 * A peer may send `limit` hits at once and `limit` in every interval from then on. No allocation, no timer.
 */
export class FloodGuard {
  readonly #limit: number;
  readonly #leakPerMs: number;
  #level = 0;
  #last = Number.NEGATIVE_INFINITY;

  /** @param intervalMs milliseconds in which a full bucket empties. */
  constructor(limitPerInterval: number, intervalMs: number) {
    this.#limit = limitPerInterval;
    this.#leakPerMs = limitPerInterval / intervalMs;
  }

  /** Counts one; true where that is more than allowed. `nowMs` is of any monotonic clock; one that stands still or steps back leaks nothing. */
  hit(nowMs: number): boolean {
    if (nowMs > this.#last) {
      this.#level = Math.max(0, this.#level - (nowMs - this.#last) * this.#leakPerMs);
      this.#last = nowMs;
    }
    if (this.#level + 1 > this.#limit) return true;
    this.#level++;
    return false;
  }
}
