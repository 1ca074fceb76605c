import { describe, expect, test } from 'vitest';
import { standInFor } from '../../policy/fail-closed.ts';
import { compilePolicies, selects, validateObject } from '../../policy/index.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';
import { MESH } from './objects.ts';

const METADATA = { name: 'p', namespace: 'shop', uid: 'u', creationTimestamp: '2026-01-01T00:00:00Z' };
const SELECTOR = { matchLabels: { app: 'orders' } };

function object(kind: string, spec: JsonValue, metadata: JsonObject = {}): JsonObject {
  return { apiVersion: 'security.istio.io/v1', kind, metadata: { ...METADATA, ...metadata }, spec };
}

const authorization = (spec: JsonValue, metadata?: JsonObject) => object('AuthorizationPolicy', spec, metadata);
const authentication = (spec: JsonValue, metadata?: JsonObject) => object('PeerAuthentication', spec, metadata);
const isBad = (one: JsonObject): boolean => validateObject(one).some(({ severity }) => severity === 'error');

/** Whom a stand-in concerns. */
function concerned(one: JsonObject | null): string {
  if (one === null) return 'nobody';
  const orders = selects(one, { namespace: 'shop', labels: { app: 'orders' } }, 'istio-system');
  const others = selects(one, { namespace: 'shop', labels: {} }, 'istio-system');
  return orders ? (others ? 'namespace' : 'selected') : 'nobody';
}

const RULES = [{ form: [] }];

describe('in the place of an AuthorizationPolicy that cannot be read stands a DENY of everything', () => {
  test.each<[string, JsonObject, string]>([
    [
      'whose rules cannot be read, for those that it selects',
      authorization({ selector: SELECTOR, rules: RULES }),
      'selected',
    ],
    ['that selects nobody in particular, for the namespace', authorization({ rules: RULES }), 'namespace'],
    ['with an empty selector, for the namespace', authorization({ selector: {}, rules: RULES }), 'namespace'],
    ['with an unknown action', authorization({ selector: SELECTOR, action: 'DNEY' }), 'selected'],
    ['with an unknown field beside its selector', authorization({ selector: SELECTOR, rule: [] }), 'selected'],
    ['with a selector of a later version', authorization({ selector: { matchExpressions: [] } }), 'namespace'],
    ['with labels that are no strings', authorization({ selector: { matchLabels: { app: 7 } } }), 'namespace'],
    ['with a wildcard in its labels', authorization({ selector: { matchLabels: { app: '*' } } }), 'namespace'],
    ['with a selector that is a list', authorization({ selector: [SELECTOR] }), 'namespace'],
    ['with a misspelt selector', authorization({ selectr: SELECTOR }), 'namespace'],
    [
      'with a selector and a target',
      authorization({ selector: SELECTOR, targetRef: { kind: 'Service', name: 'x' } }),
      'namespace',
    ],
    [
      'that is meant for a gateway, for that gateway',
      authorization({ targetRef: { kind: 'Service', name: 'x' }, rules: RULES }),
      'nobody',
    ],
    ['with a target that cannot be read', authorization({ targetRef: { kind: 'Pod' } }), 'namespace'],
    ['whose spec is a text', authorization('deny'), 'namespace'],
    ['whose spec is a list', authorization([{ action: 'DENY' }]), 'namespace'],
    ['with labels that are no strings itself', authorization({ rules: RULES }, { labels: { a: 1 } }), 'namespace'],
    [
      'with an annotation that may not be',
      authorization({}, { annotations: { 'internal.istio.io/always-reject': '' } }),
      'namespace',
    ],
    [
      'that may be a dry run',
      authorization({ rules: RULES }, { annotations: { 'istio.io/dry-run': 'yes' } }),
      'namespace',
    ],
    ['of action CUSTOM', authorization({ action: 'CUSTOM', rules: [{}] }), 'namespace'],
  ])('%s', (_name, bad, whom) => {
    expect(isBad(bad)).toBe(true);
    const { object: standIn, consequence } = standInFor('AuthorizationPolicy', bad);
    expect(standIn).toMatchObject({
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: METADATA,
    });
    expect(isBad(standIn ?? {})).toBe(false);
    expect(concerned(standIn)).toBe(whom);
    expect(consequence).toContain('everything is denied');
    if (whom === 'nobody' || standIn === null) return;
    // Also where another policy allows.
    const allow = authorization({ rules: [{}] }, { name: 'allow' });
    const workload = { namespace: 'shop', labels: { app: 'orders' } };
    const decision = compilePolicies([allow, standIn], workload, MESH).decide({
      sourcePrincipal: 'cluster.local/ns/web/sa/frontend',
      sourceIp: '10.0.0.1',
      destinationIp: '10.0.0.2',
      destinationPort: 80,
      sni: '',
    });
    expect(decision).toMatchObject({ allowed: false, policy: 'shop/p' });
  });

  test.each([
    ['is a dry run', authorization({ rules: RULES }, { annotations: { 'istio.io/dry-run': 'true' } })],
    ['only audits', authorization({ action: 'AUDIT', rules: RULES })],
  ])('but not of one that %s: it would have denied nothing', (_name, bad) => {
    expect(isBad(bad)).toBe(true);
    expect(standInFor('AuthorizationPolicy', bad).object).toBeNull();
  });
});

describe('in the place of a PeerAuthentication that cannot be read stands STRICT', () => {
  test.each<[string, JsonObject, string]>([
    ['for those that it selects', authentication({ selector: SELECTOR, mtls: { mode: 'STRIKT' } }), 'selected'],
    ['for the namespace', authentication({ mtls: { mode: 'strict' } }), 'namespace'],
    [
      'for the namespace, where its selector cannot be read',
      authentication({ selector: { app: 'orders' } }),
      'namespace',
    ],
    [
      'for the namespace, where it has a target',
      authentication({ targetRef: { kind: 'Service', name: 'x' } }),
      'namespace',
    ],
    ['for all ports', authentication({ selector: SELECTOR, portLevelMtls: { '80': { mode: 'OFF' } } }), 'selected'],
  ])('%s', (_name, bad, whom) => {
    expect(isBad(bad)).toBe(true);
    const { object: standIn } = standInFor('PeerAuthentication', bad);
    expect(isBad(standIn ?? {})).toBe(false);
    expect(standIn).toMatchObject({ spec: { mtls: { mode: 'STRICT' } } });
    expect(standIn?.spec).not.toHaveProperty('portLevelMtls');
    expect(concerned(standIn)).toBe(whom);
  });
});

describe('of a MeshConfig that cannot be read stays what can', () => {
  const mesh = (spec: JsonValue): JsonObject => ({ ...object('MeshConfig', spec), apiVersion: 'postern.dev/v1' });

  test.each<[string, JsonObject, JsonObject]>([
    [
      'where another setting is wrong',
      { rootNamespace: 'istio-system', defaultAction: 'DENY', pathNormalization: { normalization: 'SOME' } },
      { rootNamespace: 'istio-system', defaultAction: 'DENY' },
    ],
    ['where there is one that nobody knows', { defaultAction: 'ALLOW', nonsense: true }, { defaultAction: 'ALLOW' }],
    [
      'and the mesh denies and leads nowhere unknown where it says something of that which cannot be read',
      { defaultAction: 'NEVER', outboundTrafficPolicy: { mode: 'NONE' } },
      { defaultAction: 'DENY', outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' } },
    ],
    [
      'and the mesh denies where it is not known whose policies concern all',
      { rootNamespace: 'A B' },
      { defaultAction: 'DENY' },
    ],
  ])('%s', (_name, bad, left) => {
    expect(isBad(mesh(bad))).toBe(true);
    const { object: standIn } = standInFor('MeshConfig', mesh(bad));
    expect(standIn).toEqual({ ...mesh(left), metadata: METADATA });
    expect(isBad(standIn ?? {})).toBe(false);
  });

  test('or nothing, but that the mesh denies', () => {
    const { object: standIn, consequence } = standInFor('MeshConfig', mesh('DENY'));
    expect(standIn).toMatchObject({ spec: { defaultAction: 'DENY' } });
    expect(consequence).toContain('defaultAction is DENY');
  });
});

describe('of a Service with fields that nobody knows', () => {
  const service = (spec: JsonValue): JsonObject => ({
    ...object('Service', spec, { annotations: { 'networking.istio.io/exportTo': '.' } }),
    apiVersion: 'v1',
  });
  const spec = { clusterIP: '10.96.0.1', selector: { app: 'a' }, type: 'ClusterIP' };

  test('stays what the mesh acts on: calls of it must not go out in plaintext as if nobody knew it', () => {
    const bad = service({ ...spec, selectors: {}, ports: [{ name: 'web', port: 80, targetPort: 8080, later: 1 }] });
    expect(isBad(bad)).toBe(true);
    expect(standInFor('Service', bad).object).toEqual(
      service({ ...spec, ports: [{ name: 'web', port: 80, targetPort: 8080 }] }),
    );
  });

  test('nothing stays where the rest is wrong as well', () => {
    expect(standInFor('Service', service({ ...spec, ports: [{ port: 0, later: 1 }] })).object).toBeNull();
  });
});

test.each(['RequestAuthentication', 'Service', 'WorkloadEntry', 'ServiceEntry', 'Revocation'] as const)(
  'a %s that cannot be read is left out',
  (kind) => {
    expect(standInFor(kind, object(kind, { nonsense: true })).object).toBeNull();
  },
);
