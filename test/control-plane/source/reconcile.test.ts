import { describe, expect, it } from 'vitest';
import { type FileContent, reconcile } from '../../../control-plane/source/reconcile.ts';
import { manifestsOf } from '../registry/support.ts';

/** Objects by one letter each. */
const content = (letters: string): FileContent =>
  manifestsOf(
    [...letters]
      .map(
        (name) =>
          `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: ${name}, namespace: shop }\nspec: {}\n`,
      )
      .join('---\n'),
  );
const files = (spec: { readonly [file: string]: string | null }) =>
  new Map(Object.entries(spec).map(([file, letters]) => [file, letters === null ? null : content(letters)]));

const inForce = (spec: { readonly [file: string]: string }) =>
  new Map(Object.entries(spec).map(([file, letters]) => [file, content(letters)]));

type Row = readonly [
  what: string,
  before: { readonly [file: string]: string },
  changes: { readonly [file: string]: string | null },
  after: { readonly [file: string]: string },
  refused: readonly string[],
];
const rows: readonly Row[] = [
  ['takes new files', {}, { a: 'x', b: 'y' }, { a: 'x', b: 'y' }, []],
  ['refuses the later of two new files with one object, whole', {}, { a: 'x', b: 'xy' }, { a: 'x' }, ['b']],
  ['leaves an object with the file that has it', { b: 'x' }, { a: 'xy' }, { b: 'x' }, ['a']],
  ['keeps the last good content of a file that is refused', { a: 'x', b: 'y' }, { b: 'xz' }, { a: 'x', b: 'y' }, ['b']],
  [
    'moves an object between files that change together',
    { a: 'xy', b: 'z' },
    { a: 'y', b: 'xz' },
    { a: 'y', b: 'xz' },
    [],
  ],
  ['swaps objects between files that change together', { a: 'x', b: 'y' }, { a: 'y', b: 'x' }, { a: 'y', b: 'x' }, []],
  ['follows a renamed file', { a: 'x' }, { a: null, b: 'x' }, { b: 'x' }, []],
  [
    'leaves an object with the file that had it where both change',
    { a: 'y', b: 'x' },
    { a: 'xy', b: 'xz' },
    { a: 'y', b: 'xz' },
    ['a'],
  ],
  ['removes a file', { a: 'x', b: 'y' }, { a: null }, { b: 'y' }, []],
  [
    'falls back where the file that was to take an object over is refused',
    { a: 'x', b: 'y', c: 'z' },
    { a: '', b: 'xyz' },
    { a: '', b: 'y', c: 'z' },
    ['b'],
  ],
  [
    'undoes a takeover whose giver fell back',
    { a: 'x', b: 'y', c: 'z' },
    { a: 'z', b: 'xy' },
    { a: 'x', b: 'y', c: 'z' },
    ['a', 'b'],
  ],
];

describe('reconcile', () => {
  it.each(rows)('%s', (_what, before, changes, after, refused) => {
    const result = reconcile(inForce(before), files(changes));
    const found = Object.fromEntries(
      [...result.accepted].map(([file, manifests]) => [file, manifests.map(({ name }) => name).join('')]),
    );
    expect(found).toEqual(after);
    expect([...result.refused.keys()].sort()).toEqual(refused);
  });

  it('says which object stands where, and what becomes of the file', () => {
    const { refused } = reconcile(inForce({ b: 'x' }), files({ a: 'yx' }));
    expect(refused.get('a')).toMatchObject({
      severity: 'error',
      resource: 'AuthorizationPolicy shop/x',
      message: expect.stringMatching(
        /^the same object stands already in .*:1: remove one of the two; until then this file/,
      ),
    });
  });

  it('takes one MeshConfig, whatever it is called', () => {
    const mesh = (name: string): FileContent =>
      manifestsOf(`apiVersion: postern.dev/v1\nkind: MeshConfig\nmetadata: { name: ${name} }\nspec: {}\n`);
    const { refused } = reconcile(new Map([['b', mesh('old')]]), new Map([['a', mesh('new')]]));
    expect([...refused.keys()]).toEqual(['a']);
  });
});
