import { describe, expect, test } from 'vitest';
import {
  BASE_EJECTION_MS,
  CONSECUTIVE_FAILURES,
  MAX_EJECTION_MS,
  OutlierHistory,
} from '../../../proxy/protocol/outlier.ts';

/** Whether the last of these outcomes (`x`: failed) was enough. */
function enough(outcomes: string): boolean {
  const history = new OutlierHistory();
  let last = false;
  for (const outcome of outcomes) {
    last = false;
    if (outcome === 'x') last = history.failed();
    else history.succeeded();
  }
  return last;
}

describe('failures in a row', () => {
  test.each([
    ['xxxx', false],
    ['xxxxx', true],
    ['xxxx.x', false],
    ['xxxx.xxxxx', true],
    ['.xxxxx', true],
    // It may not have been possible to eject it: every further failure says so again.
    ['xxxxxx', true],
  ])('%s: ejected: %s', (outcomes, expected) => {
    expect(enough(outcomes)).toBe(expected);
  });

  test('are counted anew after an ejection', () => {
    const history = new OutlierHistory();
    for (let i = 0; i < CONSECUTIVE_FAILURES; i++) history.failed();
    history.eject(0);
    expect(history.failed()).toBe(false);
  });
});

describe('how long', () => {
  /** Ejected again and again, each time `pauseMs` after it came back: how long each time. */
  function lengths(times: number, pauseMs: number): readonly number[] {
    const history = new OutlierHistory();
    let now = 0;
    return Array.from({ length: times }, () => {
      history.eject(now);
      const length = history.ejectedUntil - now;
      now = history.ejectedUntil + pauseMs;
      return length;
    });
  }

  test('grows by 30 s each time, up to 300 s', () => {
    expect(lengths(4, 0)).toEqual([1, 2, 3, 4].map((n) => n * BASE_EJECTION_MS));
    expect(lengths(12, 0).slice(9)).toEqual([MAX_EJECTION_MS, MAX_EJECTION_MS, MAX_EJECTION_MS]);
  });

  test('falls by one for every 30 s without', () => {
    expect(lengths(4, BASE_EJECTION_MS)).toEqual(Array(4).fill(BASE_EJECTION_MS));
    expect(lengths(3, BASE_EJECTION_MS - 1)).toEqual([1, 2, 3].map((n) => n * BASE_EJECTION_MS));
  });
});
