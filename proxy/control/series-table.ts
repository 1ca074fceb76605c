import type { Clock } from './clock.ts';
import type { Log } from './logging.ts';
import { WORKER_METRICS } from './metric-definitions.ts';

export type Labels = Readonly<Record<string, string>>;

export interface SeriesValue {
  readonly labels: Labels;
  readonly value: number;
}

/** Who counts: a worker's counters by slot. */
export interface SeriesSource {
  readonly index: number;
  readonly counters: Float64Array;
}

interface Live {
  readonly slot: number;
  /** Value at the latest scrape: what is left of a series whose slot was freed. */
  last: number;
}

interface Series {
  readonly metric: string;
  readonly labels: Labels;
  readonly live: Map<SeriesSource, Live>;
  /** Counters: what workers that are gone had counted. */
  retired: number;
  /** Unix time, milliseconds. */
  retiredAt: number;
}

/** How long the totals of workers that are gone are shown where no living worker has the series. */
const RETAIN_MS = 10 * 60_000;

/**
 * Whose slot is which series. Values of one series in several workers are merged as the metric's definition says; the sum of a counter never
 * decreases while the series exists, whatever becomes of its workers.
 */
export class SeriesTable {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #series = new Map<string, Series>();
  readonly #slots = new Map<SeriesSource, Map<number, string>>();
  readonly #unknown = new Set<string>();

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
  }

  add(source: SeriesSource, slot: number, metric: string, labels: Labels): void {
    if (!(slot in source.counters) || !this.#isKnown(metric, labels)) return;
    const key = keyOf(metric, labels);
    const series = this.#series.get(key) ?? { metric, labels, live: new Map(), retired: 0, retiredAt: 0 };
    this.#series.set(key, series);
    series.live.set(source, { slot, last: 0 });
    const slots = this.#slots.get(source) ?? new Map<number, string>();
    this.#slots.set(source, slots.set(slot, key));
  }

  /** The slots are free again. A series that no other worker has is forgotten. */
  drop(source: SeriesSource, slots: readonly number[]): void {
    for (const slot of slots) {
      const key = this.#slots.get(source)?.get(slot);
      const series = key === undefined ? undefined : this.#series.get(key);
      if (key === undefined || series === undefined) continue;
      this.#slots.get(source)?.delete(slot);
      // The slot may count for another series by now: what was read last is what it had.
      this.#detach(series, source, series.live.get(source)?.last ?? 0);
      if (series.live.size === 0) this.#series.delete(key);
    }
  }

  /** The worker is gone; what it counted stays. */
  retire(source: SeriesSource): void {
    for (const [slot, key] of this.#slots.get(source) ?? []) {
      const series = this.#series.get(key);
      if (series === undefined) continue;
      this.#detach(series, source, source.counters[slot] ?? 0);
      const counts = WORKER_METRICS.get(series.metric)?.type === 'counter';
      if (series.live.size === 0 && !counts) this.#series.delete(key);
    }
    this.#slots.delete(source);
  }

  /** Every series by metric, merged over the workers. */
  read(): ReadonlyMap<string, readonly SeriesValue[]> {
    const values = new Map<string, SeriesValue[]>();
    const now = this.#clock.now();
    for (const [key, series] of this.#series) {
      if (series.live.size === 0 && now - series.retiredAt > RETAIN_MS) {
        this.#series.delete(key);
        continue;
      }
      const list = values.get(series.metric) ?? [];
      list.push({ labels: series.labels, value: merge(series) });
      values.set(series.metric, list);
    }
    return values;
  }

  #detach(series: Series, source: SeriesSource, value: number): void {
    series.live.delete(source);
    series.retiredAt = this.#clock.now();
    if (WORKER_METRICS.get(series.metric)?.type === 'counter') series.retired += value;
  }

  #isKnown(metric: string, labels: Labels): boolean {
    const definition = WORKER_METRICS.get(metric);
    const foreign = Object.keys(labels).find((label) => definition?.labels.includes(label) !== true);
    if (definition !== undefined && foreign === undefined) return true;
    if (!this.#unknown.has(metric)) {
      this.#unknown.add(metric);
      this.#log.error(
        { metric, label: foreign ?? null },
        'a worker counts a metric that is not defined: left out of /metrics',
      );
    }
    return false;
  }
}

function merge(series: Series): number {
  const largest = WORKER_METRICS.get(series.metric)?.merge === 'max';
  let value = series.retired;
  for (const [source, live] of series.live) {
    live.last = source.counters[live.slot] ?? 0;
    value = largest ? Math.max(value, live.last) : value + live.last;
  }
  return value;
}

const keyOf = (metric: string, labels: Labels): string =>
  JSON.stringify([metric, ...Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))]);
