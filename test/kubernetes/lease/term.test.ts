import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Term } from '../../../kubernetes/lease/term.ts';

let now = 0;
/** Time passes, and timers fire. */
const pass = (ms: number): void => {
  now += ms;
  vi.advanceTimersByTime(ms);
};

beforeEach(() => {
  now = 1_000;
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
});
afterEach(() => vi.useRealTimers());

test('ends when the deadline after the sending of the last renewal is over, not after its answer', () => {
  const term = new Term(1_000, 100, () => now);
  pass(60);
  // Sent 50 ms ago, answered now.
  term.renewed(1_010);
  expect(term.remainingMs).toBe(50);
  pass(49);
  expect(term.signal.aborted).toBe(false);
  pass(1);
  expect(term.signal.aborted).toBe(true);
});

test('of a process that stood still is over by the clock before its timers have run', () => {
  const term = new Term(1_000, 100, () => now);
  now += 100;
  expect(term.signal.aborted).toBe(false);
  expect(term.lasts).toBe(false);
  expect(term.signal.aborted).toBe(true);
});

test('that is over is not revived by a renewal that comes too late', () => {
  const term = new Term(1_000, 100, () => now);
  now += 150;
  term.renewed(1_140);
  expect(term.lasts).toBe(false);
});

test('is not shortened by an answer that overtakes a later one', () => {
  const term = new Term(1_000, 100, () => now);
  pass(50);
  term.renewed(1_040);
  term.renewed(1_020);
  expect(term.remainingMs).toBe(90);
});

test('ends at once, and only once, when it is ended', () => {
  const term = new Term(1_000, 100, () => now);
  term.end();
  term.end();
  expect(term.lasts).toBe(false);
  expect(vi.getTimerCount()).toBe(0);
});
