import { parseKeySet } from '../../../policy/jwt/key-set.ts';
import { compileTokenRules, type TokenRules } from '../../../policy/tokens/token-rules.ts';
import type { JsonObject, PolicyWorkload } from '../../../policy/types.ts';
import { ISSUER, jwkOf, jwksText, signer } from '../jwt/forge.ts';

export const GOOD = signer('ES256', 'good');
export const OTHER = signer('ES256', 'other');
export const OTHER_ISSUER = 'https://other.example';
/** A token that `OTHER` signs. */
export const OTHER_CLAIMS = { iss: OTHER_ISSUER, sub: 'bob' };

export const ORDERS: PolicyWorkload = { namespace: 'shop', labels: { app: 'orders' } };

export const RULE: JsonObject = { issuer: ISSUER, jwks: jwksText(jwkOf(GOOD)) };
export const OTHER_RULE: JsonObject = { issuer: OTHER_ISSUER, jwks: jwksText(jwkOf(OTHER)) };

export function requestAuthentication(
  jwtRules: readonly JsonObject[],
  more: { readonly namespace?: string; readonly name?: string; readonly spec?: JsonObject } = {},
): JsonObject {
  const { namespace = 'shop', name = 'jwt', spec = {} } = more;
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'RequestAuthentication',
    metadata: { namespace, name },
    spec: { ...spec, jwtRules },
  };
}

/** Keys that are not inline are unknown. */
export function compiled(...objects: readonly JsonObject[]): TokenRules {
  return compileTokenRules(objects, ORDERS, { rootNamespace: 'istio-system' }, (source) => {
    const keys = source.kind === 'inline' ? parseKeySet(source.text) : null;
    return typeof keys === 'string' ? null : keys;
  });
}
