import { expect, test } from 'vitest';
import { enforcementOf, type Holder } from '../../../control-plane/push/enforcement.ts';
import { ScopeCache } from '../../../control-plane/registry/scope.ts';
import { buildSnapshot, type Snapshot } from '../../../control-plane/registry/snapshot.ts';
import { manifestsOf, SETTINGS } from '../registry/support.ts';

const policy = (name: string, spec: string) =>
  `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: ${name}, namespace: shop }\nspec: ${spec}\n`;
const snapshotOf = (before: Snapshot | null, ...texts: string[]) =>
  buildSnapshot({ ...SETTINGS, manifests: manifestsOf(texts.join('---\n')) }, before);
const ALL = policy('all', '{ rules: [ {} ] }');
const A = policy('a', '{ selector: { matchLabels: { app: a } }, rules: [ {} ] }');
const NEW_A = policy('a', '{ selector: { matchLabels: { app: a } } }');
const counts = (snapshot: Snapshot, holders: readonly Holder[]) => Object.fromEntries(enforcementOf(snapshot, holders));

test('a policy is in force where what is acknowledged is what is wanted, and wanted where it selects', () => {
  const cache = new ScopeCache('e');
  const scopeOf = (snapshot: Snapshot, app: string) =>
    cache.scopeOf(snapshot, { namespace: 'shop', labels: { app }, ended: false });
  const first = snapshotOf(null, ALL, A);
  const [oldA, oldB] = [scopeOf(first, 'a'), scopeOf(first, 'b')];
  const second = snapshotOf(first, ALL, NEW_A, policy('none', '{ selector: { matchLabels: { app: z } } }'));
  const [a, b] = [scopeOf(second, 'a'), scopeOf(second, 'b')];
  const key = 'AuthorizationPolicy/shop/a';
  const holders: readonly Holder[] = [
    { wanted: a, acknowledged: a, rejected: [] },
    { wanted: a, acknowledged: a, rejected: [] },
    { wanted: a, acknowledged: oldA, rejected: [] },
    { wanted: a, acknowledged: null, rejected: [] },
    { wanted: a, acknowledged: a, rejected: [{ key, reason: 'too odd' }] },
    { wanted: b, acknowledged: oldB, rejected: [] },
    { wanted: b, acknowledged: b, rejected: [{ key, reason: 'once selected it' }] },
  ];
  expect(counts(second, holders)).toEqual({
    'AuthorizationPolicy/shop/all': { wanted: 7, inForce: 6, rejected: 0, reason: null },
    [key]: { wanted: 5, inForce: 2, rejected: 1, reason: 'too odd' },
    'AuthorizationPolicy/shop/none': { wanted: 0, inForce: 0, rejected: 0, reason: null },
  });
});
