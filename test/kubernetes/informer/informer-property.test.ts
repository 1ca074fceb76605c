import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { KubernetesError } from '../../../kubernetes/api/errors.ts';
import { TYPES } from '../../../kubernetes/api/resource-types.ts';
import { Informer } from '../../../kubernetes/informer/informer.ts';
import type { ObjectChange } from '../../../kubernetes/informer/store.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { eventually } from '../../support/eventually.ts';
import { FakeCluster, gone, silentLog } from './support.ts';

const TYPE = TYPES.Pod;
const expired = (): Error => new KubernetesError('Expired', 410, 'too old');

/** What may happen to a cluster and to the way there. */
const STEP = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('put' as const), name: fc.nat(5), value: fc.nat(2) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('remove' as const), name: fc.nat(5) }) },
  fc.record({
    kind: fc.constantFrom(
      'wait' as const,
      'bookmark' as const,
      'end' as const,
      'break' as const,
      'expire' as const,
      'compact' as const,
      'away' as const,
      'back' as const,
      'refuse' as const,
    ),
  }),
);

test('whatever happens, an informer ends up with what the cluster has, and has told every step to it', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(STEP, { maxLength: 40 }), async (steps) => {
      const cluster = new FakeCluster();
      cluster.pageSize = 2;
      const stored = new Map<string, JsonValue>();
      const told = new Map<string, JsonValue>();
      const informer = new Informer<JsonValue>({
        api: cluster,
        type: TYPE,
        transform: (object: JsonObject) => object.spec ?? null,
        equals: isDeepStrictEqual,
        onChange: (changes) => {
          for (const change of changes) follow(told, change);
          // What is told is what is there.
          expect(told).toEqual(new Map(informer.objects));
        },
        log: { ...silentLog, error: (...words: unknown[]) => expect.fail(String(words)) },
        timings: { backoffMs: 0, backoffMaxMs: 1, leastWatchMs: 0 },
      });
      informer.start();
      for (const step of steps) {
        switch (step.kind) {
          case 'put':
            stored.set(`shop/${step.name}`, step.value);
            cluster.put(TYPE, 'shop', String(step.name), { spec: step.value });
            break;
          case 'remove':
            if (stored.delete(`shop/${step.name}`)) cluster.remove(TYPE, 'shop', String(step.name));
            break;
          case 'wait':
            await new Promise((resolve) => setTimeout(resolve, 2));
            break;
          case 'bookmark':
            cluster.bookmark();
            break;
          case 'end':
            cluster.endWatches();
            break;
          case 'break':
            cluster.endWatches(gone());
            break;
          case 'expire':
            cluster.endWatches(expired());
            break;
          case 'compact':
            cluster.compacted = cluster.version;
            break;
          case 'away':
            cluster.failure = gone();
            cluster.endWatches(gone());
            break;
          case 'refuse':
            cluster.watchFailure = new KubernetesError('Timeout', 504, 'too large resource version');
            break;
          case 'back':
            cluster.failure = null;
            cluster.watchFailure = null;
            break;
        }
      }
      cluster.failure = null;
      cluster.watchFailure = null;
      await eventually(() => cluster.watches === 1 && isDeepStrictEqual(new Map(informer.objects), stored), {
        what: 'the copy to be like the store',
        everyMs: 1,
      });
      expect(told).toEqual(stored);
      await informer.stop();
    }),
    { numRuns: 150 },
  );
});

function follow(told: Map<string, JsonValue>, { key, before, after }: ObjectChange<JsonValue>): void {
  expect(before).toEqual(told.get(key) ?? null);
  expect(after).not.toEqual(before);
  if (after === null) told.delete(key);
  else told.set(key, after);
}
