import { describe, expect, it } from 'vitest';
import { expiresAt, longestPauseMs, renewalDelayMs, spreadDelayMs } from '../../../proxy/control/renewal.ts';
import type { Svid } from '../../../proxy/control/svid.ts';

const NOW = Date.UTC(2026, 0, 1);
const HOUR = 3_600_000;

const svid = (notBefore: number, notAfter: number): Svid => ({
  spiffeId: 'spiffe://test.mesh/ns/shop/sa/orders',
  chain: '',
  privateKey: '',
  serial: '1',
  notBefore: NOW + notBefore,
  notAfter: NOW + notAfter,
  receivedAt: NOW,
});

describe('when a certificate is renewed', () => {
  it.each([
    ['at half of its lifetime at the earliest', svid(0, HOUR), 0, 0.5 * HOUR],
    ['at 60 % at the latest', svid(0, HOUR), 1, 0.6 * HOUR],
    ['in what is left of one that is dated back by more than it lives', svid(-60_000, 10_000), 0, 7000],
    ['by its lifetime where this clock is behind', svid(HOUR, 2 * HOUR), 0, 0.5 * HOUR],
    ['by its lifetime where this clock says that it has expired', svid(-2 * HOUR, -HOUR), 0, 0.5 * HOUR],
    ['never at once, where this clock says that it is about to expire', svid(-HOUR, 1000), 0, 0.1 * (HOUR + 1000)],
  ])('%s', (_, certificate, random, expected) => {
    expect(renewalDelayMs(certificate, random)).toBeCloseTo(expected);
  });

  it('spreads renewals that were asked for over a quarter of the lifetime, 30 s at most', () => {
    expect(spreadDelayMs(svid(0, 10_000), 1)).toBe(2500);
    expect(spreadDelayMs(svid(0, HOUR), 1)).toBe(30_000);
    expect(spreadDelayMs(svid(0, HOUR), 0)).toBe(0);
  });

  it('counts the expiry from the arrival where the clocks disagree', () => {
    expect(expiresAt(svid(0, HOUR))).toBe(NOW + HOUR);
    expect(expiresAt(svid(HOUR, 2 * HOUR))).toBe(NOW + HOUR);
  });

  it('pauses between failed attempts for a small part of the lifetime', () => {
    expect(longestPauseMs(null)).toBe(5_000);
    expect(longestPauseMs(svid(0, 10_000))).toBe(500);
    expect(longestPauseMs(svid(0, 24 * HOUR))).toBe(60_000);
  });
});
