import { HISTOGRAM_SLOTS } from '../worker/messages.ts';
import type { Clock } from './clock.ts';
import type { Log } from './logging.ts';
import { type MetricDefinition, WORKER_METRICS } from './metric-definitions.ts';

export type Labels = Readonly<Record<string, string>>;

export interface SeriesValue {
  readonly labels: Labels;
  /** Of a histogram: how many values it has counted. */
  readonly value: number;
  /** Of a histogram. */
  readonly histogram?: HistogramValue;
}

export interface HistogramValue {
  /** Each bucket's own count, in the order of `HISTOGRAM_BOUNDS`; the last one counts what is above all bounds. */
  readonly buckets: readonly number[];
  readonly sum: number;
}

/** Who counts: a worker's counters by slot. */
export interface SeriesSource {
  readonly index: number;
  readonly counters: Float64Array;
}

interface Live {
  readonly slot: number;
  /** What its slots had at the latest scrape: what is left of a series whose slots were freed. */
  last: readonly number[];
}

interface Series {
  readonly metric: string;
  readonly labels: Labels;
  readonly type: MetricDefinition['type'];
  readonly merge: MetricDefinition['merge'];
  readonly live: Map<SeriesSource, Live>;
  /** Counters and histograms: what workers that are gone had counted, by slot of the series. */
  retired: readonly number[];
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
    const definition = this.#definitionOf(metric, labels);
    if (definition === null || !(slot + widthOf(definition.type) - 1 in source.counters)) return;
    const key = keyOf(metric, labels);
    const { type, merge } = definition;
    const series = this.#series.get(key) ?? { metric, labels, type, merge, live: new Map(), retired: [], retiredAt: 0 };
    this.#series.set(key, series);
    series.live.set(source, { slot, last: [] });
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
      this.#detach(series, source, series.live.get(source)?.last ?? []);
      if (series.live.size === 0) this.#series.delete(key);
    }
  }

  /** The worker is gone; what it counted stays. */
  retire(source: SeriesSource): void {
    for (const [slot, key] of this.#slots.get(source) ?? []) {
      const series = this.#series.get(key);
      if (series === undefined) continue;
      this.#detach(series, source, valuesAt(source, slot, series.type));
      if (series.live.size === 0 && series.type === 'gauge') this.#series.delete(key);
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
      list.push(merged(series));
      values.set(series.metric, list);
    }
    return values;
  }

  #detach(series: Series, source: SeriesSource, values: readonly number[]): void {
    series.live.delete(source);
    series.retiredAt = this.#clock.now();
    if (series.type !== 'gauge') series.retired = plus(series.retired, values);
  }

  #definitionOf(metric: string, labels: Labels): MetricDefinition | null {
    const definition = WORKER_METRICS.get(metric);
    const foreign = Object.keys(labels).find((label) => definition?.labels.includes(label) !== true);
    if (definition !== undefined && foreign === undefined) return definition;
    if (!this.#unknown.has(metric)) {
      this.#unknown.add(metric);
      this.#log.error(
        { metric, label: foreign ?? null },
        'a worker counts a metric that is not defined: left out of /metrics',
      );
    }
    return null;
  }
}

const widthOf = (type: MetricDefinition['type']): number => (type === 'histogram' ? HISTOGRAM_SLOTS : 1);

const valuesAt = ({ counters }: SeriesSource, slot: number, type: MetricDefinition['type']): readonly number[] =>
  Array.from(counters.subarray(slot, slot + widthOf(type)));

/** Slot by slot; one of them may be empty, which is all zeros. */
function plus(a: readonly number[], b: readonly number[]): readonly number[] {
  return a.length === 0 ? b : a.map((value, at) => value + (b[at] ?? 0));
}

function merged(series: Series): SeriesValue {
  const { labels, type } = series;
  let values = series.retired;
  for (const [source, live] of series.live) {
    live.last = valuesAt(source, live.slot, type);
    if (series.merge === 'max') values = [Math.max(values[0] ?? 0, live.last[0] ?? 0)];
    else values = plus(values, live.last);
  }
  if (type !== 'histogram') return { labels, value: values[0] ?? 0 };
  const buckets = values.slice(0, -1);
  const value = buckets.reduce((sum, count) => sum + count, 0);
  return { labels, value, histogram: { buckets, sum: values.at(-1) ?? 0 } };
}

const keyOf = (metric: string, labels: Labels): string =>
  JSON.stringify([metric, ...Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))]);
