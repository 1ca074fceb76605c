import { asObject, field, isList } from '../json.ts';
import { ALGORITHMS } from './algorithms.ts';
import { crypto } from './crypto.ts';
import { FAULTS, type TokenFault } from './faults.ts';
import { importKey, type VerificationKey } from './jwk.ts';
import { parseStrictJson } from './strict-json.ts';
import type { ParsedToken } from './token.ts';

/** Characters of a key set's text. */
export const MAX_KEY_SET_LENGTH = 1024 * 1024;
const MAX_KEYS = 256;
const MAX_DEPTH = 16;
/** Keys that one token may be tried with: what a token that names no key, or a set with one name for many keys, may cost. */
const MAX_TRIES = 8;

/** The keys of an issuer that can verify signatures. Immutable. */
export class KeySet {
  readonly keys: readonly VerificationKey[];
  /** Why others of the set were left out, with their place in it. */
  readonly ignored: readonly string[];

  constructor(keys: readonly VerificationKey[], ignored: readonly string[]) {
    this.keys = keys;
    this.ignored = ignored;
  }

  /** Whether one of the keys has signed the token, as `signerOf`. Null where it has. */
  verify(token: ParsedToken): TokenFault | null {
    const signer = this.signerOf(token);
    return typeof signer === 'string' ? signer : null;
  }

  /** Whether this key is among them, under whatever name. */
  holds(key: VerificationKey): boolean {
    return this.keys.some((one) => one === key || one.key.equals(key.key));
  }

  /**
   * Which of the keys has signed the token: one that the token's `kid` names, or that has no name, and that is for the token's algorithm.
   * Without a `kid` every key for the algorithm is tried.
   */
  signerOf(token: ParsedToken): VerificationKey | TokenFault {
    let tries = 0;
    let signed: Buffer | null = null;
    for (const candidate of this.keys) {
      if (!candidate.algorithms.has(token.algorithm)) continue;
      if (token.keyId !== null && candidate.keyId !== null && candidate.keyId !== token.keyId) continue;
      if (++tries > MAX_TRIES) return FAULTS.signature;
      signed ??= Buffer.from(token.signed, 'latin1');
      if (isSignedBy(candidate, token, signed)) return candidate;
    }
    return tries === 0 ? FAULTS.noMatchingKey : FAULTS.signature;
  }

  /** A JWK Set of these keys, without any private member. */
  toText(): string {
    return JSON.stringify({ keys: this.keys.map(({ jwk }) => jwk) });
  }
}

/** RFC 7517, 5. @returns a reason where the text is no JWK Set. Keys that are of no use here are left out. */
export function parseKeySet(text: string): KeySet | string {
  if (text.length > MAX_KEY_SET_LENGTH) return `is longer than ${MAX_KEY_SET_LENGTH} characters`;
  const set = asObject(parseStrictJson(text, MAX_DEPTH));
  if (set === null) return 'is not a JSON object, or one with a member twice';
  const values = field(set, 'keys');
  if (!isList(values)) return 'has no list of keys';
  if (values.length > MAX_KEYS) return `has more than ${MAX_KEYS} keys`;
  const keys: VerificationKey[] = [];
  const ignored: string[] = [];
  for (const [index, value] of values.entries()) {
    const key = importKey(value);
    if (typeof key === 'string') ignored.push(`keys[${index}] ${key}`);
    else keys.push(key);
  }
  return new KeySet(keys, ignored);
}

function isSignedBy({ key }: VerificationKey, { algorithm, signature }: ParsedToken, signed: Buffer): boolean {
  const { hash, pss, signatureBytes } = ALGORITHMS[algorithm];
  if (signatureBytes !== null && signature.length !== signatureBytes) return false;
  const { verify, constants } = crypto();
  const padding = pss ? constants.RSA_PKCS1_PSS_PADDING : constants.RSA_PKCS1_PADDING;
  const saltLength = constants.RSA_PSS_SALTLEN_DIGEST;
  if (key.asymmetricKeyType === 'rsa') {
    return verify(hash, signed, pss ? { key, padding, saltLength } : { key, padding }, signature);
  }
  return verify(hash, signed, { key, dsaEncoding: 'ieee-p1363' }, signature);
}
