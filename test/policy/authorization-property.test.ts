import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compilePolicies } from '../../policy/authorization.ts';
import type { ConnectionAttributes, JsonObject, JsonValue, PolicyMesh } from '../../policy/types.ts';
import { referenceDecision } from './reference.ts';

// A fixed seed keeps the suite repeatable; POSTERN_PROPERTY_RUNS asks for a longer search from a seed of its own.
const longer = Number(process.env.POSTERN_PROPERTY_RUNS ?? 0);
const RUNS: fc.Parameters<unknown> = longer > 0 ? { numRuns: longer } : { seed: 20_260_822, numRuns: 1_500 };

/** Few values, many coincidences: of names that are prefixes of each other, hold dots, or look like the words of a SPIFFE ID. */
const trustDomain = fc.constantFrom('cluster.local', 'cluster-local', 'td', 'old-td', 'ns', 'far.example');
const namespace = fc.constantFrom('shop', 'sho', 'shop-2', 's.op', 'istio-system', 'ns', 'sa');
const account = fc.constantFrom('orders', 'order', 'o.ders', 'default', 'ns', 'sa');

const plainPrincipal = fc.tuple(trustDomain, namespace, account).map(([td, ns, sa]) => `${td}/ns/${ns}/sa/${sa}`);
/** Forms that the mesh never issues, which the engine must still read as Istio would. */
const oddPrincipal = fc.oneof(
  fc.tuple(plainPrincipal, fc.constantFrom('/x', '/sa/orders', '/', '/ns/shop')).map(([one, end]) => one + end),
  fc.tuple(trustDomain, namespace, account).map(([td, ns, sa]) => `${td}/ns/${ns}/x/y/sa/${sa}`),
  fc.tuple(trustDomain, namespace, account).map(([td, ns, sa]) => `/${td}/ns/${ns}/sa/${sa}`),
  fc.tuple(namespace, account).map(([ns, sa]) => `/ns/${ns}/sa/${sa}`),
  fc.tuple(trustDomain, namespace, account).map(([td, ns, sa]) => `${td}/ns/${ns}//sa/${sa}`),
  fc.constantFrom('td', 'td/', '*', 'a*', 'ns/shop', '/ns//sa/', 'td/workload/orders', ''),
);
const caller = fc.oneof(
  { weight: 6, arbitrary: plainPrincipal },
  { weight: 2, arbitrary: oddPrincipal },
  { weight: 2, arbitrary: fc.constant(null) },
);

/** A value of a list of strings: whole, or cut and with an asterisk at an end, both, or inside. */
function pattern(text: fc.Arbitrary<string>): fc.Arbitrary<string> {
  const cut = fc.tuple(text, fc.nat(40)).map(([one, at]) => ({ head: one.slice(0, at), tail: one.slice(at) }));
  return fc
    .oneof(
      { weight: 6, arbitrary: text },
      { weight: 2, arbitrary: cut.map(({ tail }) => `*${tail}`) },
      { weight: 2, arbitrary: cut.map(({ head }) => `${head}*`) },
      { weight: 1, arbitrary: cut.map(({ tail }) => `*${tail}*`) },
      { weight: 1, arbitrary: fc.tuple(cut, cut).map(([a, b]) => `${a.head}*${b.tail}`) },
      { weight: 1, arbitrary: fc.constantFrom('*', '**') },
    )
    .filter((value) => value !== '');
}

const principalValue = fc.oneof(
  { weight: 5, arbitrary: pattern(plainPrincipal) },
  {
    weight: 2,
    arbitrary: fc.tuple(pattern(trustDomain), namespace, account).map(([td, ns, sa]) => `${td}/ns/${ns}/sa/${sa}`),
  },
  { weight: 2, arbitrary: fc.tuple(namespace, account).map(([ns, sa]) => `*/ns/${ns}/sa/${sa}`) },
  { weight: 2, arbitrary: fc.tuple(trustDomain, namespace).map(([td, ns]) => `${td}/ns/${ns}/*`) },
);
const namespaceValue = fc.oneof(
  { weight: 5, arbitrary: pattern(namespace) },
  { weight: 1, arbitrary: fc.constantFrom('shop/sa', 's*p', '*o*p*') },
);
const accountValue = fc.oneof(
  account,
  fc.tuple(namespace, account).map(([ns, sa]) => `${ns}/${sa}`),
);
const address = fc.constantFrom(
  '10.0.0.1',
  '10.0.0.2',
  '10.128.0.1',
  '192.168.7.7',
  '::ffff:10.0.0.1',
  '::ffff:a80:1',
  '2001:db8::1',
  '2001:db8:0:1::1',
  'fe80::1%eth0',
  '::1',
);
const blockValue = fc.oneof(
  fc.constantFrom(
    '10.0.0.1',
    '::ffff:10.0.0.2',
    '2001:DB8::1',
    '0.0.0.0/0',
    '::/0',
    '::ffff:0:0/96',
    '::ffff:0:0/95',
    'bogus',
    '10.0.0.0/33',
    '10.0.0.0/08',
  ),
  fc.tuple(fc.constantFrom('10.0.0.1', '10.128.0.1', '192.168.0.0'), fc.nat(32)).map(([ip, bits]) => `${ip}/${bits}`),
  fc
    .tuple(fc.constantFrom('2001:db8::', 'fe80::', '::ffff:10.0.0.1'), fc.nat(128))
    .map(([ip, bits]) => `${ip}/${bits}`),
);
const portValue = fc.constantFrom('80', '8080', '080', '0', '65535', '65536', '+80', 'http');
const sniValue = pattern(fc.constantFrom('orders.shop', 'shop', 'Orders.shop'));
const anyText = fc.constantFrom('*', 'GET', '/x', 'a.example');

const VALUES: { readonly [field: string]: fc.Arbitrary<string> } = {
  principals: principalValue,
  namespaces: namespaceValue,
  serviceAccounts: accountValue,
  trustDomains: pattern(trustDomain),
  ipBlocks: blockValue,
  remoteIpBlocks: blockValue,
  requestPrincipals: anyText,
};
const OPERATION_VALUES: { readonly [field: string]: fc.Arbitrary<string> } = {
  ports: portValue,
  hosts: anyText,
  methods: anyText,
  paths: anyText,
};
const WHEN_VALUES: { readonly [key: string]: fc.Arbitrary<string> } = {
  'source.principal': principalValue,
  'source.namespace': namespaceValue,
  'source.serviceAccount': accountValue,
  'source.trustDomain': pattern(trustDomain),
  'source.ip': blockValue,
  'remote.ip': blockValue,
  'destination.ip': blockValue,
  'destination.port': portValue,
  'connection.sni': sniValue,
  'request.headers[x]': anyText,
  'request.auth.claims[a]': anyText,
};

const some = (value: fc.Arbitrary<string>): fc.Arbitrary<string[]> => fc.array(value, { minLength: 1, maxLength: 3 });

/** One to three fields with values, some of them negated. HTTP's are rarer, for they end most rules. */
function clause(fields: typeof VALUES, http: readonly string[]): fc.Arbitrary<JsonObject> {
  const entry = fc.oneof(
    ...Object.entries(fields).map(([name, value]) => ({
      weight: http.includes(name) ? 1 : 6,
      arbitrary: fc
        .tuple(fc.boolean(), some(value))
        .map(([negative, values]): [string, JsonValue] => [
          negative ? `not${name.charAt(0).toUpperCase()}${name.slice(1)}` : name,
          values,
        ]),
    })),
  );
  return fc.array(entry, { minLength: 1, maxLength: 3 }).map((entries) => Object.fromEntries(entries));
}

const when = fc.oneof(
  ...Object.entries(WHEN_VALUES).map(([key, value]) => ({
    weight: key.startsWith('request.') ? 1 : 4,
    arbitrary: fc.oneof(
      some(value).map((values): JsonObject => ({ key, values })),
      some(value).map((notValues): JsonObject => ({ key, notValues })),
      fc.tuple(some(value), some(value)).map(([values, notValues]): JsonObject => ({ key, values, notValues })),
    ),
  })),
);

const rule: fc.Arbitrary<JsonObject> = fc
  .record({
    from: fc.array(
      clause(VALUES, ['requestPrincipals']).map((source): JsonObject => ({ source })),
      { maxLength: 3 },
    ),
    to: fc.oneof(
      { weight: 3, arbitrary: fc.constant([]) },
      {
        weight: 2,
        arbitrary: fc.array(
          clause(OPERATION_VALUES, ['hosts', 'methods', 'paths']).map((operation): JsonObject => ({ operation })),
          { maxLength: 2 },
        ),
      },
    ),
    when: fc.oneof(
      { weight: 2, arbitrary: fc.constant([]) },
      { weight: 1, arbitrary: fc.array(when, { maxLength: 2 }) },
    ),
  })
  .map(({ from, to, when: conditions }) => ({ from, to, ...(conditions.length > 0 ? { when: conditions } : {}) }));

const selector = fc.constantFrom<JsonObject>(
  {},
  {},
  {},
  { selector: {} },
  { selector: { matchLabels: {} } },
  { selector: { matchLabels: { app: 'orders' } } },
  { selector: { matchLabels: { app: 'orders', version: 'v2' } } },
  { targetRefs: [{ kind: 'Gateway', group: 'gateway.networking.k8s.io', name: 'g' }] },
  { targetRefs: [] },
);

const policy: fc.Arbitrary<JsonObject> = fc
  .record({
    action: fc.constantFrom<JsonObject>(
      { action: 'ALLOW' },
      { action: 'ALLOW' },
      {},
      { action: 'DENY' },
      { action: 'DENY' },
      { action: 'AUDIT' },
      { action: 'CUSTOM' },
    ),
    namespace: fc.constantFrom('shop', 'shop', 'istio-system', 'elsewhere'),
    dryRun: fc.constantFrom<JsonObject>({}, {}, {}, { 'istio.io/dry-run': 'true' }, { 'istio.io/dry-run': 'F' }),
    selected: selector,
    rules: fc.oneof(
      { weight: 8, arbitrary: fc.array(rule, { maxLength: 12, size: 'small' }) },
      { weight: 1, arbitrary: fc.constant([{}]) },
    ),
  })
  .map(({ action, namespace: ns, dryRun, selected, rules }) => ({
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { namespace: ns, annotations: dryRun },
    spec: { ...action, ...selected, rules },
  }));

const policies = fc.array(policy, { maxLength: 6 }).map((list) =>
  // Names out of order, so that the order of arrival is not that of ids.
  list.map(
    (one, index): JsonObject => ({
      ...one,
      metadata: { ...(one.metadata as JsonObject), name: `p${(index * 7) % 11}` },
    }),
  ),
);

const connection: fc.Arbitrary<ConnectionAttributes> = fc.record({
  sourcePrincipal: caller,
  sourceIp: address,
  destinationIp: address,
  destinationPort: fc.constantFrom(0, 80, 8080, 65_535),
  sni: fc.constantFrom('', 'orders.shop', 'shop', '*'),
});

const mesh: fc.Arbitrary<PolicyMesh> = fc.record({
  trustDomain: fc.constantFrom('cluster.local', 'td'),
  trustDomainAliases: fc.constantFrom<string[]>([], ['old-td'], ['old-td', 'cluster.local', 'ns']),
  rootNamespace: fc.constantFrom('istio-system', 'shop'),
  defaultAction: fc.constantFrom('ALLOW', 'DENY'),
});

const WORKLOAD = { namespace: 'shop', labels: { app: 'orders', version: 'v1' } };

/** One value alone in one field: what it matches is not hidden by what stands beside it. */
const single = fc
  .oneof(
    ...Object.entries(VALUES).map(([name, value]) => value.map((one): JsonObject => ({ source: { [name]: [one] } }))),
    ...Object.entries(VALUES).map(([name, value]) => {
      return fc.tuple(value, value).map((both): JsonObject => ({ source: { [name]: both } }));
    }),
  )
  .map((from): JsonObject => {
    return {
      kind: 'AuthorizationPolicy',
      metadata: { namespace: 'shop', name: 'one' },
      spec: { action: 'ALLOW', rules: [{ from: [from] }] },
    };
  });

describe('the engine, against a literal reading of the semantics', () => {
  test('decides as it, with the same policy, rule, audit and dry run', () => {
    fc.assert(
      fc.property(
        policies,
        mesh,
        fc.array(connection, { minLength: 1, maxLength: 4 }),
        (objects, settings, connections) => {
          const compiled = compilePolicies(objects, WORKLOAD, settings);
          for (const one of connections) {
            expect(compiled.decide(one)).toEqual(referenceDecision(objects, WORKLOAD, settings, one));
          }
        },
      ),
      RUNS,
    );
  });

  test('matches each kind of value as it', () => {
    fc.assert(
      fc.property(
        single,
        mesh,
        fc.array(connection, { minLength: 12, maxLength: 12 }),
        (object, settings, connections) => {
          const compiled = compilePolicies([object], WORKLOAD, settings);
          for (const one of connections) {
            const { allowed } = referenceDecision([object], WORKLOAD, settings, one);
            if (compiled.decide(one).allowed !== allowed) expect({ one, allowed: !allowed }).toEqual({ one, allowed });
          }
        },
      ),
      RUNS,
    );
  });

  test('explains what it decides: the rule reported matches, and no other rule with a smaller id does', () => {
    fc.assert(
      fc.property(policies, mesh, connection, (objects, settings, one) => {
        const { decision, trace } = compilePolicies(objects, WORKLOAD, settings).explain(one);
        expect(decision).toEqual(referenceDecision(objects, WORKLOAD, settings, one));
        for (const step of trace) expect(step.matched && step.failed !== null).toBe(false);
        const deciding = decision.reason === 'deny-policy' ? 'DENY' : 'ALLOW';
        const matched = trace.filter((step) => step.matched && step.action === deciding && !step.dryRun);
        const isReported = matched.some((step) => step.policy === decision.policy && step.rule === decision.rule);
        expect(isReported).toBe(decision.policy !== null);
      }),
      { ...RUNS, numRuns: Math.ceil((RUNS.numRuns ?? 0) / 6) },
    );
  });
});
