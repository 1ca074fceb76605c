import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DEFAULT_RTT_MS, PeakEwma } from '../../../proxy/protocol/peak-ewma.ts';

const DECAY_MS = 10_000;

function ewmaOf(...observations: readonly (readonly [at: number, rttMs: number])[]): PeakEwma {
  const ewma = new PeakEwma(0);
  for (const [at, rtt] of observations) ewma.observe(rtt, at);
  return ewma;
}

describe('peak EWMA', () => {
  test('begins with the default', () => {
    expect(ewmaOf().estimate(0)).toBe(DEFAULT_RTT_MS);
  });

  test('believes a peak at once', () => {
    expect(ewmaOf([0, 20], [5, 400]).estimate(5)).toBe(400);
  });

  test('believes what is lower by as much as the past has faded', () => {
    const estimate = ewmaOf([0, 400], [DECAY_MS, 100]).estimate(DECAY_MS);
    expect(estimate).toBeCloseTo(400 / Math.E + 100 * (1 - 1 / Math.E), 6);
  });

  test('is a third of itself, and then a ninth, while nothing is observed', () => {
    const ewma = ewmaOf([0, 90]);
    expect(ewma.estimate(DECAY_MS)).toBeCloseTo(90 / Math.E, 6);
    expect(ewma.estimate(2 * DECAY_MS)).toBeCloseTo(90 / Math.E ** 2, 6);
  });

  test('to ask changes nothing', () => {
    const ewma = ewmaOf([0, 90]);
    ewma.estimate(5_000);
    expect(ewma.estimate(0)).toBe(90);
  });

  test('a clock that stands still or goes back does no harm', () => {
    expect(ewmaOf([1_000, 90], [500, 40]).estimate(500)).toBe(90);
  });

  const observation = fc.tuple(fc.nat(20_000), fc.double({ min: 0, max: 60_000, noNaN: true }));

  test('lies between nothing and the greatest that was ever observed', () => {
    fc.assert(
      fc.property(fc.array(observation, { maxLength: 30 }), (steps) => {
        const ewma = new PeakEwma(0);
        let now = 0;
        let greatest = DEFAULT_RTT_MS;
        for (const [wait, rtt] of steps) {
          now += wait;
          ewma.observe(rtt, now);
          greatest = Math.max(greatest, rtt);
          const estimate = ewma.estimate(now);
          if (!(estimate >= 0 && estimate <= greatest)) return false;
        }
        return true;
      }),
    );
  });

  test('never rises by waiting', () => {
    fc.assert(
      fc.property(observation, fc.nat(100_000), fc.nat(100_000), ([at, rtt], wait, more) => {
        const ewma = ewmaOf([at, rtt]);
        expect(ewma.estimate(at + wait + more)).toBeLessThanOrEqual(ewma.estimate(at + wait));
      }),
    );
  });
});
