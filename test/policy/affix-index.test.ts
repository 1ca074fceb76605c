import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AffixIndex } from '../../policy/affix-index.ts';

/** Over two letters, so that prefixes of each other and forks at every place occur. */
const text = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 8 });

describe.each(['prefix', 'suffix'] as const)('an index by %s', (kind) => {
  const has = (of: string, affix: string): boolean => (kind === 'prefix' ? of.startsWith(affix) : of.endsWith(affix));

  test('finds what trying one after another finds, shortest first', () => {
    fc.assert(
      fc.property(fc.array(text, { maxLength: 30 }), fc.array(text, { maxLength: 10 }), (affixes, texts) => {
        const index = new AffixIndex<string>(kind);
        for (const affix of affixes) index.add(affix, affix);
        for (const one of texts) {
          const found: (readonly string[])[] = [];
          index.collect(one, found);
          const expected = affixes.filter((affix) => has(one, affix)).sort((a, b) => a.length - b.length);
          expect(found.flat()).toEqual(expected);
          expect(index.has(one)).toBe(expected.length > 0);
        }
      }),
      { seed: 5, numRuns: 2_000 },
    );
  });

  test('keeps apart what differs in any character', () => {
    const index = new AffixIndex<string>(kind);
    for (const affix of ['\u0100x', 'x\u0100', '\ud83d\ude00', '']) index.add(affix, affix);
    const found: (readonly string[])[] = [];
    index.collect('\ud83d\ude00', found);
    expect(found.flat()).toEqual(['', '\ud83d\ude00']);
  });
});
