import type { Enforcement } from '../../push/enforcement.ts';

/** What is to be said of a policy, in the words of an Event. */
export interface Verdict {
  readonly type: 'Normal' | 'Warning';
  /** Stable: `PolicyRejected`, `PolicyEnforced`, `PolicyUnused`, `PolicyPending`. */
  readonly reason: 'PolicyRejected' | 'PolicyEnforced' | 'PolicyUnused' | 'PolicyPending';
  readonly note: string;
}

/** Sidecars that come and go must not make a policy pending for a moment: only what lasts this long is told. Milliseconds. */
export const PENDING_AFTER_MS = 30_000;

/** API: `note` is at most 1 kB. */
const MAX_NOTE = 1_000;

/**
 * @param error why the object was refused; null: it is accepted
 * @param enforcement null: nobody holds it and nobody should
 * @param sinceMs how long the object has been as it is
 * @returns null where it is too early to say
 */
export function verdictOf(error: string | null, enforcement: Enforcement | null, sinceMs: number): Verdict | null {
  if (error !== null) return { type: 'Warning', reason: 'PolicyRejected', note: cut(`not accepted: ${error}`) };
  const { wanted, inForce, rejected, reason } = enforcement ?? { wanted: 0, inForce: 0, rejected: 0, reason: null };
  if (rejected > 0) {
    const note = `${rejected} of ${wanted} sidecars refused it, and keep what they had: ${reason ?? 'no reason was given'}`;
    return { type: 'Warning', reason: 'PolicyPending', note: cut(note) };
  }
  if (inForce < wanted) {
    if (sinceMs < PENDING_AFTER_MS) return null;
    const note = `in force at ${inForce} of ${wanted} sidecars; see postern status for those that are behind`;
    return { type: 'Warning', reason: 'PolicyPending', note };
  }
  if (wanted === 0) {
    if (sinceMs < PENDING_AFTER_MS) return null;
    return { type: 'Normal', reason: 'PolicyUnused', note: 'accepted; no connected sidecar is selected by it' };
  }
  return {
    type: 'Normal',
    reason: 'PolicyEnforced',
    note: `in force at ${wanted === 1 ? 'the one sidecar' : `all ${wanted} sidecars`} that it selects`,
  };
}

function cut(text: string): string {
  return text.length <= MAX_NOTE ? text : `${text.slice(0, MAX_NOTE - 1)}…`;
}
