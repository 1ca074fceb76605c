export interface RoundsOptions {
  /** One round; what it throws goes to `onError`, and the next round comes as ever. */
  readonly round: () => Promise<void>;
  /** Milliseconds from the end of one round to the next. */
  readonly everyMs: number;
  readonly onError: (error: unknown) => void;
}

/**
 * Rounds of work, in time and when asked for, and other work that must not run beside them.
 *
 * ALWAYS: at most one round or piece of exclusive work runs at a time.
 */
export class Rounds {
  readonly #options: RoundsOptions;
  #last: Promise<unknown> = Promise.resolve();
  #timer: NodeJS.Timeout | null = null;
  /** Asked for and not begun yet: a request that comes meanwhile is met by it. */
  #waiting = false;
  #stopped = false;

  constructor(options: RoundsOptions) {
    this.#options = options;
  }

  /** The first round comes after one interval. */
  start(): void {
    this.#schedule();
  }

  /** A round as soon as nothing else runs. */
  ring(): void {
    if (this.#waiting || this.#stopped) return;
    this.#waiting = true;
    void this.#run();
  }

  /** Runs `work` when nothing else does. */
  exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    try {
      await this.exclusive(async () => {
        this.#waiting = false;
        if (!this.#stopped) await this.#options.round();
      });
    } catch (error) {
      this.#options.onError(error);
    }
    this.#schedule();
  }

  #schedule(): void {
    if (this.#stopped || this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.ring();
    }, this.#options.everyMs);
    // The process lives for its servers, not for this.
    this.#timer.unref();
  }
}
