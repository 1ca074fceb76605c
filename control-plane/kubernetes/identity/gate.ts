/** More at once than may wait, or waited for too long. */
export class GateFull extends Error {}

/** Bounds how much of one kind of work runs at a time, how much waits for its turn, and for how long. */
export class Gate {
  readonly #concurrent: number;
  readonly #maxWaiting: number;
  readonly #waitMs: number;
  #running = 0;
  /** In the order in which they came. */
  readonly #waiting = new Set<() => void>();

  constructor(limits: { readonly concurrent: number; readonly waiting: number; readonly waitMs: number }) {
    this.#concurrent = limits.concurrent;
    this.#maxWaiting = limits.waiting;
    this.#waitMs = limits.waitMs;
  }

  /** @throws GateFull where the work was not begun; what `work` throws */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#concurrent) await this.#turn();
    else this.#running += 1;
    try {
      return await work();
    } finally {
      const [next] = this.#waiting;
      // The place is handed over, so that nobody who comes just now takes it.
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }

  #turn(): Promise<void> {
    if (this.#waiting.size >= this.#maxWaiting) return Promise.reject(new GateFull('too much at once'));
    return new Promise((resolve, reject) => {
      const enter = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(enter);
        resolve();
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(enter);
        reject(new GateFull('waited too long'));
      }, this.#waitMs);
      this.#waiting.add(enter);
    });
  }
}
