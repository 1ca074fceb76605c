import { describe, expect, it, test } from 'vitest';
import { FAULTS } from '../../../policy/jwt/faults.ts';
import { parseToken } from '../../../policy/jwt/token.ts';
import { judgeTokens, statusOf, type TokenVerifier } from '../../../policy/tokens/acceptance.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { CLAIMS, NOW, signer, token } from '../jwt/forge.ts';
import { FakeHead } from './fake-head.ts';
import {
  compiled,
  GOOD,
  OTHER,
  OTHER_CLAIMS,
  OTHER_ISSUER,
  OTHER_RULE,
  RULE,
  requestAuthentication,
} from './objects.ts';

/** Without memory. */
const VERIFIER: TokenVerifier = {
  read: parseToken,
  signatureFault(text, keys) {
    const parsed = parseToken(text);
    return typeof parsed === 'string' ? parsed : keys.verify(parsed);
  },
};

type Lines = readonly (readonly [name: string, value: string])[];

/** `no-token`, the subject of the token that was accepted, or why it was refused. */
function verdict(rules: readonly JsonObject[], lines: Lines, target = '/a'): unknown {
  const judged = judgeTokens(compiled(requestAuthentication(rules)), new FakeHead(lines, target), VERIFIER, NOW);
  if (judged.kind === 'accepted') return judged.token.claims.sub;
  return judged.kind === 'refused' ? judged.fault : judged.kind;
}

const bearer = (text: string): Lines => [['authorization', `Bearer ${text}`]];
const ALICE = token(GOOD);
const BOB = token(OTHER, OTHER_CLAIMS);
const EXPIRED = token(GOOD, { ...CLAIMS, exp: 1 });
const FORGED = token(signer('ES256', 'good'));

describe('one rule', () => {
  it.each([
    ['no token', [], 'no-token'],
    ['a good token', bearer(ALICE), 'alice'],
    ['an expired one', bearer(EXPIRED), FAULTS.expired],
    ['one that is not valid yet', bearer(token(GOOD, { ...CLAIMS, nbf: NOW })), FAULTS.notYetValid],
    ['a forged one', bearer(FORGED), FAULTS.signature],
    ['one of an issuer that has no rule', bearer(BOB), FAULTS.unknownIssuer],
    ['one without an issuer', bearer(token(GOOD, { sub: 'alice' })), FAULTS.unknownIssuer],
    ['one by a key that is not known', bearer(token(OTHER)), FAULTS.noMatchingKey],
    ['one that says alg none', bearer(token(GOOD, CLAIMS, { alg: 'none' })), FAULTS.algorithmUnsupported],
    ['something that is no token', bearer('x'), FAULTS.badFormat],
  ])('with %s', (_what, lines, expected) => {
    expect(verdict([RULE], lines)).toBe(expected);
  });

  test('with audiences accepts tokens for one of them', () => {
    const rule = { ...RULE, audiences: ['orders', 'web'] };
    expect(verdict([rule], bearer(ALICE))).toBe('alice');
    expect(verdict([rule], bearer(token(GOOD, { ...CLAIMS, aud: ['x', 'web'] })))).toBe('alice');
    expect(verdict([rule], bearer(token(GOOD, { ...CLAIMS, aud: 'x' })))).toBe(FAULTS.audience);
    expect(statusOf(FAULTS.audience)).toBe(403);
  });

  test('without an issuer accepts any that its keys verify', () => {
    const { issuer: _issuer, ...rest } = RULE;
    expect(verdict([rest], bearer(token(GOOD, { iss: 'anybody', sub: 'carol' })))).toBe('carol');
  });

  test('whose keys could not be fetched refuses every token, and lets requests without one pass', () => {
    const rule = { issuer: CLAIMS.iss, jwksUri: 'https://idp.example/keys' };
    expect(verdict([rule], bearer(ALICE))).toBe(FAULTS.keysUnavailable);
    expect(verdict([rule], [])).toBe('no-token');
  });

  test('whose inline keys are of no use refuses every token', () => {
    expect(verdict([{ ...RULE, jwks: 'x' }], bearer(ALICE))).toBe(FAULTS.noValidKeys);
    expect(verdict([{ ...RULE, jwks: '{"keys":[]}' }], bearer(ALICE))).toBe(FAULTS.noMatchingKey);
  });
});

describe('where a rule looks by default', () => {
  it.each([
    ['Basic credentials', [['authorization', 'Basic eDp5']], '/a', 'no-token'],
    ['a scheme that begins like Bearer', [['authorization', `Bearertoken ${ALICE}`]], '/a', 'no-token'],
    ['a scheme alone', [['authorization', 'Bearer']], '/a', 'no-token'],
    ['a scheme in another case', [['authorization', `bEARER ${ALICE}`]], '/a', 'alice'],
    ['a forged one behind a scheme in another case', [['authorization', `bearer ${FORGED}`]], '/a', FAULTS.signature],
    ['several blanks', [['authorization', `Bearer   ${ALICE}`]], '/a', 'alice'],
    ['another header', [['x-token', ALICE]], '/a', 'no-token'],
    ['a cookie', [['cookie', `access_token=${ALICE}`]], '/a', 'no-token'],
    ['something behind the token', [['authorization', `Bearer ${ALICE}, x`]], '/a', FAULTS.signatureEncoding],
    ['a parameter', [], `/a?x=1&access_token=${ALICE}`, 'alice'],
    ['a parameter whose name is encoded', [], `/a?%61ccess%5ftoken=${FORGED}`, FAULTS.signature],
    ['a parameter whose value is encoded', [], `/a?access_token=${ALICE.replaceAll('.', '%2E')}`, 'alice'],
    ['a parameter in another case', [], `/a?Access_Token=${ALICE}`, 'no-token'],
    ['an empty parameter', [], '/a?access_token=', 'no-token'],
    ['a parameter without a value', [], '/a?access_token', 'no-token'],
    ['a parameter that cannot be decoded', [], '/a?access_token=%zz', FAULTS.badFormat],
  ] as const)('%s', (_what, lines, target, expected) => {
    expect(verdict([RULE], lines, target)).toBe(expected);
  });

  it.each([
    ['two good ones', [...bearer(ALICE), ...bearer(ALICE)], '/a', 'alice'],
    ['a good header and a bad parameter', bearer(ALICE), `/a?access_token=${FORGED}`, FAULTS.signature],
    ['a bad header and a good parameter', bearer(FORGED), `/a?access_token=${ALICE}`, FAULTS.signature],
    ['a good and a bad header line', [...bearer(ALICE), ...bearer(EXPIRED)], '/a', FAULTS.expired],
    ['a bad and a good header line', [...bearer(EXPIRED), ...bearer(ALICE)], '/a', FAULTS.expired],
    ['a good and a bad parameter', [], `/a?access_token=${ALICE}&access_token=${FORGED}`, FAULTS.signature],
    ['more than are looked at', Array(9).fill(bearer(ALICE)[0]), '/a', FAULTS.multipleTokens],
  ] as const)('all must be valid: %s', (_what, lines, target, expected) => {
    expect(verdict([RULE], lines, target)).toBe(expected);
  });
});

describe('where a rule says it looks', () => {
  const headers = (...fromHeaders: readonly JsonObject[]) => ({ ...RULE, fromHeaders });
  it.each([
    ['a header by any case of its name', headers({ name: 'X-Token' }), [['x-token', ALICE]], '/a', 'alice'],
    [
      'a header with its prefix',
      headers({ name: 'x-token', prefix: 'JWT ' }),
      [['x-token', `JWT ${ALICE}`]],
      '/a',
      'alice',
    ],
    [
      'a header without its prefix',
      headers({ name: 'x-token', prefix: 'JWT ' }),
      [['x-token', FORGED]],
      '/a',
      'no-token',
    ],
    [
      'a prefix in another case',
      headers({ name: 'x-token', prefix: 'JWT ' }),
      [['x-token', `jwt ${FORGED}`]],
      '/a',
      'no-token',
    ],
    ['the default header, no more', headers({ name: 'x-token' }), bearer(FORGED), '/a', 'no-token'],
    ['the default parameter, no more', headers({ name: 'x-token' }), [], `/a?access_token=${FORGED}`, 'no-token'],
    ['the second of two headers', headers({ name: 'a' }, { name: 'b' }), [['b', ALICE]], '/a', 'alice'],
    ['a parameter', { ...RULE, fromParams: ['t'] }, [], `/a?t=${ALICE}`, 'alice'],
    ['a cookie', { ...RULE, fromCookies: ['t'] }, [['cookie', `s=1; t=${ALICE}`]], '/a', 'alice'],
    ['a cookie in quotes', { ...RULE, fromCookies: ['t'] }, [['cookie', `t="${ALICE}"`]], '/a', 'alice'],
    [
      'a cookie of a second line',
      { ...RULE, fromCookies: ['t'] },
      [
        ['cookie', 's=1'],
        ['cookie', `t=${ALICE}`],
      ],
      '/a',
      'alice',
    ],
    [
      'a cookie twice, once bad',
      { ...RULE, fromCookies: ['t'] },
      [['cookie', `t=${ALICE}; t=${FORGED}`]],
      '/a',
      FAULTS.signature,
    ],
    ['a cookie of a longer name', { ...RULE, fromCookies: ['t'] }, [['cookie', `xt=${FORGED}`]], '/a', 'no-token'],
  ] as const)('%s', (_what, rule, lines, target, expected) => {
    expect(verdict([rule as JsonObject], lines, target)).toBe(expected);
  });
});

describe('several rules', () => {
  const rules = [RULE, OTHER_RULE];
  it.each([
    ['no token', [], 'no-token'],
    ['a token of the one', bearer(ALICE), 'alice'],
    ['a token of the other', bearer(BOB), 'bob'],
    ['an expired token of the one', bearer(EXPIRED), FAULTS.expired],
    ['an expired token of the other', bearer(token(OTHER, { ...OTHER_CLAIMS, exp: 1 })), FAULTS.expired],
    ['a token of neither', bearer(token(GOOD, { iss: 'x' })), FAULTS.unknownIssuer],
    ['a token by the key of the wrong issuer', bearer(token(OTHER, CLAIMS)), FAULTS.noMatchingKey],
  ])('that share a place, with %s', (_what, lines, expected) => {
    expect(verdict(rules, lines)).toBe(expected);
  });

  const apart = [RULE, { ...OTHER_RULE, fromHeaders: [{ name: 'x-token' }] }];
  it.each([
    ['none', [], 'no-token'],
    ['the first', bearer(ALICE), 'alice'],
    ['the second', [['x-token', BOB]], 'bob'],
    ['the first, and a bad second', [...bearer(ALICE), ['x-token', 'x']], 'alice'],
    ['a bad first, and the second', [...bearer(FORGED), ['x-token', BOB]], 'bob'],
    ['a bad first, and no second', bearer(FORGED), FAULTS.signature],
    ['both bad', [...bearer(FORGED), ['x-token', 'x']], FAULTS.signature],
    ['each the other’s', [...bearer(BOB), ['x-token', ALICE]], FAULTS.unknownIssuer],
  ] as const)('that look apart, with %s', (_what, lines, expected) => {
    expect(verdict(apart, lines)).toBe(expected);
  });

  test('of one issuer accept a token that one of them accepts', () => {
    const web = { ...RULE, audiences: ['web'] };
    const orders = { ...RULE, audiences: ['orders'] };
    expect(verdict([web, orders], bearer(ALICE))).toBe('alice');
    expect(verdict([web, web], bearer(ALICE))).toBe(FAULTS.audience);
  });

  test('say of a token what is wrong with it by its own', () => {
    const first = { ...OTHER_RULE, issuer: 'https://a.example' };
    const audience = { ...RULE, audiences: ['web'] };
    expect(verdict([first, audience], bearer(ALICE))).toBe(FAULTS.audience);
    expect(OTHER_ISSUER > CLAIMS.iss).toBe(true);
    expect(verdict([OTHER_RULE, audience], bearer(ALICE))).toBe(FAULTS.audience);
  });
});
