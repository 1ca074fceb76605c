import { field, isList } from '../json.ts';
import type { JsonObject } from '../types.ts';
import { FAULTS, type TokenFault } from './faults.ts';

/** How far the clocks of an issuer and of a sidecar may differ, in seconds; Envoy's. */
export const CLOCK_SKEW_SECONDS = 60;

/** @param now Unix time, milliseconds. A token without `exp` does not expire, as in Envoy. */
export function timeFault(claims: JsonObject, now: number): TokenFault | null {
  const seconds = Math.floor(now / 1000);
  const notBefore = field(claims, 'nbf');
  if (typeof notBefore === 'number' && seconds + CLOCK_SKEW_SECONDS < notBefore) return FAULTS.notYetValid;
  const expiry = field(claims, 'exp');
  if (typeof expiry === 'number' && seconds > expiry + CLOCK_SKEW_SECONDS) return FAULTS.expired;
  return null;
}

/** @param issuer null: any. Compared exactly (RFC 7519, 4.1.1: a case-sensitive string). */
export function issuerFault(claims: JsonObject, issuer: string | null): TokenFault | null {
  return issuer === null || field(claims, 'iss') === issuer ? null : FAULTS.unknownIssuer;
}

/** @param audiences empty: any, also none. Compared exactly. */
export function audienceFault(claims: JsonObject, audiences: readonly string[]): TokenFault | null {
  if (audiences.length === 0) return null;
  const claimed = field(claims, 'aud');
  if (typeof claimed === 'string') return audiences.includes(claimed) ? null : FAULTS.audience;
  if (!isList(claimed)) return FAULTS.audience;
  return claimed.some((one) => typeof one === 'string' && audiences.includes(one)) ? null : FAULTS.audience;
}

/** `iss/sub`, Istio's request.auth.principal; null where the token has not both. */
export function principalOf(claims: JsonObject): string | null {
  const issuer = field(claims, 'iss');
  const subject = field(claims, 'sub');
  const both = typeof issuer === 'string' && typeof subject === 'string' && issuer !== '' && subject !== '';
  return both ? `${issuer}/${subject}` : null;
}
