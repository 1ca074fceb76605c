import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { audienceFault, issuerFault, principalOf, timeFault } from '../../../policy/jwt/claims.ts';
import { FAULTS } from '../../../policy/jwt/faults.ts';
import { MAX_TOKEN_LENGTH, parseToken } from '../../../policy/jwt/token.ts';
import { CLAIMS, NOW, segment, signer, token } from './forge.ts';

const KEY = signer();
const reason = (text: string): unknown => {
  const parsed = parseToken(text);
  return typeof parsed === 'string' ? parsed : null;
};
const SECONDS = NOW / 1000;

describe('a token', () => {
  test('is read into what it says', () => {
    const text = token(KEY);
    const [header, payload, signature] = text.split('.');
    expect(parseToken(text)).toEqual({
      signed: `${header}.${payload}`,
      payload,
      algorithm: 'ES256',
      keyId: 'k1',
      claims: CLAIMS,
      signature: Buffer.from(signature ?? '', 'base64url'),
    });
  });

  it.each([
    ['nothing', ''],
    ['one part', 'abc'],
    ['two parts', 'abc.def'],
    ['four parts', `${token(KEY)}.x`],
    ['an empty header', token(KEY).replace(/^[^.]*/, '')],
    ['five parts, as an encrypted one', 'a.b.c.d.e'],
  ])('of %s is not of the form', (_what, text) => {
    expect(reason(text)).toBe(FAULTS.badFormat);
  });

  test('is bounded in size', () => {
    const padded = (characters: number) => token(KEY, { ...CLAIMS, x: 'a'.repeat(characters) });
    expect(reason(padded(100))).toBeNull();
    expect(padded(13_000).length).toBeGreaterThan(MAX_TOKEN_LENGTH);
    expect(reason(padded(13_000))).toBe(FAULTS.tooLarge);
  });

  const [HEADER = '', PAYLOAD = '', SIGNATURE = ''] = token(KEY).split('.');
  it.each([
    ['padding', (part: string) => `${part}=`],
    ['a character of base64 that is none of base64url', (part: string) => `+${part.slice(1)}`],
    ['a blank', (part: string) => ` ${part}`],
    ['a line break', (part: string) => `${part}\n`],
    ['a byte above ASCII', (part: string) => `${part.slice(0, -1)}\xe9`],
    [
      'a length that no bytes have',
      (part: string) => (part.length % 4 === 0 ? `${part}A` : part.slice(0, (part.length >> 2) * 4 + 1)),
    ],
  ])('with %s in a part is refused', (_what, spoil) => {
    expect(reason(`${spoil(HEADER)}.${PAYLOAD}.${SIGNATURE}`)).toBe(FAULTS.headerEncoding);
    expect(reason(`${HEADER}.${spoil(PAYLOAD)}.${SIGNATURE}`)).toBe(FAULTS.payloadEncoding);
    expect(reason(`${HEADER}.${PAYLOAD}.${spoil(SIGNATURE)}`)).toBe(FAULTS.signatureEncoding);
  });

  test('with stray bits in its last character is refused: each signature has one form', () => {
    const last = SIGNATURE.at(-1) === 'A' ? 'B' : 'A';
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    const stray = alphabet[alphabet.indexOf(SIGNATURE.at(-1) ?? '') ^ 1] ?? last;
    expect(reason(`${HEADER}.${PAYLOAD}.${SIGNATURE.slice(0, -1)}${stray}`)).toBe(FAULTS.signatureEncoding);
  });

  it.each([
    ['no JSON', 'x', FAULTS.headerJson],
    ['a list', [], FAULTS.headerJson],
    ['null', 'null', FAULTS.headerJson],
    ['a member twice', '{"alg":"none","alg":"ES256"}', FAULTS.headerJson],
    ['a member twice, once in escapes', '{"alg":"ES256","\\u0061lg":"none"}', FAULTS.headerJson],
    ['no alg', {}, FAULTS.headerAlgorithm],
    ['an alg that is a number', { alg: 1 }, FAULTS.headerAlgorithm],
    ['a kid that is a number', { alg: 'ES256', kid: 1 }, FAULTS.headerKeyId],
    ['a kid that is null', { alg: 'ES256', kid: null }, FAULTS.headerKeyId],
    ['critical extensions', { alg: 'ES256', crit: ['exp'], exp: 1 }, FAULTS.headerCritical],
    ['an empty list of critical extensions', { alg: 'ES256', crit: [] }, FAULTS.headerCritical],
    ['an unencoded payload', { alg: 'ES256', b64: false }, FAULTS.headerCritical],
  ])('whose header is or has %s is refused', (_what, header, fault) => {
    expect(reason(`${segment(header)}.${PAYLOAD}.${SIGNATURE}`)).toBe(fault);
  });

  it.each([
    ['no JSON', 'x', FAULTS.payloadJson],
    ['a text', '"x"', FAULTS.payloadJson],
    ['a list', '[1]', FAULTS.payloadJson],
    ['two values', '{}{}', FAULTS.payloadJson],
    ['a byte order mark', '\ufeff{}', FAULTS.payloadJson],
    ['a claim twice', '{"sub":"alice","sub":"root"}', FAULTS.payloadJson],
    ['a claim twice further in', '{"a":[{"b":1,"c":{},"b":2}]}', FAULTS.payloadJson],
    ['a number beyond a double', '{"exp":1e999}', FAULTS.payloadJson],
    ['too much nesting', `{"a":${'['.repeat(40)}${']'.repeat(40)}}`, FAULTS.payloadJson],
    ['an issuer that is a number', { iss: 1 }, FAULTS.issuerType],
    ['a subject that is null', { sub: null }, FAULTS.subjectType],
    ['a token id that is a number', { jti: 1 }, FAULTS.tokenIdType],
    ['an expiry that is a text', { exp: '9999999999' }, FAULTS.expiryType],
    ['an expiry below zero', { exp: -1 }, FAULTS.expiryType],
    ['an expiry beyond whole numbers', { exp: 1e300 }, FAULTS.expiryType],
    ['an expiry that is null', { exp: null }, FAULTS.expiryType],
    ['a beginning that is a text', { nbf: '0' }, FAULTS.notBeforeType],
    ['a time of issue that is a list', { iat: [1] }, FAULTS.issuedAtType],
    ['an audience that is a number', { aud: 1 }, FAULTS.audienceType],
    ['an audience with a number', { aud: ['a', 1] }, FAULTS.audienceType],
    ['an audience that is a list in a list', { aud: [['a']] }, FAULTS.audienceType],
  ])('whose payload is or has %s is refused', (_what, payload, fault) => {
    expect(reason(`${HEADER}.${segment(payload)}.${SIGNATURE}`)).toBe(fault);
  });

  test('whose payload is not UTF-8 is refused', () => {
    const payload = Buffer.from('7b2273223a22ff227d', 'hex').toString('base64url');
    expect(reason(`${HEADER}.${payload}.${SIGNATURE}`)).toBe(FAULTS.payloadJson);
  });

  test('with the same names in different objects is read', () => {
    expect(
      reason(`${HEADER}.${segment('{"a":{"x":1},"b":[{"x":1},{"x":"{\\"x\\":1,"}],"x":-1.5e3}')}.${SIGNATURE}`),
    ).toBeNull();
  });

  test('may hold any JSON object: what is read is what was written', () => {
    const name = fc
      .string({ unit: 'binary' })
      .filter((text) => !['iss', 'sub', 'aud', 'exp', 'nbf', 'iat', 'jti'].includes(text));
    fc.assert(
      fc.property(fc.dictionary(name, fc.jsonValue({ maxDepth: 4 }), { maxKeys: 5 }), (claims) => {
        const text = JSON.stringify(claims);
        const parsed = parseToken(`${HEADER}.${segment(text)}.${SIGNATURE}`);
        expect(typeof parsed === 'string' ? parsed : JSON.stringify(parsed.claims)).toBe(text);
      }),
      { numRuns: 200 },
    );
  });

  test('that is no token at all is a reason, never an exception', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), fc.array(fc.string()), (noise, parts) => {
        for (const text of [noise, parts.join('.'), `${segment(noise)}.${segment(noise)}.${segment(noise)}`]) {
          expect(parseToken(text)).toBeTypeOf('string');
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe('time', () => {
  it.each([
    ['before its expiry', { exp: SECONDS + 1 }, null],
    ['within the skew after it', { exp: SECONDS - 60 }, null],
    ['beyond the skew', { exp: SECONDS - 61 }, FAULTS.expired],
    ['long after', { exp: 0 }, FAULTS.expired],
    ['without an expiry', {}, null],
    ['after its beginning', { nbf: SECONDS - 1 }, null],
    ['within the skew before it', { nbf: SECONDS + 60 }, null],
    ['earlier than the skew', { nbf: SECONDS + 61 }, FAULTS.notYetValid],
    ['issued in the future', { iat: SECONDS + 1000 }, null],
  ])('%s', (_what, claims, fault) => {
    expect(timeFault(claims, NOW)).toBe(fault);
  });
});

it.each([
  [[], undefined, null],
  [[], 'x', null],
  [['a'], 'a', null],
  [['a', 'b'], ['c', 'b'], null],
  [['a'], undefined, FAULTS.audience],
  [['a'], [], FAULTS.audience],
  [['a'], 'A', FAULTS.audience],
  [['a'], 'a ', FAULTS.audience],
  [['a'], ['b'], FAULTS.audience],
])('of audiences %j a token for %j: %s', (audiences, aud, fault) => {
  expect(audienceFault(aud === undefined ? {} : { aud }, audiences)).toBe(fault);
});

it.each([
  ['https://idp.example', 'https://idp.example', null],
  ['https://idp.example', 'https://idp.example/', FAULTS.unknownIssuer],
  ['https://idp.example', 'https://IDP.example', FAULTS.unknownIssuer],
  ['https://idp.example', undefined, FAULTS.unknownIssuer],
  [null, 'anybody', null],
  [null, undefined, null],
])('a rule for the issuer %s, a token of %s: %s', (issuer, iss, fault) => {
  expect(issuerFault(iss === undefined ? {} : { iss }, issuer)).toBe(fault);
});

it.each([
  [{ iss: 'i', sub: 's' }, 'i/s'],
  [{ iss: 'i', sub: '' }, null],
  [{ iss: '', sub: 's' }, null],
  [{ iss: 'i' }, null],
  [{}, null],
])('the principal of %j is %s', (claims, principal) => {
  expect(principalOf(claims)).toBe(principal);
});
