import { expect, it } from 'vitest';
import { Backoff } from '../../mesh/backoff.ts';

it('doubles up to the cap, of which jitter takes at most half, and starts over after a success', () => {
  const least = new Backoff({ initialMs: 100, maxMs: 1000, random: () => 0 });
  const most = new Backoff({ initialMs: 100, maxMs: 1000, random: () => 1 });
  expect(Array.from({ length: 6 }, () => least.next())).toEqual([50, 100, 200, 400, 500, 500]);
  expect(Array.from({ length: 6 }, () => most.next())).toEqual([100, 200, 400, 800, 1000, 1000]);
  most.reset();
  expect(most.next()).toBe(100);
});

it('stays at the cap however long an outage is', () => {
  const backoff = new Backoff({ initialMs: 100, maxMs: 15_000, random: () => 1 });
  for (let attempt = 0; attempt < 5000; attempt += 1) backoff.next();
  expect(backoff.next()).toBe(15_000);
});
