import { describe, expect, it, vi } from 'vitest';
import { buildSnapshot, type RegistryInputs } from '../../../control-plane/registry/snapshot.ts';
import type { ServiceResource, WorkloadResource } from '../../../mesh/resources.ts';
import type { JsonObject, Manifest } from '../../../policy/types.ts';
import { endpointOf, manifestsOf, type PodParts, podOf, SETTINGS, sliceOf, workloadOf } from './support.ts';

const service = (spec: string) =>
  manifestsOf(`apiVersion: v1\nkind: Service\nmetadata: { name: s, namespace: shop }\nspec: ${spec}\n`);
const WEB = service(
  '{ clusterIP: 10.96.0.1, selector: { app: a }, ports: [ { name: web, port: 80, targetPort: web } ] }',
);
const build = (manifests: readonly Manifest[], more: Partial<RegistryInputs> = {}) =>
  buildSnapshot({ ...SETTINGS, manifests, ...more }, null);
const served = (manifests: readonly Manifest[], more: Partial<RegistryInputs> = {}) => {
  const { endpoints } = build(manifests, more).resources.get('Service/shop/s') as ServiceResource;
  return Object.fromEntries(endpoints.map(({ workload, ports }) => [workload, ports]));
};
const workload = (pod: Manifest, more: Partial<RegistryInputs> = {}) =>
  build([pod], more).workloads.get(`shop/${pod.name}`) as WorkloadResource | undefined;

const identity = 'spiffe://cluster.local/ns/shop/sa/default';

describe('a pod', () => {
  it.each<[string, PodParts, Partial<WorkloadResource>]>([
    ['with our sidecar', {}, { protocol: 'HBONE', identity }],
    ['with Istio’s', { annotations: { 'sidecar.istio.io/status': '{}' } }, { protocol: 'ISTIO', identity }],
    ['without any', { annotations: {} }, { protocol: 'NONE', identity: null }],
    ['on its node’s network', { spec: { hostNetwork: true } }, { protocol: 'NONE', identity: null, hostNetwork: true }],
    ['that starts', { status: { phase: 'Pending' } }, { protocol: 'HBONE' }],
    ['that ends', { metadata: { deletionTimestamp: '2026-01-31T12:00:00Z' } }, { protocol: 'HBONE' }],
  ])('%s is a workload', (_what, parts, expected) => {
    expect(workload(podOf('a', ['10.0.0.1'], parts))).toMatchObject(expected);
  });

  it.each<[string, PodParts]>([
    ['succeeded', { status: { phase: 'Succeeded' } }],
    ['failed', { status: { phase: 'Failed' } }],
    ['no address yet', { status: { podIPs: [] } }],
  ])('that has %s is none', (_what, parts) => {
    expect(workload(podOf('a', ['10.0.0.1'], parts))).toBeUndefined();
  });

  it('has its labels, account and addresses of both families from its object, whatever its sidecar says', () => {
    const pod = podOf('a', ['10.0.0.1', 'FD00:0::1'], { labels: { app: 'x', version: 'v2' } });
    const registered = workloadOf('a', { addresses: ['10.9.9.9'], labels: { app: 'lie' }, serviceAccount: 'lie' });
    expect(workload(pod, { workloads: [registered] })).toMatchObject({
      addresses: ['10.0.0.1', 'fd00::1'],
      app: 'x',
      version: 'v2',
      serviceAccount: 'default',
    });
  });

  it('that is gone is not brought back by its sidecar, which still drains', () => {
    const registered = workloadOf('a', { labels: { app: 'a' }, ports: { web: 8080 } });
    expect(served(WEB, { workloads: [{ ...registered, isDeclared: true }] })).toEqual({});
    expect(served(WEB, { workloads: [registered] })).toEqual({ 'shop/a': { 80: 8080 } });
  });

  it('keeps its address against a sidecar of another name, which is left out and reported', () => {
    const snapshot = build([podOf('a', ['10.0.0.1'])], { workloads: [workloadOf('b', { addresses: ['10.0.0.1'] })] });
    expect([...snapshot.workloads.keys()]).toEqual(['shop/a']);
    expect(snapshot.problems.map(({ message }) => message).join()).toMatch(/10\.0\.0\.1 .*shop\/b/);
  });

  it('that shares its address with another is reported, unless one of the two ends', () => {
    const ending = podOf('a', ['10.0.0.1'], { metadata: { deletionTimestamp: '2026-01-31T12:00:00Z' } });
    expect(build([podOf('a', ['10.0.0.1']), podOf('b', ['10.0.0.1'])]).problems).toHaveLength(1);
    expect(build([ending, podOf('b', ['10.0.0.1'])]).problems).toEqual([]);
    expect(build([podOf('b', ['10.0.0.1']), ending]).problems).toEqual([]);
    const hosts = ['a', 'b'].map((name) => podOf(name, ['10.0.0.1'], { spec: { hostNetwork: true } }));
    expect(build(hosts).problems).toEqual([]);
  });

  it('stands against a WorkloadEntry of its address', () => {
    const entry = (account: string) =>
      manifestsOf(
        `apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: vm, namespace: shop }\nspec: { address: 10.0.0.1, serviceAccount: ${account} }\n`,
      );
    const own = build([podOf('a', ['10.0.0.1']), ...entry('default')]);
    expect([[...own.workloads.keys()], own.problems]).toEqual([['shop/a'], []]);
    const foreign = build([podOf('a', ['10.0.0.1']), ...entry('other')]);
    expect([...foreign.workloads.keys()]).toEqual(['shop/a']);
    expect(foreign.problems[0]?.message).toContain('Pod shop/a');
  });
});

describe('endpoints of a service of the cluster', () => {
  const pods = [podOf('a', ['10.0.0.1']), podOf('b', ['10.0.0.2', 'fd00::2'])];
  const draining = { ready: false, serving: true, terminating: true };

  it.each<[string, readonly JsonObject[], object]>([
    [
      'are its ready ones',
      [endpointOf('10.0.0.1', 'a'), endpointOf('10.0.0.2', 'b', { ready: false })],
      { 'shop/a': { 80: 8080 } },
    ],
    ['are ready where nothing else is said', [endpointOf('10.0.0.1', 'a', {})], { 'shop/a': { 80: 8080 } }],
    [
      'are not those that end while others are ready',
      [endpointOf('10.0.0.1', 'a'), endpointOf('10.0.0.2', 'b', draining)],
      { 'shop/a': { 80: 8080 } },
    ],
    [
      'are those that end and serve where none is ready',
      [endpointOf('10.0.0.1', 'a', { ready: false }), endpointOf('10.0.0.2', 'b', draining)],
      { 'shop/b': { 80: 8080 } },
    ],
    [
      'are not those that end and serve no more',
      [endpointOf('10.0.0.2', 'b', { ready: false, serving: false, terminating: true })],
      {},
    ],
    ['lead nowhere until their pod is known', [endpointOf('10.0.0.3', 'c')], {}],
    ['lead nowhere at an address that is not their pod’s', [endpointOf('10.0.0.2', 'a')], {}],
  ])('%s', (_what, endpoints, expected) => {
    expect(served([...WEB, ...pods, sliceOf('x', { web: 8080 }, ...endpoints)])).toEqual(expected);
  });

  it('have the ports of their slices: a name may stand for another number in each', () => {
    const slices = [
      sliceOf('x', { web: 8080 }, endpointOf('10.0.0.1', 'a')),
      sliceOf('y', { web: 9090 }, endpointOf('10.0.0.2', 'b')),
    ];
    expect(served([...WEB, ...pods, ...slices])).toEqual({ 'shop/a': { 80: 8080 }, 'shop/b': { 80: 9090 } });
  });

  it('of several ports are served as far as the slices go', () => {
    const several = service(
      '{ ports: [ { name: web, port: 80 }, { name: admin, port: 81 }, { name: dns, port: 53, protocol: UDP } ] }',
    );
    const slices = [
      sliceOf('x', { web: 8080, admin: 8081 }, endpointOf('10.0.0.1', 'a')),
      sliceOf('y', { web: 8080 }, endpointOf('10.0.0.2', 'b')),
    ];
    expect(served([...several, ...pods, ...slices])).toEqual({
      'shop/a': { 80: 8080, 81: 8081 },
      'shop/b': { 80: 8080 },
    });
  });

  it('of two families are one endpoint', () => {
    const slices = [
      sliceOf('x', { web: 8080 }, endpointOf('10.0.0.2', 'b')),
      sliceOf('y', { web: 8080 }, endpointOf('FD00::2', 'b')),
    ];
    expect(served([...WEB, ...pods, ...slices])).toEqual({ 'shop/b': { 80: 8080 } });
  });

  it('of a headless service are told, too', () => {
    const headless = service('{ clusterIP: None, selector: { app: a }, ports: [ { name: web, port: 80 } ] }');
    expect(served([...headless, ...pods, sliceOf('x', { web: 8080 }, endpointOf('10.0.0.1', 'a'))])).toEqual({
      'shop/a': { 80: 8080 },
    });
  });

  it('include sidecars and entries outside the cluster that the selector finds, never pods', () => {
    const outside = workloadOf('vm', { labels: { app: 'a' }, ports: { web: 7000 }, addresses: ['10.9.0.1'] });
    const slices = [sliceOf('x', { web: 8080 })];
    expect(served([...WEB, ...pods, ...slices], { workloads: [outside] })).toEqual({ 'shop/vm': { 80: 7000 } });
  });

  it('are dialled at addresses that are nobody’s in plaintext, and known ones as what they are', () => {
    const selectorless = service('{ ports: [ { name: web, port: 80 } ] }');
    const endpoints = [endpointOf('192.0.2.1', null), endpointOf('10.0.0.1', null)];
    const snapshot = build([...selectorless, ...pods, sliceOf('x', { web: 8080 }, ...endpoints)]);
    const { endpoints: found } = snapshot.resources.get('Service/shop/s') as ServiceResource;
    const workloads = found.map(({ workload: name }) => snapshot.workloads.get(name));
    expect(workloads).toMatchObject([
      { name: 'shop/a', protocol: 'HBONE' },
      { addresses: ['192.0.2.1'], protocol: 'NONE', identity: null, workloadName: 'unknown' },
    ]);
  });

  it('are told in one order, whatever that of their slices', () => {
    const slices = [
      sliceOf('x', { web: 8080 }, endpointOf('10.0.0.2', 'b')),
      sliceOf('y', { web: 8080 }, endpointOf('10.0.0.1', 'a')),
    ];
    const endpoints = (more: readonly Manifest[]) =>
      (build([...WEB, ...pods, ...more]).resources.get('Service/shop/s') as ServiceResource).endpoints;
    expect(endpoints(slices)).toEqual(endpoints(slices.toReversed()));
  });
});

describe('the cost of a change', () => {
  /** How often something is written out as text while one pod of `count` changes: that is what costs. */
  function textsOf(count: number): number {
    const pods = Array.from({ length: count }, (_, index) => podOf(`p${index}`, [`10.1.0.${index}`]));
    const before = build([...WEB, ...pods]);
    const spy = vi.spyOn(JSON, 'stringify');
    try {
      const changed = [podOf('p0', ['10.1.0.0'], { labels: { app: 'other' } }), ...pods.slice(1)];
      buildSnapshot({ ...SETTINGS, manifests: [...WEB, ...changed] }, before);
      return spy.mock.calls.length;
    } finally {
      spy.mockRestore();
    }
  }

  it('of one pod does not grow with the number of pods', () => {
    expect(textsOf(200)).toBe(textsOf(100));
  });
});

it('of two pods at one address only the one that stays is found there', () => {
  const leaving = podOf('a', ['10.0.0.1'], { metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' } });
  for (const manifests of [
    [leaving, podOf('b', ['10.0.0.1'])],
    [podOf('b', ['10.0.0.1']), leaving],
  ]) {
    const { workloads } = buildSnapshot({ ...SETTINGS, manifests }, null);
    expect(workloads.get('shop/a')?.hostNetwork).toBe(true);
    expect(workloads.get('shop/b')?.hostNetwork).toBeUndefined();
  }
});
