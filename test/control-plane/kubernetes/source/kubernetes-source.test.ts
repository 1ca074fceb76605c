import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { KubernetesSource } from '../../../../control-plane/kubernetes/source/kubernetes-source.ts';
import type { SourceChange } from '../../../../control-plane/source/manifest-source.ts';
import { KubernetesError } from '../../../../kubernetes/api/errors.ts';
import { TYPES } from '../../../../kubernetes/api/resource-types.ts';
import type { JsonObject, JsonValue } from '../../../../policy/types.ts';
import { FakeCluster, gone, silentLog } from '../../../kubernetes/informer/support.ts';
import { eventually } from '../../../support/eventually.ts';

const timings = { backoffMs: 1, backoffMaxMs: 5, absentMs: 5, leastWatchMs: 1 };
const KINDS = 10;
const GOOD = { rules: [{ from: [{ source: { namespaces: ['web'] } }] }] };
const BETTER = { rules: [{ from: [{ source: { namespaces: ['web', 'jobs'] } }] }] };
const BAD = { selector: { matchLabels: { app: 'orders' } }, rules: [{ form: [] }] };
const policy = TYPES.AuthorizationPolicy;

let cluster: FakeCluster;
let source: KubernetesSource;
let changes: SourceChange[];

const make = (syncTimeoutMs = 60_000): KubernetesSource => {
  source = new KubernetesSource({ api: cluster, log: silentLog, timings, syncTimeoutMs });
  return source;
};
const start = async (): Promise<void> => {
  await make().start((change) => changes.push(change));
  await eventually(() => cluster.watches === KINDS, { what: 'all watches' });
};
const put = (name: string, spec: JsonValue, metadata: JsonObject = {}) =>
  cluster.put(policy, 'shop', name, { spec, metadata });
const titles = (): string[] => source.manifests.map(({ kind, namespace, name }) => `${kind} ${namespace}/${name}`);
const specOf = (name: string): JsonValue | undefined =>
  source.manifests.find((manifest) => manifest.name === name)?.object.spec;
const complaints = (): string[] =>
  source.problems.map(({ severity, message, location }) => `${location.file}: ${severity}: ${message}`);
const told = (count: number) => eventually(() => changes.length === count, { what: `${count} changes` });

beforeEach(() => {
  cluster = new FakeCluster();
  changes = [];
});
afterEach(() => source.stop());

describe('the source', () => {
  test('has everything that the cluster has, once it has started', async () => {
    cluster.put(TYPES.Service, 'shop', 'orders', { spec: { ports: [{ port: 80 }] }, status: { loadBalancer: {} } });
    cluster.put(TYPES.Pod, 'shop', 'orders-1', { spec: { serviceAccountName: 'orders' } });
    const labels = { 'kubernetes.io/service-name': 'orders' };
    cluster.put(TYPES.EndpointSlice, 'shop', 'orders-x', { metadata: { labels }, endpoints: [] });
    cluster.put(TYPES.EndpointSlice, 'shop', 'of-nobody', { endpoints: [] });
    cluster.put(TYPES.WorkloadEntry, 'shop', 'vm', { spec: { address: '10.1.0.1' } });
    cluster.put(TYPES.MeshConfig, '', 'mesh', { spec: {} });
    put('allow-web', GOOD);
    await start();
    expect(titles()).toEqual([
      'Service shop/orders',
      'EndpointSlice shop/orders-x',
      'Pod shop/orders-1',
      'AuthorizationPolicy shop/allow-web',
      'WorkloadEntry shop/vm',
      'MeshConfig default/mesh',
    ]);
    expect(complaints()).toEqual([]);
    expect(source.fault).toBeNull();
    expect(source.lastContact).toBeGreaterThan(0);
    expect(changes).toEqual([]);
  });

  test('looks up pods', async () => {
    cluster.put(TYPES.Pod, 'shop', 'orders-1', { spec: { serviceAccountName: 'orders' } });
    await start();
    expect(source.pod('shop', 'orders-1')?.object).toMatchObject({ metadata: { uid: 'uid-orders-1' } });
    expect(source.pod('shop', 'orders-2')).toBeNull();
    cluster.remove(TYPES.Pod, 'shop', 'orders-1');
    expect(source.pod('shop', 'orders-1')).toBeNull();
  });

  test('tells once of all that comes together, and keeps the identity of what did not change', async () => {
    put('a', GOOD);
    await start();
    const [a] = source.manifests;
    const since = performance.now();
    put('b', GOOD);
    cluster.put(TYPES.Pod, 'shop', 'orders-1');
    put('c', BAD);
    await told(1);
    expect(changes[0]).toMatchObject({ manifests: true });
    expect(changes[0]?.noticedAt).toBeGreaterThanOrEqual(since);
    expect(source.problems.map(({ resource }) => resource)).toContain('AuthorizationPolicy shop/c');
    expect(source.manifests.find(({ name }) => name === 'a')).toBe(a);
    // Nothing that concerns the mesh.
    cluster.put(TYPES.Pod, 'shop', 'orders-1', { metadata: { annotations: { heartbeat: '1' } } });
    put('b', GOOD, { managedFields: [{}] });
    put('d', GOOD);
    await told(2);
    expect(titles()).toHaveLength(5);
  });

  test('takes an old version of a kind where the cluster has no other', async () => {
    cluster.missing.add('security.istio.io/v1/authorizationpolicies');
    cluster.put({ ...policy, version: 'v1beta1' }, 'shop', 'old', { spec: GOOD });
    await start();
    expect(source.manifests.map(({ apiVersion }) => apiVersion)).toEqual(['security.istio.io/v1beta1']);
    expect(complaints()).toEqual([]);
  });

  test('starts without the kinds that the cluster does not have', async () => {
    cluster.missing.add('postern.dev/v1/meshconfigs');
    await make().start(() => {});
    expect(source.fault).toBeNull();
  });
});

describe('an object that is not admissible', () => {
  test('leaves its last admissible version in force, and says so with the path', async () => {
    put('a', GOOD);
    await start();
    put('a', BAD);
    await told(1);
    expect(specOf('a')).toEqual(GOOD);
    expect(complaints()).toEqual([
      expect.stringMatching(/^AuthorizationPolicy shop\/a: error: spec\.rules\[0\]\.form: unknown field/),
      expect.stringMatching(/warning: .*last admissible version stays in force/),
    ]);
    expect(source.errorOf('AuthorizationPolicy', 'shop', 'a')).toMatch(/unknown field/);
    expect(source.received('AuthorizationPolicy')[0]?.object.spec).toEqual(BAD);
    put('a', { ...BAD, action: 'DNEY' });
    await told(2);
    expect(specOf('a')).toEqual(GOOD);
    put('a', BETTER);
    await told(3);
    expect(specOf('a')).toEqual(BETTER);
    expect(complaints()).toEqual([]);
    expect(source.errorOf('AuthorizationPolicy', 'shop', 'a')).toBeNull();
  });

  test('and never was denies everything to those that it selects', async () => {
    put('a', BAD);
    await start();
    expect(specOf('a')).toEqual({ selector: BAD.selector, action: 'DENY', rules: [{}] });
    expect(complaints()[1]).toMatch(/everything is denied for the workloads that it selects/);
    // Its repair ends that, its removal too.
    put('a', GOOD);
    await told(1);
    expect(specOf('a')).toEqual(GOOD);
    put('b', BAD);
    await told(2);
    cluster.remove(policy, 'shop', 'b');
    await told(3);
    expect(titles()).toEqual(['AuthorizationPolicy shop/a']);
  });

  test('of the name of one that is gone has nothing of that one', async () => {
    put('a', GOOD);
    await start();
    cluster.watchFailure = gone();
    cluster.endWatches(gone());
    put('a', BAD, { uid: 'another' });
    cluster.compacted = cluster.version;
    cluster.watchFailure = null;
    await eventually(() => specOf('a') !== GOOD && complaints().length > 0, { what: 'the new object' });
    expect(specOf('a')).toMatchObject({ action: 'DENY' });
  });

  test('is STRICT where it is a PeerAuthentication, and left out where it is anything else', async () => {
    cluster.put(TYPES.PeerAuthentication, 'shop', 'p', { spec: { mtls: { mode: 'OFF' } } });
    cluster.put(TYPES.WorkloadEntry, 'shop', 'vm', { spec: { address: 'vm.example' } });
    await start();
    expect(specOf('p')).toEqual({ mtls: { mode: 'STRICT' } });
    expect(titles()).toEqual(['PeerAuthentication shop/p']);
    expect(complaints().join('\n')).toMatch(/WorkloadEntry shop\/vm: warning: .*left out/);
  });
});

describe('of several MeshConfigs', () => {
  const mesh = (name: string, created: string, defaultAction = 'DENY') =>
    cluster.put(TYPES.MeshConfig, '', name, { metadata: { creationTimestamp: created }, spec: { defaultAction } });
  const inForce = (): string[] => source.manifests.map(({ name }) => name);

  test('the oldest counts, and the others are told so', async () => {
    mesh('young', '2026-02-01T00:00:00Z');
    mesh('old', '2026-01-01T00:00:00Z');
    await start();
    expect(inForce()).toEqual(['old']);
    expect(complaints()).toEqual([expect.stringMatching(/MeshConfig young: error: there can be one MeshConfig.*old/)]);
    expect(source.errorOf('MeshConfig', '', 'young')).not.toBeNull();
    cluster.remove(TYPES.MeshConfig, '', 'old');
    await told(1);
    expect(inForce()).toEqual(['young']);
    expect(complaints()).toEqual([]);
  });

  test('one that never was admissible does not count', async () => {
    mesh('old', '2026-01-01T00:00:00Z', 'NONSENSE');
    mesh('young', '2026-02-01T00:00:00Z');
    await start();
    expect(inForce()).toEqual(['young']);
  });
});

describe('an API server', () => {
  test('that goes away leaves everything in force, and is a fault until it is back', async () => {
    put('a', GOOD);
    await start();
    cluster.failure = gone();
    cluster.endWatches(gone());
    await eventually(() => changes.length > 0 && source.fault !== null, { what: 'a fault' });
    expect(source.fault).toMatchObject({ code: 'ERR_KUBERNETES' });
    expect(source.fault?.message).toContain('ECONNREFUSED');
    expect(changes[0]).toMatchObject({ manifests: false });
    expect(titles()).toEqual(['AuthorizationPolicy shop/a']);
    put('b', GOOD);
    cluster.failure = null;
    await eventually(() => source.fault === null && titles().length === 2, { what: 'the new policy' });
  });

  test('that forbids something ends the start, which says what', async () => {
    cluster.failure = new KubernetesError('Forbidden', 403, 'forbidden');
    await expect(make(50).start(() => {})).rejects.toMatchObject({
      code: 'ERR_KUBERNETES_SYNC',
      message: expect.stringMatching(/Pod objects.*ClusterRole.*"pods".*Revocation objects.*"revocations"/),
    });
    expect(cluster.watches).toBe(0);
  });
});
