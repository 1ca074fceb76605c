import type { StoredAuthority } from '../../ca/authority-contents.ts';
import { isoTime } from '../../ca/authority-steps.ts';

/**
 * Whether a replica may go over from the CA that it holds to the one that it has read. The leader is not believed blindly: a Secret that was restored
 * from an old backup, or put there by a control plane of another life, would take roots away from under certificates in use.
 *
 * NEVER is a root given up while a leaf of it may be valid. `leavesEnd`: end of the last leaf that the issuing root of `held` can have, Unix time in ms;
 * `slackMs`: how much later than its last leaf an old root is dropped, which is there for clocks that differ.
 *
 * @returns null where it may; else why not, as the middle of a sentence about the new CA.
 */
export function refusalOf(
  held: StoredAuthority,
  next: StoredAuthority,
  { now, leavesEnd, slackMs }: { readonly now: number; readonly leavesEnd: number; readonly slackMs: number },
): string | null {
  const kept = new Set(next.generations.map(({ root }) => root.certificate.fingerprint));
  const missing = held.generations.flatMap(({ id, root }, index) => {
    if (kept.has(root.certificate.fingerprint)) return [];
    const end = Math.min(leavesEndOf(held, index, { leavesEnd, slackMs }), root.certificate.notAfter);
    return now > end ? [] : [`root ${id}, of which certificates may be valid until ${isoTime(end)}`];
  });
  return missing.length === 0 ? null : `lacks ${missing.join(', and ')}`;
}

function leavesEndOf(
  { state }: StoredAuthority,
  index: number,
  { leavesEnd, slackMs }: { readonly leavesEnd: number; readonly slackMs: number },
): number {
  if (index === 0) return leavesEnd;
  // The second root of a rotation that was only begun has issued nothing; an old one says itself when it is over.
  return state.rotation === 'begun'
    ? Number.NEGATIVE_INFINITY
    : (state.generations[index]?.leavesExpireBy ?? 0) - slackMs;
}

/** Whether two readings hold the same roots in the same order. */
export function sameRoots(a: StoredAuthority, b: StoredAuthority): boolean {
  const of = ({ generations }: StoredAuthority): string =>
    generations.map(({ root }) => root.certificate.fingerprint).join();
  return of(a) === of(b);
}
