import { expect, it } from 'vitest';
import { RateLimit } from '../../../control-plane/server/rate-limit.ts';

it('lets a burst through, then so many a second, each key by itself', () => {
  let now = 0;
  const limit = new RateLimit(3, 2, () => now);
  const take = (key: string, times: number) =>
    Array.from({ length: times }, () => limit.take(key)).filter(Boolean).length;
  expect(take('a', 5)).toBe(3);
  expect(take('b', 5)).toBe(3);
  now += 1_000;
  expect(take('a', 5)).toBe(2);
  now += 60_000;
  expect(take('a', 5)).toBe(3);
});
