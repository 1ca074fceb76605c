import type { KeyObject } from 'node:crypto';
import { messageOf } from '../../mesh/errors.ts';
import { asObject, field, isList } from '../json.ts';
import type { JsonObject, JsonValue } from '../types.ts';
import { ALGORITHMS, type Algorithm, type AlgorithmFacts, isAlgorithm } from './algorithms.ts';
import { decodeBase64url } from './base64url.ts';
import { crypto } from './crypto.ts';

/** A public key that may verify tokens of the algorithms it is for. */
export interface VerificationKey {
  readonly keyId: string | null;
  readonly algorithms: ReadonlySet<Algorithm>;
  readonly key: KeyObject;
  /** As JWK, with the public members alone. */
  readonly jwk: PublicJwk;
}

export interface PublicJwk {
  readonly [member: string]: string | readonly string[];
}

/** NIST SP 800-131A: less is not considered safe any more. */
const MIN_RSA_BITS = 2048;
/** Verifying costs the square of the length. */
const MAX_RSA_BITS = 8192;
/** With exponent 1 everybody signs; beyond 2^32 verifying becomes costly and nobody has such a key. */
const MIN_RSA_EXPONENT = 3n;
const MAX_RSA_EXPONENT = 2n ** 32n;
const MAX_MEMBER = 4096;
/** RFC 9864's name of what RFC 8037 calls EdDSA with the curve Ed25519. */
const FULLY_SPECIFIED_EDDSA = 'Ed25519';

/**
 * Reads a JSON Web Key (RFC 7517, 4). @returns a reason where it cannot verify signatures that are accepted here: unknown type or curve, not for
 * signatures, too weak, malformed. The rest of its set is not concerned (RFC 7517, 5). Certificates (`x5c`) are not looked at.
 */
export function importKey(value: JsonValue): VerificationKey | string {
  const jwk = asObject(value);
  if (jwk === null) return 'is not an object';
  const unfit = whyNotForSignatures(jwk);
  if (unfit !== null) return unfit;
  const keyId = field(jwk, 'kid');
  if (keyId !== undefined && (typeof keyId !== 'string' || keyId.length > MAX_MEMBER))
    return 'kid is not a string of bounded length';
  const algorithms = algorithmsOf(jwk);
  if (typeof algorithms === 'string') return algorithms;
  const material = publicMembers(jwk);
  if (typeof material === 'string') return material;
  let key: KeyObject;
  try {
    key = crypto().createPublicKey({ key: material, format: 'jwk' });
  } catch (error) {
    return `is not a valid key: ${messageOf(error)}`;
  }
  const weak = key.asymmetricKeyType === 'rsa' ? whyWeak(key) : null;
  if (weak !== null) return weak;
  return {
    keyId: keyId === undefined || keyId === '' ? null : keyId,
    algorithms,
    key,
    jwk: { ...described(jwk), ...material },
  };
}

/** `use` and `key_ops` say what a key is for, where they are given (RFC 7517, 4.2 and 4.3). */
function whyNotForSignatures(jwk: JsonObject): string | null {
  const use = field(jwk, 'use');
  if (use !== undefined && use !== 'sig') return 'use is not sig';
  const operations = field(jwk, 'key_ops');
  if (operations === undefined) return null;
  return isList(operations) && operations.includes('verify') ? null : 'key_ops has no verify';
}

/** Those of its type and curve; only the one that its `alg` names, where it names one. */
function algorithmsOf(jwk: JsonObject): ReadonlySet<Algorithm> | string {
  const kty = field(jwk, 'kty');
  const curve = field(jwk, 'crv');
  const named = field(jwk, 'alg');
  const fits = (facts: AlgorithmFacts): boolean => facts.kty === kty && (facts.curve === null || facts.curve === curve);
  const names = Object.keys(ALGORITHMS).filter((name) => isAlgorithm(name) && fits(ALGORITHMS[name]));
  const wanted = named === FULLY_SPECIFIED_EDDSA ? 'EdDSA' : named;
  const chosen = names.filter((name) => wanted === undefined || name === wanted).filter(isAlgorithm);
  if (names.length === 0) return 'kty (or crv) is none that is supported';
  return chosen.length === 0 ? 'alg does not agree with kty and crv' : new Set(chosen);
}

type Material = { readonly [member: string]: string };

/** Nothing else reaches OpenSSL, a private member least of all. */
function publicMembers(jwk: JsonObject): Material | string {
  const kty = field(jwk, 'kty');
  const names = kty === 'RSA' ? ['n', 'e'] : kty === 'EC' ? ['crv', 'x', 'y'] : ['crv', 'x'];
  const material: { [member: string]: string } = { kty: String(kty) };
  for (const name of names) {
    const member = field(jwk, name);
    if (typeof member !== 'string' || member.length > MAX_MEMBER) return `${name} is not a string of bounded length`;
    if (name !== 'crv' && decodeBase64url(member) === null) return `${name} is not base64url`;
    material[name] = member;
  }
  return material;
}

function whyWeak(key: KeyObject): string | null {
  const { modulusLength = 0, publicExponent = 0n } = key.asymmetricKeyDetails ?? {};
  if (modulusLength < MIN_RSA_BITS) return `has ${modulusLength} bits; RSA needs ${MIN_RSA_BITS}`;
  if (modulusLength > MAX_RSA_BITS) return `has ${modulusLength} bits; at most ${MAX_RSA_BITS} are taken`;
  const sane = publicExponent >= MIN_RSA_EXPONENT && publicExponent <= MAX_RSA_EXPONENT && publicExponent % 2n === 1n;
  return sane ? null : 'e is no exponent to be trusted';
}

/** What may be told of a key besides the key itself. */
function described(jwk: JsonObject): PublicJwk {
  const told: { [member: string]: string | readonly string[] } = {};
  for (const name of ['kid', 'alg', 'use']) {
    const member = field(jwk, name);
    if (typeof member === 'string') told[name] = member;
  }
  if (field(jwk, 'key_ops') !== undefined) told.key_ops = ['verify'];
  return told;
}
