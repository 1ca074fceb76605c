import { beforeEach, describe, expect, it, test } from 'vitest';
import type { Resource } from '../../../mesh/resources.ts';
import { FAULTS } from '../../../policy/jwt/faults.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { TokenAuthenticator } from '../../../proxy/inbound/token-authenticator.ts';
import { MeshView } from '../../../proxy/protocol/mesh-view.ts';
import { CLAIMS, ISSUER, jwkOf, jwksText, NOW, segment, signer, token } from '../../policy/jwt/forge.ts';
import { FakeHead } from '../../policy/tokens/fake-head.ts';
import { GOOD, ORDERS, OTHER_RULE, RULE, requestAuthentication } from '../../policy/tokens/objects.ts';

const MESH: Resource = {
  kind: 'MeshConfig',
  name: 'mesh',
  trustDomain: 'cluster.local',
  trustDomainAliases: [],
  rootNamespace: 'istio-system',
  outboundTrafficPolicy: 'ALLOW_ANY',
  defaultAction: 'ALLOW',
  pathNormalization: 'BASE',
  extensionProviders: [],
};
const KEYS_URI = 'https://idp.example/keys';
const { jwks: _inline, ...WITHOUT_KEYS } = RULE;
const BY_URI: JsonObject = { ...WITHOUT_KEYS, jwksUri: KEYS_URI };

/** Whatever a plane's parts say here is what they were asked. */
class Sidecar {
  readonly view = new MeshView(
    () => null,
    () => null,
  );
  readonly refused: string[] = [];
  now = NOW;
  readonly tokens: TokenAuthenticator;

  constructor() {
    this.tokens = new TokenAuthenticator({
      view: this.view,
      config: { workload: { ...ORDERS, name: 'orders', serviceAccount: 'orders', addresses: [] } },
      unixNow: () => this.now,
      metrics: { tokenRefused: (reason: string) => this.refused.push(reason) },
      log: () => {},
    } as never);
  }

  push(...upserts: readonly Resource[]): void {
    expect(this.view.applyDelta({ full: false, upserts, removes: [] })).toEqual([]);
    this.tokens.refresh();
  }

  pushRules(...rules: readonly JsonObject[]): void {
    this.push(MESH, { kind: 'RequestAuthentication', name: 'shop/jwt', object: requestAuthentication(rules) });
  }

  outcome(text: string | null, head = headWith(text)) {
    return this.tokens.authenticate(head);
  }
}

function headWith(text: string | null, more: readonly (readonly [string, string])[] = []): FakeHead {
  return new FakeHead([...(text === null ? [] : [['authorization', `Bearer ${text}`] as const]), ...more]);
}

const KEYS = (...by: readonly (typeof GOOD)[]): Resource => ({
  kind: 'Jwks',
  name: KEYS_URI,
  jwks: jwksText(...by.map((one) => jwkOf(one))),
});

let sidecar: Sidecar;
beforeEach(() => {
  sidecar = new Sidecar();
});

describe('a request', () => {
  test('to a workload without rules is not looked at', () => {
    expect(sidecar.outcome('x').kind).toBe('no-rules');
    sidecar.push(MESH);
    expect(sidecar.outcome('x').kind).toBe('no-rules');
  });

  test('without a token passes without claims', () => {
    sidecar.pushRules(RULE);
    expect(sidecar.outcome(null)).toEqual({ kind: 'no-token' });
  });

  test('with a good token has its claims and principal', () => {
    sidecar.pushRules(RULE);
    expect(sidecar.outcome(token(GOOD))).toMatchObject({
      kind: 'verified',
      claims: CLAIMS,
      principal: `${ISSUER}/alice`,
    });
  });

  test('with a bad token is answered as Envoy answers, and counted', () => {
    sidecar.pushRules(RULE);
    const head = new FakeHead(
      [['authorization', `Bearer ${token(GOOD, { ...CLAIMS, exp: 1 })}`]],
      '/a"b?access_token=x',
    );
    expect(sidecar.outcome(null, head)).toEqual({
      kind: 'refused',
      status: 401,
      reason: 'Jwt is expired',
      challenge: 'Bearer realm="http://orders.shop:8080/a%22b", error="invalid_token"',
      detail: 'jwt_authn_access_denied{Jwt_is_expired}',
      forged: false,
    });
    expect(sidecar.refused).toEqual(['Jwt is expired']);
  });

  test('with a forged token says that it had to be verified, the first time', () => {
    sidecar.pushRules(RULE);
    const text = token({ ...signer('ES256', GOOD.keyId) });
    expect(sidecar.outcome(text)).toMatchObject({ reason: FAULTS.signature, forged: true });
    expect(sidecar.outcome(text)).toMatchObject({ reason: FAULTS.signature, forged: false });
  });

  test('for another audience is forbidden', () => {
    sidecar.pushRules({ ...RULE, audiences: ['web'] });
    expect(sidecar.outcome(token(GOOD))).toMatchObject({ status: 403, reason: 'Audiences in Jwt are not allowed' });
  });

  it.each([
    ['OPTIONS', { origin: 'https://a', 'access-control-request-method': 'PUT' }, 'no-token'],
    ['GET', { origin: 'https://a', 'access-control-request-method': 'PUT' }, 'refused'],
    ['OPTIONS', { 'access-control-request-method': 'PUT' }, 'refused'],
    ['OPTIONS', { origin: 'https://a' }, 'refused'],
    ['OPTIONS', { origin: '', 'access-control-request-method': 'PUT' }, 'refused'],
    ['OPTIONS', { origin: 'https://a', 'access-control-request-method': '' }, 'refused'],
  ])('%s with %j and a bad token: %s', (method, headers, kind) => {
    sidecar.pushRules(RULE);
    const head = new FakeHead([['authorization', 'Bearer x'], ...Object.entries(headers)], '/a', method);
    expect(sidecar.outcome(null, head).kind).toBe(kind);
  });
});

describe('what the application gets', () => {
  const OUTPUTS = {
    ...RULE,
    outputPayloadToHeader: 'x-payload',
    outputClaimToHeaders: [{ header: 'x-user', claim: 'sub' }],
  };

  test('is no token, but what the rule says of it', () => {
    sidecar.pushRules(OUTPUTS);
    for (const _again of ['first seen', 'remembered']) {
      const head = headWith(token(GOOD), [['x-user', 'root']]);
      sidecar.outcome(null, head);
      expect(head.lines()).toEqual([
        ['x-payload', segment(CLAIMS)],
        ['x-user', 'alice'],
      ]);
    }
  });

  test('is the payload as soon as a rule says so, of tokens that were verified before, too', () => {
    sidecar.pushRules(RULE);
    const text = token(GOOD);
    sidecar.outcome(text);
    sidecar.pushRules({ ...RULE, outputPayloadToHeader: 'x-payload' });
    const head = headWith(text);
    sidecar.outcome(null, head);
    expect(head.lines()).toEqual([['x-payload', segment(CLAIMS)]]);
  });

  test('is the token, too, where the rule forwards it', () => {
    sidecar.pushRules({ ...RULE, forwardOriginalToken: true });
    const text = token(GOOD);
    const head = headWith(text);
    expect(sidecar.outcome(null, head).kind).toBe('verified');
    expect(head.get('authorization')).toBe(`Bearer ${text}`);
  });

  test('is no access_token parameter', () => {
    sidecar.pushRules(RULE);
    const head = new FakeHead([], `/a?x=1&access_token=${token(GOOD)}`);
    expect(sidecar.outcome(null, head).kind).toBe('verified');
    expect(head.target).toBe('/a?x=1');
  });

  it.each([
    ['without a token', null, 'GET', 'no-token'],
    ['with a bad one', 'x', 'GET', 'refused'],
    ['in a preflight', null, 'OPTIONS', 'no-token'],
  ])('is no header of the client’s that a rule would set, %s', (_what, text, method, kind) => {
    sidecar.pushRules(OUTPUTS);
    const preflight = [
      ['origin', 'https://a'],
      ['access-control-request-method', 'GET'],
    ] as const;
    const credentials = text === null ? [] : [['authorization', `Bearer ${text}`] as const];
    const head = new FakeHead([...credentials, ...preflight, ['x-user', 'root'], ['x_payload', 'e30']], '/a', method);
    expect(sidecar.outcome(null, head).kind).toBe(kind);
    expect(head.lines().map(([name]) => name)).not.toContain('x-user');
    expect(head.lines().map(([name]) => name)).not.toContain('x_payload');
  });
});

describe('keys that the control plane pushes', () => {
  test('are waited for: until then every token is refused', () => {
    sidecar.pushRules(BY_URI);
    expect(sidecar.outcome(token(GOOD))).toMatchObject({ status: 401, reason: FAULTS.keysUnavailable });
    sidecar.push({ kind: 'Jwks', name: KEYS_URI, jwks: null });
    expect(sidecar.outcome(token(GOOD))).toMatchObject({ reason: FAULTS.keysUnavailable });
    sidecar.push(KEYS(GOOD));
    expect(sidecar.outcome(token(GOOD)).kind).toBe('verified');
  });

  test('that cannot be read verify nothing', () => {
    sidecar.pushRules(BY_URI);
    sidecar.push({ kind: 'Jwks', name: KEYS_URI, jwks: '{"keys":{}}' });
    expect(sidecar.outcome(token(GOOD))).toMatchObject({ reason: FAULTS.keysUnavailable });
  });

  test('of another URI do not count', () => {
    sidecar.pushRules(BY_URI);
    sidecar.push({ ...KEYS(GOOD), name: `${KEYS_URI}/` } as Resource);
    expect(sidecar.outcome(token(GOOD)).kind).toBe('refused');
  });

  test('take effect for tokens that were verified before: one that is gone verifies no more', () => {
    const next = signer('ES256', 'next');
    sidecar.pushRules(BY_URI);
    sidecar.push(KEYS(GOOD));
    const text = token(GOOD);
    expect(sidecar.outcome(text).kind).toBe('verified');
    sidecar.push(KEYS(GOOD, next));
    expect([text, token(next)].map((one) => sidecar.outcome(one).kind)).toEqual(['verified', 'verified']);
    sidecar.push(KEYS(next));
    expect([text, token(next)].map((one) => sidecar.outcome(one).kind)).toEqual(['refused', 'verified']);
  });
});

describe('the token of a request under way', () => {
  const next = signer('ES256', 'next');
  const renamed = { ...GOOD, keyId: 'renamed' };
  const AFTER: readonly (readonly [string, readonly JsonObject[], string])[] = [
    ['nothing has changed', [BY_URI], 'verified'],
    ['a rule for another issuer came', [OTHER_RULE, BY_URI], 'verified'],
    ['its issuer is gone, another is there', [OTHER_RULE], FAULTS.unknownIssuer],
    ['its audience is gone', [{ ...BY_URI, audiences: ['web'] }], FAULTS.audience],
    ['a rule for its audience is left', [{ ...BY_URI, audiences: ['web'] }, BY_URI], 'verified'],
    ['no rule is left', [], 'no-rules'],
  ];

  /** @returns what is thought of it now. */
  function underWay(): () => string {
    sidecar.pushRules(BY_URI);
    sidecar.push(KEYS(GOOD));
    const head = headWith(token(GOOD));
    const before = sidecar.outcome(null, head);
    return () => {
      if (before.kind !== 'verified') return 'it never was good';
      const after = sidecar.tokens.reconsider(head, before);
      return after.kind === 'refused' ? after.reason : after.kind;
    };
  }

  it.each(AFTER)('where %s', (_what, rules, expected) => {
    const now = underWay();
    sidecar.pushRules(...rules);
    expect(now()).toBe(expected);
  });

  it.each([
    ['there are more', KEYS(GOOD, next), 'verified'],
    ['it has another name', KEYS(renamed), 'verified'],
    ['it is gone', KEYS(next), FAULTS.noMatchingKey],
    ['all are gone', { kind: 'Jwks', name: KEYS_URI, jwks: null } as Resource, FAULTS.noMatchingKey],
  ])('where of the keys %s', (_what, keys, expected) => {
    const now = underWay();
    sidecar.push(keys);
    expect(now()).toBe(expected);
  });

  test('may expire, but not outlive its key by that', () => {
    const now = underWay();
    sidecar.now = (CLAIMS.exp + 61) * 1000;
    expect(now()).toBe('verified');
    sidecar.push(KEYS(next));
    expect(now()).toBe(FAULTS.noMatchingKey);
  });
});

describe('a token that was verified before', () => {
  test('expires all the same', () => {
    sidecar.pushRules(RULE);
    const text = token(GOOD);
    expect(sidecar.outcome(text).kind).toBe('verified');
    sidecar.now = (CLAIMS.exp + 61) * 1000;
    expect(sidecar.outcome(text)).toMatchObject({ kind: 'refused', reason: 'Jwt is expired' });
  });

  test('is asked by the rules that are in force now', () => {
    sidecar.pushRules(RULE);
    const text = token(GOOD);
    expect(sidecar.outcome(text).kind).toBe('verified');
    sidecar.pushRules({ ...RULE, audiences: ['web'] });
    expect(sidecar.outcome(text)).toMatchObject({ status: 403 });
    sidecar.pushRules({ ...RULE, issuer: 'https://other.example' });
    expect(sidecar.outcome(text)).toMatchObject({ reason: FAULTS.unknownIssuer });
    sidecar.view.applyDelta({ full: false, upserts: [], removes: ['RequestAuthentication/shop/jwt'] });
    sidecar.tokens.refresh();
    expect(sidecar.outcome(text).kind).toBe('no-rules');
  });
});
