import { describe, expect, it, test } from 'vitest';
import { FAULTS } from '../../../policy/jwt/faults.ts';
import { parseKeySet } from '../../../policy/jwt/key-set.ts';
import { parseToken } from '../../../policy/jwt/token.ts';
import { CLAIMS, hmac, jwkOf, jwksText, keySetOf, type Members, segment, signature, signer, token } from './forge.ts';

const RSA = signer('RS256', 'rsa');
const EC = signer('ES256', 'ec');
const ED = signer('EdDSA', 'ed');

/** Null: accepted; else the reason. */
function verdict(text: string, keys = keySetOf(RSA, EC, ED)): string | null {
  const parsed = parseToken(text);
  return typeof parsed === 'string' ? parsed : keys.verify(parsed);
}

function keySet(...keys: readonly Members[]) {
  const parsed = parseKeySet(jwksText(...keys));
  if (typeof parsed === 'string') throw new Error(parsed);
  return parsed;
}

describe('a signature', () => {
  it.each(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'])('of %s is verified', (algorithm) => {
    expect(verdict(token({ ...RSA, algorithm }))).toBeNull();
  });
  it.each(['ES256', 'ES384', 'ES512', 'EdDSA'])('of %s is verified', (algorithm) => {
    const by = signer(algorithm);
    expect(verdict(token(by), keySetOf(by))).toBeNull();
  });

  test('of another key of the same name is refused', () => {
    expect(verdict(token(signer('ES256', 'ec')))).toBe(FAULTS.signature);
  });

  test('does not hold for a changed payload', () => {
    const [header, , signed] = token(EC).split('.');
    expect(verdict(`${header}.${segment({ ...CLAIMS, sub: 'root' })}.${signed}`)).toBe(FAULTS.signature);
  });

  test('does not hold for a changed header', () => {
    const [, payload, signed] = token(EC).split('.');
    expect(verdict(`${segment({ alg: 'ES256', kid: 'ec', x: 1 })}.${payload}.${signed}`)).toBe(FAULTS.signature);
  });

  test('in DER, which is not what ES256 is, is refused', () => {
    const signed = `${segment({ alg: 'ES256', kid: 'ec' })}.${segment(CLAIMS)}`;
    const raw = signature(EC, signed);
    const integer = (bytes: Buffer) => Buffer.concat([Buffer.from([2, bytes.length + 1, 0]), bytes]);
    const body = Buffer.concat([integer(raw.subarray(0, 32)), integer(raw.subarray(32))]);
    const der = Buffer.concat([Buffer.from([0x30, body.length]), body]);
    expect(verdict(`${signed}.${der.toString('base64url')}`)).toBe(FAULTS.signature);
  });

  test('of zeros (CVE-2022-21449) is refused', () => {
    const signed = `${segment({ alg: 'ES256', kid: 'ec' })}.${segment(CLAIMS)}`;
    expect(verdict(`${signed}.${Buffer.alloc(64).toString('base64url')}`)).toBe(FAULTS.signature);
  });

  test('cut short is refused', () => {
    const signed = `${segment({ alg: 'EdDSA', kid: 'ed' })}.${segment(CLAIMS)}`;
    const short = signature(ED, signed).subarray(0, 63);
    expect(verdict(`${signed}.${short.toString('base64url')}`)).toBe(FAULTS.signature);
  });

  test('left out is refused', () => {
    expect(verdict(token(EC).replace(/\.[^.]*$/, '.'))).toBe(FAULTS.signature);
  });
});

describe('an algorithm', () => {
  it.each(['none', 'None', 'NONE', 'nOnE', ''])('%j is refused, with a signature and without', (alg) => {
    const signed = `${segment({ alg })}.${segment(CLAIMS)}`;
    expect(verdict(`${signed}.`)).toBe(FAULTS.algorithmUnsupported);
    expect(verdict(`${signed}.${signature(EC, signed).toString('base64url')}`)).toBe(FAULTS.algorithmUnsupported);
  });

  it.each(['HS256', 'HS384', 'HS512'])('%s with the public key as its secret is refused', (alg) => {
    const signed = `${segment({ alg, kid: 'rsa' })}.${segment(CLAIMS)}`;
    for (const format of ['pem', 'der'] as const) {
      const secret = RSA.publicKey.export({ type: 'spki', format });
      expect(verdict(`${signed}.${hmac(secret, signed)}`)).toBe(FAULTS.algorithmUnsupported);
    }
  });

  it.each(['rs256', 'ES256K', 'RSA-OAEP', 'dir', 'Ed448', 'constructor', '__proto__'])('%s is refused', (alg) => {
    expect(verdict(token(EC, CLAIMS, { alg }))).toBe(FAULTS.algorithmUnsupported);
  });

  it.each([
    ['an EC key', { kid: 'ec' }, RSA],
    ['an Ed25519 key', { kid: 'ed' }, RSA],
    ['an RSA key', { kid: 'rsa' }, EC],
  ])('does not go with %s where it is another type’s', (_what, header, by) => {
    expect(verdict(token(by, CLAIMS, header))).toBe(FAULTS.noMatchingKey);
  });

  test('must be the one that the key names', () => {
    const keys = keySet(jwkOf(RSA, { alg: 'PS256' }));
    expect(verdict(token({ ...RSA, algorithm: 'RS256' }), keys)).toBe(FAULTS.noMatchingKey);
    expect(verdict(token({ ...RSA, algorithm: 'PS256' }), keys)).toBeNull();
  });

  test('of RSASSA-PSS does not verify a PKCS #1 signature', () => {
    const signed = `${segment({ alg: 'PS256', kid: 'rsa' })}.${segment(CLAIMS)}`;
    expect(verdict(`${signed}.${signature(RSA, signed, 'RS256').toString('base64url')}`)).toBe(FAULTS.signature);
  });
});

describe('the key of a token', () => {
  test('is the one that kid names', () => {
    const keys = keySetOf(signer('ES256', 'ec'), signer('ES256', 'other'), EC);
    expect(verdict(token(EC), keys)).toBeNull();
  });

  test('is none where kid names none of the set, though one would verify it', () => {
    expect(verdict(token(EC, CLAIMS, { kid: 'unknown' }))).toBe(FAULTS.noMatchingKey);
  });

  test('may be one without a name', () => {
    const nameless = { ...EC, keyId: null };
    expect(verdict(token(EC), keySetOf(nameless))).toBeNull();
  });

  test('is found without kid among those for its algorithm', () => {
    const nameless = { ...EC, keyId: null };
    expect(verdict(token(nameless), keySetOf(signer('ES256', 'x'), RSA, EC))).toBeNull();
  });

  test('is looked for among a bounded number of keys', () => {
    const others = Array.from({ length: 8 }, (_, index) => signer('ES256', `o${index}`));
    const nameless = { ...EC, keyId: null };
    expect(verdict(token(nameless), keySetOf(...others.slice(1), EC))).toBeNull();
    expect(verdict(token(nameless), keySetOf(...others, EC))).toBe(FAULTS.signature);
  });

  it.each([
    ['jwk', { jwk: jwkOf(signer('ES256', 'evil')) }],
    ['jku', { jku: 'https://evil.example/jwks.json' }],
    ['x5u', { x5u: 'https://evil.example/cert.pem' }],
    ['x5c', { x5c: ['MIIB'] }],
  ])('is never one that the token brings along (%s)', (_name, header) => {
    const evil = signer('ES256', 'evil');
    const brought = 'jwk' in header ? { jwk: jwkOf(evil) } : header;
    expect(verdict(token(evil, CLAIMS, brought))).toBe(FAULTS.noMatchingKey);
    expect(verdict(token(EC, CLAIMS, brought))).toBeNull();
  });
});

describe('a key set', () => {
  it.each([
    ['an RSA key of 1024 bits', jwkOf(signer('RS256', 'k', 1024)), /1024 bits/],
    ['an RSA key with exponent 1', jwkOf(RSA, { e: 'AQ' }), /exponent|valid/],
    ['an RSA key with an even exponent', jwkOf(RSA, { e: 'BA' }), /exponent|valid/],
    ['a symmetric key', { kty: 'oct', k: 'c2VjcmV0', kid: 'k' }, /kty/],
    ['a key for encryption', jwkOf(EC, { use: 'enc' }), /use/],
    ['a key with operations that are not verify', jwkOf(EC, { key_ops: ['sign'] }), /key_ops/],
    ['a key with operations that are no list', jwkOf(EC, { key_ops: 'verify' }), /key_ops/],
    ['a key whose alg is another type’s', jwkOf(EC, { alg: 'RS256' }), /alg/],
    ['a key whose alg is HMAC', jwkOf(RSA, { alg: 'HS256' }), /alg/],
    ['a key whose alg is another curve’s', jwkOf(EC, { alg: 'ES384' }), /alg/],
    ['a key on an unknown curve', jwkOf(EC, { crv: 'secp256k1' }), /kty/],
    ['a key that is no point of its curve', jwkOf(EC, { y: 'AAAA' }), /valid/],
    ['a key whose kid is a number', jwkOf(EC, { kid: 7 }), /kid/],
    ['a key with padding', jwkOf(EC, { x: `${jwkOf(EC).x}=` }), /base64url/],
    ['no object', 'key' as unknown as Members, /object/],
  ])('leaves out %s and keeps the rest', (_what, bad, reason) => {
    const keys = keySet(bad, jwkOf(ED));
    expect(keys.ignored.join()).toMatch(reason);
    expect(keys.keys.map(({ keyId }) => keyId)).toEqual(['ed']);
  });

  it.each([
    ['no JSON', '{'],
    ['a list', '[]'],
    ['no keys', '{}'],
    ['keys that are no list', '{"keys":{}}'],
    ['its keys twice', '{"keys":[],"keys":[]}'],
    ['a key with a member twice', '{"keys":[{"kty":"RSA","kty":"oct"}]}'],
    ['too many keys', JSON.stringify({ keys: Array(300).fill({}) })],
    ['too many characters', `{"keys":[],"x":"${'a'.repeat(1024 * 1024)}"}`],
  ])('that has %s is none', (_what, text) => {
    expect(parseKeySet(text)).toBeTypeOf('string');
  });

  test('is told without any private member', () => {
    const secret = { ...EC.privateKey.export({ format: 'jwk' }), kid: 'ec', alg: 'ES256', use: 'sig', note: 'x' };
    const text = keySet(secret, { kty: 'oct', k: 'c2VjcmV0' }).toText();
    const { keys } = JSON.parse(text);
    expect(keys.map((key: object) => Object.keys(key).sort())).toEqual([['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y']]);
  });

  test('that was told verifies what it verified before', () => {
    const told = parseKeySet(keySetOf(RSA, EC, ED).toText());
    for (const by of [RSA, EC, ED]) expect(verdict(token(by), told as never)).toBeNull();
  });
});
