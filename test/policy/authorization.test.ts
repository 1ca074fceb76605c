import { describe, expect, test } from 'vitest';
import { type ConnectionAttributes, compilePolicies, type JsonObject } from '../../policy/index.ts';
import { allowSource, allowWhen, CONNECTION, denySource, MESH, ORDERS, policy } from './objects.ts';

function decide(objects: readonly JsonObject[], change: Partial<ConnectionAttributes> = {}, mesh = MESH) {
  return compilePolicies(objects, ORDERS, mesh).decide({ ...CONNECTION, ...change });
}
const allowed = (objects: readonly JsonObject[], change: Partial<ConnectionAttributes> = {}, mesh = MESH): boolean =>
  decide(objects, change, mesh).allowed;

const PLAINTEXT = { sourcePrincipal: null };
const ALL = { action: 'ALLOW', rules: [{}] };
const DENY_ALL = { action: 'DENY', rules: [{}] };

describe('order of evaluation (1.2)', () => {
  test('without an ALLOW policy everything is allowed', () => {
    expect(decide([])).toMatchObject({ allowed: true, reason: 'default-allow', policy: null, rule: null });
  });

  test('without an ALLOW policy everything is denied where the mesh says so', () => {
    const mesh = { ...MESH, defaultAction: 'DENY' as const };
    expect(decide([], {}, mesh)).toMatchObject({ allowed: false, reason: 'default-deny', policy: null });
    expect(decide([policy(ALL)], {}, mesh)).toMatchObject({ allowed: true, reason: 'allow-policy' });
    expect(decide([policy({ action: 'AUDIT', rules: [{}] })], {}, mesh)).toMatchObject({ reason: 'default-deny' });
  });

  test('a DENY that matches wins over an ALLOW that matches', () => {
    const objects = [policy(ALL, { name: 'a' }), denySource({ namespaces: ['shop'] }, { name: 'z' })];
    expect(decide(objects)).toMatchObject({ allowed: false, reason: 'deny-policy', policy: 'shop/z', rule: 0 });
  });

  test('a DENY that does not match leaves the decision to ALLOW', () => {
    expect(decide([denySource({ namespaces: ['x'] })])).toMatchObject({ reason: 'default-allow' });
    expect(decide([denySource({ namespaces: ['x'] }), policy(ALL, { name: 'a' })])).toMatchObject({
      reason: 'allow-policy',
      policy: 'shop/a',
    });
  });

  test('with an ALLOW policy that does not match everything is denied', () => {
    expect(decide([allowSource({ namespaces: ['x'] })])).toMatchObject({
      allowed: false,
      reason: 'no-allow-policy-matched',
      policy: null,
      rule: null,
    });
  });

  test('AUDIT policies that match are named and do not change the verdict', () => {
    const audit = { action: 'AUDIT', rules: [{}] };
    const objects = [
      policy(audit, { name: 'z' }),
      policy(audit, { name: 'a' }),
      policy({ action: 'AUDIT' }, { name: 'none' }),
    ];
    expect(decide(objects)).toMatchObject({ allowed: true, reason: 'default-allow', audit: ['shop/a', 'shop/z'] });
    expect(decide([...objects, policy(DENY_ALL)])).toMatchObject({ allowed: false, audit: ['shop/a', 'shop/z'] });
  });

  test('CUSTOM denies what it matches, for no provider is known, and leaves the rest alone', () => {
    const custom = policy(
      { action: 'CUSTOM', provider: { name: 'x' }, rules: [{ to: [{ operation: { ports: ['8080'] } }] }] },
      { name: 'ext' },
    );
    expect(decide([custom, policy(ALL)])).toMatchObject({
      allowed: false,
      reason: 'deny-policy',
      policy: 'shop/ext',
      rule: 0,
    });
    expect(decide([custom, policy(ALL)], { destinationPort: 81 })).toMatchObject({ allowed: true });
  });

  test('the rule reported is the one with the smallest id, in the order of text', () => {
    const rules = Array.from({ length: 11 }, (_, index) =>
      index === 2 || index === 10 ? {} : { from: [{ source: { namespaces: ['x'] } }] },
    );
    expect(decide([policy({ action: 'DENY', rules }, { name: 'b' })])).toMatchObject({ rule: 10 });
    expect(decide([policy(DENY_ALL, { name: 'b' }), policy(DENY_ALL, { name: 'a' })])).toMatchObject({
      policy: 'shop/a',
    });
    expect(
      decide([policy(DENY_ALL, { name: 'a' }), policy(DENY_ALL, { name: 'z', namespace: 'istio-system' })]),
    ).toMatchObject({ policy: 'istio-system/z' });
  });
});

describe('empty forms (1.3)', () => {
  test.each<[string, JsonObject, boolean]>([
    ['an empty spec allows nothing', {}, false],
    ['ALLOW without rules allows nothing', { action: 'ALLOW' }, false],
    ['ALLOW with an empty list of rules allows nothing', { action: 'ALLOW', rules: [] }, false],
    ['ALLOW with an empty rule allows everything', { action: 'ALLOW', rules: [{}] }, true],
    ['an absent action is ALLOW', { rules: [{}] }, true],
    ['DENY with an empty rule denies everything', DENY_ALL, false],
    ['DENY without rules never matches', { action: 'DENY' }, true],
    ['AUDIT without rules never matches', { action: 'AUDIT' }, true],
    ['empty from, to and when are the same as absent', { rules: [{ from: [], to: [], when: [] }] }, true],
    ['null stands for absent', { rules: [{ from: null, to: null, when: null }] }, true],
  ])('%s', (_, spec, expected) => {
    expect(allowed([policy(spec)])).toBe(expected);
  });
});

describe('boolean structure (1.4)', () => {
  const from = (...sources: readonly JsonObject[]): JsonObject => ({ from: sources.map((source) => ({ source })) });
  test.each<[string, JsonObject, boolean]>([
    ['sources are alternatives', from({ namespaces: ['x'] }, { namespaces: ['shop'] }), true],
    ['the fields of a source hold together', from({ namespaces: ['shop'], ipBlocks: ['11.0.0.0/8'] }), false],
    ['the values of a field are alternatives', from({ namespaces: ['x', 'shop'] }), true],
    ['a negated field holds where no value matches', from({ notNamespaces: ['x', 'y'] }), true],
    ['a negated field fails where one value matches', from({ notNamespaces: ['x', 'shop'] }), false],
    [
      'a field and its negation must both hold',
      from({ ipBlocks: ['10.0.0.0/8'], notIpBlocks: ['10.1.0.0/16'] }),
      false,
    ],
    [
      'from and to must both hold',
      { ...from({ namespaces: ['shop'] }), to: [{ operation: { ports: ['81'] } }] },
      false,
    ],
    [
      'operations are alternatives',
      { to: [{ operation: { ports: ['81'] } }, { operation: { ports: ['8080'] } }] },
      true,
    ],
    [
      'conditions hold together',
      {
        when: [
          { key: 'source.namespace', values: ['shop'] },
          { key: 'destination.port', values: ['81'] },
        ],
      },
      false,
    ],
    [
      'conditions with one key hold together',
      {
        when: [
          { key: 'source.ip', values: ['10.0.0.0/8'] },
          { key: 'source.ip', values: ['11.0.0.0/8'] },
        ],
      },
      false,
    ],
    [
      'values and notValues must both hold',
      { when: [{ key: 'source.ip', values: ['10.0.0.0/8'], notValues: ['10.1.2.3'] }] },
      false,
    ],
  ])('%s', (_, rule, expected) => {
    expect(allowed([policy({ rules: [rule] })])).toBe(expected);
  });
});

describe('fields of a source (1.5, 1.6)', () => {
  test.each<[field: string, value: string, principal: string, matches: boolean]>([
    ['principals', 'cluster.local/ns/shop/sa/frontend', 'cluster.local/ns/shop/sa/frontend', true],
    ['principals', 'cluster.local/ns/shop/sa/front', 'cluster.local/ns/shop/sa/frontend', false],
    ['principals', 'cluster.local/ns/shop/sa/Frontend', 'cluster.local/ns/shop/sa/frontend', false],
    ['principals', 'cluster.local/ns/shop/*', 'cluster.local/ns/shop/sa/frontend', true],
    ['principals', 'cluster.local/ns/sh*', 'cluster.local/ns/shop/sa/frontend', true],
    ['principals', '*/sa/frontend', 'cluster.local/ns/shop/sa/frontend', true],
    ['principals', '*/ns/shop/sa/frontend', 'td/ns/shop/sa/frontend', true],
    ['principals', '*l/ns/shop/sa/frontend', 'cluster.local/ns/shop/sa/frontend', true],
    ['principals', '*', 'anything/ns/x/sa/y', true],
    ['principals', '*end*', 'cluster.local/ns/shop/sa/frontend', false],
    ['principals', 'cluster.local/ns/*/sa/frontend', 'cluster.local/ns/shop/sa/frontend', false],
    ['principals', 'spiffe://cluster.local/ns/shop/sa/frontend', 'cluster.local/ns/shop/sa/frontend', false],
    ['namespaces', 'shop', 'td/ns/shop/sa/frontend', true],
    ['namespaces', 'sho', 'td/ns/shop/sa/frontend', false],
    ['namespaces', 's*', 'td/ns/shop/sa/frontend', true],
    ['namespaces', '*op', 'td/ns/shop/sa/frontend', true],
    ['namespaces', 's*p', 'td/ns/shop/sa/frontend', true],
    ['namespaces', '*', 'td/ns/shop/sa/frontend', true],
    ['namespaces', 's.op', 'td/ns/shop/sa/frontend', false],
    ['serviceAccounts', 'shop/frontend', 'other/ns/shop/sa/frontend', true],
    ['serviceAccounts', 'frontend', 'other/ns/shop/sa/frontend', true],
    ['serviceAccounts', 'frontend', 'other/ns/pay/sa/frontend', false],
    ['serviceAccounts', 'shop/front.nd', 'other/ns/shop/sa/frontend', false],
    ['serviceAccounts', 'shop/frontend', 'td/ns/shop/x/sa/frontend/y', true],
    ['serviceAccounts', 'shop/frontend', 'td/ns/shop/xsa/frontend', false],
    ['trustDomains', 'td', 'td/ns/shop/sa/x', true],
    ['trustDomains', 't*', 'td/ns/shop/sa/x', true],
    ['trustDomains', '*d', 'td/ns/shop/sa/x', true],
    ['trustDomains', '*', 'td/ns/shop/sa/x', true],
    ['trustDomains', '*x', 'td/ns/shop/sa/x', false],
  ])('%s %s matches %s: %s', (field, value, principal, matches) => {
    expect(allowed([allowSource({ [field]: [value] })], { sourcePrincipal: principal })).toBe(matches);
    const negated = `not${field.charAt(0).toUpperCase()}${field.slice(1)}`;
    expect(allowed([allowSource({ [negated]: [value] })], { sourcePrincipal: principal })).toBe(!matches);
    const key = `source.${field.slice(0, -1)}`;
    expect(allowed([allowWhen({ key, values: [value] })], { sourcePrincipal: principal })).toBe(matches);
    expect(allowed([allowWhen({ key, notValues: [value] })], { sourcePrincipal: principal })).toBe(!matches);
  });

  test('a service account without a namespace is of the namespace of the policy, in the root namespace too', () => {
    const root = [allowSource({ serviceAccounts: ['frontend'] }, { namespace: 'istio-system' })];
    expect(allowed(root)).toBe(false);
    expect(allowed(root, { sourcePrincipal: 'td/ns/istio-system/sa/frontend' })).toBe(true);
  });

  test.each(['ipBlocks', 'remoteIpBlocks'])('%s is of the address of the TCP peer', (field) => {
    expect(allowed([allowSource({ [field]: ['10.1.0.0/16'] })])).toBe(true);
    expect(allowed([allowSource({ [field]: ['10.9.9.9'] })])).toBe(false);
    expect(allowed([allowSource({ [field]: ['10.1.2.3'] })], { sourceIp: '::ffff:10.1.2.3' })).toBe(true);
    expect(allowed([allowSource({ [field]: ['fe80::/10'] })], { sourceIp: 'fe80::1%eth0' })).toBe(true);
  });
});

describe('operations and conditions (1.7, 1.8)', () => {
  test.each<[value: string, port: number, matches: boolean]>([
    ['8080', 8080, true],
    ['080', 80, true],
    ['80', 8080, false],
    ['0', 0, true],
  ])('port %s matches %i: %s', (value, destinationPort, matches) => {
    expect(allowed([policy({ rules: [{ to: [{ operation: { ports: [value] } }] }] })], { destinationPort })).toBe(
      matches,
    );
    expect(allowed([policy({ rules: [{ to: [{ operation: { notPorts: [value] } }] }] })], { destinationPort })).toBe(
      !matches,
    );
    expect(allowed([allowWhen({ key: 'destination.port', values: [value] })], { destinationPort })).toBe(matches);
  });

  test.each<[key: string, value: string, change: Partial<ConnectionAttributes>, matches: boolean]>([
    ['source.ip', '10.1.0.0/16', {}, true],
    ['remote.ip', '10.2.0.0/16', {}, false],
    ['destination.ip', '10.9.9.9', {}, true],
    ['destination.ip', '10.1.2.3', {}, false],
    ['connection.sni', 'orders.shop', { sni: 'orders.shop' }, true],
    ['connection.sni', 'orders.*', { sni: 'orders.shop' }, true],
    ['connection.sni', '*', { sni: 'x' }, true],
    ['connection.sni', '*', { sni: '' }, false],
    ['connection.sni', 'orders.shop', { sni: 'ORDERS.shop' }, false],
  ])('%s %s with %j: %s', (key, value, change, matches) => {
    expect(allowed([allowWhen({ key, values: [value] })], change)).toBe(matches);
    expect(allowed([allowWhen({ key, notValues: [value] })], change)).toBe(!matches);
  });

  test('metadata of Envoy is absent: only its notValues match', () => {
    const key = 'experimental.envoy.filters.network[x]';
    expect(allowed([allowWhen({ key, values: ['*'] })])).toBe(false);
    expect(allowed([allowWhen({ key, notValues: ['a'] })])).toBe(true);
  });
});

describe('attributes of HTTP on TCP (1.9)', () => {
  const HTTP: readonly JsonObject[] = [
    { to: [{ operation: { hosts: ['a'] } }] },
    { to: [{ operation: { notHosts: ['a'] } }] },
    { to: [{ operation: { methods: ['GET'] } }] },
    { to: [{ operation: { notPaths: ['/x'] } }] },
    { from: [{ source: { requestPrincipals: ['*'] } }] },
    { from: [{ source: { notRequestPrincipals: ['*'] } }] },
    { when: [{ key: 'request.headers[x]', values: ['a'] }] },
    { when: [{ key: 'request.auth.claims[iss]', notValues: ['a'] }] },
    { when: [{ key: 'request.auth.principal', values: ['a'] }] },
    { when: [{ key: 'request.auth.audiences', values: ['a'] }] },
    { when: [{ key: 'request.auth.presenter', values: ['a'] }] },
  ];

  test.each(HTTP)('ALLOW loses the whole rule with %j', (rule) => {
    expect(decide([policy({ rules: [rule] })])).toMatchObject({ allowed: false, reason: 'no-allow-policy-matched' });
  });

  test.each(HTTP)('DENY and AUDIT lose only the condition with %j', (rule) => {
    expect(allowed([policy({ action: 'DENY', rules: [rule] })])).toBe(false);
    expect(decide([policy({ action: 'AUDIT', rules: [rule] })]).audit).toEqual(['shop/p']);
    const elsewhere = {
      ...rule,
      when: [...((rule.when as JsonObject[]) ?? []), { key: 'destination.port', values: ['81'] }],
    };
    expect(allowed([policy({ action: 'DENY', rules: [elsewhere] })])).toBe(true);
  });

  test('ALLOW loses the rule even where another operation is of TCP alone', () => {
    const to = [{ operation: { ports: ['8080'] } }, { operation: { paths: ['/x'] } }];
    expect(allowed([policy({ rules: [{ to }] })])).toBe(false);
  });

  test('ALLOW keeps its other rules', () => {
    expect(decide([policy({ rules: [{ to: [{ operation: { paths: ['/x'] } }] }, {}] })])).toMatchObject({
      allowed: true,
      rule: 1,
    });
  });

  test('DENY with one alternative that becomes empty matches all of them', () => {
    const from = [{ source: { namespaces: ['x'] } }, { source: { requestPrincipals: ['*'] } }];
    expect(allowed([policy({ action: 'DENY', rules: [{ from }] })])).toBe(false);
  });

  test.each<[JsonObject]>([[{ ipBlocks: ['10.0.0.0/8', 'bogus'] }], [{ notIpBlocks: ['bogus'] }]])(
    'of a value that cannot be read in %j, ALLOW loses the rule and DENY the value',
    (source) => {
      expect(allowed([allowSource(source)])).toBe(false);
      expect(allowed([denySource(source)])).toBe(false);
    },
  );
});

describe('peers that did not authenticate (1.10)', () => {
  const FIELDS: readonly (readonly [string, string])[] = [
    ['principals', '*'],
    ['namespaces', '*'],
    ['serviceAccounts', 'shop/frontend'],
    ['trustDomains', '*'],
  ];

  test.each(FIELDS)('%s matches none of them, and its negation all', (field, value) => {
    const negated = `not${field.charAt(0).toUpperCase()}${field.slice(1)}`;
    expect(allowed([allowSource({ [field]: [value] })], PLAINTEXT)).toBe(false);
    expect(allowed([allowSource({ [negated]: [value] })], PLAINTEXT)).toBe(true);
    expect(allowed([denySource({ [field]: [value] })], PLAINTEXT)).toBe(true);
    expect(allowed([denySource({ [negated]: [value] })], PLAINTEXT)).toBe(false);
    expect(allowed([denySource({ [field]: [value] })], { sourcePrincipal: '' })).toBe(true);
  });

  test('DENY notPrincipals * requires mutual TLS', () => {
    const requireMtls = [denySource({ notPrincipals: ['*'] })];
    expect(allowed(requireMtls, PLAINTEXT)).toBe(false);
    expect(allowed(requireMtls)).toBe(true);
  });
});

describe('dry run (1.11)', () => {
  const dryRun = (value: string) => ({ annotations: { 'istio.io/dry-run': value } });
  const none = { allow: null, deny: null, allowPolicy: null, denyPolicy: null };

  test.each(['1', 't', 'T', 'TRUE', 'true', 'True'])('%s makes a policy one that is only observed', (value) => {
    const objects = [policy(DENY_ALL, { name: 'd', ...dryRun(value) }), policy({}, { name: 'a', ...dryRun(value) })];
    expect(decide(objects)).toMatchObject({
      allowed: true,
      reason: 'default-allow',
      dryRun: { allow: 'deny', deny: 'deny', allowPolicy: null, denyPolicy: 'shop/d' },
    });
  });

  test.each(['0', 'f', 'F', 'FALSE', 'false', 'False', 'yes'])('%s leaves a policy enforced', (value) => {
    expect(decide([policy(DENY_ALL, dryRun(value))])).toMatchObject({ allowed: false, dryRun: none });
  });

  test('says what it would have allowed, and by which policy', () => {
    const objects = [
      policy(ALL, { name: 'a', ...dryRun('true') }),
      denySource({ namespaces: ['x'] }, { name: 'd', ...dryRun('true') }),
    ];
    expect(decide(objects).dryRun).toEqual({ allow: 'allow', deny: 'allow', allowPolicy: 'shop/a', denyPolicy: null });
  });

  test('does not count as an ALLOW policy, nor change what enforced ones say', () => {
    expect(decide([policy(ALL, { name: 'a', ...dryRun('true') }), allowSource({ namespaces: ['x'] })])).toMatchObject({
      allowed: false,
    });
  });
});

describe('trust domains (1.11)', () => {
  const MOVED = { ...MESH, trustDomain: 'new-td', trustDomainAliases: ['old-td'] };
  const RENAMED = { ...MESH, trustDomain: 'new-td' };
  const from = (trustDomain: string) => ({ sourcePrincipal: `${trustDomain}/ns/shop/sa/frontend` });

  test.each<[written: string, caller: string, mesh: typeof MESH, matches: boolean]>([
    ['old-td', 'new-td', MOVED, true],
    ['new-td', 'old-td', MOVED, true],
    ['old-td', 'old-td', MOVED, true],
    ['cluster.local', 'new-td', MOVED, true],
    ['cluster.local', 'new-td', RENAMED, true],
    ['cluster.local', 'cluster.local', RENAMED, false],
    ['*-td', 'old-td', MOVED, true],
    ['*-td', 'third-td', MOVED, true],
    ['old*', 'new-td', MOVED, true],
    ['far', 'far', MOVED, true],
    ['far', 'new-td', MOVED, false],
    ['*', 'far', MOVED, true],
  ])('the principal %s/ns/shop/sa/frontend and a caller of %s', (written, caller, mesh, matches) => {
    const value = `${written}/ns/shop/sa/frontend`;
    expect(allowed([allowSource({ principals: [value] })], from(caller), mesh)).toBe(matches);
    expect(allowed([allowSource({ notPrincipals: [value] })], from(caller), mesh)).toBe(!matches);
    expect(allowed([allowWhen({ key: 'source.principal', values: [value] })], from(caller), mesh)).toBe(matches);
  });

  test('principals of another form are taken as they are', () => {
    expect(allowed([allowSource({ principals: ['old-td/*'] })], from('new-td'), MOVED)).toBe(false);
  });

  test.each<[string, string, boolean]>([
    ['old-td', 'new-td', true],
    ['new-td', 'old-td', true],
    ['cluster.local', 'new-td', false],
    ['old*', 'new-td', false],
  ])('the value %s of trustDomains and a caller of %s: %s', (value, caller, matches) => {
    expect(allowed([allowSource({ trustDomains: [value] })], from(caller), MOVED)).toBe(matches);
  });
});

test('an address that cannot be read is never allowed where a rule asks for it', () => {
  const change = { sourceIp: 'unknown' };
  expect(decide([denySource({ ipBlocks: ['10.0.0.0/8'] })], change)).toMatchObject({
    allowed: false,
    reason: 'no-allow-policy-matched',
  });
  expect(allowed([allowSource({ notIpBlocks: ['10.0.0.0/8'] })], change)).toBe(false);
  expect(allowed([allowSource({ namespaces: ['shop'] })], change)).toBe(true);
});

test('what does not select the workload plays no part', () => {
  const compiled = compilePolicies([policy(DENY_ALL, { namespace: 'pay' })], ORDERS, MESH);
  expect(compiled.empty).toBe(true);
  expect(compilePolicies([policy({}, { annotations: { 'istio.io/dry-run': 'true' } })], ORDERS, MESH).empty).toBe(
    false,
  );
});

test.each<[string, JsonObject]>([
  ['action', { action: 'PERMIT' }],
  ['rules[0].when[0].key', { action: 'DENY', rules: [{ when: [{ key: 'destination.labels[a]', values: ['x'] }] }] }],
  ['from[0].source.ipBlock', { action: 'DENY', rules: [{ from: [{ source: { ipBlock: ['x'] } }] }] }],
  ['from[0].source', { action: 'DENY', rules: [{ from: [{}] }] }],
])('a policy that was never validated is not compiled: %s', (_, spec) => {
  expect(() => compilePolicies([policy(spec)], ORDERS, MESH)).toThrow(
    expect.objectContaining({ code: 'ERR_POLICY_MALFORMED' }),
  );
});

describe('explanations', () => {
  const explain = (objects: readonly JsonObject[]) => compilePolicies(objects, ORDERS, MESH).explain(CONNECTION);

  test('name the condition that failed, what was found and what was wanted', () => {
    const { decision, trace } = explain([
      allowSource({ namespaces: ['shop'], principals: ['td/ns/shop/sa/admin'] }, { name: 'admins' }),
    ]);
    expect(decision).toMatchObject({ allowed: false });
    expect(trace).toEqual([
      {
        policy: 'shop/admins',
        action: 'ALLOW',
        dryRun: false,
        rule: 0,
        matched: false,
        failed: {
          condition: 'from[0].source.principals',
          found: 'cluster.local/ns/shop/sa/frontend',
          wanted: 'td/ns/shop/sa/admin',
        },
        note: null,
      },
    ]);
  });

  test('of several alternatives name all', () => {
    const from = [{ source: { namespaces: ['x'] } }, { source: { ipBlocks: ['11.0.0.0/8'] } }];
    expect(explain([policy({ rules: [{ from }] })]).trace[0]?.failed).toEqual({
      condition: 'from',
      found: 'cluster.local/ns/shop/sa/frontend, 10.1.2.3',
      wanted: 'from[0].source.namespaces: x or from[1].source.ipBlocks: 11.0.0.0/8',
    });
  });

  test('of a list of thousands show a few', () => {
    const values = Array.from({ length: 5_000 }, (_, index) => `ns-${index}`);
    expect(explain([allowSource({ namespaces: values })]).trace[0]?.failed?.wanted).toMatch(/^ns-0, .* and 4992 more$/);
  });

  test('say what is not there on TCP', () => {
    const paths = { to: [{ operation: { paths: ['/x'] } }] };
    const { trace } = explain([
      policy({ rules: [paths] }, { name: 'a' }),
      policy({ action: 'DENY', rules: [paths] }, { name: 'd' }),
      policy({}, { name: 'empty' }),
      policy({ action: 'CUSTOM', provider: { name: 'x' }, rules: [paths] }, { name: 'ext' }),
    ]);
    expect(trace).toMatchObject([
      { policy: 'shop/ext', action: 'DENY', matched: true, note: expect.stringContaining('provider is not known') },
      { policy: 'shop/d', action: 'DENY', matched: true, note: expect.stringContaining('to[0].operation.paths') },
      { policy: 'shop/a', matched: false, failed: null, note: expect.stringContaining('never allows TCP') },
      { policy: 'shop/empty', rule: null, matched: false, note: expect.stringContaining('no rules') },
    ]);
  });
});
