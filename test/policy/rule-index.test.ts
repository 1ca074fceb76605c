import { describe, expect, test } from 'vitest';
import { compilePolicies, type JsonObject } from '../../policy/index.ts';
import { allowSource, CONNECTION, denySource, MESH, ORDERS, policy } from './objects.ts';

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
