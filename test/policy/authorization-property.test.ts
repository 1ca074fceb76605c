import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compilePolicies } from '../../policy/authorization.ts';
import type {
  Claims,
  ConnectionAttributes,
  JsonObject,
  JsonValue,
  PolicyMesh,
  RequestAttributes,
} from '../../policy/types.ts';
import { requestOf } from './objects.ts';
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
/** Texts of a request: of each kind few, so that they meet. */
const hostText = fc.constantFrom('a.example', 'a.example:8080', 'b.example', 'A.Example', '');
const methodText = fc.constantFrom('GET', 'POST', 'get', 'GETS');
const pathText = fc.constantFrom(
  ...['/', '/a', '/a/', '/a/b', '/a/b/c', '/A', '/a/b.html', '/a//b', '/x|y/b', '/a/*', '/caf\u00c3\u00a9', ''],
);
const headerText = fc.constantFrom('1', '12', '2', '1,2', '', 'GET', '/a?q', 'a.example', '10.0.0.1', 'x, 10.0.0.2');
const issuerText = fc.constantFrom('https://idp.example', 'https://idp', 'idp', 'a/b', '');
const subjectText = fc.constantFrom('alice', 'al', 'bob', 'b/c', '');
const claimText = fc.constantFrom('read', 'write', 'read write', 'admin', '');

const filled = (text: fc.Arbitrary<string>): fc.Arbitrary<string> => text.filter((one) => one !== '');
const hostValue = pattern(filled(hostText));
const methodValue = pattern(methodText);
const pathValue = fc.oneof(
  { weight: 3, arbitrary: pattern(filled(pathText).map((one) => (one.startsWith('/caf') ? '/caf\u00e9' : one))) },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      ...['/{*}', '/{**}', '/a/{*}', '/a/{**}', '/{*}/b', '/{**}/b', '/a/{*}/', '/{*}/{**}', '/a/{**}/c', '/{*}/{*}/c'],
    ),
  },
  { weight: 1, arbitrary: fc.constantFrom('/{a}', '/{*}x', '/{**}/{*}', '/a{') },
);
const requestPrincipalValue = fc.oneof(
  pattern(fc.tuple(issuerText, subjectText).map(([iss, sub]) => `${iss}/${sub}`)),
  pattern(filled(issuerText)),
);
const claimValue = pattern(filled(claimText));
const headerValue = pattern(filled(headerText));

const VALUES: { readonly [field: string]: fc.Arbitrary<string> } = {
  principals: principalValue,
  namespaces: namespaceValue,
  serviceAccounts: accountValue,
  trustDomains: pattern(trustDomain),
  ipBlocks: blockValue,
  remoteIpBlocks: blockValue,
  requestPrincipals: requestPrincipalValue,
};
const OPERATION_VALUES: { readonly [field: string]: fc.Arbitrary<string> } = {
  ports: portValue,
  hosts: hostValue,
  methods: methodValue,
  paths: pathValue,
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
  'request.headers[X]': headerValue,
  'request.headers[:method]': methodValue,
  'request.headers[:path]': headerValue,
  'request.headers[:authority]': hostValue,
  'request.auth.principal': requestPrincipalValue,
  'request.auth.audiences': claimValue,
  'request.auth.presenter': claimValue,
  'request.auth.claims[scope]': claimValue,
  'request.auth.claims[a]': claimValue,
  'request.auth.claims[a][b]': claimValue,
  'request.auth.claims[a[b]': claimValue,
};
/** How often attributes of HTTP stand in policies: on TCP they end most rules. */
type Mix = { readonly http: number; readonly tcp: number };
const MOSTLY_TCP: Mix = { http: 1, tcp: 6 };
const MOSTLY_HTTP: Mix = { http: 3, tcp: 1 };

const some = (value: fc.Arbitrary<string>): fc.Arbitrary<string[]> => fc.array(value, { minLength: 1, maxLength: 3 });

/** One to three fields with values, some of them negated. */
function clause(fields: typeof VALUES, http: readonly string[], mix: Mix): fc.Arbitrary<JsonObject> {
  const entry = fc.oneof(
    ...Object.entries(fields).map(([name, value]) => ({
      weight: http.includes(name) ? mix.http : mix.tcp,
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

const whenOf = (mix: Mix): fc.Arbitrary<JsonObject> =>
  fc.oneof(
    ...Object.entries(WHEN_VALUES).map(([key, value]) => ({
      weight: key.startsWith('request.') ? mix.http : 2 * mix.tcp,
      arbitrary: fc.oneof(
        some(value).map((values): JsonObject => ({ key, values })),
        some(value).map((notValues): JsonObject => ({ key, notValues })),
        fc.tuple(some(value), some(value)).map(([values, notValues]): JsonObject => ({ key, values, notValues })),
      ),
    })),
  );

const ruleOf = (mix: Mix): fc.Arbitrary<JsonObject> =>
  fc
    .record({
      from: fc.array(
        clause(VALUES, ['requestPrincipals'], mix).map((source): JsonObject => ({ source })),
        { maxLength: 3 },
      ),
      to: fc.oneof(
        { weight: 3, arbitrary: fc.constant([]) },
        {
          weight: 2,
          arbitrary: fc.array(
            clause(OPERATION_VALUES, ['hosts', 'methods', 'paths'], mix).map(
              (operation): JsonObject => ({ operation }),
            ),
            { maxLength: 2 },
          ),
        },
      ),
      when: fc.oneof(
        { weight: 2, arbitrary: fc.constant([]) },
        { weight: 1, arbitrary: fc.array(whenOf(mix), { maxLength: 2 }) },
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

const policyOf = (mix: Mix): fc.Arbitrary<JsonObject> =>
  fc
    .record({
      action: fc.constantFrom<JsonObject>(
        { action: 'ALLOW' },
        { action: 'ALLOW' },
        {},
        { action: 'DENY' },
        { action: 'DENY' },
        { action: 'AUDIT' },
        { action: 'CUSTOM', provider: { name: 'opa' } },
        { action: 'CUSTOM', provider: { name: 'opa' } },
        { action: 'CUSTOM', provider: { name: 'other' } },
      ),
      namespace: fc.constantFrom('shop', 'shop', 'istio-system', 'elsewhere'),
      dryRun: fc.constantFrom<JsonObject>({}, {}, {}, { 'istio.io/dry-run': 'true' }, { 'istio.io/dry-run': 'F' }),
      selected: selector,
      rules: fc.oneof(
        { weight: 8, arbitrary: fc.array(ruleOf(mix), { maxLength: 12, size: 'small' }) },
        { weight: 1, arbitrary: fc.constant([{}]) },
      ),
    })
    .map(({ action, namespace: ns, dryRun, selected, rules }) => ({
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { namespace: ns, annotations: dryRun },
      spec: { ...action, ...selected, rules },
    }));

const policiesOf = (mix: Mix): fc.Arbitrary<JsonObject[]> =>
  fc.array(policyOf(mix), { maxLength: 6 }).map((list) =>
    // Names out of order, so that the order of arrival is not that of ids.
    list.map(
      (one, index): JsonObject => ({
        ...one,
        metadata: { ...(one.metadata as JsonObject), name: `p${(index * 7) % 11}` },
      }),
    ),
  );

const lines = fc.oneof(
  { weight: 2, arbitrary: fc.constant<string[]>([]) },
  { weight: 3, arbitrary: fc.array(headerText, { minLength: 1, maxLength: 3 }) },
);
const request: fc.Arbitrary<RequestAttributes> = fc
  .record({
    method: methodText,
    path: pathText,
    query: fc.constantFrom('', '?q', '?'),
    host: hostText,
    headers: fc.record({ x: lines, 'x-forwarded-for': lines }),
  })
  .map((parts) => requestOf(parts));
const claim: fc.Arbitrary<JsonValue> = fc.oneof(
  { weight: 3, arbitrary: claimText },
  {
    weight: 2,
    arbitrary: fc.array(fc.oneof(claimText, fc.constantFrom<JsonValue>(1, null, ['read'])), { maxLength: 2 }),
  },
  { weight: 2, arbitrary: fc.record({ b: fc.oneof(claimText, fc.array(claimText, { maxLength: 2 })) }) },
  { weight: 1, arbitrary: fc.constantFrom<JsonValue>(true, 7, null) },
);
const claims: fc.Arbitrary<Claims> = fc.option(
  fc.record(
    {
      iss: fc.oneof({ weight: 5, arbitrary: issuerText as fc.Arbitrary<JsonValue> }, { weight: 1, arbitrary: claim }),
      sub: fc.oneof({ weight: 5, arbitrary: subjectText as fc.Arbitrary<JsonValue> }, { weight: 1, arbitrary: claim }),
      aud: claim,
      azp: claim,
      scope: claim,
      a: claim,
      'a[b': claim,
    },
    { requiredKeys: ['iss'] },
  ),
  { freq: 4 },
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
  pathNormalization: fc.constant('BASE'),
  extensionProviders: fc.constantFrom<PolicyMesh['extensionProviders']>(
    [],
    [{ name: 'opa', protocol: 'grpc' }],
    [{ name: 'opa', protocol: 'http' }],
  ),
});

const WORKLOAD = { namespace: 'shop', labels: { app: 'orders', version: 'v1' } };

/** One value alone in one field: what it matches is not hidden by what stands beside it. */
function alone(part: JsonObject): JsonObject {
  return {
    kind: 'AuthorizationPolicy',
    metadata: { namespace: 'shop', name: 'one' },
    spec: { action: 'ALLOW', rules: [part] },
  };
}
const oneOrTwo = (value: fc.Arbitrary<string>): fc.Arbitrary<string[]> =>
  fc.array(value, { minLength: 1, maxLength: 2 });
const single = fc
  .oneof(
    ...Object.entries(VALUES).map(([name, value]) =>
      oneOrTwo(value).map((values): JsonObject => ({ from: [{ source: { [name]: values } }] })),
    ),
    ...Object.entries(OPERATION_VALUES).map(([name, value]) =>
      oneOrTwo(value).map((values): JsonObject => ({ to: [{ operation: { [name]: values } }] })),
    ),
    ...Object.entries(WHEN_VALUES).map(([key, value]) =>
      oneOrTwo(value).map((values): JsonObject => ({ when: [{ key, values }] })),
    ),
  )
  .map(alone);

describe('the engine, against a literal reading of the semantics', () => {
  test('decides connections as it, with the same policy, rule, audit and dry run', () => {
    fc.assert(
      fc.property(
        policiesOf(MOSTLY_TCP),
        mesh,
        fc.array(connection, { minLength: 1, maxLength: 4 }),
        (objects, settings, connections) => {
          const compiled = compilePolicies(objects, WORKLOAD, settings);
          for (const one of connections) {
            expect(compiled.decide(one)).toEqual(
              referenceDecision(objects, WORKLOAD, settings, { ...one, http: null }),
            );
          }
        },
      ),
      RUNS,
    );
  });

  test('decides the requests of a connection as it', () => {
    fc.assert(
      fc.property(
        policiesOf(MOSTLY_HTTP),
        mesh,
        connection,
        fc.array(fc.tuple(request, claims), { minLength: 1, maxLength: 6 }),
        (objects, settings, one, requests) => {
          const decider = compilePolicies(objects, WORKLOAD, settings).forConnection(one);
          for (const [asked, token] of requests) {
            const subject = { ...one, http: { request: asked, claims: token } };
            expect(decider.decide(asked, token)).toEqual(referenceDecision(objects, WORKLOAD, settings, subject));
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
        fc.array(fc.tuple(connection, request, claims), { minLength: 12, maxLength: 12 }),
        (object, settings, subjects) => {
          const compiled = compilePolicies([object], WORKLOAD, settings);
          for (const [one, asked, token] of subjects) {
            const http = { request: asked, claims: token };
            const onTcp = referenceDecision([object], WORKLOAD, settings, { ...one, http: null }).allowed;
            const onHttp = referenceDecision([object], WORKLOAD, settings, { ...one, http }).allowed;
            const found = [compiled.decide(one).allowed, compiled.forConnection(one).decide(asked, token).allowed];
            if (found[0] !== onTcp || found[1] !== onHttp)
              expect({ one, http, found }).toEqual({ found: [onTcp, onHttp] });
          }
        },
      ),
      { ...RUNS, numRuns: 2 * (RUNS.numRuns ?? 0) },
    );
  });

  test('explains what it decides: the rule reported matches, and no other rule with a smaller id does', () => {
    fc.assert(
      fc.property(
        policiesOf(MOSTLY_HTTP),
        mesh,
        connection,
        request,
        claims,
        (objects, settings, one, asked, token) => {
          const compiled = compilePolicies(objects, WORKLOAD, settings);
          for (const http of [null, { request: asked, claims: token }]) {
            const { decision, trace } =
              http === null ? compiled.explain(one) : compiled.explainRequest(one, asked, token);
            expect(decision).toEqual(referenceDecision(objects, WORKLOAD, settings, { ...one, http }));
            for (const step of trace) expect(step.matched && step.failed !== null).toBe(false);
            const deciding = decision.reason === 'allow-policy' ? 'ALLOW' : 'DENY';
            const matched = trace.filter((step) => step.matched && step.action === deciding && !step.dryRun);
            const isReported = matched.some((step) => step.policy === decision.policy && step.rule === decision.rule);
            expect(isReported).toBe(decision.policy !== null);
          }
        },
      ),
      { ...RUNS, numRuns: Math.ceil((RUNS.numRuns ?? 0) / 6) },
    );
  });
});
