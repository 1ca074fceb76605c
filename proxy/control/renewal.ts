import type { Svid } from './svid.ts';

/** Never sooner than this part of the lifetime, however wrong this machine's clock makes the certificate look. */
const SOONEST = 0.1;

/** Longest pause between attempts while there is none: a pod waits for it, and its names may resolve late. */
const LONGEST_WITHOUT_MS = 5_000;

/** Part of the lifetime that is left by this machine's clock; all of it where that clock cannot be right. */
function usableMs({ notBefore, notAfter, receivedAt }: Svid): number {
  const lifetime = notAfter - notBefore;
  const left = notAfter - receivedAt;
  // The CA issues no certificate that has expired: a clock that says so is ahead. A clock that is behind promises more than the lifetime.
  return left > 0 && left < lifetime ? left : lifetime;
}

/**
 * How long after its arrival a certificate is renewed: a random point between 50 % and 60 % of what is left of it then, in milliseconds. For a
 * certificate that is not dated back that is the lifetime.
 */
export function renewalDelayMs(svid: Svid, random: number): number {
  const lifetime = svid.notAfter - svid.notBefore;
  return Math.max((0.5 + 0.1 * random) * usableMs(svid), SOONEST * lifetime);
}

/** For a renewal that was asked for: soon, but not all sidecars of the mesh in one moment. */
export function spreadDelayMs(svid: Svid, random: number): number {
  return random * Math.min(30_000, (svid.notAfter - svid.notBefore) / 4);
}

/** When the certificate stops to be a proof, by this machine's clock and the time of its arrival. */
export function expiresAt(svid: Svid): number {
  return svid.receivedAt + usableMs(svid);
}

/** Longest pause between attempts: short against the lifetime, so that an outage costs no more of it than it must. */
export function longestPauseMs(svid: Svid | null): number {
  return svid === null ? LONGEST_WITHOUT_MS : Math.min(60_000, Math.max(250, (svid.notAfter - svid.notBefore) / 20));
}
