/**
 * Joins a burst of changes into one: acts when there was none for `quietMs`, or `maxMs` after the first.
 * One owner; `stop` frees the timer.
 */
export class Debounce {
  readonly #quietMs: number;
  readonly #maxMs: number;
  readonly #act: () => void;
  #timer: NodeJS.Timeout | null = null;
  #deadline = 0;

  constructor(quietMs: number, maxMs: number, act: () => void) {
    this.#quietMs = quietMs;
    this.#maxMs = maxMs;
    this.#act = act;
  }

  trigger(): void {
    const now = performance.now();
    if (this.#timer === null) this.#deadline = now + this.#maxMs;
    else clearTimeout(this.#timer);
    const delay = Math.max(0, Math.min(this.#quietMs, this.#deadline - now));
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#act();
    }, delay);
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }
}
