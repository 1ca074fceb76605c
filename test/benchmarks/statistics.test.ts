import { describe, expect, test } from 'vitest';
import { median, quantile, ratioWithinRounds, significant, spread } from '../../benchmarks/lib/statistics.ts';

describe('quantile', () => {
  test.each([
    { values: [7], q: 0.99, expected: 7 },
    { values: [1, 2], q: 0.5, expected: 1.5 },
    { values: [3, 1, 2], q: 0.5, expected: 2 },
    { values: [1, 2, 3, 4], q: 0, expected: 1 },
    { values: [1, 2, 3, 4], q: 1, expected: 4 },
    { values: [1, 2, 3, 4, 5], q: 0.25, expected: 2 },
    { values: Array.from({ length: 101 }, (_, index) => index), q: 0.99, expected: 99 },
    { values: [10, 9, 100], q: 0.5, expected: 10 }, // by number, not by text
  ])('of $values at $q is $expected', ({ values, q, expected }) => {
    expect(quantile(values, q)).toBeCloseTo(expected, 9);
  });

  test('of nothing is not a number', () => {
    expect(median([])).toBeNaN();
  });

  test('leaves its input as it was', () => {
    const values = [3, 1, 2];
    quantile(values, 0.5);
    expect(values).toEqual([3, 1, 2]);
  });
});

describe('ratioWithinRounds', () => {
  test('compares each round with itself, so a machine that slows down for both changes nothing', () => {
    expect(ratioWithinRounds([5, 50, 500], [10, 100, 1000])).toEqual({ median: 0.5, low: 0.5, high: 0.5 });
  });

  test('keeps the extremes of the rounds beside the median', () => {
    expect(ratioWithinRounds([1, 4, 3], [2, 2, 2])).toEqual({ median: 1.5, low: 0.5, high: 2 });
  });

  test.each([
    { numerators: [1], denominators: [1, 2] },
    { numerators: [], denominators: [] },
  ])('refuses rounds that do not pair up: $numerators / $denominators', ({ numerators, denominators }) => {
    expect(() => ratioWithinRounds(numerators, denominators)).toThrow(RangeError);
  });
});

test('spread is the median and the extremes', () => {
  expect(spread([4, 1, 2])).toEqual({ median: 2, low: 1, high: 4 });
});

test.each([
  [0.123456, 0.1235],
  [12.00001, 12],
  [98_765, 98_770],
  [Number.NaN, null],
  [Number.POSITIVE_INFINITY, null],
])('significant(%d) is %d', (value, expected) => {
  expect(significant(value)).toBe(expected);
});
