import { constants, createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { type KeySet, parseKeySet } from '../../../policy/jwt/key-set.ts';

/** Makes tokens and keys of every kind, good and bad. */
export interface Signer {
  readonly algorithm: string;
  readonly keyId: string | null;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

export const ISSUER = 'https://idp.example';
/** Unix time, milliseconds, that tests live at. */
export const NOW = 1_800_000_000_000;
const NOW_SECONDS = NOW / 1000;

const CURVES: { readonly [algorithm: string]: string } = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' };

export function signer(algorithm = 'ES256', keyId: string | null = 'k1', bits = 2048): Signer {
  if (algorithm === 'EdDSA') return { algorithm, keyId, ...generateKeyPairSync('ed25519') };
  const namedCurve = CURVES[algorithm];
  if (namedCurve !== undefined) return { algorithm, keyId, ...generateKeyPairSync('ec', { namedCurve }) };
  return { algorithm, keyId, ...generateKeyPairSync('rsa', { modulusLength: bits }) };
}

export type Members = { readonly [name: string]: unknown };

export function jwkOf({ publicKey, keyId }: Signer, more: Members = {}): Members {
  return { ...publicKey.export({ format: 'jwk' }), ...(keyId === null ? {} : { kid: keyId }), ...more };
}

export function jwksText(...keys: readonly Members[]): string {
  return JSON.stringify({ keys });
}

export function keySetOf(...signers: readonly Signer[]): KeySet {
  const keySet = parseKeySet(jwksText(...signers.map((one) => jwkOf(one))));
  if (typeof keySet === 'string') throw new Error(keySet);
  return keySet;
}

export const CLAIMS = { iss: ISSUER, sub: 'alice', aud: 'orders', exp: NOW_SECONDS + 3600, iat: NOW_SECONDS };

export function segment(value: unknown): string {
  return Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
}

/** `header` and `claims` as JSON text, or as what becomes it. */
export function token(by: Signer, claims: unknown = CLAIMS, header: unknown = {}): string {
  const own = { alg: by.algorithm, ...(by.keyId === null ? {} : { kid: by.keyId }) };
  const first = typeof header === 'string' ? header : { ...own, ...(header as Members) };
  const signed = `${segment(first)}.${segment(claims)}`;
  return `${signed}.${signature(by, signed).toString('base64url')}`;
}

export function signature(by: Signer, signed: string, algorithm: string = by.algorithm): Buffer {
  const data = Buffer.from(signed);
  const { privateKey: key } = by;
  if (algorithm === 'EdDSA') return sign(null, data, key);
  const hash = `sha${algorithm.slice(2)}`;
  if (algorithm.startsWith('ES')) return sign(hash, data, { key, dsaEncoding: 'ieee-p1363' });
  if (algorithm.startsWith('RS')) return sign(hash, data, key);
  const { RSA_PKCS1_PSS_PADDING: padding, RSA_PSS_SALTLEN_DIGEST: saltLength } = constants;
  return sign(hash, data, { key, padding, saltLength });
}

export function hmac(secret: string | Buffer, signed: string): string {
  return createHmac('sha256', secret).update(signed).digest('base64url');
}
