import { describe, expect, test } from 'vitest';
import { PENDING_AFTER_MS, verdictOf } from '../../../../control-plane/kubernetes/leader/policy-verdict.ts';
import type { Enforcement } from '../../../../control-plane/push/enforcement.ts';

const counts = (wanted: number, inForce: number, rejected = 0, reason: string | null = null): Enforcement => ({
  wanted,
  inForce,
  rejected,
  reason,
});

describe('what an Event says of a policy', () => {
  test.each<readonly [string, string | null, Enforcement | null, number, string | null]>([
    ['refused at once, whatever sidecars have', 'spec.action is wrong', counts(2, 2), 0, 'PolicyRejected'],
    ['in force everywhere', null, counts(3, 3), 0, 'PolicyEnforced'],
    ['behind, but for a moment only', null, counts(3, 2), PENDING_AFTER_MS - 1, null],
    ['behind for long', null, counts(3, 2), PENDING_AFTER_MS, 'PolicyPending'],
    ['refused by a sidecar, at once', null, counts(3, 2, 1, 'too many rules'), 0, 'PolicyPending'],
    ['without a sidecar, but for a moment only', null, null, 0, null],
    ['without a sidecar', null, counts(0, 0), PENDING_AFTER_MS, 'PolicyUnused'],
  ])('%s', (_what, error, enforcement, sinceMs, reason) => {
    expect(verdictOf(error, enforcement, sinceMs)?.reason ?? null).toBe(reason);
  });

  test('a note fits into an Event, however long the error is', () => {
    expect(verdictOf('x'.repeat(5_000), null, 0)?.note).toHaveLength(1_000);
  });
});
