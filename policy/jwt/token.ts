import { asObject, field, isList } from '../json.ts';
import type { JsonObject, JsonValue } from '../types.ts';
import { type Algorithm, isAlgorithm } from './algorithms.ts';
import { decodeBase64url } from './base64url.ts';
import { FAULTS, type TokenFault } from './faults.ts';
import { parseStrictJsonBytes } from './strict-json.ts';

/** Characters of a token. The largest that providers make are some KiB; heads are bounded at 60 KiB. */
export const MAX_TOKEN_LENGTH = 16 * 1024;
/** Bytes of a signature: RSA of 8192 bits. */
const MAX_SIGNATURE = 1024;
const MAX_DEPTH = 32;
const MAX_KEY_ID = 1024;

/** A JWT (RFC 7519) as a compact JWS (RFC 7515, 3.1) of which nothing is verified yet. */
export interface ParsedToken {
  /** Header and payload as they were signed. */
  readonly signed: string;
  /** The payload's segment: base64url. */
  readonly payload: string;
  readonly algorithm: Algorithm;
  readonly keyId: string | null;
  readonly claims: JsonObject;
  readonly signature: Buffer;
}

/**
 * Reads a token. Ambiguous ones are refused, not repaired. Keys that a header brings along (`jwk`, `jku`, `x5c`, `x5u`) are never looked at;
 * extensions that must be understood (`crit`) are not, so that the token is refused.
 */
export function parseToken(text: string): ParsedToken | TokenFault {
  if (text.length > MAX_TOKEN_LENGTH) return FAULTS.tooLarge;
  const first = text.indexOf('.');
  const second = text.indexOf('.', first + 1);
  if (first <= 0 || second < 0 || text.includes('.', second + 1)) return FAULTS.badFormat;
  const header = readHeader(text.slice(0, first));
  if (typeof header === 'string') return header;
  const payload = text.slice(first + 1, second);
  const payloadBytes = decodeBase64url(payload);
  if (payloadBytes === null) return FAULTS.payloadEncoding;
  const claims = asObject(parseStrictJsonBytes(payloadBytes, MAX_DEPTH));
  if (claims === null) return FAULTS.payloadJson;
  const fault = registeredClaimsFault(claims);
  if (fault !== null) return fault;
  const signature = decodeBase64url(text.slice(second + 1));
  if (signature === null) return FAULTS.signatureEncoding;
  if (signature.length === 0 || signature.length > MAX_SIGNATURE) return FAULTS.signature;
  return { signed: text.slice(0, second), payload, claims, signature, ...header };
}

function readHeader(segment: string): Pick<ParsedToken, 'algorithm' | 'keyId'> | TokenFault {
  const bytes = decodeBase64url(segment);
  if (bytes === null) return FAULTS.headerEncoding;
  const header = asObject(parseStrictJsonBytes(bytes, MAX_DEPTH));
  if (header === null) return FAULTS.headerJson;
  const algorithm = field(header, 'alg');
  if (typeof algorithm !== 'string') return FAULTS.headerAlgorithm;
  if (!isAlgorithm(algorithm)) return FAULTS.algorithmUnsupported;
  // `b64: false` (RFC 7797) would have to be in `crit`; one that is not is no reason to guess what was signed.
  if (field(header, 'crit') !== undefined || field(header, 'b64') === false) return FAULTS.headerCritical;
  const keyId = field(header, 'kid');
  if (keyId !== undefined && (typeof keyId !== 'string' || keyId.length > MAX_KEY_ID)) return FAULTS.headerKeyId;
  return { algorithm, keyId: keyId === undefined || keyId === '' ? null : keyId };
}

/** The types of the registered claims (RFC 7519, 4.1). */
function registeredClaimsFault(claims: JsonObject): TokenFault | null {
  if (!isTextOrAbsent(field(claims, 'iss'))) return FAULTS.issuerType;
  if (!isTextOrAbsent(field(claims, 'sub'))) return FAULTS.subjectType;
  if (!isTimeOrAbsent(field(claims, 'iat'))) return FAULTS.issuedAtType;
  if (!isTimeOrAbsent(field(claims, 'nbf'))) return FAULTS.notBeforeType;
  if (!isTimeOrAbsent(field(claims, 'exp'))) return FAULTS.expiryType;
  if (!isTextOrAbsent(field(claims, 'jti'))) return FAULTS.tokenIdType;
  const audience = field(claims, 'aud');
  const texts = isList(audience) ? audience : [audience];
  return texts.every(isList(audience) ? (one) => typeof one === 'string' : isTextOrAbsent) ? null : FAULTS.audienceType;
}

function isTextOrAbsent(value: JsonValue | undefined): boolean {
  return value === undefined || typeof value === 'string';
}

/** A NumericDate: seconds since 1970, of which fractions are allowed. */
function isTimeOrAbsent(value: JsonValue | undefined): boolean {
  return value === undefined || (typeof value === 'number' && value >= 0 && value <= Number.MAX_SAFE_INTEGER);
}
