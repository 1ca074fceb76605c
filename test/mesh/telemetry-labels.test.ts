import { expect, test } from 'vitest';
import { telemetryFields } from '../../mesh/telemetry-labels.ts';

test.each([
  ['no labels: its name', {}, ['orders-1', 'orders-1', 'latest', 'unknown', 'unknown']],
  ['app and version', { app: 'orders', version: 'v2' }, ['orders', 'orders', 'v2', 'orders', 'v2']],
  [
    'those of Kubernetes before them, for the canonical service',
    { app: 'orders', version: 'v2', 'app.kubernetes.io/name': 'shop-orders', 'app.kubernetes.io/version': '2.1' },
    ['orders', 'shop-orders', '2.1', 'orders', 'v2'],
  ],
  [
    "Istio's before all",
    {
      'app.kubernetes.io/name': 'x',
      'service.istio.io/canonical-name': 'c',
      'service.istio.io/canonical-revision': 'r',
    },
    ['orders-1', 'c', 'r', 'unknown', 'unknown'],
  ],
  [
    'the workload that the injector names',
    { 'postern.dev/workload': 'deployment', app: 'orders' },
    ['deployment', 'orders', 'latest', 'orders', 'unknown'],
  ],
  ['an empty one is none', { app: '', version: '' }, ['orders-1', 'orders-1', 'latest', 'unknown', 'unknown']],
])('%s', (_, labels: { readonly [key: string]: string }, expected) => {
  const { workloadName, canonicalService, canonicalRevision, app, version } = telemetryFields(labels, 'orders-1');
  expect([workloadName, canonicalService, canonicalRevision, app, version]).toEqual(expected);
});
