import { messageOf } from '../../../mesh/errors.ts';
import type { Complaints } from '../complaints.ts';
import type { ObjectWatch } from './shared-object.ts';

export interface RoundsOptions {
  /** One round: reads what the API has, and does what follows. What it throws is complained of, and the next round comes as ever. */
  readonly round: () => Promise<void>;
  /** Milliseconds from the end of one round to the next; default 10 s. */
  readonly everyMs?: number | undefined;
  /** Each change that they tell of is a reason for a round. They begin and end with the rounds. */
  readonly watches?: readonly ObjectWatch[] | undefined;
  readonly complaints: Complaints;
}

const EVERY_MS = 10_000;

/**
 * A replica's confirmations of the CA by the API: in time, when a watch tells of a change, and when asked for; and other work that must not run beside
 * them.
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
    for (const watch of this.#options.watches ?? []) watch.start(() => this.ring());
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
    for (const watch of this.#options.watches ?? []) void watch.stop();
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const { round, complaints } = this.#options;
    try {
      await this.exclusive(async () => {
        this.#waiting = false;
        if (!this.#stopped) await round();
      });
      complaints.settle('api', 'the API server confirms the CA again');
    } catch (error) {
      complaints.raise('api', `the CA could not be confirmed by the API server: ${messageOf(error)}`, 'warn');
    }
    this.#schedule();
  }

  #schedule(): void {
    if (this.#stopped || this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.ring();
    }, this.#options.everyMs ?? EVERY_MS);
    // The process lives for its servers, not for this.
    this.#timer.unref();
  }
}
