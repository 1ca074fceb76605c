import { describe, expect, test } from 'vitest';
import type { Facts } from '../../../cli/check/facts.ts';
import { CHECKS, findingLines, runChecks } from '../../../cli/check/run.ts';
import { createGeneration, LIFETIMES } from '../../../control-plane/ca/generation.ts';
import type { JsonObject } from '../../../policy/types.ts';
import {
  authority,
  base64,
  definitions,
  deployment,
  endpoints,
  healthy,
  lease,
  NOW,
  namespace,
  objects,
  pod,
  policy,
  ROOTS,
  SYSTEM,
  service,
  settings,
  trustBundle,
  webhooks,
} from './healthy.ts';

const run = (facts: Facts, before = false) => runChecks(facts, { before });
const troubles = (facts: Facts, before = false) => run(facts, before).filter(({ level }) => level !== 'ok');
const OTHER_ROOTS = createGeneration(1, 'cluster.local', NOW, LIFETIMES).root.pem;
const named = (wanted: string) => (one: JsonObject) =>
  JSON.stringify(one).includes(`"name":"${wanted}"`) ? null : one;
const refused = { ok: false, why: 'secrets is forbidden', forbidden: true } as const;
const EXPIRED = createGeneration(1, 'cluster.local', NOW - 100 * 86_400_000, {
  rootSeconds: 99 * 86_400,
  intermediateSeconds: 3600,
});
const ENDING = createGeneration(1, 'cluster.local', NOW, {
  rootSeconds: 20 * 86_400,
  intermediateSeconds: 86_400 * 15,
});
const imagePull = { state: { waiting: { reason: 'ImagePullBackOff', message: 'Back-off pulling image "x"' } } };

describe('checks', () => {
  test('find nothing in an installation without fault, and say what they have looked at', () => {
    expect(troubles(healthy())).toEqual([]);
    expect(troubles(healthy(), true)).toEqual([]);
    const wanted = CHECKS.filter(({ when }) => when !== 'before').map(({ name }) => name);
    expect(run(healthy()).map(({ check }) => check)).toEqual(wanted);
  });

  test.each<[string, 'error' | 'warning', RegExp, Partial<Facts>]>([
    [
      'version',
      'error',
      /does not answer: connection refused/,
      { version: { ok: false, why: 'connection refused', forbidden: false } },
    ],
    ['version', 'error', /v1\.26\.1/, { version: { ok: true, value: { major: 1, minor: 26, gitVersion: 'v1.26.1' } } }],
    [
      'version',
      'warning',
      /no native sidecars/,
      { version: { ok: true, value: { major: 1, minor: 28, gitVersion: 'v1.28.0' } } },
    ],
    [
      'definitions',
      'error',
      /not defined: authorizationpolicies/,
      { definitions: objects(...definitions(named('authorizationpolicies.security.istio.io'))) },
    ],
    [
      'definitions',
      'error',
      /revocations.postern.dev is not established/,
      {
        definitions: objects(
          ...definitions((one) => (named('revocations.postern.dev')(one) === null ? { ...one, status: {} } : one)),
        ),
      },
    ],
    ['control-plane', 'error', /there is no Deployment/, { deployments: objects() }],
    [
      'control-plane',
      'error',
      /1 of 3 replicas are ready/,
      { deployments: objects(deployment({ updatedReplicas: 3, availableReplicas: 1 })) },
    ],
    ['settings', 'error', /unknown setting/, { settings: objects(settings('listne: 1\n')) }],
    ['settings', 'error', /on one machine/, { settings: objects(settings('trustDomain: cluster.local\n')) }],
    ['leader', 'error', /no replica .* leads/, { leases: objects() }],
    ['leader', 'error', /no replica .* leads/, { leases: objects(lease('', '2026-06-01T11:59:58Z')) }],
    [
      'leader',
      'error',
      /cp-1 has not renewed its lease since/,
      { leases: objects(lease('cp-1', '2026-06-01T11:57:00Z')) },
    ],
    ['authority', 'error', /postern-ca is missing/, { secret: objects() }],
    [
      'authority',
      'error',
      /root-1.pem, ended on/,
      { secret: objects(authority({ 'root-1.pem': base64(EXPIRED.root.pem) })) },
    ],
    [
      'authority',
      'warning',
      /root-1.pem, ends on 2026-06-21/,
      { secret: objects(authority({ 'root-1.pem': base64(ENDING.root.pem) })) },
    ],
    [
      'authority',
      'error',
      /root-1.pem,: |root-1.pem, /,
      { secret: objects(authority({ 'root-1.pem': base64('rubbish') })) },
    ],
    ['authority', 'warning', /could not be looked at: secrets is forbidden/, { secret: refused }],
    ['webhook-injection', 'error', /is missing: no pod gets a sidecar/, { mutating: objects() }],
    ['webhook-injection', 'error', /has no caBundle/, { mutating: objects(webhooks('Mutating', {}, '')) }],
    ['webhook-injection', 'error', /another caBundle/, { mutating: objects(webhooks('Mutating', {}, OTHER_ROOTS)) }],
    [
      'webhook-injection',
      'warning',
      /failurePolicy is Ignore/,
      { mutating: objects(webhooks('Mutating', { failurePolicy: 'Ignore' })) },
    ],
    ['webhook-injection', 'error', /no ready endpoint/, { endpointSlices: objects(endpoints(false)) }],
    ['webhook-injection', 'error', /which does not exist/, { services: objects() }],
    ['webhook-validation', 'error', /is missing: policies are not checked/, { validating: objects() }],
    ['webhook-validation', 'error', /has no caBundle/, { validating: objects(webhooks('Validating', {}, '')) }],
    [
      'trust-bundles',
      'error',
      /out of date in shop/,
      { trustBundles: objects(trustBundle(SYSTEM, ROOTS), trustBundle('shop', OTHER_ROOTS)) },
    ],
    ['trust-bundles', 'error', /missing or out of date in shop/, { trustBundles: objects(trustBundle(SYSTEM, ROOTS)) }],
    ['trust-bundles', 'error', /no root has been published/, { trustBundles: objects() }],
    [
      'sidecars-missing',
      'warning',
      /have none: shop\/old/,
      { pods: objects(pod('orders-1'), pod('old', { image: null, metadata: { labels: { app: 'old' } } })) },
    ],
    [
      'sidecars-missing',
      'warning',
      /by annotation alone.*outside\/one/,
      {
        pods: objects(
          pod('orders-1'),
          pod('one', {
            image: null,
            metadata: { namespace: 'outside', annotations: { 'postern.dev/inject': 'enabled' } },
          }),
        ),
      },
    ],
    [
      'sidecars-versions',
      'warning',
      /sidecars of postern:0.0.9, new ones get postern:0.1.0: shop\/orders-1/,
      { pods: objects(pod('orders-1', { image: 'postern:0.0.9' })) },
    ],
    [
      'sidecars-ready',
      'error',
      /orders-1 is not ready: container postern-proxy: ImagePullBackOff/,
      {
        pods: objects(
          pod('orders-1', {
            ready: false,
            status: { initContainerStatuses: [{ name: 'postern-proxy', ready: false, ...imagePull }] },
          }),
        ),
      },
    ],
    [
      'sidecars-ready',
      'error',
      /container postern-init: ended with code 77/,
      {
        pods: objects(
          pod('orders-1', {
            ready: false,
            status: {
              initContainerStatuses: [{ name: 'postern-init', ready: false, state: { terminated: { exitCode: 77 } } }],
            },
          }),
        ),
      },
    ],
    [
      'pod-security',
      'error',
      /needs NET_ADMIN: shop/,
      {
        namespaces: objects(
          namespace(SYSTEM),
          namespace('shop', { 'postern.dev/inject': 'enabled', 'pod-security.kubernetes.io/enforce': 'baseline' }),
        ),
      },
    ],
    [
      'istio',
      'warning',
      /installed beside us \(istio-sidecar-injector\)/,
      { mutating: objects(webhooks('Mutating'), { metadata: { name: 'istio-sidecar-injector' } }) },
    ],
    [
      'istio',
      'error',
      /two sidecars: shop/,
      {
        mutating: objects(webhooks('Mutating'), { metadata: { name: 'istio-revision-tag-default' } }),
        namespaces: objects(
          namespace(SYSTEM),
          namespace('shop', { 'postern.dev/inject': 'enabled', 'istio-injection': 'enabled' }),
        ),
      },
    ],
    [
      'service-ports',
      'warning',
      /ports of services .*shop\/orders:80/,
      {
        services: objects(
          service('postern-control-plane', SYSTEM, []),
          service('orders', 'shop', [{ name: 'api', port: 80 }]),
        ),
      },
    ],
    [
      'policies-valid',
      'error',
      /AuthorizationPolicy shop\/typo: spec.rulse/,
      { policies: objects(policy('AuthorizationPolicy', 'typo', { rulse: [] })) },
    ],
    [
      'policies-selecting',
      'warning',
      /select no pod that runs: PeerAuthentication shop\/idle/,
      { policies: objects(policy('PeerAuthentication', 'idle', { selector: { matchLabels: { app: 'gone' } } })) },
    ],
    [
      'policies-enforced',
      'warning',
      /for pods without sidecar.*outside\/words/,
      { policies: objects(policy('AuthorizationPolicy', 'words', {}, 'outside')) },
    ],
  ])('%s finds the fault (%s, %s), and says how to mend it', (check, level, message, change) => {
    const found = troubles(healthy(change)).filter((finding) => finding.check === check);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatchObject({
      level,
      message: expect.stringMatching(message),
      remedy: expect.stringMatching(/\w{3}/),
    });
  });

  test.each<[string, 'error' | 'warning', RegExp, Partial<Facts>]>([
    [
      'permissions',
      'error',
      /you may not create namespaces/,
      { permissions: [{ verb: 'create', resource: 'namespaces', namespace: '', allowed: { ok: true, value: false } }] },
    ],
    [
      'permissions',
      'warning',
      /what you may do could not be looked at/,
      { permissions: [{ verb: 'get', resource: 'pods', namespace: '', allowed: refused }] },
    ],
    [
      'definitions',
      'error',
      /is served as v1alpha0, of which Postern reads none/,
      { definitions: objects(foreignDefinition()) },
    ],
  ])('before an installation %s finds the fault (%s, %s)', (check, level, message, change) => {
    const found = troubles(healthy(change), true);
    expect(found).toEqual([{ check, level, message: expect.stringMatching(message), remedy: expect.any(String) }]);
  });

  test('an API server that does not answer is one finding, not twenty', () => {
    const away = { ok: false, why: 'timeout', forbidden: false } as const;
    expect(run(healthy({ version: away, pods: away, services: away }))).toHaveLength(1);
  });

  test('a cluster without Postern is said to be one', () => {
    const [installed, ...others] = troubles(
      healthy({ namespaces: objects(namespace('default')), settings: objects() }),
    );
    expect(installed).toMatchObject({ check: 'installed', level: 'error' });
    expect(others).toEqual([]);
  });

  test('pods that have ended, are outside of the mesh or cannot have a sidecar are not complained about', () => {
    const others = [
      pod('done', { image: null, status: { phase: 'Succeeded' } }),
      pod('stays-out', { image: null, metadata: { labels: { 'postern.dev/inject': 'disabled' } } }),
      { ...pod('host', { image: null }), spec: { hostNetwork: true, containers: [{ name: 'app' }] } },
      pod('elsewhere', { image: null, metadata: { namespace: 'outside' } }),
    ];
    const selecting = objects(policy('PeerAuthentication', 'all', {}));
    expect(troubles(healthy({ pods: objects(pod('orders-1'), ...others), policies: selecting }))).toEqual([]);
  });

  test('take the root namespace from the MeshConfig, else from the settings', () => {
    const everywhere = policy('AuthorizationPolicy', 'everywhere', {}, 'mesh-policies');
    const mesh = { apiVersion: 'postern.dev/v1', kind: 'MeshConfig', metadata: { name: 'mesh' } };
    const facts = (spec: JsonObject) => healthy({ policies: objects(everywhere, { ...mesh, spec }) });
    expect(troubles(facts({ rootNamespace: 'mesh-policies' }))).toEqual([]);
    expect(troubles(facts({})).map(({ check }) => check)).toEqual(['policies-enforced']);
  });

  test('are printed a line each, with what to do below', () => {
    const lines = findingLines(run(healthy({ leases: objects() })));
    expect(lines.find((line) => line.includes('no replica'))).toMatch(/^✗ leader {2,}no replica/);
    expect(lines[lines.findIndex((line) => line.includes('no replica')) + 1]).toMatch(/^ +→ see the log/);
    expect(lines[0]).toMatch(/^✓ version/);
  });
});

function foreignDefinition(): JsonObject {
  return {
    metadata: { name: 'authorizationpolicies.security.istio.io' },
    spec: { versions: [{ name: 'v1alpha0', served: true }] },
    status: { conditions: [{ type: 'Established', status: 'True' }] },
  };
}
