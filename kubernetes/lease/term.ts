/**
 * For how long we lead: from taking the lease to its loss. Whoever writes as the leader passes `signal` to each write.
 *
 * ALWAYS: it is over no later than `renewDeadlineMs` after the last successful renewal was sent, which is before another may take the lease: others
 * wait for the longer lease duration, counted from when they saw the renewal. Only the monotonic clock counts, so that clocks may differ.
 */
export class Term {
  readonly #controller = new AbortController();
  readonly #renewDeadlineMs: number;
  readonly #now: () => number;
  #timer: NodeJS.Timeout | null = null;
  #endsAt: number;

  /** @param sentAt When the request that took the lease was sent, on the clock `now` (monotonic, milliseconds). */
  constructor(sentAt: number, renewDeadlineMs: number, now: () => number) {
    this.#renewDeadlineMs = renewDeadlineMs;
    this.#now = now;
    this.#endsAt = sentAt + renewDeadlineMs;
    this.#arm();
  }

  /** Aborts when the term is over. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /**
   * Whether it lasts, by the clock: right also where the process stood still and its timers have not yet run. For what must not be written by two.
   */
  get lasts(): boolean {
    if (this.#now() >= this.#endsAt) this.end();
    return !this.#controller.signal.aborted;
  }

  /** Milliseconds until it ends unless it is renewed. */
  get remainingMs(): number {
    return Math.max(0, this.#endsAt - this.#now());
  }

  /** A renewal that was sent then has succeeded. What came too late changes nothing. */
  renewed(sentAt: number): void {
    if (!this.lasts) return;
    this.#endsAt = Math.max(this.#endsAt, sentAt + this.#renewDeadlineMs);
    this.#arm();
  }

  /** Safe to call twice. */
  end(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#controller.abort();
  }

  #arm(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    // Node's timers may fire a moment early; then what is left is waited for.
    this.#timer = setTimeout(() => {
      if (this.lasts) this.#arm();
    }, this.remainingMs);
  }
}
