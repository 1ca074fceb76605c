import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { stringify } from 'yaml';
import { NAMESPACE } from './workloads.ts';

export const ISSUER = 'https://idp.shop.example';
const KEY_ID = 'demo';
const LIFETIME_SECONDS = 3600;

/** Stands for the identity provider of the shop's users: a key that lives as long as the demo, and tokens by it. */
export class IdentityProvider {
  readonly #publicKey: KeyObject;
  readonly #privateKey: KeyObject;

  constructor() {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    this.#publicKey = publicKey;
    this.#privateKey = privateKey;
  }

  /** A token (RFC 7519, ES256) for a user of the shop. */
  token(user: string): string {
    const issuedAt = Math.floor(Date.now() / 1000);
    const header = { alg: 'ES256', kid: KEY_ID, typ: 'JWT' };
    const claims = { iss: ISSUER, sub: user, aud: ['payments'], iat: issuedAt, exp: issuedAt + LIFETIME_SECONDS };
    const signed = [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
    const signature = sign('sha256', Buffer.from(signed), { key: this.#privateKey, dsaEncoding: 'ieee-p1363' });
    return `${signed}.${signature.toString('base64url')}`;
  }

  /** The RequestAuthentication by which payments knows this provider. */
  manifest(): string {
    const jwk = { ...this.#publicKey.export({ format: 'jwk' }), kid: KEY_ID, alg: 'ES256', use: 'sig' };
    const rule = { issuer: ISSUER, audiences: ['payments'], jwks: JSON.stringify({ keys: [jwk] }) };
    const object = {
      apiVersion: 'security.istio.io/v1',
      kind: 'RequestAuthentication',
      metadata: { name: 'payments-users', namespace: NAMESPACE },
      spec: { selector: { matchLabels: { app: 'payments' } }, jwtRules: [rule] },
    };
    return `# Whose users payments knows. Written by the demo, which holds the private key in its memory.\n${stringify(object)}`;
  }
}
