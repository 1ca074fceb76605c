/**
 * The signature algorithms that are accepted (RFC 7518, 3.1; RFC 8037, 3.1): public-key ones alone. NEVER `none`, and never HMAC, whose key
 * would be the public key that anybody may have.
 */
export type Algorithm = keyof typeof ALGORITHMS;

export interface AlgorithmFacts {
  readonly kty: 'RSA' | 'EC' | 'OKP';
  /** Null for RSA. */
  readonly curve: string | null;
  /** node:crypto's name; null where the algorithm has its own. */
  readonly hash: 'sha256' | 'sha384' | 'sha512' | null;
  /** RSASSA-PSS, its salt as long as the hash (RFC 7518, 3.5). */
  readonly pss: boolean;
  /** Bytes of a signature; null for RSA, where it is the modulus's length. */
  readonly signatureBytes: number | null;
}

const rsa = (hash: AlgorithmFacts['hash'], pss: boolean): AlgorithmFacts => ({
  kty: 'RSA',
  curve: null,
  hash,
  pss,
  signatureBytes: null,
});

const ec = (curve: string, hash: AlgorithmFacts['hash'], signatureBytes: number): AlgorithmFacts => ({
  kty: 'EC',
  curve,
  hash,
  pss: false,
  signatureBytes,
});

export const ALGORITHMS = {
  RS256: rsa('sha256', false),
  RS384: rsa('sha384', false),
  RS512: rsa('sha512', false),
  PS256: rsa('sha256', true),
  PS384: rsa('sha384', true),
  PS512: rsa('sha512', true),
  ES256: ec('P-256', 'sha256', 64),
  ES384: ec('P-384', 'sha384', 96),
  ES512: ec('P-521', 'sha512', 132),
  EdDSA: { kty: 'OKP', curve: 'Ed25519', hash: null, pss: false, signatureBytes: 64 },
} as const satisfies { readonly [name: string]: AlgorithmFacts };

export function isAlgorithm(name: string): name is Algorithm {
  return Object.hasOwn(ALGORITHMS, name);
}
