import { EXIT, PosternError } from '../../mesh/errors.ts';
import { DEFAULTS } from '../config.ts';
import { BACKDATE_MS } from './generation.ts';

/** Lifetimes of leaves, seconds. */
export interface IssuingPolicy {
  readonly ttlSeconds: number;
  readonly minTtlSeconds: number;
  readonly maxTtlSeconds: number;
}

const LONGEST_TTL_SECONDS = 30 * 86_400;

/** @throws PosternError ERR_CA_CONFIG where the lifetimes are not in order. */
export function issuingPolicy(settings: Partial<IssuingPolicy> = {}): IssuingPolicy {
  const policy = { ...DEFAULTS.certificates, ...settings };
  const { minTtlSeconds, ttlSeconds, maxTtlSeconds } = policy;
  const ordered = 1 <= minTtlSeconds && minTtlSeconds <= ttlSeconds && ttlSeconds <= maxTtlSeconds;
  if (ordered && maxTtlSeconds <= LONGEST_TTL_SECONDS) return policy;
  const message =
    `certificate lifetimes must be in order: 1 s, minimum (${minTtlSeconds} s), default (${ttlSeconds} s), ` +
    `maximum (${maxTtlSeconds} s), 30 days`;
  throw new PosternError('ERR_CA_CONFIG', message, { exitCode: EXIT.config });
}

/** Milliseconds that a leaf lives when `wantedSeconds` are asked for. */
export function leafLifetime(policy: IssuingPolicy, wantedSeconds: number | undefined): number {
  const wanted = wantedSeconds ?? policy.ttlSeconds;
  return Math.min(Math.max(wanted, policy.minTtlSeconds), policy.maxTtlSeconds) * 1000;
}

/**
 * Milliseconds that a leaf begins before it is made: a tenth of the lifetime, at most a minute. Where certificates live for seconds, a minute more
 * would put half of the validity, and with it the time to renew, before the moment of issue.
 */
export const leafBackdate = (lifetimeMs: number): number =>
  Math.min(BACKDATE_MS, Math.ceil(lifetimeMs / 10_000) * 1000);
