/**
 * Runs one piece of work for each member, a bounded number at a time, in the order they were added.
 *
 * ALWAYS: a member waits in the queue at most once, however often it is added; added while it runs, it runs once more afterwards.
 */
export class WorkQueue<T> {
  readonly #concurrency: number;
  readonly #work: (member: T) => Promise<void>;
  readonly #waiting = new Set<T>();
  readonly #running = new Set<T>();

  /** `work` must not reject. */
  constructor(concurrency: number, work: (member: T) => Promise<void>) {
    this.#concurrency = concurrency;
    this.#work = work;
  }

  add(member: T): void {
    this.#waiting.add(member);
    this.#next();
  }

  delete(member: T): void {
    this.#waiting.delete(member);
  }

  #next(): void {
    for (const member of this.#waiting) {
      if (this.#running.size >= this.#concurrency) return;
      if (this.#running.has(member)) continue;
      this.#waiting.delete(member);
      this.#running.add(member);
      void this.#work(member).finally(() => {
        this.#running.delete(member);
        // Leaves the loop in between, so that work for thousands does not hold up accepting and acknowledging.
        setImmediate(() => this.#next());
      });
    }
  }
}
