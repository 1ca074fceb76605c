import { type FromWorker, HISTOGRAM_BOUNDS, HISTOGRAM_SLOTS } from '../worker/messages.ts';

export type Labels = { readonly [label: string]: string };

/** Label sets kept at most; what comes beyond counts into series whose labels are `unknown`, but for `OVERFLOW_LABELS`. */
const MAX_SETS = 3_000;
/** Of these, sets with histograms: each of them is 57 KB of a scrape, which takes four times its size in memory while it is put together. */
const MAX_HISTOGRAM_SETS = 500;
/** A set that nobody has used for so long is forgotten. */
const RETAIN_MS = 10 * 60_000;

const BUCKETS = Float64Array.from(HISTOGRAM_BOUNDS);
const SUM = HISTOGRAM_SLOTS - 1;
/** Labels of few values, which tell what the overflow consists of. Families with a metric in common differ in one of them. */
const OVERFLOW_LABELS: readonly string[] = ['reporter', 'request_protocol'];
const NO_METRICS: readonly string[] = [];

/** The slots of one label set: one for each counter of its family, then the first one of each histogram. */
export interface SeriesSet {
  readonly slots: readonly number[];
  /** Whether it stands for all label sets that found no place: not to be kept, there may be a place later. */
  readonly overflow: boolean;
  /** Connections that may still add to it. */
  live: number;
  lastUsed: number;
  /** The slots belong to others by now: whoever kept the set asks for it again. */
  dropped: boolean;
}

/** Which bucket of a histogram a value belongs to: the first whose bound is not below it. */
export function bucketOf(value: number): number {
  let low = 0;
  let high = BUCKETS.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (value <= (BUCKETS[middle] ?? 0)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * The worker's counters: numbers in memory shared with the control thread, which reads them at scrape time. A slot belongs to one series until
 * it is dropped. Adding costs one array access.
 */
export class SeriesBank {
  readonly #values: Float64Array;
  readonly #post: (message: FromWorker) => void;
  readonly #freeCounters: number[] = [];
  readonly #freeHistograms: number[] = [];
  #next = 0;
  readonly #sets = new Map<string, SeriesSet & { readonly counters: number }>();
  #histogramSets = 0;

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

  /** Counts a value, which must be finite, in the histogram that begins at `slot`. */
  observe(slot: number, value: number): void {
    const values = this.#values;
    const bucket = slot + bucketOf(value);
    values[bucket] = (values[bucket] ?? 0) + 1;
    values[slot + SUM] = (values[slot + SUM] ?? 0) + value;
  }

  /** A series that stays for the worker's life. */
  permanent(metric: string, labels: Labels = {}): number {
    return this.#announce(this.#freeCounters.pop() ?? this.#take(1), 1, metric, labels);
  }

  #histogram(metric: string, labels: Labels): number {
    const slot = this.#freeHistograms.pop() ?? this.#take(HISTOGRAM_SLOTS);
    return this.#announce(slot, HISTOGRAM_SLOTS, metric, labels);
  }

  #take(width: number): number {
    const slot = this.#next;
    if (slot + width > this.#values.length) throw new Error('out of counter slots');
    this.#next += width;
    return slot;
  }

  #announce(slot: number, width: number, metric: string, labels: Labels): number {
    this.#values.fill(0, slot, slot + width);
    this.#post({ type: 'series', slot, metric, labels });
    return slot;
  }

  /** The set of series of these counters and histograms with these labels; `key` stands for the labels. */
  family(
    key: string,
    counters: readonly string[],
    labels: () => Labels,
    now: number,
    histograms: readonly string[] = NO_METRICS,
  ): SeriesSet {
    const known = this.#sets.get(key);
    if (known !== undefined) {
      known.lastUsed = now;
      return known;
    }
    const full = this.#sets.size >= MAX_SETS || (histograms.length > 0 && this.#histogramSets >= MAX_HISTOGRAM_SETS);
    if (!full) return this.#make(key, counters, histograms, labels(), now, false);
    return this.#overflow(counters, histograms, labels(), now);
  }

  #overflow(counters: readonly string[], histograms: readonly string[], labels: Labels, now: number): SeriesSet {
    const unknown = Object.fromEntries(
      Object.entries(labels).map(([label, value]) => [label, OVERFLOW_LABELS.includes(label) ? value : 'unknown']),
    );
    const key = ['overflow', ...counters, ...Object.values(unknown)].join('|');
    const known = this.#sets.get(key);
    if (known === undefined) return this.#make(key, counters, histograms, unknown, now, true);
    known.lastUsed = now;
    return known;
  }

  #make(
    key: string,
    counters: readonly string[],
    histograms: readonly string[],
    labels: Labels,
    now: number,
    overflow: boolean,
  ): SeriesSet {
    const slots = [
      ...counters.map((metric) => this.permanent(metric, labels)),
      ...histograms.map((metric) => this.#histogram(metric, labels)),
    ];
    const made = { slots, counters: counters.length, overflow, live: 0, lastUsed: now, dropped: false };
    this.#sets.set(key, made);
    if (histograms.length > 0) this.#histogramSets++;
    return made;
  }

  /** Forgets what has been idle for long, so that peers that went away leave nothing behind. */
  sweep(now: number): void {
    const dropped: number[] = [];
    for (const [key, set] of this.#sets) {
      if (set.live > 0 || now - set.lastUsed < RETAIN_MS) continue;
      this.#sets.delete(key);
      set.dropped = true;
      dropped.push(...set.slots);
      this.#freeCounters.push(...set.slots.slice(0, set.counters));
      const histograms = set.slots.slice(set.counters);
      this.#freeHistograms.push(...histograms);
      if (histograms.length > 0) this.#histogramSets--;
    }
    if (dropped.length > 0) this.#post({ type: 'series-dropped', slots: dropped });
  }
}
