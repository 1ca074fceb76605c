/**
 * Exponential back-off with jitter: the n-th delay is drawn from the upper half of `initialMs · 2^n`, capped at `maxMs`, so that many who
 * lost one server together do not return together.
 */
export class Backoff {
  readonly #initialMs: number;
  readonly #maxMs: number;
  readonly #random: () => number;
  #failures = 0;

  constructor(options: { readonly initialMs: number; readonly maxMs: number; readonly random: () => number }) {
    this.#initialMs = options.initialMs;
    this.#maxMs = options.maxMs;
    this.#random = options.random;
  }

  /** Delay before the next attempt, milliseconds. */
  next(): number {
    // 2^30 is beyond every cap in use; without the bound the power overflows to Infinity after a long outage.
    const full = Math.min(this.#initialMs * 2 ** Math.min(this.#failures, 30), this.#maxMs);
    this.#failures += 1;
    return full / 2 + (full / 2) * this.#random();
  }

  reset(): void {
    this.#failures = 0;
  }
}
