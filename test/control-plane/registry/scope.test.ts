import { describe, expect, it } from 'vitest';
import { digestOf, ScopeCache } from '../../../control-plane/registry/scope.ts';
import { buildSnapshot, type RegistryInputs } from '../../../control-plane/registry/snapshot.ts';
import { manifestsOf, SETTINGS, workloadOf } from './support.ts';

const build = (text: string, more: Partial<RegistryInputs> = {}) =>
  buildSnapshot({ ...SETTINGS, manifests: manifestsOf(text), ...more }, null);
const keys = (
  text: string,
  namespace: string,
  labels: { readonly [key: string]: string },
  more: Partial<RegistryInputs> = {},
) =>
  [...new ScopeCache('e').scopeOf(build(text, more), { namespace, labels, ended: false }).resources.keys()]
    .filter((key) => !/^(Self|MeshConfig|TrustBundle|Revocations)/.test(key))
    .sort();

const policy = (name: string, namespace: string, spec = '{}', kind = 'AuthorizationPolicy') =>
  `apiVersion: security.istio.io/v1\nkind: ${kind}\nmetadata: { name: ${name}, namespace: ${namespace} }\nspec: ${spec}\n`;
const service = (name: string, namespace: string, exportTo?: string) =>
  `apiVersion: v1\nkind: Service\nmetadata:\n  name: ${name}\n  namespace: ${namespace}\n${exportTo === undefined ? '' : `  annotations: { networking.istio.io/exportTo: "${exportTo}" }\n`}spec: { selector: { app: ${name} }, ports: [ { port: 80 } ] }\n`;

describe('policies', () => {
  const text = [
    policy('own', 'shop'),
    policy('selected', 'shop', '{ selector: { matchLabels: { app: a } } }'),
    policy('unselected', 'shop', '{ selector: { matchLabels: { app: b } } }'),
    policy('elsewhere', 'bank'),
    policy('root', 'istio-system'),
    policy('root-selected', 'istio-system', '{ selector: { matchLabels: { app: a } } }'),
    policy('authn', 'shop', '{ mtls: { mode: STRICT } }', 'PeerAuthentication'),
  ].join('---\n');

  it('are those that select the workload', () => {
    expect(keys(text, 'shop', { app: 'a' })).toEqual([
      'AuthorizationPolicy/istio-system/root',
      'AuthorizationPolicy/istio-system/root-selected',
      'AuthorizationPolicy/shop/own',
      'AuthorizationPolicy/shop/selected',
      'PeerAuthentication/shop/authn',
    ]);
  });

  it('follow the root namespace of the mesh', () => {
    const settings = { ...SETTINGS.settings, rootNamespace: 'bank' };
    expect(keys(text, 'shop', { app: 'c' }, { settings })).toEqual([
      'AuthorizationPolicy/bank/elsewhere',
      'AuthorizationPolicy/shop/own',
      'PeerAuthentication/shop/authn',
    ]);
  });
});

describe('services', () => {
  it.each([
    [undefined, true],
    ['*', true],
    ['.', false],
    ['shop', true],
    ['bank, shop', true],
    ['other', false],
    ['~', false],
    [' . , * ', true],
  ])('of another namespace with exportTo %j are visible: %s', (exportTo, visible) => {
    expect(keys(service('s', 'bank', exportTo), 'shop', {})).toEqual(visible ? ['Service/bank/s'] : []);
  });

  it('bring their endpoints along; other workloads of other namespaces stay unknown', () => {
    const workloads = [
      workloadOf('s', { namespace: 'bank', labels: { app: 's' } }),
      workloadOf('hidden', { namespace: 'bank' }),
      workloadOf('mine'),
    ];
    expect(keys(service('s', 'bank'), 'shop', {}, { workloads })).toEqual([
      'Service/bank/s',
      'Workload/bank/s',
      'Workload/shop/mine',
    ]);
    expect(keys(service('s', 'bank', '~'), 'shop', {}, { workloads })).toEqual(['Workload/shop/mine']);
  });
});

describe('scopes', () => {
  it('hold a workload once that both its namespace and everybody knows', () => {
    const workloads = [workloadOf('s', { labels: { app: 's' } })];
    const snapshot = build(service('s', 'shop'), { workloads });
    const { resources } = new ScopeCache('e').scopeOf(snapshot, { namespace: 'shop', labels: {}, ended: false });
    const found = [...resources.keys()];
    expect(found).toContain('Workload/shop/s');
    expect(found).toHaveLength(new Set(found).size);
    expect(resources.size).toBe(found.length);
  });

  it('are one object for workloads of the same namespace and labels', () => {
    const cache = new ScopeCache('e');
    const snapshot = build(policy('p', 'shop'));
    expect(cache.scopeOf(snapshot, { namespace: 'shop', labels: { a: '1', b: '2' }, ended: false })).toBe(
      cache.scopeOf(snapshot, { namespace: 'shop', labels: { b: '2', a: '1' }, ended: false }),
    );
    expect(cache.scopeOf(snapshot, { namespace: 'shop', labels: { a: '1' }, ended: false })).not.toBe(
      cache.scopeOf(snapshot, { namespace: 'shop', labels: {}, ended: false }),
    );
  });

  it('keep their object across a snapshot that does not concern them', () => {
    const cache = new ScopeCache('e');
    const inputs = { ...SETTINGS, manifests: manifestsOf(policy('p', 'shop')) };
    const first = buildSnapshot(inputs, null);
    const scope = cache.scopeOf(first, { namespace: 'shop', labels: {}, ended: false });
    const second = buildSnapshot({ ...inputs, workloads: [workloadOf('x', { namespace: 'bank' })] }, first);
    expect(cache.scopeOf(second, { namespace: 'shop', labels: {}, ended: false })).toBe(scope);
  });

  it('of the same content have the same digest in another run, and only then', () => {
    const version = (text: string, epoch: string) =>
      new ScopeCache(epoch).scopeOf(build(text), { namespace: 'shop', labels: {}, ended: false }).version;
    const both = `${policy('p', 'shop')}---\n${policy('q', 'shop')}`;
    const swapped = `${policy('q', 'shop')}---\n${policy('p', 'shop')}`;
    expect(version(both, 'a')).not.toBe(version(both, 'b'));
    expect(digestOf(version(both, 'a'))).toBe(digestOf(version(swapped, 'b')));
    expect(digestOf(version(both, 'a'))).not.toBe(digestOf(version(policy('p', 'shop'), 'a')));
  });
});
