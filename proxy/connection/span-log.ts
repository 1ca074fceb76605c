import type { Loop } from '../reactor/loop.ts';
import { Timer } from '../reactor/timers.ts';
import type { FromWorker, SpanData } from '../worker/messages.ts';

/** Spans gathered for one message to the control thread. */
const FLUSH_MS = 200;
const BATCH = 512;
/** Between two flushes at most so many: a flood of requests must not become a flood of memory. */
const MAX_SPANS = 4 * BATCH;
/** How far the wall clock may be from where it is reckoned to be before it counts as set anew. Milliseconds. */
const MAX_DRIFT_MS = 50;

/** The end of tracing that lies in the worker: it batches spans, and drops (and counts) what is too much rather than wait. */
export class SpanLog {
  readonly #loop: Loop;
  readonly #unixNow: () => number;
  readonly #post: (message: FromWorker) => void;
  readonly #onDropped: () => void;
  readonly #timer = new Timer(() => this.flush());
  #spans: SpanData[] = [];
  /** Unix time at which the loop's clock was 0, milliseconds. */
  #origin = Number.NEGATIVE_INFINITY;

  /** @param unixNow Unix time, milliseconds */
  constructor(loop: Loop, unixNow: () => number, post: (message: FromWorker) => void, onDropped: () => void) {
    this.#loop = loop;
    this.#unixNow = unixNow;
    this.#post = post;
    this.#onDropped = onDropped;
  }

  /** Whether one more is taken; what is not counts as dropped. */
  accepts(): boolean {
    if (this.#spans.length < MAX_SPANS) return true;
    this.#onDropped();
    return false;
  }

  write(span: SpanData): void {
    this.#spans.push(span);
    if (!this.#timer.armed) this.#loop.arm(this.#timer, FLUSH_MS);
  }

  /**
   * A time of the loop's clock in Unix nanoseconds, to the microsecond. The wall clock is not asked each time: it has milliseconds only, and
   * spans within each other must stay so.
   */
  unixNanos(loopTime: number): string {
    const unix = this.#unixNow();
    if (Math.abs(this.#origin + this.#loop.now - unix) > MAX_DRIFT_MS) this.#origin = unix - this.#loop.now;
    return `${Math.round((this.#origin + loopTime) * 1000)}000`;
  }

  flush(): void {
    this.#loop.cancel(this.#timer);
    const spans = this.#spans;
    this.#spans = [];
    for (let at = 0; at < spans.length; at += BATCH) {
      this.#post({ type: 'spans', spans: spans.slice(at, at + BATCH) });
    }
  }
}
