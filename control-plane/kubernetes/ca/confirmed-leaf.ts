import { isoTime } from '../../ca/authority-steps.ts';
import { type IssuedLeaf, type IssuingFacts, issueLeaf, type LeafSubject } from '../../ca/issue-leaf.ts';

/** What a replica signs with, and how far the API has confirmed it. */
export interface ConfirmedIssuer extends Omit<IssuingFacts, 'latestEnd'> {
  /** Unix time, milliseconds, at which the first certificate of `chain` or the root ends; `endReason` is said after that. */
  readonly notAfter: number;
  /** Unix time, milliseconds, at which the API last confirmed which root issues. */
  readonly confirmedAt: number;
  /** The object that says so, for messages. */
  readonly where: string;
  /** Longest lifetime of a leaf that the replicas have agreed on, seconds; null: there is no agreement yet. */
  readonly agreedTtlSeconds: number | null;
}

/**
 * Signs one leaf.
 *
 * ALWAYS: leaf.notAfter ≤ confirmation + the longest lifetime that is agreed on. So an old root may go at its retirement + that lifetime + slack, with
 * no write for each leaf, whatever a replica does that is cut off from the API.
 *
 * @throws PosternError ERR_CA_EXPIRED where none could be valid now
 */
export function issueConfirmed(
  from: ConfirmedIssuer,
  subject: LeafSubject,
  ttlSeconds: number | undefined,
): IssuedLeaf {
  const { notAfter, confirmedAt, policy } = from;
  const maxTtlSeconds = Math.min(policy.maxTtlSeconds, from.agreedTtlSeconds ?? Number.POSITIVE_INFINITY);
  const confirmedEnd = confirmedAt + maxTtlSeconds * 1000;
  const unconfirmed = `the API server has not confirmed ${from.where} since ${isoTime(confirmedAt)}: see the log of this control plane`;
  const facts: IssuingFacts = {
    ...from,
    latestEnd: Math.min(notAfter, confirmedEnd),
    endReason: notAfter <= confirmedEnd ? from.endReason : unconfirmed,
    policy: { ...policy, maxTtlSeconds },
  };
  return issueLeaf(facts, subject, ttlSeconds);
}
