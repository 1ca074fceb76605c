import { describe, expect, test } from 'vitest';
import { slimEndpointSlice, slimObject, slimPod } from '../../../../control-plane/kubernetes/source/slim.ts';
import type { JsonObject } from '../../../../policy/types.ts';

const container = (name: string, fields: JsonObject = {}): JsonObject => ({ name, image: 'x', env: [], ...fields });
const ended = (name: string, exitCode: number): JsonObject => ({ name, state: { terminated: { exitCode } } });
const running = (name: string): JsonObject => ({ name, state: { running: { startedAt: 'now' } } });

describe('of a pod', () => {
  test('is kept what the mesh needs, and nothing that changes with every heartbeat', () => {
    const pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name: 'orders-1',
        namespace: 'shop',
        uid: 'u',
        resourceVersion: '7',
        labels: { app: 'orders' },
        annotations: { 'postern.dev/status': '{}', other: 'x' },
        managedFields: [{}],
        ownerReferences: [{}],
      },
      spec: {
        serviceAccountName: 'orders',
        nodeName: 'n',
        restartPolicy: 'Always',
        initContainers: [
          container('setup', { ports: [{ name: 'x', containerPort: 1 }] }),
          container('postern-proxy', { restartPolicy: 'Always', ports: [{ name: 'metrics', containerPort: 15020 }] }),
        ],
        containers: [
          container('app', { ports: [{ name: 'http', containerPort: 8080, protocol: 'TCP', hostPort: 1 }] }),
        ],
      },
      status: {
        phase: 'Running',
        podIP: '10.0.0.1',
        podIPs: [{ ip: '10.0.0.1' }, { ip: 'fd00::1' }],
        conditions: [{ type: 'Ready', status: 'True', lastProbeTime: 'now' }],
        containerStatuses: [running('app')],
      },
    };
    expect(slimPod(pod)).toEqual({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name: 'orders-1',
        namespace: 'shop',
        uid: 'u',
        labels: { app: 'orders' },
        annotations: { 'postern.dev/status': '{}' },
      },
      spec: {
        serviceAccountName: 'orders',
        restartPolicy: 'Always',
        containers: [{ name: 'app', ports: [{ name: 'http', containerPort: 8080, protocol: 'TCP' }] }],
        initContainers: [
          { name: 'postern-proxy', restartPolicy: 'Always', ports: [{ name: 'metrics', containerPort: 15020 }] },
        ],
      },
      status: { phase: 'Running', podIPs: [{ ip: '10.0.0.1' }, { ip: 'fd00::1' }], ready: true, ended: false },
    });
  });

  test.each([
    ['False', false],
    ['Unknown', false],
    ['True', true],
  ])('a Ready condition of %s is ready: %j', (status, ready) => {
    expect(slimPod({ status: { conditions: [{ type: 'Ready', status }] } })).toMatchObject({ status: { ready } });
  });

  test.each<[string, boolean, JsonObject]>([
    ['a pod that runs', false, { statuses: [running('app'), running('postern-proxy')] }],
    ['a finished pod', true, { phase: 'Succeeded', statuses: [] }],
    ['a failed pod', true, { phase: 'Failed', statuses: [] }],
    ['a Job’s pod whose application has ended', true, { statuses: [ended('app', 0), running('postern-proxy')] }],
    ['one whose application is to be started again', false, { statuses: [ended('app', 1)] }],
    ['one whose application failed and is never started again', true, { policy: 'Never', statuses: [ended('app', 1)] }],
    [
      'one of a Deployment, whose containers are started again',
      false,
      { policy: 'Always', statuses: [ended('app', 0)] },
    ],
    ['one that is being deleted', true, { policy: 'Always', deleted: 'now', statuses: [ended('app', 137)] }],
    [
      'one of whose containers one still runs',
      false,
      { containers: ['app', 'b'], statuses: [ended('app', 0), running('b')] },
    ],
    ['one of whose containers nothing is known', false, { containers: ['app', 'b'], statuses: [ended('app', 0)] }],
    ['one with the sidecar alone', false, { containers: ['postern-proxy'], statuses: [ended('postern-proxy', 0)] }],
    ['one of which nothing is known', false, {}],
  ])('of %s the application has ended: %j', (_name, wanted, { phase, policy, deleted, containers, statuses }) => {
    const pod = {
      metadata: deleted === undefined ? {} : { deletionTimestamp: deleted },
      spec: {
        restartPolicy: policy ?? 'OnFailure',
        containers: ((containers ?? ['app', 'postern-proxy']) as string[]).map((name) => container(name)),
      },
      status: { phase: phase ?? 'Running', containerStatuses: statuses ?? [] },
    };
    expect(slimPod(pod)).toMatchObject({ status: { ended: wanted } });
  });

  test.each([[{}], [{ metadata: 7, spec: [], status: 'x' }], [{ spec: { containers: [null, 7, { ports: [null] }] } }]])(
    'that is odd (%j) nothing is thrown',
    (object) => {
      expect(slimPod(object as JsonObject)).toMatchObject({ kind: 'Pod', status: { ready: false, ended: false } });
    },
  );
});

test('of an endpoint slice is kept who serves which service, where it is of a service', () => {
  const slice = {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: 'orders-x',
      namespace: 'shop',
      annotations: { 'endpoints.kubernetes.io/last-change-trigger-time': 'now' },
      labels: { 'kubernetes.io/service-name': 'orders', other: 'x' },
    },
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
    endpoints: [
      {
        addresses: ['10.0.0.1'],
        conditions: { ready: true, serving: true },
        nodeName: 'n',
        targetRef: { kind: 'Pod', name: 'orders-1', namespace: 'shop', uid: 'u', resourceVersion: '7' },
      },
    ],
  };
  expect(slimEndpointSlice(slice)).toEqual({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'orders-x', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'orders' } },
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
    endpoints: [
      {
        addresses: ['10.0.0.1'],
        conditions: { ready: true, serving: true },
        targetRef: { kind: 'Pod', name: 'orders-1', namespace: 'shop', uid: 'u' },
      },
    ],
  });
  expect(slimEndpointSlice({ ...slice, metadata: { name: 'x', namespace: 'shop' } })).toBeNull();
});

test('of any other object everything is kept but its status and what the API server adds', () => {
  const policy = {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: {
      name: 'a',
      namespace: 'shop',
      uid: 'u',
      resourceVersion: '7',
      generation: 2,
      creationTimestamp: '2026-01-01T00:00:00Z',
      managedFields: [{}],
      annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{}', 'istio.io/dry-run': 'true' },
    },
    spec: { rules: [{}] },
    status: { conditions: [] },
    stray: 1,
  };
  expect(slimObject(policy)).toEqual({
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: {
      name: 'a',
      namespace: 'shop',
      uid: 'u',
      creationTimestamp: '2026-01-01T00:00:00Z',
      annotations: { 'istio.io/dry-run': 'true' },
    },
    spec: { rules: [{}] },
    stray: 1,
  });
});
