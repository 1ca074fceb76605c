import { expect, test } from 'vitest';
import { FloodGuard } from '../../../proxy/protocol/flood-guard.ts';

test('as many hits as the limit pass at once, and the next is too many', () => {
  const guard = new FloodGuard(3, 1000);
  expect([guard.hit(0), guard.hit(0), guard.hit(0), guard.hit(0)]).toEqual([false, false, false, true]);
});

test('the limit in each interval passes for ever', () => {
  const guard = new FloodGuard(10, 1000);
  for (let i = 0; i < 10_000; i++) expect(guard.hit(i * 100)).toBe(false);
});

test('twice the limit in each interval is found out', () => {
  const guard = new FloodGuard(10, 1000);
  let over = 0;
  for (let i = 0; i < 100; i++) if (guard.hit(i * 50)) over++;
  expect(over).toBeGreaterThan(30);
});

test('a clock that steps back leaks nothing', () => {
  const guard = new FloodGuard(1, 1000);
  expect(guard.hit(5000)).toBe(false);
  expect(guard.hit(0)).toBe(true);
  expect(guard.hit(5500)).toBe(true);
  expect(guard.hit(6000)).toBe(false);
});
