import { describe, expect, it, test } from 'vitest';
import { readJwtRules } from '../../../policy/tokens/jwt-rule.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { compiled, RULE, requestAuthentication } from './objects.ts';

const issuers = (...objects: readonly JsonObject[]) => compiled(...objects).rules.map(({ issuer }) => issuer);
const rule = (issuer: string): JsonObject => ({ ...RULE, issuer });

describe('the RequestAuthentications of a workload', () => {
  it.each([
    ['of its namespace', {}, true],
    ['of the root namespace', { namespace: 'istio-system' }, true],
    ['of another namespace', { namespace: 'web' }, false],
    ['with its labels', { spec: { selector: { matchLabels: { app: 'orders' } } } }, true],
    ['with other labels', { spec: { selector: { matchLabels: { app: 'web' } } } }, false],
    [
      'of the root namespace with its labels',
      { namespace: 'istio-system', spec: { selector: { matchLabels: { app: 'orders' } } } },
      true,
    ],
    [
      'of the root namespace with other labels',
      { namespace: 'istio-system', spec: { selector: { matchLabels: { app: 'web' } } } },
      false,
    ],
    ['with an empty selector', { spec: { selector: {} } }, true],
    ['with a target', { spec: { targetRefs: [{ kind: 'Service', name: 'orders' }] } }, false],
  ])('%s: %j, selected: %s', (_what, more, selected) => {
    expect(issuers(requestAuthentication([RULE], more))).toHaveLength(selected ? 1 : 0);
  });

  test('are merged, none overriding another, by issuer', () => {
    const mesh = requestAuthentication([rule('c'), rule('a')], { namespace: 'istio-system' });
    const own = requestAuthentication([rule('b'), rule('a')], { name: 'own' });
    expect(issuers(mesh, own)).toEqual(['a', 'a', 'b', 'c']);
  });

  test('keep their order where the issuer is the same', () => {
    const first = requestAuthentication([{ ...RULE, audiences: ['1'] }]);
    const second = requestAuthentication([{ ...RULE, audiences: ['2'] }], { name: 'second' });
    expect(compiled(first, second).rules.map(({ audiences }) => audiences)).toEqual([['1'], ['2']]);
  });

  test('without rules ask nothing', () => {
    expect(issuers(requestAuthentication([]))).toEqual([]);
    expect(issuers({ ...requestAuthentication([]), spec: {} })).toEqual([]);
  });

  test('are not other kinds', () => {
    expect(issuers({ ...requestAuthentication([RULE]), kind: 'AuthorizationPolicy' })).toEqual([]);
  });

  test('look through the same places once', () => {
    const own = { ...RULE, fromHeaders: [{ name: 'X-Token' }] };
    const rules = compiled(requestAuthentication([RULE, own, { ...own, issuer: 'z' }, rule('b')]));
    expect(rules.places).toHaveLength(2);
    expect(rules.rules.map(({ locations, place }) => rules.places[place] === locations || locations)).toHaveLength(4);
  });
});

describe('a JWT rule', () => {
  const read = (more: JsonObject) => readJwtRules(requestAuthentication([{ ...RULE, ...more }]))[0];

  test('finds keys inline, by URI, or by discovery', () => {
    const keys = (more: JsonObject) => readJwtRules(requestAuthentication([more]))[0]?.keys;
    expect(keys({ issuer: 'https://i', jwks: '{}' })).toEqual({ kind: 'inline', text: '{}' });
    expect(keys({ jwksUri: 'https://i/keys' })).toEqual({ kind: 'uri', name: 'https://i/keys' });
    const name = 'https://i/x/.well-known/openid-configuration';
    expect(keys({ issuer: 'https://i/x' })).toEqual({ kind: 'discovery', name, issuer: 'https://i/x' });
    expect(keys({ issuer: 'https://i/x/' })).toEqual({ kind: 'discovery', name, issuer: 'https://i/x/' });
  });

  test('looks in the default places, or in those alone that it names', () => {
    expect(read({})?.locations).toMatchObject({
      headers: [{ name: 'authorization' }],
      params: ['access_token'],
      cookies: [],
    });
    expect(read({ fromCookies: ['c'] })?.locations).toEqual({ headers: [], params: [], cookies: ['c'] });
    expect(read({ fromParams: ['p'] })?.locations).toEqual({ headers: [], params: ['p'], cookies: [] });
  });

  it.each([
    ['null', null],
    ['no issuer and no keys', { issuer: '' }],
    ['an issuer that is a number', { ...RULE, issuer: 1 }],
    ['audiences that are a text', { ...RULE, audiences: 'a' }],
    ['an empty audience', { ...RULE, audiences: [''] }],
    ['a header without a name', { ...RULE, fromHeaders: [{}] }],
    ['parameters that are no texts', { ...RULE, fromParams: [1] }],
    ['an output without a claim', { ...RULE, outputClaimToHeaders: [{ header: 'x' }] }],
    ['a flag that is a text', { ...RULE, forwardOriginalToken: 'false' }],
    ['a timeout that is none', { ...RULE, timeout: 'soon' }],
  ])('that is or has %s is an error, not a rule that asks less', (_what, bad) => {
    expect(() => readJwtRules(requestAuthentication([bad as JsonObject]))).toThrow(
      expect.objectContaining({ code: 'ERR_POLICY_MALFORMED' }),
    );
  });

  it.each([
    ['5s', 5000],
    ['1m30s', 90_000],
    ['250ms', 250],
    ['1.5s', 1500],
  ])('with the timeout %s waits %i ms', (timeout, milliseconds) => {
    expect(read({ timeout })?.timeoutMs).toBe(milliseconds);
  });

  it.each([
    'host',
    'Content-Length',
    'transfer-encoding',
    'connection',
    'x-forwarded-client-cert',
    ':path',
    'a b',
    'a\r\nb',
  ])('cannot set %j from a token', (header) => {
    const outputs = read({ outputPayloadToHeader: header, outputClaimToHeaders: [{ header, claim: 'sub' }] })?.outputs;
    expect(outputs).toEqual({ payload: null, claims: [] });
  });
});
