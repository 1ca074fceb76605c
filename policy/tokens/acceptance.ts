import { audienceFault, issuerFault, timeFault } from '../jwt/claims.ts';
import { FAULTS, type TokenFault } from '../jwt/faults.ts';
import type { KeySet } from '../jwt/key-set.ts';
import type { JsonObject } from '../types.ts';
import type { TokenHead } from './head.ts';
import { type FoundToken, findTokens } from './locations.ts';
import type { TokenRule, TokenRules } from './token-rules.ts';

/** What a token says, where it could be read. */
export interface ReadToken {
  readonly claims: JsonObject;
  /** The payload's segment; empty where no rule asks for it. */
  readonly payload: string;
}

/** Reads tokens and verifies signatures; remembers what it has verified. */
export interface TokenVerifier {
  read(text: string): ReadToken | TokenFault;
  /** Of a token that `read` has read. */
  signatureFault(text: string, keys: KeySet): TokenFault | null;
}

export type TokenVerdict =
  | { readonly kind: 'no-token' }
  | {
      readonly kind: 'accepted';
      readonly rule: TokenRule;
      readonly token: ReadToken;
      readonly tokens: readonly FoundToken[];
    }
  | { readonly kind: 'refused'; readonly fault: TokenFault };

/** Tokens at one rule's locations; each costs a verification. */
const MAX_TOKENS = 8;
const NO_TOKEN: TokenVerdict = { kind: 'no-token' };

/**
 * Whether a request's tokens satisfy the rules: there is none where any rule looks, or those of one rule are all valid by that rule; then the
 * first such rule counts. A token that no rule accepts refuses the request, whatever else it carries.
 *
 * @param now Unix time, milliseconds
 */
export function judgeTokens(rules: TokenRules, head: TokenHead, verifier: TokenVerifier, now: number): TokenVerdict {
  const found: (readonly FoundToken[] | undefined)[] = [];
  let refused: TokenFault | null = null;
  for (const rule of rules.rules) {
    const tokens = found[rule.place] ?? findTokens(head, rules.places[rule.place] ?? rule.locations);
    found[rule.place] = tokens;
    const judged = tokens.length === 0 ? null : judgeByRule(rule, tokens, verifier, now);
    if (judged === null) continue;
    if (typeof judged !== 'string') return { kind: 'accepted', rule, token: judged, tokens };
    // That a token is another rule's says less than what is wrong with it by its own.
    if (refused === null || refused === FAULTS.unknownIssuer) refused = judged;
  }
  return refused === null ? NO_TOKEN : { kind: 'refused', fault: refused };
}

/** The first of the tokens where all are valid: an application behind might take any of them for the one that was verified. */
function judgeByRule(
  rule: TokenRule,
  tokens: readonly FoundToken[],
  verifier: TokenVerifier,
  now: number,
): ReadToken | TokenFault {
  if (tokens.length > MAX_TOKENS) return FAULTS.multipleTokens;
  let first: ReadToken | null = null;
  for (const { text } of tokens) {
    const token = verifier.read(text);
    if (typeof token === 'string') return token;
    const fault = faultByRule(rule, token.claims, now) ?? keysFault(rule, text, verifier);
    if (fault !== null) return fault;
    first ??= token;
  }
  return first ?? FAULTS.badFormat;
}

/** In Envoy's order: what costs least, and says most, first. */
function faultByRule(rule: TokenRule, claims: JsonObject, now: number): TokenFault | null {
  return issuerFault(claims, rule.issuer) ?? timeFault(claims, now) ?? audienceFault(claims, rule.audiences);
}

function keysFault({ keys, keySet }: TokenRule, text: string, verifier: TokenVerifier): TokenFault | null {
  if (keySet !== null) return verifier.signatureFault(text, keySet);
  return keys.kind === 'inline' ? FAULTS.noValidKeys : FAULTS.keysUnavailable;
}

/** What HTTP answers. */
export function statusOf(fault: TokenFault): 401 | 403 {
  return fault === FAULTS.audience ? 403 : 401;
}
