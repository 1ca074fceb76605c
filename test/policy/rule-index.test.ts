import { describe, expect, test } from 'vitest';
import { compilePolicies, type JsonObject } from '../../policy/index.ts';
import { allowSource, CONNECTION, denySource, MESH, ORDERS, policy, requestOf } from './objects.ts';

const MANY = 10_000;
/** The rules that concern the caller in each of the tables below. */
const OWN = 1;

function many(one: (index: number) => JsonObject): JsonObject[] {
  return Array.from({ length: MANY }, (_, index) => one(index));
}

function candidates(objects: readonly JsonObject[], change: Partial<typeof CONNECTION> = {}): number {
  return compilePolicies(objects, ORDERS, MESH).candidates({ ...CONNECTION, ...change });
}

const block = (index: number): string => `172.${16 + (index >> 12)}.${(index >> 4) & 255}.${(index & 15) << 4}/28`;

describe('of 10,000 rules that do not concern the caller a decision asks none', () => {
  test.each<[string, (index: number) => JsonObject]>([
    ['principals', (index) => ({ principals: [`cluster.local/ns/shop/sa/other-${index}`] })],
    ['principals of any trust domain', (index) => ({ principals: [`*/ns/shop/sa/other-${index}`] })],
    ['principals by prefix of a namespace', (index) => ({ principals: [`cluster.local/ns/other-${index}/*`] })],
    ['namespaces', (index) => ({ namespaces: [`other-${index}`] })],
    ['service accounts', (index) => ({ serviceAccounts: [`shop/other-${index}`] })],
    ['blocks of addresses', (index) => ({ ipBlocks: [block(index)] })],
    [
      'a namespace beside a pattern that has no key',
      (index) => ({ principals: ['*'], namespaces: [`other-${index}`] }),
    ],
    ['a namespace beside a negated field', (index) => ({ notPrincipals: ['x'], namespaces: [`other-${index}`] })],
  ])('%s', (_, source) => {
    const own = [allowSource({ namespaces: ['shop'] }, { name: 'own' })];
    const others = many((index) => denySource(source(index), { name: `other-${index}` }));
    expect(candidates([...others, ...own])).toBe(OWN);
    expect(candidates([...others.slice(0, 10), ...own])).toBe(OWN);
    expect(compilePolicies([...others, ...own], ORDERS, MESH).decide(CONNECTION)).toMatchObject({
      allowed: true,
      policy: 'shop/own',
    });
  });

  test('conditions of when', () => {
    const when = (key: string, value: (index: number) => string): JsonObject[] =>
      many((index) =>
        policy({ action: 'DENY', rules: [{ when: [{ key, values: [value(index)] }] }] }, { name: `p-${index}` }),
      );
    expect(candidates(when('source.principal', (index) => `cluster.local/ns/shop/sa/other-${index}`))).toBe(0);
    expect(candidates(when('source.ip', block))).toBe(0);
    expect(
      candidates(
        when('connection.sni', (index) => `other-${index}.shop`),
        { sni: 'orders.shop' },
      ),
    ).toBe(0);
    expect(candidates(when('destination.port', (index) => String(10_000 + index)))).toBe(0);
  });

  test('a caller without identity', () => {
    const others = many((index) => denySource({ namespaces: [`other-${index}`] }, { name: `p-${index}` }));
    expect(candidates(others, { sourcePrincipal: null })).toBe(0);
  });
});

test('only the rules whose key the caller has, and those without a key, are asked', () => {
  const objects = [
    ...many((index) => denySource({ principals: [`cluster.local/ns/shop/sa/other-${index}`] }, { name: `p-${index}` })),
    denySource({ principals: ['*/sa/x'] }, { name: 'pattern' }),
    denySource({ notNamespaces: ['shop'] }, { name: 'negated' }),
    allowSource({ principals: ['cluster.local/ns/shop/sa/frontend'] }, { name: 'own' }),
  ];
  expect(candidates(objects)).toBe(3);
});

test('a list of thousands in one rule is one look-up, and the rule is found by each of its values', () => {
  const principals = Array.from({ length: MANY }, (_, index) => `cluster.local/ns/shop/sa/app-${index}`);
  const compiled = compilePolicies([allowSource({ principals })], ORDERS, MESH);
  expect(compiled.decide({ ...CONNECTION, sourcePrincipal: 'cluster.local/ns/shop/sa/app-9999' }).allowed).toBe(true);
  expect(compiled.candidates(CONNECTION)).toBe(0);
});

describe('of 10,000 rules that do not concern the request a decision asks none', () => {
  const REQUEST = requestOf({
    method: 'GET',
    path: '/orders/7/items',
    host: 'orders.shop:8080',
    headers: { 'x-team': ['web', 'shop'], 'x-forwarded-for': ['192.0.2.7'] },
  });
  const CLAIMS = { iss: 'https://idp', sub: 'alice', groups: ['staff'], scope: 'read write' };
  const asked = (objects: readonly JsonObject[]): number =>
    compilePolicies(objects, ORDERS, MESH).candidates(CONNECTION, REQUEST, CLAIMS);
  const to = (operation: JsonObject): JsonObject => ({ to: [{ operation }] });
  const when = (key: string, value: string): JsonObject => ({ when: [{ key, values: [value] }] });
  const rules = (rule: (index: number) => JsonObject): JsonObject[] =>
    many((index) => policy({ action: 'DENY', rules: [rule(index)] }, { name: `other-${index}` }));

  test.each<[string, (index: number) => JsonObject]>([
    ['paths', (index) => to({ paths: [`/orders/${index}`] })],
    ['paths by prefix', (index) => to({ paths: [`/orders/other-${index}/*`] })],
    ['paths by suffix', (index) => to({ paths: [`*/items-${index}`] })],
    ['path templates', (index) => to({ paths: [`/service-${index}/{*}/{**}`] })],
    ['path templates by their end', (index) => to({ paths: [`/{**}/items-${index}`] })],
    ['hosts', (index) => to({ hosts: [`tenant-${index}.example`] })],
    ['hosts by prefix', (index) => to({ hosts: [`tenant-${index}.example`, `tenant-${index}.example:*`] })],
    ['hosts by suffix', (index) => to({ hosts: [`*.tenant-${index}.example`] })],
    ['a path beside a method that all name', (index) => to({ methods: ['GET'], paths: [`/x/${index}`] })],
    [
      'a path beside a caller that all name',
      (index) => ({ from: [{ source: { namespaces: ['shop'] } }], ...to({ paths: [`/x/${index}`] }) }),
    ],
    ['methods', (index) => to({ methods: [`M${index}`] })],
    ['request principals', (index) => ({ from: [{ source: { requestPrincipals: [`https://idp/user-${index}`] } }] })],
    ['issuers', (index) => ({ from: [{ source: { requestPrincipals: [`https://idp-${index}/*`] } }] })],
    ['headers', (index) => when('request.headers[x-team]', `team-${index}`)],
    ['claims', (index) => when('request.auth.claims[groups]', `group-${index}`)],
    ['space-delimited claims', (index) => when('request.auth.claims[scope]', `scope-${index}`)],
    ['audiences', (index) => when('request.auth.audiences', `app-${index}`)],
    ['addresses of remote clients', (index) => when('remote.ip', block(index))],
  ])('%s', (_, rule) => {
    const own = policy({ rules: [to({ paths: ['/orders/*'] })] }, { name: 'own' });
    expect(asked([...rules(rule), own])).toBe(OWN);
    expect(asked([...rules(rule).slice(0, 10), own])).toBe(OWN);
  });

  test.each<[string, JsonObject]>([
    ['a path', to({ paths: ['/orders/7/items'] })],
    ['the prefix of a path', to({ paths: ['/orders/7*'] })],
    ['the suffix of a path', to({ paths: ['*/items'] })],
    ['a path template', to({ paths: ['/orders/{*}/items'] })],
    ['the end of a path template', to({ paths: ['/{**}/items'] })],
    ['a host', to({ hosts: ['Orders.shop:8080'] })],
    ['the prefix of a host', to({ hosts: ['orders.shop:*'] })],
    ['a subject', { from: [{ source: { requestPrincipals: ['https://idp/alice'] } }] }],
    ['an issuer', { from: [{ source: { requestPrincipals: ['https://idp/al*'] } }] }],
    ['one line of a header', when('request.headers[X-Team]', 'shop')],
    ['one element of a claim', when('request.auth.claims[groups]', 'staff')],
    ['one word of a claim', when('request.auth.claims[scope]', 'write')],
    ['a remote address', when('remote.ip', '192.0.2.0/24')],
  ])('a rule is found among them by %s', (_, rule) => {
    const others = many((index) => to({ paths: [`/x/${index}`] })).slice(0, 500);
    const objects = [
      policy({ action: 'DENY', rules: others }),
      policy({ action: 'DENY', rules: [rule] }, { name: 'own' }),
    ];
    const compiled = compilePolicies(objects, ORDERS, MESH);
    expect(compiled.candidates(CONNECTION, REQUEST, CLAIMS)).toBe(OWN);
    expect(compiled.forConnection(CONNECTION).decide(REQUEST, CLAIMS)).toMatchObject({ policy: 'shop/own' });
  });
});
