import type { Metric } from 'prom-client';
import { HISTOGRAM_BOUNDS } from '../worker/messages.ts';
import type { MetricDefinition } from './metric-definitions.ts';
import type { Labels, SeriesValue } from './series-table.ts';

/** A line of the exposition as prom-client's registry takes it. The name has the labels in it already. */
interface Line {
  readonly metricName: string;
  readonly value: number;
}

const ESCAPES: { readonly [character: string]: string } = { '\\': '\\\\', '\n': '\\n', '"': '\\"' };

/** Without the braces; values escaped as Prometheus' text format 0.0.4 asks. */
function textOf(labels: Labels): string {
  return Object.entries(labels)
    .map(([label, value]) => `${label}="${value.replace(/[\\\n"]/g, (character) => ESCAPES[character] ?? '')}"`)
    .join(',');
}

/**
 * A histogram whose values are counted elsewhere. prom-client's own can only observe values one by one; the registry asks of a metric no more
 * than what is here (prom-client 15, lib/registry.js, `getMetricsAsString`). The 22 lines of a series share the text of its labels: put together
 * by the registry for each line, it made a scrape of many series take four times the time.
 */
export class HistogramView {
  readonly name: string;
  readonly help: string;
  readonly type = 'histogram';
  readonly aggregator = 'sum';
  #values: readonly SeriesValue[] = [];

  constructor({ name, help }: MetricDefinition) {
    this.name = name;
    this.help = help;
  }

  /** What the next `get` tells. Labels must be complete. */
  show(values: readonly SeriesValue[]): void {
    this.#values = values;
  }

  reset(): void {
    this.#values = [];
  }

  get(): { readonly name: string; readonly help: string; readonly type: string; readonly values: readonly Line[] } {
    const { name, help, type } = this;
    return { name, help, type, values: this.#values.flatMap((value) => this.#lines(value)) };
  }

  /** Buckets are cumulative here, and only here; the last one is the count, so that the two always agree. */
  #lines({ labels, value, histogram }: SeriesValue): readonly Line[] {
    const { name } = this;
    const text = textOf(labels);
    const bucket = `${name}_bucket{${text}${text === '' ? '' : ','}le="`;
    const whole = text === '' ? '' : `{${text}}`;
    let below = 0;
    const buckets = HISTOGRAM_BOUNDS.map((bound, at): Line => {
      below += histogram?.buckets[at] ?? 0;
      return { metricName: `${bucket}${bound}"}`, value: below };
    });
    return [
      ...buckets,
      { metricName: `${bucket}+Inf"}`, value },
      { metricName: `${name}_sum${whole}`, value: histogram?.sum ?? 0 },
      { metricName: `${name}_count${whole}`, value },
    ];
  }

  /** As the registry's type declares what it takes: prom-client's own classes. */
  asMetric(): Metric {
    return this as unknown as Metric;
  }
}
