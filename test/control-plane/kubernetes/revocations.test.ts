import { expect, it } from 'vitest';
import { ClusterRevocations } from '../../../control-plane/kubernetes/revocations.ts';
import type { KubernetesApi } from '../../../kubernetes/api/types.ts';
import { asObject, asString, field } from '../../../policy/json.ts';
import type { JsonObject, Manifest } from '../../../policy/types.ts';
import { manifestsOf } from '../registry/support.ts';

const ORDERS = 'spiffe://cluster.local/ns/shop/sa/orders';
const DAY = 86_400_000;

/** A cluster's Revocations; the source hears of them when the test says so. */
function setUp(now = Date.parse('2026-01-10T00:00:00Z')) {
  const stored = new Map<string, JsonObject>();
  let known: readonly Manifest[] = [];
  let heard = 0;
  const create: KubernetesApi['create'] = async (_type, _namespace, object) => {
    const metadata = asObject(field(object, 'metadata'));
    const creationTimestamp = new Date(now).toISOString();
    const made = { ...object, metadata: { ...metadata, creationTimestamp } };
    stored.set(asString(field(metadata, 'name')) ?? '', made);
    return made;
  };
  const api = { create, delete: async (_type: unknown, { name }: { name: string }) => stored.delete(name) };
  const revocations = new ClusterRevocations({
    api,
    manifests: () => known,
    clock: () => now,
    maxTtlSeconds: () => DAY / 1000,
  });
  revocations.onChange(() => {
    heard += 1;
  });
  const isRevoked = () => revocations.isRevoked({ spiffeId: ORDERS, serial: '1' });
  const tell = (): void => {
    known = manifestsOf([...stored.values()].map((object) => JSON.stringify(object)).join('\n---\n'));
    revocations.refresh();
  };
  const put = (name: string, spec: JsonObject, creationTimestamp = new Date(now).toISOString()): void => {
    stored.set(name, {
      apiVersion: 'postern.dev/v1',
      kind: 'Revocation',
      metadata: { name, creationTimestamp },
      spec,
    });
  };
  return { revocations, stored, put, tell, isRevoked, heard: () => heard };
}

it('is in force here as soon as it is stored, and one and the same when the API tells of it', async () => {
  const { revocations, stored, tell, isRevoked, heard } = setUp();
  await revocations.add(ORDERS);
  expect([isRevoked(), stored.size, heard()]).toEqual([true, 1, 1]);
  await revocations.add(ORDERS);
  tell();
  expect([isRevoked(), stored.size, heard()]).toEqual([true, 1, 1]);
  expect(revocations.list()).toHaveLength(1);
});

it('is taken back with every object that says so, whoever wrote it', async () => {
  const { revocations, stored, put, tell, isRevoked, heard } = setUp();
  put('by-hand', { spiffeId: ORDERS });
  put('again', { spiffeId: ORDERS });
  tell();
  expect(await revocations.remove(ORDERS)).toBe(true);
  expect(stored.size).toBe(0);
  tell();
  expect([isRevoked(), heard()]).toEqual([false, 2]);
  expect(await revocations.remove(ORDERS)).toBe(false);
});

it('is taken back before the API has told of it', async () => {
  const { revocations, stored, tell, isRevoked, heard } = setUp();
  await revocations.add(ORDERS);
  expect(await revocations.remove(ORDERS)).toBe(true);
  expect([isRevoked(), stored.size, heard()]).toEqual([false, 0, 2]);
  tell();
  expect(isRevoked()).toBe(false);
});

it('drops serials when their certificate cannot be valid any more, and never identities', async () => {
  const { revocations, stored, put, tell } = setUp();
  put('old-serial', { serial: 'A1' }, '2026-01-01T00:00:00Z');
  put('new-serial', { serial: 'A2' }, '2026-01-09T12:00:00Z');
  // Half an hour after the longest life has begun to count, by an API server whose clock is two hours behind.
  put('told-by-another-clock', { serial: 'A3' }, '2026-01-08T22:30:00Z');
  put('old-identity', { spiffeId: ORDERS }, '2026-01-01T00:00:00Z');
  tell();
  await revocations.prune(new AbortController().signal);
  expect([...stored.keys()]).toEqual(['new-serial', 'told-by-another-clock', 'old-identity']);
});
