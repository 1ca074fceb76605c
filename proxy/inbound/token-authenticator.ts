import { audienceFault, issuerFault, principalOf } from '../../policy/jwt/claims.ts';
import { FAULTS, type TokenFault } from '../../policy/jwt/faults.ts';
import type { VerificationKey } from '../../policy/jwt/jwk.ts';
import { type KeySet, parseKeySet } from '../../policy/jwt/key-set.ts';
import { judgeTokens, statusOf, type TokenVerdict } from '../../policy/tokens/acceptance.ts';
import { isPreflight } from '../../policy/tokens/head.ts';
import type { JwksSource } from '../../policy/tokens/jwks-source.ts';
import { removeTokens } from '../../policy/tokens/locations.ts';
import { removeHeaders, setOutputs } from '../../policy/tokens/outputs.ts';
import { compileTokenRules, type TokenRules } from '../../policy/tokens/token-rules.ts';
import type { JsonObject } from '../../policy/types.ts';
import type { DataPlane } from '../connection/data-plane.ts';
import { ownWorkload } from '../connection/own-workload.ts';
import type { Fields, RequestHead } from '../protocol/http-head.ts';
import { challengeFor } from './token-challenge.ts';
import { VerifiedTokens } from './verified-tokens.ts';

export type TokenOutcome =
  /** No RequestAuthentication selects the workload. */
  | { readonly kind: 'no-rules' }
  /** None where a rule looks, or a CORS preflight: whether that will do is for policy to say. */
  | { readonly kind: 'no-token' }
  | {
      readonly kind: 'verified';
      /** The token's payload, exactly. Shared: NEVER to be changed. */
      readonly claims: JsonObject;
      /** `iss/sub`; null where the token has not both. */
      readonly principal: string | null;
      /** Whose signature that is. */
      readonly signer: VerificationKey | null;
    }
  | {
      readonly kind: 'refused';
      readonly status: 401 | 403;
      /** Envoy's text: the body of the answer. */
      readonly reason: TokenFault;
      /** Value of `WWW-Authenticate`. */
      readonly challenge: string;
      /** Envoy's response_code_details: `jwt_authn_access_denied{Jwt_is_expired}`. */
      readonly detail: string;
      /** It had to be verified to find that out: each costs 65 µs, whoever made it nothing. */
      readonly forged: boolean;
    };

export type VerifiedToken = Extract<TokenOutcome, { kind: 'verified' }>;

const NO_RULES: TokenOutcome = { kind: 'no-rules' };
const NO_TOKEN: TokenOutcome = { kind: 'no-token' };

/** Verifies the users' tokens that requests to this workload carry, by the RequestAuthentications that select it. One a worker; synchronous. */
export class TokenAuthenticator {
  readonly #plane: Pick<DataPlane, 'view' | 'config' | 'unixNow' | 'metrics' | 'log'>;
  readonly #verified: VerifiedTokens;
  #rules: TokenRules | null = null;
  /** By the text of the set: an unchanged one keeps its keys. */
  #keySets = new Map<string, KeySet | null>();
  /** Versions of the view that `#rules` were made of. */
  #tokensVersion = -1;
  #meshVersion = -1;

  constructor(
    plane: Pick<DataPlane, 'view' | 'config' | 'unixNow' | 'metrics' | 'log'>,
    verified: VerifiedTokens = new VerifiedTokens(),
  ) {
    this.#plane = plane;
    this.#verified = verified;
  }

  /** After each delta; costs nothing where it did not concern tokens. */
  refresh(): void {
    const { view } = this.#plane;
    const { tokens, meshConfig } = view.versions;
    if (view.meshConfig === null || (tokens === this.#tokensVersion && meshConfig === this.#meshVersion)) return;
    this.#tokensVersion = tokens;
    this.#meshVersion = meshConfig;
    // Policies have been validated when they were taken into the view; their values are JSON.
    const objects = view
      .policies()
      .flatMap(({ kind, object }) => (kind === 'RequestAuthentication' ? [object as JsonObject] : []));
    const keySets = new Map<string, KeySet | null>();
    const rules = compileTokenRules(objects, ownWorkload(this.#plane), view.meshConfig, (source) =>
      this.#keySetOf(source, keySets),
    );
    this.#keySets = keySets;
    this.#rules = rules.rules.length === 0 ? null : rules;
    this.#verified.clear(rules.asksPayload);
  }

  /**
   * Verifies a request's tokens and edits its head: headers that only rules may set are removed whatever the outcome; of a verified token what
   * the rule says is passed on, and the token itself is removed where it is not forwarded.
   */
  authenticate(head: RequestHead): TokenOutcome {
    const rules = this.#rules;
    if (rules === null) return NO_RULES;
    this.removeOutputs(head);
    if (isPreflight(head)) return NO_TOKEN;
    const { forgeries } = this.#verified;
    const verdict = judgeTokens(rules, head, this.#verified, this.#plane.unixNow());
    const outcome = this.#outcomeOf(head, verdict, this.#verified.forgeries > forgeries);
    this.#verified.release();
    return outcome;
  }

  #outcomeOf(head: RequestHead, verdict: TokenVerdict, forged: boolean): TokenOutcome {
    switch (verdict.kind) {
      case 'no-token':
        return NO_TOKEN;
      case 'accepted':
        return accept(head, verdict, this.#verified);
      case 'refused':
        return this.#refuse(head, verdict.fault, forged);
    }
  }

  /**
   * What has become of a token that was verified for a request which is still under way, after the rules or their keys changed. It is `verified` while
   * some rule is for its issuer and audience and has the key that signed it. That it has expired meanwhile is no reason; that its key was taken out is,
   * even then: whoever has a stolen key dates his tokens as he likes.
   */
  reconsider(head: RequestHead, token: VerifiedToken): TokenOutcome {
    const { claims, signer } = token;
    if (this.#rules === null) return NO_RULES;
    let fault: TokenFault = FAULTS.unknownIssuer;
    for (const { issuer, audiences, keySet } of this.#rules.rules) {
      if (issuerFault(claims, issuer) !== null) continue;
      fault = FAULTS.audience;
      if (audienceFault(claims, audiences) !== null) continue;
      if (signer !== null && keySet?.holds(signer) === true) return token;
      fault = FAULTS.noMatchingKey;
    }
    return this.#refuse(head, fault, false);
  }

  /** What only rules may set, of a head or of trailers. */
  removeOutputs(fields: Pick<Fields, 'removeWhere'>): void {
    const outputs = this.#rules?.outputHeaders;
    if (outputs !== undefined && outputs.size > 0) removeHeaders(fields, outputs);
  }

  #refuse(head: RequestHead, reason: TokenFault, forged: boolean): TokenOutcome {
    this.#plane.metrics.tokenRefused(reason);
    return {
      kind: 'refused',
      status: statusOf(reason),
      reason,
      challenge: challengeFor(head),
      detail: `jwt_authn_access_denied{${reason.replaceAll(' ', '_')}}`,
      forged,
    };
  }

  #keySetOf(source: JwksSource, made: Map<string, KeySet | null>): KeySet | null {
    const text = source.kind === 'inline' ? source.text : (this.#plane.view.jwks(source.name)?.jwks ?? null);
    if (text === null) return null;
    const known = made.get(text) ?? this.#keySets.get(text) ?? this.#parseKeySet(text, source);
    made.set(text, known);
    return known;
  }

  #parseKeySet(text: string, source: JwksSource): KeySet | null {
    const keySet = parseKeySet(text);
    const fields = { source: source.kind === 'inline' ? 'inline' : source.name };
    if (typeof keySet === 'string') {
      this.#plane.log('warn', `a JWK Set ${keySet}: every token of its issuer is refused`, fields);
      return null;
    }
    if (keySet.ignored.length > 0) {
      this.#plane.log('warn', 'keys of a JWK Set are of no use', { ...fields, ignored: keySet.ignored.slice(0, 10) });
    }
    return keySet;
  }
}

function accept(
  head: RequestHead,
  { rule, token, tokens }: Extract<TokenVerdict, { kind: 'accepted' }>,
  verified: VerifiedTokens,
): VerifiedToken {
  const { claims } = token;
  const signer = verified.signerOf(tokens[0]?.text ?? '');
  if (!rule.forward) removeTokens(head, tokens);
  setOutputs(head, rule.outputs, claims, token.payload);
  return {
    kind: 'verified',
    claims,
    principal: principalOf(claims),
    signer,
  };
}
