import { describe, expect, test } from 'vitest';
import { type JsonObject, selects } from '../../policy/index.ts';
import { MESH, ORDERS, object, peerAuthentication, policy } from './objects.ts';

const labels = (matchLabels: JsonObject): JsonObject => ({ selector: { matchLabels } });
const root = { namespace: MESH.rootNamespace };

describe('which policies apply to a workload (1.1)', () => {
  test.each<[string, JsonObject, boolean]>([
    ['without a selector, every workload of the namespace', policy({}), true],
    ['with an empty selector too', policy({ selector: {} }), true],
    ['with empty matchLabels too', policy(labels({})), true],
    ['labels that the workload has', policy(labels({ app: 'orders' })), true],
    ['one label that it has not', policy(labels({ app: 'orders', tier: 'x' })), false],
    ['one label with another value', policy(labels({ app: 'orders', version: 'v2' })), false],
    ['no wildcards', policy(labels({ app: '*' })), false],
    ['no inherited properties', policy(labels({ constructor: 'Object' })), false],
    ['another namespace', policy({}, { namespace: 'pay' }), false],
    ['the root namespace, all workloads', policy({}, root), true],
    ['the root namespace, by its selector', policy(labels({ app: 'orders' }), root), true],
    ['the root namespace, another selector', policy(labels({ app: 'x' }), root), false],
    ['a targetRef is for gateways', policy({ targetRef: { kind: 'Service', name: 'orders' } }), false],
    ['targetRefs too', policy({ targetRefs: [{ kind: 'Service', name: 'orders' }] }), false],
    ['empty targetRefs are none', policy({ targetRefs: [] }), true],
    ['PeerAuthentication of the root namespace', peerAuthentication({}, root), true],
    [
      'PeerAuthentication of the root namespace with a selector never',
      peerAuthentication(labels({ app: 'orders' }), root),
      false,
    ],
    ['PeerAuthentication by its selector', peerAuthentication(labels({ app: 'orders' })), true],
    ['without a namespace it is in default', object('AuthorizationPolicy', 'security.istio.io/v1', {}), false],
  ])('%s', (_, object, expected) => {
    expect(selects(object, ORDERS, MESH.rootNamespace)).toBe(expected);
  });

  test('a selector in the root namespace applies to workloads there, but for PeerAuthentication', () => {
    const workload = { namespace: MESH.rootNamespace, labels: { app: 'orders' } };
    expect(selects(policy(labels({ app: 'orders' }), root), workload, MESH.rootNamespace)).toBe(true);
    expect(selects(peerAuthentication(labels({ app: 'orders' }), root), workload, MESH.rootNamespace)).toBe(false);
  });
});
