import { describe, expect, test } from 'vitest';
import { ControlPlaneMetrics } from '../../control-plane/metrics.ts';
import { METRICS, type MetricDefinition } from '../../proxy/control/metric-definitions.ts';
import { HISTOGRAM_BOUNDS } from '../../proxy/worker/messages.ts';
import { namesIn } from '../support/promql.ts';
import { alerts, dashboard, queries } from './telemetry-manifests.ts';

/** What the scrape adds. */
const SCRAPE_LABELS = ['instance', 'namespace', 'pod', 'job'];
/** Labels of ours with a fixed vocabulary: a word outside of it would never match. */
const VOCABULARY: { readonly [label: string]: readonly string[] } = {
  reporter: ['source', 'destination'],
  request_protocol: ['http', 'grpc', 'tcp'],
  direction: ['inbound', 'outbound'],
  response_flags: ['-', 'UO'],
  severity: ['error', 'warning'],
  state: ['current', 'stale', 'missing', 'missing|stale'],
  outcome: ['allowed', 'injected', 'skipped', 'refused', 'error'],
};
const VERDICTS: { readonly [metric: string]: readonly string[] } = {
  postern_policy_decisions_total: ['allowed', 'denied'],
  postern_dry_run_decisions_total: ['allow', 'deny'],
};

type Exposed = Pick<MetricDefinition, 'name' | 'type' | 'labels'>;

function controlPlaneMetrics(): Exposed[] {
  return new ControlPlaneMetrics().registry.getMetricsAsArray().map((metric) => {
    const labels = 'labelNames' in metric && Array.isArray(metric.labelNames) ? metric.labelNames : [];
    return { name: metric.name, type: String(metric.type) as Exposed['type'], labels };
  });
}

/** What both programs have (`postern_rejected_resources`) has the same labels in both. */
const EXPOSED: readonly Exposed[] = [...METRICS, ...controlPlaneMetrics()];

/** The definition of what an expression calls `name`, and the labels it has there. */
function exposed(name: string): { readonly definition: Exposed; readonly labels: readonly string[] } | null {
  const [, base = name, suffix = ''] = /^(.*?)(_bucket|_sum|_count)?$/.exec(name) ?? [];
  const histogram = EXPOSED.find((metric) => metric.name === base && metric.type === 'histogram');
  if (histogram !== undefined) {
    if (suffix === '') return null;
    return { definition: histogram, labels: suffix === '_bucket' ? [...histogram.labels, 'le'] : histogram.labels };
  }
  const definition = EXPOSED.find((metric) => metric.name === name);
  return definition === undefined ? null : { definition, labels: definition.labels };
}

const list = queries();

describe.each(list.map((query) => [query.where, query]))('%s', (_, { expression, shown }) => {
  const { selectors, grouping } = namesIn(expression);

  test('asks for metrics that a sidecar or the control plane has', () => {
    expect(selectors).not.toEqual([]);
    expect(selectors.map(({ metric }) => metric).filter((metric) => exposed(metric) === null)).toEqual([]);
  });

  test('selects by labels that the metric has, and by words that occur', () => {
    for (const { metric, matchers } of selectors) {
      const labels = [...(exposed(metric)?.labels ?? []), ...SCRAPE_LABELS];
      for (const [label, value] of matchers) {
        expect(labels).toContain(label);
        const words = label === 'verdict' ? VERDICTS[metric] : VOCABULARY[label];
        if (words !== undefined) expect(words).toContain(value);
      }
    }
  });

  test('groups by labels that each metric has, and shows only what is left', () => {
    for (const { metric } of selectors) {
      const labels = [...(exposed(metric)?.labels ?? []), ...SCRAPE_LABELS];
      for (const label of grouping) expect(labels).toContain(label);
    }
    const left = grouping.length > 0 ? grouping : selectors.flatMap(({ metric }) => exposed(metric)?.labels ?? []);
    for (const label of shown) expect(left).toContain(label);
  });

  test('takes rates of counters and buckets only', () => {
    for (const [, metric = ''] of expression.matchAll(/\b(?:rate|increase)\((\w+)/g)) {
      expect(exposed(metric)?.definition.type).not.toBe('gauge');
    }
  });
});

describe('dashboard and alerts', () => {
  test('name every metric of a sidecar', () => {
    const asked = new Set(list.flatMap(({ expression }) => namesIn(expression).selectors.map(({ metric }) => metric)));
    const missing = METRICS.filter(({ name }) => ![name, `${name}_bucket`].some((one) => asked.has(one)));
    expect(missing.map(({ name }) => name)).toEqual([]);
  });

  test('the panels stand side by side', () => {
    const { panels } = dashboard();
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    for (const { gridPos } of panels) expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24);
    const cells = panels.map(({ gridPos: { x, y } }) => `${x},${y}`);
    expect(new Set(cells).size).toBe(panels.length);
  });
});

/** What must not go unnoticed at the control plane: each would otherwise be found only when certificates run out or a policy is missed. */
const CONTROL_PLANE_FAULTS = [
  'postern_manifest_problems',
  'postern_manifest_source_available',
  'postern_storage_errors_total',
  'postern_server_certificate_expiry_seconds',
  'postern_jwks_key_sets',
  'postern_acknowledgements_overdue_total',
  'postern_requests_refused_total',
  'postern_leader',
  'postern_admission_reviews_total',
];

describe('the alerts', () => {
  test.each(CONTROL_PLANE_FAULTS)('watch %s', (name) => {
    const watched = alerts().flatMap(({ expr }) => namesIn(expr).selectors.map(({ metric }) => metric));
    expect(watched).toContain(name);
  });

  test('have a name of their own, a severity and a summary', () => {
    const names = alerts().map(({ alert }) => alert);
    expect(new Set(names).size).toBe(names.length);
    for (const { labels, annotations } of alerts()) {
      expect(['critical', 'warning', 'info']).toContain(labels.severity);
      expect(annotations.summary).toMatch(/\S/);
    }
  });

  test('compare latencies with bounds of buckets, where quantiles are exact', () => {
    const thresholds = alerts().flatMap(({ expr }) => /histogram_quantile[\s\S]*> ([\d.]+)\s*$/.exec(expr)?.[1] ?? []);
    expect(thresholds).not.toEqual([]);
    for (const threshold of thresholds) expect(HISTOGRAM_BOUNDS).toContain(Number(threshold));
  });
});

describe('the reader of PromQL', () => {
  test('finds metrics, matchers and grouping', () => {
    const named = namesIn(
      'sum by (le, a) (rate(m_bucket{x="1",y!~"2|3"}[$__rate_interval])) / on (b) max(n) > bool 0.5 and time() < 3',
    );
    expect(named.selectors.map(({ metric }) => metric)).toEqual(['m_bucket', 'n']);
    expect([...(named.selectors[0]?.matchers ?? [])]).toEqual([
      ['x', '1'],
      ['y', '2|3'],
    ]);
    expect(named.grouping).toEqual(['le', 'a', 'b']);
  });

  test.each(['sum(rate(a{b}))', 'a{b="1"', 'a @@ b'])('refuses %s', (expression) => {
    expect(() => namesIn(expression)).toThrow();
  });
});
