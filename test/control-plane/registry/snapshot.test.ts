import { describe, expect, it } from 'vitest';
import { buildSnapshot, type RegistryInputs } from '../../../control-plane/registry/snapshot.ts';
import type { ServiceResource, WorkloadResource } from '../../../mesh/resources.ts';
import { manifestsOf, SETTINGS, workloadOf } from './support.ts';

const build = (text: string, more: Partial<RegistryInputs> = {}) =>
  buildSnapshot({ ...SETTINGS, manifests: manifestsOf(text), ...more }, null);
const service = (text: string, more: Partial<RegistryInputs> = {}) =>
  build(text, more).resources.get('Service/shop/s') as ServiceResource;
const entry = (spec: string, metadata = '') =>
  `apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: vm, namespace: shop${metadata} }\nspec: ${spec}\n`;
const workload = (text: string, name = 'shop/vm', more: Partial<RegistryInputs> = {}) =>
  build(text, more).resources.get(`Workload/${name}`) as WorkloadResource | undefined;
const SERVICE = (spec: string, metadata = '') =>
  `apiVersion: v1\nkind: Service\nmetadata: { name: s, namespace: shop${metadata} }\nspec: ${spec}\n`;

describe('endpoints of a service', () => {
  const workloads = [
    workloadOf('a', { labels: { app: 'x', version: 'v1' }, ports: { web: 9000 } }),
    workloadOf('bb', { labels: { app: 'x', version: 'v2' } }),
    workloadOf('ccc', { labels: { app: 'x' }, namespace: 'other' }),
  ];
  it.each([
    [
      'selects a subset of labels in its own namespace',
      '{ selector: { app: x }, ports: [ { port: 80, targetPort: 8080 } ] }',
      { 'shop/a': { 80: 8080 }, 'shop/bb': { 80: 8080 } },
    ],
    ['needs every label', '{ selector: { app: x, version: v2 }, ports: [ { port: 80 } ] }', { 'shop/bb': { 80: 80 } }],
    ['has none without a selector', '{ ports: [ { port: 80 } ] }', {}],
    [
      'resolves a named target by the workload’s named ports',
      '{ selector: { app: x }, ports: [ { port: 80, targetPort: web } ] }',
      { 'shop/a': { 80: 9000 } },
    ],
    [
      'leaves out a port that a workload does not have, not the workload',
      '{ selector: { app: x }, ports: [ { name: a, port: 80, targetPort: web }, { name: b, port: 81 } ] }',
      { 'shop/a': { 80: 9000, 81: 81 }, 'shop/bb': { 81: 81 } },
    ],
    [
      'leaves out UDP',
      '{ selector: { app: x }, ports: [ { name: a, port: 53, protocol: UDP }, { name: b, port: 81 } ] }',
      { 'shop/a': { 81: 81 }, 'shop/bb': { 81: 81 } },
    ],
    [
      'has none for an external name',
      '{ type: ExternalName, externalName: example.com, selector: { app: x }, ports: [ { port: 80 } ] }',
      {},
    ],
    [
      'does not take a name from the prototype for a port',
      '{ selector: { app: x }, ports: [ { port: 80, targetPort: constructor } ] }',
      {},
    ],
  ])('%s', (_what, spec, expected) => {
    const { endpoints } = service(SERVICE(spec), { workloads });
    expect(Object.fromEntries(endpoints.map(({ workload: name, ports }) => [name, ports]))).toEqual(expected);
  });

  it('include WorkloadEntries, by their own port names', () => {
    const text = `${SERVICE('{ selector: { app: x }, ports: [ { name: web, port: 80, targetPort: 8080 } ] }')}---\n${entry('{ address: 10.9.9.9, labels: { app: x }, ports: { web: 7000 } }')}`;
    expect(service(text).endpoints).toEqual([{ workload: 'shop/vm', ports: { 80: 7000 } }]);
  });
});

it.each([
  ['{ clusterIP: 10.1.1.1, ports: [ { port: 80 } ] }', ['10.1.1.1']],
  ['{ clusterIP: 10.1.1.1, clusterIPs: [ 10.1.1.1, "FD00:0::1" ], ports: [ { port: 80 } ] }', ['10.1.1.1', 'fd00::1']],
  ['{ clusterIP: None, ports: [ { port: 80 } ] }', []],
  ['{ ports: [ { port: 80 } ] }', []],
])('virtual addresses of %s', (spec, addresses) => {
  expect(service(SERVICE(spec)).addresses).toEqual(addresses);
});

it.each([
  ['{ port: 80, name: http }', 'http'],
  ['{ port: 80, name: http-web }', 'http'],
  ['{ port: 80, name: grpc-web }', 'grpc-web'],
  ['{ port: 80, name: grpc-api }', 'grpc'],
  ['{ port: 80, name: web-http }', null],
  ['{ port: 80 }', null],
  ['{ port: 80, name: http, appProtocol: tcp }', 'tcp'],
  ['{ port: 80, appProtocol: kubernetes.io/h2c }', 'http2'],
  ['{ port: 80, name: httpx }', null],
])('protocol of the port %s is %s', (port, protocol) => {
  expect(service(SERVICE(`{ ports: [ ${port} ] }`)).ports[0]?.protocol).toBe(protocol);
});

describe('a WorkloadEntry', () => {
  it('is plaintext, without an identity where it names none', () => {
    expect(workload(entry('{ address: 10.9.9.9 }'))).toMatchObject({ protocol: 'NONE', identity: null });
  });

  it('has Istio’s direct mTLS and an identity where its label says so', () => {
    const spec = '{ address: 10.9.9.9, serviceAccount: vm, labels: { security.istio.io/tlsMode: istio } }';
    expect(workload(entry(spec))).toMatchObject({
      protocol: 'ISTIO',
      identity: 'spiffe://cluster.local/ns/shop/sa/vm',
    });
  });

  it('has our tunnel and an identity where its label says so, connected or not', () => {
    const label = 'networking.istio.io/tunnel: http';
    for (const found of [
      workload(entry(`{ address: 10.9.9.9, serviceAccount: vm, labels: { ${label} } }`)),
      workload(entry('{ address: 10.9.9.9, serviceAccount: vm }', `, labels: { ${label} }`)),
    ]) {
      expect(found).toMatchObject({
        protocol: 'HBONE',
        identity: 'spiffe://cluster.local/ns/shop/sa/vm',
        tunnel: null,
      });
    }
    expect(workload(entry('{ address: 10.9.9.9, labels: { networking.istio.io/tunnel: none } }'))?.protocol).toBe(
      'NONE',
    );
  });

  it('gives way to the connected sidecar of the same address and account', () => {
    const workloads = [workloadOf('vm-1', { serviceAccount: 'vm', addresses: ['10.9.9.9'] })];
    const snapshot = build(entry('{ address: 10.9.9.9, serviceAccount: vm }'), { workloads });
    expect([...snapshot.workloads.keys()]).toEqual(['shop/vm-1']);
    expect(snapshot.problems).toEqual([]);
  });

  it('is reported and left out where its address belongs to another account', () => {
    const workloads = [workloadOf('a', { addresses: ['10.9.9.9'] })];
    const snapshot = build(entry('{ address: 10.9.9.9, serviceAccount: vm }'), { workloads });
    expect([...snapshot.workloads.keys()]).toEqual(['shop/a']);
    expect(snapshot.problems[0]?.message).toContain('shop/a');
  });
});

describe('plaintext ports', () => {
  const authentication = (spec: string) =>
    `apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: { name: p, namespace: shop }\nspec: ${spec}\n`;
  it.each([
    [
      'a port-level DISABLE',
      '{ selector: { matchLabels: { app: a } }, portLevelMtls: { 8080: { mode: DISABLE } } }',
      [8080],
    ],
    ['DISABLE for all: the ports that services lead to', '{ mtls: { mode: DISABLE } }', [8080, 9000]],
    [
      'DISABLE but for one port',
      '{ selector: { matchLabels: { app: a } }, mtls: { mode: DISABLE }, portLevelMtls: { 8080: { mode: STRICT } } }',
      [9000],
    ],
    ['STRICT', '{ mtls: { mode: STRICT } }', []],
  ])('%s', (_what, spec, ports) => {
    const text = `${SERVICE('{ selector: { app: a }, ports: [ { port: 80, targetPort: 8080 } ] }')}---\n${authentication(spec)}`;
    const workloads = [workloadOf('a', { ports: { web: 9000 } })];
    expect(workload(text, 'shop/a', { workloads })?.plaintextPorts).toEqual(ports);
  });
});

it.each([
  [{}, { workloadName: 'w', app: 'unknown', version: 'unknown', canonicalService: 'w', canonicalRevision: 'latest' }],
  [
    { app: 'o', version: 'v1' },
    { workloadName: 'o', app: 'o', version: 'v1', canonicalService: 'o', canonicalRevision: 'v1' },
  ],
  [
    { app: 'o', 'service.istio.io/workload-name': 'd' },
    { workloadName: 'd', canonicalService: 'o' },
  ],
  [{ app: 'o', 'postern.dev/workload': 'p', 'service.istio.io/workload-name': 'd' }, { workloadName: 'p' }],
  [
    { 'service.istio.io/canonical-name': 'c', 'service.istio.io/canonical-revision': 'r', app: 'o' },
    { canonicalService: 'c', canonicalRevision: 'r' },
  ],
])('telemetry names of the labels %j', (labels, expected) => {
  expect(workload('', 'shop/w', { workloads: [workloadOf('w', { labels })] })).toMatchObject(expected);
});

it('a MeshConfig manifest overrides what it names and leaves the rest', () => {
  const text =
    'apiVersion: postern.dev/v1\nkind: MeshConfig\nmetadata: { name: mesh }\nspec: { defaultAction: DENY, outboundTrafficPolicy: { mode: REGISTRY_ONLY }, pathNormalization: { normalization: NONE }, extensionProviders: [{ name: opa, envoyExtAuthzGrpc: { service: opa, port: 9191 } }] }\n';
  expect(build(text).mesh).toMatchObject({
    defaultAction: 'DENY',
    outboundTrafficPolicy: 'REGISTRY_ONLY',
    rootNamespace: 'istio-system',
    pathNormalization: 'NONE',
    extensionProviders: [{ name: 'opa', protocol: 'grpc' }],
  });
});

it('what did not change is the same object in the next snapshot', () => {
  const inputs = { ...SETTINGS, manifests: manifestsOf(SERVICE('{ selector: { app: a }, ports: [ { port: 80 } ] }')) };
  const first = buildSnapshot(inputs, null);
  const second = buildSnapshot(
    {
      ...inputs,
      manifests: manifestsOf(SERVICE('{ selector: { app: a }, ports: [ { port: 80 } ] }')),
      workloads: [workloadOf('b')],
    },
    first,
  );
  for (const [key, resource] of first.resources) expect(second.resources.get(key)).toBe(resource);
});
