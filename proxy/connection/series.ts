import type { FromWorker } from '../worker/messages.ts';

export type Labels = { readonly [label: string]: string };

/** Label sets kept at most; what comes beyond counts into one series per metric whose labels are all `unknown`. */
const MAX_SETS = 3_000;
/** A set that nobody has used for so long is forgotten. */
const RETAIN_MS = 10 * 60_000;

/** The slots of one label set, one for each metric of its family. */
export interface SeriesSet {
  readonly slots: readonly number[];
  /** Connections that may still add to it. */
  live: number;
  lastUsed: number;
}

/**
 * The worker's counters: numbers in memory shared with the control thread, which reads them at scrape time. A slot belongs to one series until
 * it is dropped. Adding costs one array access.
 */
export class SeriesBank {
  readonly #values: Float64Array;
  readonly #post: (message: FromWorker) => void;
  readonly #free: number[] = [];
  #next = 0;
  readonly #sets = new Map<string, SeriesSet>();

  constructor(memory: SharedArrayBuffer, post: (message: FromWorker) => void) {
    this.#values = new Float64Array(memory);
    this.#post = post;
  }

  add(slot: number, amount: number): void {
    this.#values[slot] = (this.#values[slot] ?? 0) + amount;
  }

  set(slot: number, value: number): void {
    this.#values[slot] = value;
  }

  /** A series that stays for the worker's life. */
  permanent(metric: string, labels: Labels = {}): number {
    const slot = this.#free.pop() ?? this.#next++;
    if (slot >= this.#values.length) throw new Error('out of counter slots');
    this.#values[slot] = 0;
    this.#post({ type: 'series', slot, metric, labels });
    return slot;
  }

  /** The set of series of these metrics with these labels; `key` stands for the labels. */
  family(key: string, metrics: readonly string[], labels: () => Labels, now: number): SeriesSet {
    const known = this.#sets.get(key);
    if (known !== undefined) {
      known.lastUsed = now;
      return known;
    }
    if (this.#sets.size >= MAX_SETS) return this.#overflow(metrics, labels, now);
    return this.#make(key, metrics, labels(), now);
  }

  #overflow(metrics: readonly string[], labels: () => Labels, now: number): SeriesSet {
    const key = `overflow|${metrics.join()}`;
    const known = this.#sets.get(key);
    if (known !== undefined) return known;
    const unknown = Object.fromEntries(Object.keys(labels()).map((label) => [label, 'unknown']));
    return this.#make(key, metrics, unknown, now);
  }

  #make(key: string, metrics: readonly string[], labels: Labels, now: number): SeriesSet {
    const made = { slots: metrics.map((metric) => this.permanent(metric, labels)), live: 0, lastUsed: now };
    this.#sets.set(key, made);
    return made;
  }

  /** Forgets what has been idle for long, so that peers that went away leave nothing behind. */
  sweep(now: number): void {
    const dropped: number[] = [];
    for (const [key, set] of this.#sets) {
      if (set.live > 0 || now - set.lastUsed < RETAIN_MS) continue;
      this.#sets.delete(key);
      dropped.push(...set.slots);
    }
    if (dropped.length === 0) return;
    this.#post({ type: 'series-dropped', slots: dropped });
    this.#free.push(...dropped);
  }
}
