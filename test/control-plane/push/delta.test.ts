import fc from 'fast-check';
import { expect, test } from 'vitest';
import { confirmation, deltaBetween, fullDelta } from '../../../control-plane/push/delta.ts';
import { Layer, Layers } from '../../../control-plane/registry/layer.ts';
import type { Scope } from '../../../control-plane/registry/scope.ts';
import type { ServerMessage } from '../../../mesh/push.ts';
import { type JwksResource, keyOf, type Resource } from '../../../mesh/resources.ts';

/** Few resources in two states each, so that most stay, change, go or move to another layer. */
const POOL: readonly JwksResource[] = ['a', 'b', 'c', 'd'].flatMap((name) =>
  [null, '{}'].map((jwks): JwksResource => ({ kind: 'Jwks', name, jwks })),
);

/** Each name in one of three layers or in none. */
const scopes = fc
  .array(fc.record({ layer: fc.constantFrom(0, 1, 2, null), state: fc.constantFrom(0, 1) }), {
    minLength: 4,
    maxLength: 4,
  })
  .map((places): Scope => {
    const layer = (wanted: number) =>
      new Layer(
        places.flatMap(({ layer: at, state }, index) => (at === wanted ? (POOL[2 * index + state] ?? []) : [])),
      );
    return { workloadClass: 'c', version: 'e.1.x', resources: new Layers(layer(0), layer(1), layer(2)) };
  });

const contentOf = ({ resources }: Scope) => new Map(Array.from(resources.values(), (one) => [keyOf(one), one]));

function applied(held: ReadonlyMap<string, Resource>, line: string): ReadonlyMap<string, Resource> {
  const message = JSON.parse(line) as ServerMessage;
  if (message.type !== 'delta') throw new Error('no delta');
  const result = new Map(message.full ? [] : held);
  for (const key of message.removes) result.delete(key);
  for (const one of message.upserts) result.set(keyOf(one), one);
  return result;
}

test('a delta makes the one scope of the other, and says nothing that is not new', () => {
  fc.assert(
    fc.property(scopes, scopes, (from, to) => {
      const delta = deltaBetween(from, to);
      expect(applied(contentOf(from), delta.line)).toEqual(contentOf(to));
      for (const key of delta.upserts) expect(from.resources.get(key)).not.toBe(to.resources.get(key));
      for (const key of delta.removes) expect(from.resources.has(key) && !to.resources.has(key)).toBe(true);
    }),
  );
});

test('a full delta makes it of anything; a confirmation changes nothing', () => {
  fc.assert(
    fc.property(scopes, scopes, (from, to) => {
      expect(applied(contentOf(from), fullDelta(to).line)).toEqual(contentOf(to));
      expect(applied(contentOf(to), confirmation(to).line)).toEqual(contentOf(to));
    }),
  );
});

test('what was refused is sent again although it is the same, as long as it is there', () => {
  fc.assert(
    fc.property(scopes, scopes, (from, to) => {
      const again = new Set(POOL.map(keyOf));
      const { upserts } = deltaBetween(from, to, again);
      expect(upserts.toSorted()).toEqual([...to.resources.keys()].sort());
    }),
  );
});
