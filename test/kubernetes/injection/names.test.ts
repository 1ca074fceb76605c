import { describe, expect, test } from 'vitest';
import { missingLabels, workloadNameOf } from '../../../kubernetes/injection/names.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { at, injected, podOf, run, sidecarSettingsOf } from './support.ts';

const owned = (kind: string, name: string, labels: { readonly [key: string]: string } = {}): JsonObject => ({
  metadata: { name: `${name}-x2k4p`, labels, ownerReferences: [{ kind, name, controller: true }] },
});

describe('the workload of a pod', () => {
  test.each<[string, JsonObject, string]>([
    ['a Deployment', owned('ReplicaSet', 'orders-7d9f8c', { 'pod-template-hash': '7d9f8c' }), 'orders'],
    ['a ReplicaSet of its own', owned('ReplicaSet', 'orders-7d9f8c'), 'orders-7d9f8c'],
    ['a StatefulSet', owned('StatefulSet', 'db'), 'db'],
    ['a DaemonSet', owned('DaemonSet', 'agent'), 'agent'],
    ['a CronJob', owned('Job', 'nightly-28473829'), 'nightly'],
    ['a Job', owned('Job', 'migrate-42'), 'migrate-42'],
    ['none but itself', { metadata: { name: 'debug' } }, 'debug'],
    ['a name to be made up', { metadata: { generateName: 'debug-' } }, 'debug'],
    ['owners that do not control it', { metadata: { name: 'a', ownerReferences: [{ kind: 'X', name: 'b' }] } }, 'a'],
    ['nothing', {}, ''],
  ])('%s', (_, pod, expected) => {
    expect(workloadNameOf(pod)).toBe(expected);
  });
});

describe('labels for telemetry', () => {
  test('are added where they are absent', () => {
    expect(missingLabels(podOf({ metadata: { labels: { app: 'orders', version: 'v2' } } }), 'orders-web')).toEqual({
      'postern.dev/workload': 'orders-web',
      'service.istio.io/canonical-name': 'orders',
      'service.istio.io/canonical-revision': 'v2',
    });
  });

  test("never take the place of the author's", () => {
    const labels = {
      'postern.dev/workload': 'a',
      'service.istio.io/canonical-name': 'b',
      'service.istio.io/canonical-revision': 'c',
    };
    expect(missingLabels(podOf({ metadata: { labels } }), 'x')).toEqual({});
  });

  test.each([
    ['a'.repeat(80), 'a'.repeat(63)],
    [`${'a'.repeat(62)}.b`, 'a'.repeat(62)],
    ['shop.example', 'shop.example'],
    ['..', undefined],
  ])('of the name %s are admissible values', (name, expected) => {
    expect(missingLabels({}, name)['postern.dev/workload']).toBe(expected);
  });

  test('reach the sidecar, and no others do', () => {
    const pod = injected(podOf({ metadata: { name: 'orders-0', labels: { app: 'orders', team: 'shop' } } }));
    expect(at(sidecarSettingsOf(pod), 'workload', 'labels')).toEqual({
      app: 'orders',
      'postern.dev/workload': 'orders-0',
      'service.istio.io/canonical-name': 'orders',
      'service.istio.io/canonical-revision': 'latest',
    });
  });

  test('take the name of the object that a template is of', () => {
    const result = run(podOf({ metadata: { labels: {} } }), {}, { workload: 'orders' });
    expect(result.outcome === 'injected' && at(result.pod, 'metadata', 'labels', 'postern.dev/workload')).toBe(
      'orders',
    );
  });
});
