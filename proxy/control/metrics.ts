import { createRequire } from 'node:module';
import type { Counter, Gauge, Registry } from 'prom-client';
import { ISTIO_HTTP_LABELS, METRICS, type MetricDefinition } from './metric-definitions.ts';
import { HistogramView } from './metrics-histogram.ts';
import type { SeriesTable, SeriesValue } from './series-table.ts';

type PromClient = typeof import('prom-client');

// The package's entry also loads its cluster, push-gateway and process-metrics parts and, with them, node:http's WebSocket: 5 MB in every sidecar.
const load = createRequire(import.meta.url);
const CounterClass = load('prom-client/lib/counter.js') as PromClient['Counter'];
const GaugeClass = load('prom-client/lib/gauge.js') as PromClient['Gauge'];
const RegistryClass = load('prom-client/lib/registry.js') as PromClient['Registry'];

/** What the control thread itself tells, read at each scrape. */
export interface ControlFacts {
  readonly version: string;
  /** Unix time, milliseconds; null: no certificate. */
  readonly certificateExpiresAt: number | null;
  readonly connected: boolean;
  readonly pushVersion: string | null;
  /** Milliseconds. */
  readonly pushAge: number | null;
  readonly rejectedResources: number;
  readonly workerRestarts: number;
  readonly droppedLines: number;
  readonly exportedSpans: number;
  /** By the exporter: workers count theirs themselves. */
  readonly droppedSpans: number;
}

const ISTIO_LABELS = new Set<string>(ISTIO_HTTP_LABELS);

/** The Prometheus view of the sidecar. Nothing is counted here: values are read where they live when somebody scrapes. */
export class Metrics {
  readonly #series: SeriesTable;
  readonly #facts: () => ControlFacts;
  readonly #registry: Registry;
  readonly #metrics: readonly {
    readonly definition: MetricDefinition;
    readonly metric: Counter | Gauge | HistogramView;
  }[];

  constructor(series: SeriesTable, facts: () => ControlFacts) {
    this.#series = series;
    this.#facts = facts;
    this.#registry = new RegistryClass();
    this.#metrics = METRICS.map((definition) => ({ definition, metric: this.#make(definition) }));
  }

  #make(definition: MetricDefinition): Counter | Gauge | HistogramView {
    const { name, help, labels, type } = definition;
    if (type === 'histogram') {
      const view = new HistogramView(definition);
      this.#registry.registerMetric(view.asMetric());
      return view;
    }
    const settings = { name, help, labelNames: [...labels], registers: [this.#registry] };
    return type === 'counter' ? new CounterClass(settings) : new GaugeClass(settings);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** In Prometheus' text format. */
  async text(): Promise<string> {
    const values = this.#collect();
    for (const { definition, metric } of this.#metrics) {
      metric.reset();
      const defaults = defaultsOf(definition);
      const complete = (values.get(definition.name) ?? []).map((one) => ({
        ...one,
        labels: { ...defaults, ...one.labels },
      }));
      if (metric instanceof HistogramView) metric.show(complete);
      else for (const { labels, value } of complete) metric.inc(labels, value);
    }
    const text = await this.#registry.metrics();
    // The values live on in the workers; copies of thousands of series between two scrapes would only take memory.
    for (const { metric } of this.#metrics) metric.reset();
    return text;
  }

  #collect(): Map<string, readonly SeriesValue[]> {
    const facts = this.#facts();
    const one = (value: number, labels: SeriesValue['labels'] = {}): readonly SeriesValue[] => [{ labels, value }];
    const values = new Map(this.#series.read());
    const { version, pushVersion, pushAge } = facts;
    const counted = (metric: string): number => values.get(metric)?.[0]?.value ?? 0;
    const lines = 'postern_access_log_dropped_total';
    values.set(lines, one(counted(lines) + facts.droppedLines));
    const spans = 'postern_spans_dropped_total';
    values.set(spans, one(counted(spans) + facts.droppedSpans));
    values.set('postern_spans_exported_total', one(facts.exportedSpans));
    values.set(
      'postern_build_info',
      one(1, { version, node: process.versions.node, openssl: process.versions.openssl }),
    );
    values.set('postern_certificate_expiry_seconds', one((facts.certificateExpiresAt ?? 0) / 1000));
    values.set('postern_control_plane_connected', one(facts.connected ? 1 : 0));
    values.set('postern_worker_restarts_total', one(facts.workerRestarts));
    values.set('postern_rejected_resources', one(facts.rejectedResources));
    if (pushVersion !== null) values.set('postern_push_version_info', one(1, { version: pushVersion }));
    if (pushAge !== null) values.set('postern_push_age_seconds', one(pushAge / 1000));
    return values;
  }
}

/** Istio's metrics have all of their labels always. */
function defaultsOf({ labels }: MetricDefinition): Record<string, string> {
  return Object.fromEntries(labels.filter((label) => ISTIO_LABELS.has(label)).map((label) => [label, 'unknown']));
}
