import { expect, test } from 'vitest';
import { aligned, remaining, Terminal } from '../../demo/terminal.ts';

test('columns stand under each other and lines end with their last word', () => {
  expect(
    aligned([
      ['a', 'long cell', 'x'],
      ['bbb', 'c'],
    ]),
  ).toEqual(['a    long cell  x', 'bbb  c']);
});

test.each([
  [3_540_000, '59 min'],
  [42_000, '42 s'],
  [-5000, '-5 s'],
])('%i ms from now is shown as %s', (ms, text) => {
  expect(remaining(new Date(1_000_000 + ms), new Date(1_000_000))).toBe(text);
});

test('what did not hold is remembered, and nothing is coloured where there is no terminal', () => {
  let written = '';
  const out = new Terminal({ write: (text) => (written += text), isTTY: false });
  out.check(true, 'sky is up');
  out.check(false, 'pigs fly');
  expect([out.passed, out.failed]).toEqual([1, ['pigs fly']]);
  expect(written).toBe('  ✓ sky is up\n  ✗ pigs fly\n');
});
