import fc from 'fast-check';
import { expect, test } from 'vitest';
import { diff, jsonPatch } from '../../../kubernetes/injection/json-patch.ts';
import type { JsonValue } from '../../../policy/types.ts';
import { applyPatch } from './apply-patch.ts';

const name = fc.constantFrom('a', 'b', 'c', 'd');
const json = fc.letrec<{ value: JsonValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, depthSize: 'small' },
    fc.constantFrom<JsonValue>(null, true, 0, 1, '', 'x', 'a/b~c'),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.constantFrom('a', 'b', 'a/b', 'c~d', '', '__proto__'), tie('value'), { maxKeys: 4 }),
    // Lists as pods have them: maps with names.
    fc.array(fc.record({ name, value: tie('value') }), { maxLength: 5 }),
  ),
})).value;

test('the patch between two values makes the one of the other', () => {
  fc.assert(
    fc.property(json, json, (before, after) => {
      const patch = jsonPatch(diff(before, after));
      expect(applyPatch(before, patch)).toEqual(after);
      expect(jsonPatch(diff(before, after))).toEqual(patch);
    }),
    { numRuns: 2_000 },
  );
});

test('equal values have no patch, whatever the order of their keys', () => {
  expect(diff({ a: 1, b: [{ c: null }] }, { b: [{ c: null }], a: 1 })).toEqual([]);
});

test('what is put before named items moves none of them', () => {
  const before = { list: [{ name: 'a', on: false }, { name: 'b' }] };
  const after = { list: [{ name: 'new' }, { name: 'a', on: true }, { name: 'b' }] };
  expect(jsonPatch(diff(before, after))).toEqual([
    { op: 'add', path: '/list/0', value: { name: 'new' } },
    { op: 'replace', path: '/list/1/on', value: true },
  ]);
});

test('slashes and tildes in keys are escaped', () => {
  expect(jsonPatch(diff({}, { 'postern.dev/a~b': 1 }))).toEqual([{ op: 'add', path: '/postern.dev~1a~0b', value: 1 }]);
});
