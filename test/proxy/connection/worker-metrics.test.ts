import { beforeEach, describe, expect, test } from 'vitest';
import type { WorkerMetrics } from '../../../proxy/connection/worker-metrics.ts';
import { Scrape, WorkerTelemetry } from './support/telemetry-plane.ts';

let scrape: Scrape;
let worker: WorkerTelemetry;
let metrics: WorkerMetrics;

beforeEach(() => {
  scrape = new Scrape();
  worker = new WorkerTelemetry(scrape);
  ({ metrics } = worker.plane);
});

describe('decisions', () => {
  test('count by policy, rule and verdict, in whatever order they come', async () => {
    for (let i = 0; i < 3; i++) {
      metrics.decision('shop/a', '0', 'allowed');
      metrics.decision('shop/a', '1', 'allowed');
      metrics.decision('shop/b', '0', 'denied');
      metrics.decision('none', 'none', 'denied');
    }
    const counted = (await scrape.now()).matching('postern_policy_decisions_total');
    expect(counted.map(({ labels, value }) => [labels.policy, labels.rule, labels.verdict, value])).toEqual([
      ['shop/a', '0', 'allowed', 3],
      ['shop/a', '1', 'allowed', 3],
      ['shop/b', '0', 'denied', 3],
      ['none', 'none', 'denied', 3],
    ]);
  });

  test('of dry-run policies count by action, verdict and policy', async () => {
    for (let i = 0; i < 2; i++) metrics.dryRun('deny', 'deny', 'shop/try');
    const labels = { action: 'deny', verdict: 'deny', policy: 'shop/try' };
    expect((await scrape.now()).sum('postern_dry_run_decisions_total', labels)).toBe(2);
  });

  test('like earlier ones build no key', () => {
    let asked = 0;
    const { family } = worker.bank;
    worker.bank.family = (...args) => {
      asked++;
      return family.apply(worker.bank, args);
    };
    for (let i = 0; i < 10; i++) {
      metrics.decision('shop/a', '0', 'allowed');
      metrics.decision('shop/b', '0', 'denied');
      metrics.dryRun('allow', 'deny', 'shop/a');
    }
    expect(asked).toBe(3);
  });
});

test.each<[string, (change: number) => void, { [label: string]: string }]>([
  ['postern_http_requests_in_flight', (change) => metrics.httpRequests('inbound', change), { direction: 'inbound' }],
  ['postern_http_pool_connections', (change) => metrics.httpPool('outbound', change), { direction: 'outbound' }],
  ['postern_http_pending_requests', (change) => metrics.httpPending(change), {}],
])('%s goes up and down', async (name, change, labels) => {
  for (const step of [1, 1, -1]) change(step);
  const scraped = await scrape.now();
  expect(scraped.sum(name, labels)).toBe(1);
  expect(scraped.sum(name)).toBe(1);
});

test.each<[string, () => void, { [label: string]: string }]>([
  ['postern_http_retries_total', () => metrics.httpRetry(), {}],
  ['postern_http_ejections_total', () => metrics.httpEjection(), {}],
  ['postern_spans_dropped_total', () => metrics.spanDropped(), {}],
  ['postern_tokens_refused_total', () => metrics.tokenRefused('expired'), { reason: 'expired' }],
  ['postern_http_rejected_requests_total', () => metrics.httpRejected(431), { status: '431' }],
])('%s counts', async (name, count, labels) => {
  count();
  count();
  expect((await scrape.now()).sum(name, labels)).toBe(2);
});
