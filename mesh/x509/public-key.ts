import { createHash, type KeyObject } from 'node:crypto';
import { bitStringBytes, decode, partsOf } from './der.ts';

/** Whether it is a P-256 key, the only kind in the mesh. */
export function isP256(key: KeyObject): boolean {
  return key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1';
}

/** SubjectPublicKeyInfo (RFC 5480), DER. */
export const subjectPublicKeyInfo = (publicKey: KeyObject): Buffer =>
  publicKey.export({ type: 'spki', format: 'der' }) as Buffer;

/** SHA-256 of the SubjectPublicKeyInfo, hexadecimal: names a key without showing it. */
export const publicKeyHash = (publicKey: KeyObject): string =>
  createHash('sha256').update(subjectPublicKeyInfo(publicKey)).digest('hex');

/** Key identifier: the leftmost 160 bits of the SHA-256 of the key's BIT STRING (RFC 7093, section 2, method 1). */
export function keyIdentifier(publicKey: KeyObject): Buffer {
  const [, key] = partsOf(decode(subjectPublicKeyInfo(publicKey)));
  return createHash('sha256').update(bitStringBytes(key)).digest().subarray(0, 20);
}
