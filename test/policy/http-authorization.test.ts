import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import {
  type Claims,
  type ConnectionAttributes,
  compilePolicies,
  type JsonObject,
  type RequestAttributes,
} from '../../policy/index.ts';
import { allowSource, allowWhen, CONNECTION, denySource, MESH, ORDERS, policy, requestOf } from './objects.ts';

interface Change {
  readonly connection?: Partial<ConnectionAttributes>;
  readonly request?: Parameters<typeof requestOf>[0];
  readonly claims?: Claims;
  readonly mesh?: typeof MESH;
}

function decide(objects: readonly JsonObject[], { connection, request = {}, claims = null, mesh = MESH }: Change = {}) {
  const decider = compilePolicies(objects, ORDERS, mesh).forConnection({ ...CONNECTION, ...connection });
  return decider.decide(requestOf(request), claims);
}
const allowed = (objects: readonly JsonObject[], change: Change = {}): boolean => decide(objects, change).allowed;

const ALL = { action: 'ALLOW', rules: [{}] };
const DENY_ALL = { action: 'DENY', rules: [{}] };
const operation = (fields: JsonObject): JsonObject => ({ rules: [{ to: [{ operation: fields }] }] });
const not = (field: string): string => `not${field.charAt(0).toUpperCase()}${field.slice(1)}`;

/** ALLOW matches as expected, its negation the other way, and so do DENY and its negation. */
function expectField(part: 'from' | 'to', field: string, value: string, change: Change, matches: boolean): void {
  const inner = part === 'from' ? 'source' : 'operation';
  const rule = (name: string): JsonObject => ({ [part]: [{ [inner]: { [name]: [value] } }] });
  expect(allowed([policy({ rules: [rule(field)] })], change)).toBe(matches);
  expect(allowed([policy({ rules: [rule(not(field))] })], change)).toBe(!matches);
  expect(allowed([policy({ action: 'DENY', rules: [rule(field)] })], change)).toBe(!matches);
  expect(allowed([policy({ action: 'DENY', rules: [rule(not(field))] })], change)).toBe(matches);
}

function expectWhen(key: string, value: string, change: Change, matches: boolean): void {
  expect(allowed([allowWhen({ key, values: [value] })], change)).toBe(matches);
  expect(allowed([allowWhen({ key, notValues: [value] })], change)).toBe(!matches);
}

describe('order of evaluation on HTTP (1.2)', () => {
  const paths = (action: string, path: string, name: string) =>
    policy({ action, ...operation({ paths: [path] }) }, { name });

  test('DENY is asked before ALLOW, ALLOW before the default', () => {
    const objects = [paths('DENY', '/admin/*', 'd'), paths('ALLOW', '/*', 'a')];
    expect(decide(objects, { request: { path: '/admin/x' } })).toMatchObject({
      allowed: false,
      reason: 'deny-policy',
      policy: 'shop/d',
      rule: 0,
      provider: null,
    });
    expect(decide(objects, { request: { path: '/x' } })).toMatchObject({ allowed: true, policy: 'shop/a' });
    expect(decide([paths('DENY', '/admin/*', 'd')], { request: { path: '/x' } })).toMatchObject({
      reason: 'default-allow',
    });
    expect(decide([paths('ALLOW', '/a', 'a')], { request: { path: '/x' } })).toMatchObject({
      allowed: false,
      reason: 'no-allow-policy-matched',
      policy: null,
    });
    expect(decide([], { mesh: { ...MESH, defaultAction: 'DENY' } })).toMatchObject({ reason: 'default-deny' });
  });

  test('each request of a connection is decided by itself', () => {
    const decider = compilePolicies([paths('ALLOW', '/a', 'a')], ORDERS, MESH).forConnection(CONNECTION);
    const answers = ['/a', '/b', '/a'].map((path) => decider.decide(requestOf({ path }), null).allowed);
    expect(answers).toEqual([true, false, true]);
  });

  test('AUDIT names what matches and changes nothing', () => {
    const objects = [paths('AUDIT', '/a', 'x'), paths('AUDIT', '/b', 'y'), policy(DENY_ALL, { name: 'd' })];
    expect(decide(objects, { request: { path: '/a' } })).toMatchObject({ allowed: false, audit: ['shop/x'] });
    expect(decide(objects, { request: { path: '/c' } }).audit).toEqual([]);
  });

  test('dry runs say what they would, by the request, and change nothing', () => {
    const trial = { annotations: { 'istio.io/dry-run': 'true' } };
    const objects = [
      policy(operation({ methods: ['GET'] }), { name: 'a', ...trial }),
      policy({ action: 'DENY', ...operation({ paths: ['/b'] }) }, { name: 'd', ...trial }),
    ];
    expect(decide(objects, { request: { path: '/b' } })).toMatchObject({
      allowed: true,
      reason: 'default-allow',
      dryRun: { allow: 'allow', deny: 'deny', allowPolicy: 'shop/a', denyPolicy: 'shop/d' },
    });
    expect(decide(objects, { request: { method: 'PUT' } }).dryRun).toMatchObject({ allow: 'deny', deny: 'allow' });
  });

  test('the rule reported is the one with the smallest id, however it is found', () => {
    const rules = [
      ...Array.from({ length: 9 }, () => ({ to: [{ operation: { paths: ['/other'] } }] })),
      { to: [{ operation: { paths: ['/a*'] } }] },
      { from: [{ source: { namespaces: ['shop'] } }] },
      { to: [{ operation: { methods: ['GET'] } }] },
    ];
    expect(decide([policy({ action: 'DENY', rules })], { request: { path: '/a/b' } })).toMatchObject({ rule: 10 });
  });
});

describe('empty forms on HTTP (1.3)', () => {
  test.each<[string, JsonObject, boolean]>([
    ['an empty spec allows nothing', {}, false],
    ['ALLOW with an empty rule allows everything', ALL, true],
    ['DENY with an empty rule denies everything', DENY_ALL, false],
    ['DENY without rules never matches', { action: 'DENY' }, true],
  ])('%s', (_, spec, expected) => {
    expect(allowed([policy(spec)])).toBe(expected);
  });
});

describe('boolean structure on HTTP (1.4)', () => {
  test.each<[string, JsonObject, boolean]>([
    ['the fields of an operation hold together', operation({ methods: ['GET'], paths: ['/b'] }), false],
    ['the values of a field are alternatives', operation({ paths: ['/b', '/a'] }), true],
    ['a field and its negation must both hold', operation({ paths: ['/*'], notPaths: ['/a'] }), false],
    [
      'operations are alternatives',
      { rules: [{ to: [{ operation: { paths: ['/b'] } }, { operation: { methods: ['GET'] } }] }] },
      true,
    ],
    [
      'from, to and when hold together',
      {
        rules: [
          {
            from: [{ source: { namespaces: ['shop'] } }],
            to: [{ operation: { paths: ['/a'] } }],
            when: [{ key: 'request.headers[x]', values: ['2'] }],
          },
        ],
      },
      false,
    ],
    [
      'conditions with one key hold together',
      {
        rules: [
          {
            when: [
              { key: 'request.headers[x]', values: ['1'] },
              { key: 'request.headers[x]', notValues: ['1'] },
            ],
          },
        ],
      },
      false,
    ],
  ])('%s', (_, spec, expected) => {
    expect(allowed([policy(spec)], { request: { path: '/a', headers: { x: ['1'] } } })).toBe(expected);
  });
});

describe('operations (1.5, 1.7)', () => {
  test.each<[field: 'hosts' | 'methods' | 'paths', value: string, found: string, matches: boolean]>([
    ['hosts', 'example.com', 'example.com', true],
    ['hosts', 'Example.COM', 'eXample.com', true],
    ['hosts', 'example.com', 'example.com:8080', false],
    ['hosts', 'example.com:*', 'example.com:8080', true],
    ['hosts', '*.example.com', 'a.example.com', true],
    ['hosts', '*.EXAMPLE.com', 'a.example.COM', true],
    ['hosts', '*.example.com', 'example.com', false],
    ['hosts', 'exa*', 'EXAMPLE.com', true],
    ['hosts', 'a*c', 'abc', false],
    ['hosts', '*', 'x', true],
    ['hosts', '*', '', false],
    ['methods', 'GET', 'GET', true],
    ['methods', 'get', 'GET', false],
    ['methods', 'P*', 'POST', true],
    ['methods', '*T', 'POST', true],
    ['methods', '*', 'PURGE', true],
    ['paths', '/a', '/a', true],
    ['paths', '/a', '/a/', false],
    ['paths', '/a', '/A', false],
    ['paths', '/a/*', '/a/', true],
    ['paths', '/a/*', '/a', false],
    ['paths', '*.html', '/a/b.html', true],
    ['paths', '*', '/', true],
    ['paths', '/a*b', '/axb', false],
    ['paths', '/a*b', '/a*b', true],
    ['paths', '*a*', '/a*', true],
    ['paths', '/pkg.Service/*', '/pkg.Service/Method', true],
    ['paths', '/caf\u00e9', '/caf\xc3\xa9', true],
  ])('%s %s matches %j: %s', (field, value, found, matches) => {
    expectField('to', field, value, { request: { [field.slice(0, -1)]: found } }, matches);
  });

  test('ports are of the connection', () => {
    expectField('to', 'ports', '8080', {}, true);
    expectField('to', 'ports', '81', {}, false);
  });
});

describe('path templates (1.7)', () => {
  const templates = ['/allow/admin/{**}', '/foo/{*}/bar/{**}', '/store/{**}/cart'];
  const matches = (values: readonly string[], path: string): boolean => {
    const found = allowed([policy(operation({ paths: values }))], { request: { path } });
    expect(allowed([policy({ action: 'DENY', ...operation({ paths: values }) })], { request: { path } })).toBe(!found);
    return found;
  };

  test.each([
    ...['/allow/admin/', '/allow/admin/temp', '/allow/admin/temp.txt', '/allow/admin/foo/temp.txt'],
    ...['/foo/buzz/bar/bat.txt', '/foo/buzz/bar/bat.temp.txt', '/foo/buzz/bar/bat/fuzz.txt', '/foo/buzz/bar/bat'],
    ...['/store//cart', '/store/foo/cart', '/store/foo/bar/cart'],
  ])('of the verified table match %s', (path) => {
    expect(matches(templates, path)).toBe(true);
  });

  test.each([
    ...['/allow/admin', '/allow/user/', '/allow', '/foo/bar/bat.txt', '/foo//bar/bat.txt', '/store/cart'],
    ...['/x/allow/admin/y', '/foo/a/b/bar/c', '/store/foo/cart/'],
  ])('of the verified table do not match %s', (path) => {
    expect(matches(templates, path)).toBe(false);
  });

  test.each<[template: string, path: string, expected: boolean]>([
    ['/{*}', '/a', true],
    ['/{*}', '/', false],
    ['/{*}', '/a/b', false],
    ['/{*}/', '/a/', true],
    ['/{*}/', '/a', false],
    ['/{*}/{*}', '/a/b', true],
    ['/{**}', '/', true],
    ['/{**}', '/a//b', true],
    ['/{*}/{**}', '/a', false],
    ['/{*}/{**}', '/a/', true],
    // What the proxies' operators cover: pchar and "*", nothing else.
    ['/{*}', "/-._~%20!$&'()+,;:@=*", true],
    ['/{*}', '/a|b', false],
    ['/{*}', '/a[b', false],
    ['/{**}', '/a"b', false],
    ['/{**}', '/caf\xc3\xa9', false],
    // Literals are literal.
    ['/a.b/{*}', '/axb/c', false],
    ['/a+b/{*}', '/a+b/c', true],
    ['/{**}/a', '/a', false],
    ['/{**}/aa', '/aa/a', false],
  ])('%s matches %s: %s', (template, path, expected) => {
    expect(matches([template], path)).toBe(expected);
  });

  test('that are none make ALLOW lose the rule and DENY the value', () => {
    for (const path of ['/{a}', '/{*}x', '/{**}/{*}', '{*}']) {
      expect(allowed([policy(operation({ paths: [path, '/a'] }))], { request: { path: '/a' } })).toBe(false);
      const deny = policy({ action: 'DENY', ...operation({ paths: [path, '/a'] }) });
      expect(allowed([deny], { request: { path: '/a' } })).toBe(false);
      expect(allowed([deny], { request: { path: '/b' } })).toBe(true);
      expect(allowed([policy({ action: 'DENY', ...operation({ paths: [path] }) })])).toBe(false);
    }
  });

  test('cost one pass over the path', () => {
    const path = `/${'a/'.repeat(50_000)}`;
    expect(matches(['/{*}/{*}/{*}/{**}/b'], path)).toBe(false);
  });
});

describe('request principals (1.6)', () => {
  test.each<[value: string, iss: string, sub: string, matches: boolean]>([
    ['*', 'https://idp', 'alice', true],
    ['*', '', 'alice', false],
    ['*', 'https://idp', '', false],
    ['*ice', 'https://idp', 'alice', true],
    ['*ice', '', 'alice', false],
    ['*ice', 'https://idp', 'bob', false],
    ['*idp/alice', 'https://idp', 'alice', true],
    ['*idp/ali', 'https://idp', 'alice', false],
    ['*/alice', 'anything', 'alice', true],
    ['*/alice', '', 'alice', false],
    ['idp*', 'idp.example', 'alice', true],
    ['idp*', 'idp.example', '', false],
    ['https://idp/*', 'https://idp', 'anyone', true],
    ['https://idp/*', 'https://idp.evil', 'anyone', false],
    ['https://idp/al*', 'https://idp', 'alice', true],
    ['https://idp/al*', 'https://idp', 'bob', false],
    ['https://idp/alice', 'https://idp', 'alice', true],
    ['https://idp/alice', 'https://idp', 'Alice', false],
    ['https://idp/alice', 'https:/', 'idp/alice', false],
    ['https://*', 'https://idp', 'alice', false],
    ['https://*', 'https:/', 'alice', true],
    ['idp', 'idp', 'alice', false],
    ['idp', 'idp', '', true],
    ['*a*', 'idp', 'xa*', true],
  ])('%s matches issuer %j and subject %j: %s', (value, iss, sub, matches) => {
    expectField('from', 'requestPrincipals', value, { claims: { iss, sub } }, matches);
    expectWhen('request.auth.principal', value, { claims: { iss, sub } }, matches);
  });

  test.each<[string, Claims]>([
    ['there is no token', null],
    ['the token has no subject', { iss: 'https://idp' }],
    ['the token has no issuer', { sub: 'alice' }],
    ['the subject is no text', { iss: 'https://idp', sub: 7 }],
    ['the issuer is a list', { iss: ['https://idp'], sub: 'alice' }],
  ])('match nothing where %s, and their negation everything', (_, claims) => {
    for (const value of ['*', '*ice', '*/alice', 'https*', 'https://idp/*', 'https://idp/alice']) {
      expectField('from', 'requestPrincipals', value, { claims }, false);
    }
  });

  test('that are thousands in one list are found by each', () => {
    const requestPrincipals = Array.from({ length: 5_000 }, (_, index) => `https://idp/user-${index}`);
    const objects = [allowSource({ requestPrincipals })];
    expect(allowed(objects, { claims: { iss: 'https://idp', sub: 'user-4999' } })).toBe(true);
    expect(allowed(objects, { claims: { iss: 'https://other', sub: 'user-4999' } })).toBe(false);
  });

  test('deny a request without a token where a policy requires one', () => {
    const require = [denySource({ notRequestPrincipals: ['*'] })];
    expect(allowed(require)).toBe(false);
    expect(allowed(require, { claims: { iss: 'i', sub: 's' } })).toBe(true);
  });
});

describe('headers (1.8, 4)', () => {
  test.each<[value: string, lines: readonly string[], matches: boolean]>([
    ['1', ['1'], true],
    ['1', ['2'], false],
    ['1', [], false],
    ['1', ['2', '1'], true],
    ['1', ['1,2'], false],
    ['1,2', ['1,2'], true],
    ['1,2', ['1', '2'], false],
    ['1*', ['12'], true],
    ['*2', ['12'], true],
    ['*', [''], true],
    ['*', [], false],
    ['A', ['a'], false],
    ['\u00e9', ['\xc3\xa9'], true],
    ['\u00e9', ['\xe9'], false],
  ])('the value %s matches the lines %j: %s', (value, lines, matches) => {
    expectWhen('request.headers[x-team]', value, { request: { headers: { 'x-team': lines } } }, matches);
    expectWhen('request.headers[X-Team]', value, { request: { headers: { 'x-team': lines } } }, matches);
  });

  test.each<[key: string, value: string, request: Partial<RequestAttributes>, matches: boolean]>([
    [':method', 'PUT', { method: 'PUT' }, true],
    [':method', 'put', { method: 'PUT' }, false],
    [':path', '/a?x=1', { path: '/a', query: '?x=1' }, true],
    [':path', '/a', { path: '/a', query: '?x=1' }, false],
    [':path', '/a*', { path: '/a', query: '?x=1' }, true],
    [':authority', 'A.example:80', { host: 'A.example:80' }, true],
    [':authority', 'a.example:80', { host: 'A.example:80' }, false],
    [':authority', '*', { host: '' }, false],
    ['host', 'A.example', { host: 'A.example' }, true],
    [':scheme', 'http', {}, false],
  ])('%s %s of %j: %s', (name, value, request, matches) => {
    expectWhen(`request.headers[${name}]`, value, { request }, matches);
  });
});

describe('claims (1.8)', () => {
  test.each<[key: string, value: string, claims: JsonObject, matches: boolean]>([
    ['claims[iss]', 'https://idp', { iss: 'https://idp' }, true],
    ['claims[a]', 'x', { a: 'x' }, true],
    ['claims[a]', 'x', { a: ['y', 'x'] }, true],
    ['claims[a]', 'x', { a: ['y'] }, false],
    ['claims[a]', 'x*', { a: ['y', 'xy'] }, true],
    ['claims[a]', '*', { a: 'x' }, true],
    ['claims[a]', '*', { a: '' }, false],
    ['claims[a]', '*', { a: [] }, false],
    ['claims[a]', '1', { a: 1 }, false],
    ['claims[a]', '1', { a: ['1', 1] }, true],
    ['claims[a]', 'true', { a: true }, false],
    ['claims[a]', '*', { a: { b: 'x' } }, false],
    ['claims[a]', '*', { a: null }, false],
    ['claims[a][b]', 'x', { a: { b: 'x' } }, true],
    ['claims[a][b]', 'x', { a: { b: ['x'] } }, true],
    ['claims[a][b][c]', 'x', { a: { b: { c: 'x' } } }, true],
    ['claims[a][b]', 'x', { a: 'x' }, false],
    ['claims[a][b]', 'x', { a: [{ b: 'x' }] }, false],
    ['claims[a][b]', 'x', { 'a][b': 'x' }, false],
    ['claims[https://a.example/roles@x]', 'x', { 'https://a.example/roles@x': 'x' }, true],
    ['claims[a[b]', 'x', { 'a[b': 'x' }, true],
    ['claims[constructor]', '*', {}, false],
    ['claims[a][length]', '*', { a: ['x'] }, false],
    ['audiences', 'x', { aud: 'x' }, true],
    ['audiences', 'x', { aud: ['y', 'x'] }, true],
    ['audiences', 'x', { aud: ['y'] }, false],
    ['presenter', 'x', { azp: 'x' }, true],
    ['presenter', 'x', { azp: 'y' }, false],
    ['claims[scope]', 'write', { scope: 'read write' }, true],
    ['claims[scope]', 'write', { scope: ' read\twrite ' }, true],
    ['claims[scope]', 'read write', { scope: 'read write' }, false],
    ['claims[scope]', 'rea*', { scope: 'write read' }, true],
    ['claims[scope]', 'read', { scope: ['read', 'write'] }, true],
    ['claims[permission]', 'write', { permission: 'read write' }, true],
    ['claims[roles]', 'write', { roles: 'read write' }, false],
    ['claims[a][scope]', 'write', { a: { scope: 'read write' } }, false],
    ['claims[scope][a]', 'write', { scope: { a: 'read write' } }, false],
  ])('%s %s of %j: %s', (key, value, claims, matches) => {
    expectWhen(`request.auth.${key}`, value, { claims }, matches);
  });

  test('a request without a token matches no value, and every notValues', () => {
    for (const key of ['request.auth.audiences', 'request.auth.presenter', 'request.auth.claims[a]']) {
      expectWhen(key, '*', {}, false);
    }
  });

  describe('that a RequestAuthentication calls space-delimited', () => {
    const authentication = (spec: JsonObject, namespace = 'shop'): JsonObject => ({
      apiVersion: 'security.istio.io/v1',
      kind: 'RequestAuthentication',
      metadata: { name: 'r', namespace },
      spec,
    });
    const asks = allowWhen({ key: 'request.auth.claims[roles]', values: ['write'] });
    const claims = { iss: 'https://idp', roles: 'read write' };

    test.each<[string, JsonObject, boolean]>([
      [
        'for the issuer',
        authentication({ jwtRules: [{ issuer: 'https://idp', spaceDelimitedClaims: ['roles'] }] }),
        true,
      ],
      [
        'for any issuer',
        authentication({ jwtRules: [{ jwksUri: 'https://k', spaceDelimitedClaims: ['roles'] }] }),
        true,
      ],
      [
        'for another',
        authentication({ jwtRules: [{ issuer: 'https://other', spaceDelimitedClaims: ['roles'] }] }),
        false,
      ],
      [
        'as another claim',
        authentication({ jwtRules: [{ issuer: 'https://idp', spaceDelimitedClaims: ['r'] }] }),
        false,
      ],
      [
        'for another workload',
        authentication({
          selector: { matchLabels: { app: 'x' } },
          jwtRules: [{ issuer: 'https://idp', spaceDelimitedClaims: ['roles'] }],
        }),
        false,
      ],
      [
        'in another namespace',
        authentication({ jwtRules: [{ issuer: 'https://idp', spaceDelimitedClaims: ['roles'] }] }, 'pay'),
        false,
      ],
    ])('%s', (_, object, expected) => {
      expect(allowed([asks, object], { claims })).toBe(expected);
    });
  });
});

describe('remote.ip (1.6)', () => {
  test.each<[string, readonly string[], string]>([
    ['without X-Forwarded-For the peer', [], '10.1.2.3'],
    ['the address that it names', ['192.0.2.7'], '192.0.2.7'],
    ['the right-most of several', ['203.0.113.1, 192.0.2.7'], '192.0.2.7'],
    ['the last line', ['192.0.2.8', '203.0.113.1,192.0.2.7'], '192.0.2.7'],
    ['an IPv6 address', ['2001:db8::7'], '2001:db8::7'],
    ['the peer where the right-most is none', ['192.0.2.7, unknown'], '10.1.2.3'],
    ['the peer where the right-most has a port', ['192.0.2.7:80'], '10.1.2.3'],
    ['the peer where the right-most is empty', ['192.0.2.7,'], '10.1.2.3'],
  ])('is %s', (_, lines, address) => {
    const change = { request: { headers: { 'x-forwarded-for': lines } } };
    expectWhen('remote.ip', address, change, true);
    expectField('from', 'remoteIpBlocks', address, change, true);
    expectWhen('source.ip', '10.1.2.3', change, true);
  });
});

describe('a CUSTOM policy on HTTP (1.11)', () => {
  const custom = (name: string, path = '/ask') =>
    policy({ action: 'CUSTOM', provider: { name }, ...operation({ paths: [path] }) }, { name: `ask-${name}` });
  const mesh = {
    ...MESH,
    extensionProviders: [
      { name: 'web', protocol: 'http' as const },
      { name: 'grpc', protocol: 'grpc' as const },
    ],
  };
  const ask = { request: { path: '/ask' }, mesh };

  test('denies what it matches and says whom to ask, where the mesh has its provider', () => {
    const expected = { allowed: false, reason: 'custom-policy', policy: 'shop/ask-web', rule: 0, provider: 'web' };
    expect(decide([custom('web'), policy(ALL)], ask)).toMatchObject(expected);
    expect(decide([custom('web'), policy(DENY_ALL)], ask)).toMatchObject(expected);
    expect(decide([custom('web'), policy(ALL)], { mesh })).toMatchObject({ allowed: true, provider: null });
  });

  test('denies what it matches as DENY does, where the mesh does not have its provider', () => {
    expect(decide([custom('none'), policy(ALL)], ask)).toMatchObject({
      allowed: false,
      reason: 'deny-policy',
      policy: 'shop/ask-none',
      provider: null,
    });
    expect(decide([custom('none')], { mesh })).toMatchObject({ allowed: true });
  });

  test('denies as DENY does where a workload has two providers', () => {
    expect(decide([custom('web'), custom('grpc', '/x')], ask)).toMatchObject({ reason: 'deny-policy', provider: null });
    expect(decide([custom('web'), custom('grpc', '/x')], { mesh }).allowed).toBe(true);
  });

  test('is asked for TCP by a provider that speaks gRPC, and ignored with one that speaks HTTP', () => {
    const onTcp = (name: string) => compilePolicies([custom(name)], ORDERS, mesh).decide(CONNECTION);
    expect(onTcp('grpc')).toMatchObject({ allowed: false, reason: 'custom-policy', provider: 'grpc' });
    expect(onTcp('web')).toMatchObject({ allowed: true, reason: 'default-allow' });
  });
});

describe('explanations of requests', () => {
  const explain = (objects: readonly JsonObject[], { request = {}, claims = null }: Change = {}) =>
    compilePolicies(objects, ORDERS, MESH).explainRequest(CONNECTION, requestOf(request), claims);
  const failure = (object: JsonObject, change: Change = {}) => explain([object], change).trace[0]?.failed;

  test.each<[JsonObject, Change, string, string]>([
    [policy(operation({ paths: ['/a', '/b'] })), { request: { path: '/c' } }, '/c', '/a, /b'],
    [policy(operation({ notMethods: ['GET'] })), {}, 'GET', 'none of GET'],
    [policy(operation({ hosts: ['a'] })), { request: { host: 'B' } }, 'B', 'a'],
    [policy(operation({ hosts: ['a'] })), { request: { host: '' } }, '(no host)', 'a'],
    [allowWhen({ key: 'request.headers[X]', values: ['1'] }), {}, '(no x)', '1'],
    [allowWhen({ key: 'request.headers[x]', values: ['1'] }), { request: { headers: { x: ['2', '3'] } } }, '2, 3', '1'],
    [allowSource({ requestPrincipals: ['a/b'] }), {}, '(no token)', 'a/b'],
    [allowSource({ requestPrincipals: ['a/b'] }), { claims: { iss: 'a', sub: 'c' } }, 'a/c', 'a/b'],
    [
      allowWhen({ key: 'request.auth.claims[a][b]', values: ['1'] }),
      { claims: { a: { b: 1 } } },
      '(no text in the claim a.b)',
      '1',
    ],
    [
      allowWhen({ key: 'request.auth.claims[scope]', values: ['x'] }),
      { claims: { scope: 'read write' } },
      'read, write',
      'x',
    ],
    [
      allowWhen({ key: 'remote.ip', values: ['10.0.0.1'] }),
      { request: { headers: { 'x-forwarded-for': ['192.0.2.1, 192.0.2.7'] } } },
      '192.0.2.7',
      '10.0.0.1',
    ],
  ])('of %j with %j tell what was found and what was wanted', (object, change, found, wanted) => {
    expect(failure(object, change)).toMatchObject({ found, wanted });
  });

  test.each(['authorization', 'cookie', 'Proxy-Authorization'])('do not repeat what is in %s', (name) => {
    const headers = { [name.toLowerCase()]: ['Bearer secret'] };
    const failed = failure(allowWhen({ key: `request.headers[${name}]`, values: ['x'] }), { request: { headers } });
    expect(JSON.stringify(failed)).not.toContain('secret');
    expect(failed?.found).toBe('(not shown)');
  });

  test('cut what is too long for a line', () => {
    expect(
      failure(policy(operation({ paths: ['/a'] })), { request: { path: `/${'b'.repeat(9_000)}` } })?.found,
    ).toHaveLength(257);
  });

  test('say of each policy what became of it', () => {
    const { decision, trace } = explain([
      policy({ action: 'CUSTOM', provider: { name: 'x' }, ...operation({ paths: ['/x'] }) }, { name: 'c' }),
      policy(operation({ paths: ['/{a}'] }), { name: 'bad' }),
      policy(operation({ paths: ['/'] }), { name: 'good' }),
    ]);
    expect(decision).toMatchObject({ allowed: true, policy: 'shop/good' });
    expect(trace).toMatchObject([
      { policy: 'shop/c', matched: false, note: expect.stringContaining('provider is not known here ("x")') },
      { policy: 'shop/bad', matched: false, note: expect.stringMatching(/^never allows: values that cannot be read/) },
      { policy: 'shop/good', matched: true, failed: null, note: null },
    ]);
  });
});

test('an exception out of a header look-up leaves the decider as it was', () => {
  const decider = compilePolicies(
    [allowWhen({ key: 'request.headers[x]', values: ['1'] })],
    ORDERS,
    MESH,
  ).forConnection(CONNECTION);
  const broken = {
    ...requestOf({}),
    header: () => {
      throw new Error('gone');
    },
  };
  expect(() => decider.decide(broken, null)).toThrow('gone');
  expect(decider.decide(requestOf({ headers: { x: ['1'] } }), null).allowed).toBe(true);
});

test('a decider keeps nothing of a request that it has decided', async () => {
  setFlagsFromString('--expose-gc');
  const collectGarbage: () => void = runInNewContext('gc');
  const decider = compilePolicies([policy(ALL)], ORDERS, MESH).forConnection(CONNECTION);
  const asked = (() => {
    const request = requestOf({});
    expect(decider.decide(request, null).allowed).toBe(true);
    return new WeakRef(request);
  })();
  // A WeakRef holds its target until the turn of the event loop ends.
  await setImmediate();
  collectGarbage();
  expect(asked.deref()).toBeUndefined();
  expect(decider.decide(requestOf({}), null).allowed).toBe(true);
});
