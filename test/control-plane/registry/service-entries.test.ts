import { describe, expect, it } from 'vitest';
import { ScopeCache } from '../../../control-plane/registry/scope.ts';
import { buildSnapshot } from '../../../control-plane/registry/snapshot.ts';
import type { ServiceResource } from '../../../mesh/resources.ts';
import type { Manifest } from '../../../policy/types.ts';
import { manifestsOf, podOf, SETTINGS, workloadOf } from './support.ts';

const entry = (spec: string, name = 'e', namespace = 'shop') =>
  manifestsOf(
    `apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: ${name}, namespace: ${namespace} }\nspec: ${spec}\n`,
  );
const PORTS = 'ports: [ { number: 5432, name: db, protocol: TCP } ]';
const STATIC = (rest: string) => `{ hosts: [ db.example.com ], resolution: STATIC, ${PORTS}, ${rest} }`;
const build = (...manifests: readonly Manifest[]) =>
  buildSnapshot({ ...SETTINGS, manifests, workloads: [workloadOf('vm', { addresses: ['10.0.9.1'] })] }, null);
const resource = (...manifests: readonly Manifest[]) =>
  build(...manifests).resources.get('Service/shop/db.example.com') as ServiceResource | undefined;

describe('a ServiceEntry with resolution STATIC', () => {
  it('is a service at its addresses with the endpoints that it names', () => {
    const endpoints =
      'endpoints: [ { address: 192.0.2.1 }, { address: 192.0.2.2, ports: { db: 6000 } }, { address: 192.0.2.1, ports: { db: 6001 } } ]';
    const snapshot = build(
      ...entry(STATIC(`addresses: [ 240.0.0.1, "240.0.0.2/32", 240.1.0.0/16, "FD00::1" ], ${endpoints}`)),
    );
    expect(snapshot.resources.get('Service/shop/db.example.com')).toMatchObject({
      hostname: 'db.example.com',
      addresses: ['240.0.0.1', '240.0.0.2', 'fd00::1'],
      ports: [{ name: 'db', port: 5432, protocol: 'tcp' }],
      endpoints: [
        { workload: 'shop/e:192.0.2.1', ports: { 5432: 5432 } },
        { workload: 'shop/e:192.0.2.1#2', ports: { 5432: 6001 } },
        { workload: 'shop/e:192.0.2.2', ports: { 5432: 6000 } },
      ],
    });
    expect(snapshot.workloads.get('shop/e:192.0.2.2')).toMatchObject({
      addresses: ['192.0.2.2'],
      protocol: 'NONE',
      workloadName: 'unknown',
    });
  });

  it('reaches endpoints that the mesh knows as what they are', () => {
    const text = STATIC(
      'endpoints: [ { address: 10.0.0.1 }, { address: 192.0.2.1, serviceAccount: db, labels: { security.istio.io/tlsMode: istio } } ]',
    );
    const snapshot = build(podOf('a', ['10.0.0.1']), ...entry(text));
    const found = resource(podOf('a', ['10.0.0.1']), ...entry(text))?.endpoints.map(({ workload }) => workload) ?? [];
    expect(found.map((name) => snapshot.workloads.get(name))).toMatchObject([
      { name: 'shop/a', protocol: 'HBONE' },
      { protocol: 'ISTIO', identity: 'spiffe://cluster.local/ns/shop/sa/db' },
    ]);
  });

  it('selects workloads of its namespace: sidecars, entries, and pods that are ready', () => {
    const pods = [
      podOf('ready', ['10.0.0.1'], { labels: { app: 'vm' } }),
      podOf('unready', ['10.0.0.2'], { labels: { app: 'vm' }, status: { ready: false } }),
      podOf('ended', ['10.0.0.3'], { labels: { app: 'vm' }, status: { ended: true } }),
      podOf('other', ['10.0.0.4']),
      podOf('elsewhere', ['10.0.0.5'], { namespace: 'bank', labels: { app: 'vm' } }),
    ];
    const vm = manifestsOf(
      'apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: old, namespace: shop }\nspec: { address: 192.0.2.9, labels: { app: vm }, ports: { db: 7000 } }\n',
    );
    const found = resource(...pods, ...vm, ...entry(STATIC('workloadSelector: { labels: { app: vm } }')));
    expect(found?.endpoints).toEqual([
      { workload: 'shop/old', ports: { 5432: 7000 } },
      { workload: 'shop/ready', ports: { 5432: 5432 } },
      { workload: 'shop/vm', ports: { 5432: 5432 } },
    ]);
  });

  it('leads to the target port, and leaves out UDP', () => {
    const text =
      '{ hosts: [ db.example.com ], resolution: STATIC, ports: [ { number: 80, name: http, protocol: HTTP, targetPort: 8080 }, { number: 53, name: dns, protocol: UDP } ], endpoints: [ { address: 192.0.2.1 } ] }';
    expect(resource(...entry(text))).toMatchObject({
      ports: [{ port: 80, protocol: 'http' }],
      endpoints: [{ ports: { 80: 8080 } }],
    });
  });

  it('cannot take an address of a service or of another namespace’s workload', () => {
    const service = manifestsOf(
      'apiVersion: v1\nkind: Service\nmetadata: { name: s, namespace: bank }\nspec: { clusterIP: 10.96.0.1, ports: [ { port: 80 } ] }\n',
    );
    const pods = [podOf('mine', ['10.0.0.1']), podOf('theirs', ['10.0.0.2'], { namespace: 'bank' })];
    const text = STATIC('addresses: [ 10.96.0.1, 10.0.0.1, 10.0.0.2, 240.0.0.1 ]');
    const snapshot = build(...service, ...pods, ...entry(text), ...entry(STATIC('addresses: [ 240.0.0.1 ]'), 'f', 'z'));
    expect(snapshot.resources.get('Service/shop/db.example.com')).toMatchObject({
      addresses: ['10.0.0.1', '240.0.0.1'],
    });
    expect(snapshot.resources.get('Service/z/db.example.com')).toMatchObject({ addresses: [] });
    expect(snapshot.problems.map(({ message }) => message)).toEqual([
      expect.stringMatching(/10\.96\.0\.1 belongs to Service bank\/s/),
      expect.stringMatching(/10\.0\.0\.2 belongs to the workload bank\/theirs/),
      expect.stringMatching(/240\.0\.0\.1 belongs to ServiceEntry shop\/e/),
    ]);
  });
});

it('of two entries with one address the older has it, however they are called', () => {
  const dated = (namespace: string, created: string) =>
    manifestsOf(
      `apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: e, namespace: ${namespace}, creationTimestamp: "${created}" }\nspec: ${STATIC('addresses: [ 240.0.0.1 ]')}\n`,
    );
  const { resources } = build(...dated('a', '2026-02-01T00:00:00Z'), ...dated('z', '2026-01-01T00:00:00Z'));
  expect(resources.get('Service/z/db.example.com')).toMatchObject({ addresses: ['240.0.0.1'] });
  expect(resources.get('Service/a/db.example.com')).toMatchObject({ addresses: [] });
});

it('of two entries with one host in a namespace the second is left out and reported', () => {
  const { problems } = build(...entry(STATIC('addresses: []'), 'b'), ...entry(STATIC('addresses: []'), 'a'));
  expect(problems).toMatchObject([{ resource: 'ServiceEntry shop/b', message: expect.stringContaining('shop/a') }]);
});

it.each(['NONE', 'DNS'])('resolution %s lets through to its addresses, and knows no endpoints', (resolution) => {
  const blocks = resolution === 'NONE' ? '192.0.2.0/24' : '192.0.2.1';
  const text = `{ hosts: [ db.example.com ], resolution: ${resolution}, addresses: [ ${blocks} ], ${PORTS} }`;
  expect(resource(...entry(text))).toMatchObject({ addresses: [], endpoints: [], passthrough: [blocks] });
});

it.each([
  ['', true],
  ['exportTo: [ "*" ]', true],
  ['exportTo: [ "." ]', false],
  ['exportTo: [ bank ]', true],
  ['exportTo: [ "~" ]', false],
])('with %j another namespace sees it: %s', (exportTo, visible) => {
  const snapshot = build(...entry(STATIC(exportTo === '' ? 'addresses: []' : exportTo)));
  const scope = new ScopeCache('e').scopeOf(snapshot, { namespace: 'bank', labels: {}, ended: false });
  expect(scope.resources.has('Service/shop/db.example.com')).toBe(visible);
});

describe('what belongs to others', () => {
  const NODE = '192.0.2.50';
  const onNode = podOf('agent', [NODE], { namespace: 'kube-system', spec: { hostNetwork: true } });
  const inline = (name: string, namespace: string, created: string, endpoint: string) =>
    manifestsOf(
      `apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: ${name}, namespace: ${namespace}, creationTimestamp: "${created}" }\nspec: ${STATIC(`endpoints: [ ${endpoint} ]`)}\n`,
    );
  const dated = (name: string, namespace: string, created: string, address: string) =>
    manifestsOf(
      `apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: ${name}, namespace: ${namespace}, creationTimestamp: "${created}" }\nspec: { address: ${address} }\n`,
    );

  it('an entry cannot take the address of a node', () => {
    const snapshot = build(onNode, ...entry(STATIC(`addresses: [ ${NODE}, 240.0.0.1 ]`)));
    expect(snapshot.resources.get('Service/shop/db.example.com')).toMatchObject({ addresses: ['240.0.0.1'] });
    expect(snapshot.problems).toMatchObject([{ message: expect.stringContaining('a node of the cluster') }]);
  });

  it.each([
    [
      'an endpoint within an entry',
      inline('e', 'evil', '2026-01-01T00:00:00Z', `{ address: ${NODE} }`),
      `evil/e:${NODE}`,
    ],
    ['a WorkloadEntry', dated('w', 'evil', '2026-01-01T00:00:00Z', NODE), 'evil/w'],
  ])('%s at the address of a node is dialled there, and nobody is taken for it', (_what, manifests, name) => {
    expect(build(onNode, ...manifests).workloads.get(name)).toMatchObject({ addresses: [NODE], hostNetwork: true });
  });

  it('of two endpoints at one address that is nobody’s the one of the older entry is found there', () => {
    const strict = '{ address: 192.0.2.1, labels: { security.istio.io/tlsMode: istio } }';
    const older = inline('e', 'shop', '2026-01-01T00:00:00Z', strict);
    const later = inline('e', 'evil', '2026-02-01T00:00:00Z', '{ address: 192.0.2.1 }');
    for (const manifests of [
      [...older, ...later],
      [...later, ...older],
    ]) {
      const { workloads } = build(...manifests);
      expect(workloads.get('shop/e:192.0.2.1')?.hostNetwork).toBeUndefined();
      expect(workloads.get('evil/e:192.0.2.1')?.hostNetwork).toBe(true);
    }
  });

  it('of two WorkloadEntries with one address the older has it, in whatever order they are heard of', () => {
    const older = dated('db', 'shop', '2026-01-01T00:00:00Z', '192.0.2.1');
    const later = dated('db', 'aaa', '2026-02-01T00:00:00Z', '192.0.2.1');
    for (const manifests of [
      [...older, ...later],
      [...later, ...older],
    ]) {
      const { workloads, problems } = build(...manifests);
      expect([...workloads.keys()]).toContain('shop/db');
      expect([...workloads.keys()]).not.toContain('aaa/db');
      expect(problems).toMatchObject([{ resource: 'WorkloadEntry aaa/db' }]);
    }
  });

  it.each([
    ['later', '2026-03-01T00:00:00Z', ['240.0.0.1']],
    ['earlier', '2026-01-01T00:00:00Z', []],
  ])('a WorkloadEntry of another namespace that came %s leaves an entry these addresses', (_when, created, left) => {
    const text = STATIC('addresses: [ 240.0.0.1 ]');
    const own = manifestsOf(
      `apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: e, namespace: shop, creationTimestamp: "2026-02-01T00:00:00Z" }\nspec: ${text}\n`,
    );
    const snapshot = build(...own, ...dated('w', 'evil', created, '240.0.0.1'));
    expect(snapshot.resources.get('Service/shop/db.example.com')).toMatchObject({ addresses: left });
  });
});

it('one namespace fills nobody else’s registry with endpoints', () => {
  const endpoints = (third: number) =>
    `endpoints: [ ${Array.from({ length: 3_000 }, (_, index) => `{ address: 192.${third}.${index >> 8}.${index & 255} }`).join(', ')} ]`;
  const snapshot = build(
    ...entry(STATIC(endpoints(1)), 'e', 'evil'),
    ...entry(STATIC(endpoints(2)).replace('db.', 'other.'), 'f', 'evil'),
    ...entry(STATIC('endpoints: [ { address: 198.51.100.1 } ]')),
  );
  const added = [...snapshot.workloads.keys()];
  expect(added.filter((name) => name.startsWith('evil/'))).toHaveLength(4_096);
  expect(added).toContain('shop/e:198.51.100.1');
  const found = snapshot.resources.get('Service/evil/other.example.com') as ServiceResource | undefined;
  expect(found?.endpoints).toHaveLength(1_096);
  expect(snapshot.problems).toMatchObject([{ resource: 'Namespace evil', message: expect.stringContaining('4096') }]);
});
