import { describe, expect, test } from 'vitest';
import { type JsonObject, type JsonValue, pathText, validateObject } from '../../policy/index.ts';
import { policy } from './objects.ts';

/** `path: message` of what is wrong. */
function errors(object: JsonObject, severity = 'error'): string[] {
  return validateObject(object)
    .filter((one) => one.severity === severity)
    .map(({ path, message }) => `${pathText(path)}: ${message}`);
}

const source = (fields: JsonObject, rest: JsonObject = {}): JsonObject =>
  policy({ ...rest, rules: [{ from: [{ source: fields }] }] });
const operation = (fields: JsonObject): JsonObject => policy({ rules: [{ to: [{ operation: fields }] }] });
const when = (condition: JsonObject, rest: JsonObject = {}): JsonObject =>
  policy({ ...rest, rules: [{ when: [condition] }] });
const repeat = (length: number, value: (index: number) => JsonValue): JsonValue[] =>
  Array.from({ length }, (_, index) => value(index));

describe('AuthorizationPolicies that are admissible', () => {
  test.each<[string, JsonObject]>([
    ['an empty spec', policy({})],
    ['null stands for absent', policy({ action: null, selector: null, rules: null, provider: null })],
    ['AUDIT without rules', policy({ action: 'AUDIT' })],
    ['an empty rule', policy({ action: 'DENY', rules: [{}] })],
    ['empty from and to', policy({ rules: [{ from: [], to: [], when: [] }] })],
    ['a principal without the proper form', source({ principals: ['whatever'] })],
    ['an asterisk in the middle', source({ principals: ['a*b'], namespaces: ['x*y'] })],
    [
      'all fields of a source',
      source({
        principals: ['a'],
        namespaces: ['b'],
        trustDomains: ['td', '*.td', 'td.*'],
        ipBlocks: ['10.0.0.0/8', '::1', '2001:db8::/32'],
        remoteIpBlocks: ['1.2.3.4'],
        requestPrincipals: ['*'],
        notPrincipals: ['z'],
      }),
    ],
    [
      'service accounts',
      source({ serviceAccounts: ['a', 'shop/b'], notServiceAccounts: ['c'], ipBlocks: ['10.0.0.1'] }),
    ],
    ['ports with zeros', operation({ ports: ['080', '0', '65535'], notPorts: ['1'] })],
    [
      'templates of paths',
      operation({
        paths: ['/allow/admin/{**}', '/foo/{*}/bar/{**}', '/store/{**}/cart', '/a/{*}/', '/x*', '*x', '/a*b'],
      }),
    ],
    ['both values and notValues', when({ key: 'source.ip', values: ['10.0.0.0/8'], notValues: ['10.0.0.1'] })],
    [
      'every key of when that stands alone',
      policy({
        rules: [
          {
            when: [
              'source.principal',
              'source.namespace',
              'source.serviceAccount',
              'source.trustDomain',
              'connection.sni',
              'request.auth.principal',
              'request.auth.audiences',
              'request.auth.presenter',
            ].map((key) => ({ key, values: ['x'] })),
          },
        ],
      }),
    ],
    [
      'keys with names',
      policy({
        rules: [
          {
            when: [
              'request.headers[x-a]',
              'request.headers[:path]',
              'request.auth.claims[a][b]',
              'request.auth.claims[a/b@c.d]',
            ].map((key) => ({ key, values: ['x'] })),
          },
        ],
      }),
    ],
    ['a dry run', policy({ rules: [{}] }, { annotations: { 'istio.io/dry-run': 'T' } })],
    [
      'CUSTOM by address',
      policy({
        action: 'CUSTOM',
        provider: { name: 'x' },
        rules: [{ from: [{ source: { ipBlocks: ['10.0.0.1'] } }] }],
      }),
    ],
    ['a target', policy({ targetRef: { group: 'gateway.networking.k8s.io', kind: 'Gateway', name: 'g' } })],
    [
      'targets',
      policy({
        targetRefs: [
          { group: '', kind: 'Service', name: 's' },
          { group: 'networking.istio.io', kind: 'ServiceEntry', name: 'e' },
        ],
      }),
    ],
    ['v1beta1', { ...policy({}), apiVersion: 'security.istio.io/v1beta1' }],
    [
      'what Kubernetes writes into metadata',
      {
        ...policy({}),
        metadata: {
          name: 'a.b',
          uid: 'x',
          generation: 1,
          managedFields: [],
          creationTimestamp: null,
          labels: { a: 'b' },
        },
        status: {},
      },
    ],
  ])('%s', (_, object) => {
    expect(errors(object)).toEqual([]);
  });
});

describe('AuthorizationPolicies that are refused', () => {
  test.each<[JsonObject, string]>([
    // What it applies to.
    [policy({ selector: { matchLabels: { a: 'b' } }, targetRef: { kind: 'Service', name: 's' } }), 'spec: only one of'],
    [
      policy({ targetRef: { kind: 'Service', name: 's' }, targetRefs: [{ kind: 'Service', name: 's' }] }),
      'spec: only one of',
    ],
    [policy({ selector: { matchLabels: { '': 'b' } } }), 'must not be empty'],
    [policy({ selector: { matchLabels: { 'a*': 'b' } } }), '"*" is not allowed'],
    [policy({ selector: { matchLabels: { a: '*' } } }), 'spec.selector.matchLabels.a: labels are matched exactly'],
    [
      policy({ selector: { matchLabels: { a: 1 } } }),
      'spec.selector.matchLabels.a: a must be a string: write it in quotes, "1"',
    ],
    [policy({ selector: { matchLabels: { a: 'x'.repeat(64) } } }), 'at most 63 characters'],
    [policy({ selector: { matchExpressions: [] } }), 'unknown field "matchExpressions"'],
    [policy({ targetRef: { kind: 'Service', name: '' } }), 'spec.targetRef.name'],
    [policy({ targetRef: { kind: 'Service', name: 's', namespace: 'x' } }), 'spec.targetRef.namespace'],
    [policy({ targetRef: { kind: 'Pod', name: 's' } }), 'a target is a Service'],
    [policy({ targetRefs: [{ group: 'apps', kind: 'Service', name: 's' }] }), 'a target is a Service'],
    [policy({ targetRefs: repeat(17, () => ({ kind: 'Service', name: 's' })) }), 'at most 16'],
    // Action and provider.
    [policy({ action: 'PERMIT' }), 'it must be ALLOW, DENY, AUDIT, CUSTOM'],
    [policy({ action: 1 }), 'spec.action: action must be a string'],
    [policy({ action: 'DENY' }), 'needs rules'],
    [policy({ action: 'DENY', rules: [] }), 'needs rules'],
    [policy({ action: 'CUSTOM', provider: { name: 'x' } }), 'needs rules'],
    [policy({ action: 'CUSTOM', rules: [{}] }), 'needs provider.name'],
    [policy({ action: 'CUSTOM', provider: { name: '' }, rules: [{}] }), 'spec.provider.name'],
    [policy({ action: 'ALLOW', provider: { name: 'x' } }), 'a provider is for action CUSTOM only'],
    ...[
      'principals',
      'notPrincipals',
      'namespaces',
      'notNamespaces',
      'serviceAccounts',
      'trustDomains',
      'requestPrincipals',
    ].map((name): [JsonObject, string] => [
      source({ [name]: ['x'] }, { action: 'CUSTOM', provider: { name: 'x' } }),
      `${name} cannot be used with action CUSTOM`,
    ]),
    ...[
      'source.principal',
      'source.namespace',
      'source.serviceAccount',
      'source.trustDomain',
      'request.auth.principal',
      'request.auth.claims[a]',
    ].map((key): [JsonObject, string] => [
      when({ key, values: ['x'] }, { action: 'CUSTOM', provider: { name: 'x' } }),
      'cannot be used with action CUSTOM',
    ]),
    // Structure of rules.
    [policy({ rules: [null] }), 'spec.rules[0]: a rule must be given'],
    [policy({ rules: {} }), 'spec.rules: rules must be a list'],
    [policy({ rules: repeat(513, () => ({})) }), 'at most 512'],
    [policy({ rules: [{ from: repeat(513, () => ({ source: { namespaces: ['a'] } })) }] }), 'at most 512'],
    [policy({ rules: [{ from: [null] }] }), 'spec.rules[0].from[0]'],
    [policy({ rules: [{ to: [null] }] }), 'spec.rules[0].to[0]'],
    [policy({ rules: [{ when: [null] }] }), 'spec.rules[0].when[0]'],
    [policy({ rules: [{ from: [{}] }] }), 'source must be given'],
    [policy({ rules: [{ from: [{ source: null }] }] }), 'source must be given'],
    [policy({ rules: [{ to: [{ operation: {} }] }] }), 'at least one field'],
    [source({}), 'at least one field'],
    [source({ principals: [] }), 'at least one field'],
    // Unknown fields.
    [policy({ rule: [{}] }), 'unknown field "rule"; did you mean rules?'],
    [policy({ rules: [{ form: [] }] }), 'unknown field "form"; did you mean from?'],
    [
      source({ principal: ['x'] }),
      'spec.rules[0].from[0].source.principal: unknown field "principal"; did you mean principals?',
    ],
    [operation({ port: ['80'] }), 'did you mean ports?'],
    [when({ key: 'source.ip', values: ['1.1.1.1'], notvalues: ['1.1.1.1'] }), 'did you mean notValues?'],
    [{ ...policy({}), sepc: {} }, 'did you mean spec?'],
    // Values.
    ...['principals', 'notNamespaces', 'ipBlocks', 'trustDomains', 'serviceAccounts', 'requestPrincipals'].map(
      (name): [JsonObject, string] => [source({ [name]: ['a', ''] }), `${name}[1] must be a string that is not empty`],
    ),
    ...['hosts', 'ports', 'methods', 'notPaths'].map((name): [JsonObject, string] => [
      operation({ [name]: [''] }),
      `${name}[0] must be a string`,
    ]),
    [source({ principals: [null] }), 'principals[0]'],
    [source({ principals: 'a' }), 'principals must be a list'],
    [operation({ ports: [80] }), 'write it in quotes, "80"'],
    ...['bogus', '10.0.0.0/33', '10.0.0.0/08', '10.0.0.256', '::/129', 'fe80::1%eth0', '10.0.0.0/'].flatMap(
      (value): [JsonObject, string][] => [
        [source({ ipBlocks: [value] }), 'neither an IP address nor a CIDR block'],
        [source({ notRemoteIpBlocks: [value] }), 'neither an IP address nor a CIDR block'],
        [when({ key: 'destination.ip', notValues: [value] }), 'neither an IP address nor a CIDR block'],
      ],
    ),
    ...['65536', '+80', '-1', '8080 ', '80.0', 'http', '1e3', '*'].flatMap((value): [JsonObject, string][] => [
      [operation({ ports: [value] }), 'is not a port'],
      [when({ key: 'destination.port', values: [value] }), 'is not a port'],
    ]),
    [source({ serviceAccounts: repeat(17, (index) => `a${index}`) }), 'at most 16'],
    [source({ serviceAccounts: ['a*'] }), 'matched exactly'],
    [source({ serviceAccounts: ['a/b/c'] }), 'must be <namespace>/<service account>'],
    [source({ serviceAccounts: ['/b'] }), 'lacks its namespace or its name'],
    [source({ serviceAccounts: ['a/'] }), 'lacks its namespace or its name'],
    [source({ serviceAccounts: ['a'.repeat(321)] }), 'at most 320'],
    [source({ serviceAccounts: ['a'], namespaces: ['b'] }), 'cannot stand beside'],
    [source({ notServiceAccounts: ['a'], notPrincipals: ['b'] }), 'cannot stand beside'],
    [source({ trustDomains: ['*a*'] }), 'more than one "*"'],
    [source({ trustDomains: ['a*b'] }), 'at the start or the end'],
    [source({ trustDomains: ['a/b'] }), 'has no "/"'],
    // Paths.
    ...[
      '/foo/{*}.txt',
      '/foo/{**}bar',
      '/{**}/{**}',
      '/{**}/{*}',
      '/{*}/a*',
      '/{name}',
      '/{x=*}',
      '/a//{*}',
      '/{*}//b',
      '/a{',
      '/a}',
      '/{*}/a{',
      '/{*}/ä',
      '{*}/a',
      '/{*}//',
    ].map((path): [JsonObject, string] => [operation({ paths: [path] }), JSON.stringify(path)]),
    [operation({ notPaths: ['/{a}'] }), 'may stand in {*} and {**} only'],
    // Keys of when.
    [when({ key: 'source.ip' }), 'needs values or notValues'],
    [when({ key: 'source.ip', values: [] }), 'needs values or notValues'],
    [when({ key: '', values: ['x'] }), 'spec.rules[0].when[0].key'],
    [when({ values: ['x'] }), 'needs a key'],
    [when({ key: 'source.ips', values: ['x'] }), 'did you mean source.ip?'],
    [when({ key: 'destination.labels[a]', values: ['x'] }), 'no longer supported'],
    [when({ key: 'destination.name', values: ['x'] }), 'no longer supported'],
    [when({ key: 'destination.user', values: ['x'] }), 'no longer supported'],
    [when({ key: 'destination.namespace', values: ['x'] }), 'no longer supported'],
    [when({ key: 'request.headers', values: ['x'] }), 'must name what it asks for'],
    [when({ key: 'request.headers[]', values: ['x'] }), 'must name what it asks for'],
    [when({ key: 'request.auth.claims[a', values: ['x'] }), 'must name what it asks for'],
    [when({ key: 'request.auth.claims', values: ['x'] }), 'must name what it asks for'],
    [when({ key: 'experimental.envoy.filters.x[y]', values: ['x'] }), 'does not exist here'],
    [when({ key: 'experimental.envoy.filters.', values: ['x'] }), 'does not exist here'],
    [when({ key: 'source.ip', values: [''] }), 'values[0] must be a string'],
    [when({ key: 'source.serviceAccount', values: ['a/b/c'] }), 'must be <namespace>'],
    [when({ key: 'source.trustDomain', values: ['a*b'] }), 'at the start or the end'],
    // Metadata.
    [policy({}, { annotations: { 'istio.io/dry-run': 'yes' } }), 'must be "true" or "false"'],
    [policy({}, { annotations: { 'istio.io/dry-run': true } }), 'must be a string'],
    [policy({ action: 'AUDIT' }, { annotations: { 'istio.io/dry-run': 'true' } }), 'with action ALLOW or DENY'],
    [policy({}, { annotations: { 'internal.istio.io/always-reject': 'x' } }), 'is reserved'],
    [policy({}, { annotations: { 'internal.istio.io/parents': 'x' } }), 'is reserved'],
    [policy({}, { name: 'Upper' }), 'metadata.name: name "Upper"'],
    [policy({}, { name: 'a..b' }), 'metadata.name'],
    [policy({}, { namespace: 'a.b' }), 'metadata.namespace: namespace "a.b"'],
    [{ ...policy({}), metadata: null }, 'needs metadata'],
    [{ ...policy({}), metadata: {} }, 'needs a metadata.name'],
    [{ ...policy({}), metadata: { name: 'a', creationTimestamp: 'yesterday' } }, 'creationTimestamp must be a time'],
    [{ ...policy({}), spec: [] }, 'spec: spec must be a map'],
    [{ ...policy({}), apiVersion: 'security.istio.io/v2' }, 'unknown apiVersion "security.istio.io/v2"'],
    [{ ...policy({}), kind: 'Deployment' }, 'unknown kind "Deployment"'],
    [{}, 'needs an apiVersion and a kind'],
  ])('%j', (object, expected) => {
    expect(errors(object).join('\n')).toContain(expected);
  });

  test('warnings however many do not displace an error', () => {
    const doubtful = repeat(500, () => ({ from: [{ source: { principals: ['spiffe://a'] } }] }));
    expect(errors(policy({ rules: [...doubtful, { from: [{ source: { ports: ['80'] } }] }] }))).not.toEqual([]);
  });

  test('a report is bounded', () => {
    expect(errors(source({ ipBlocks: repeat(5_000, () => 'x') }))).toHaveLength(100);
  });
});

describe('AuthorizationPolicies that are doubtful', () => {
  test.each<[JsonObject, string]>([
    [policy({ selector: {} }), 'without labels'],
    [policy({ selector: { matchLabels: {} } }), 'without labels'],
    [
      policy({ action: 'DENY', rules: [{ to: [{ operation: { methods: ['GET'] } }] }] }),
      'spec.rules[0]: asks for attributes of HTTP and no port: it will deny all traffic to TCP ports',
    ],
    [
      policy({ action: 'DENY', rules: [{ when: [{ key: 'request.headers[a]', values: ['x'] }] }] }),
      'deny all traffic to TCP ports',
    ],
    [source({ principals: ['spiffe://a/ns/b/sa/c'] }), 'without "spiffe://"'],
    [source({ principals: [], namespaces: ['a'] }), 'restricts nothing'],
    [when({ key: 'source.trustDomain', values: ['a/b'] }), 'never matches'],
    [policy({ targetRef: { kind: 'Service', name: 's' } }), 'sidecars ignore it'],
    [policy({ action: 'CUSTOM', provider: { name: 'x' }, rules: [{}] }), 'will be denied'],
    [operation({ paths: ['/a?x=1'] }), 'a path has no query'],
    [operation({ paths: ['/a#b'] }), 'a path has no query'],
    [operation({ notPaths: ['/caf\u00e9'] }), 'percent-encoded unless pathNormalization is NONE'],
    [operation({ paths: ['/a b'] }), 'percent-encoded unless pathNormalization is NONE'],
    [operation({ paths: ['/orders/*/items'] }), 'stands for itself; {*} is one segment'],
    [operation({ hosts: ['*.shop.*'] }), 'stands for itself'],
    [operation({ methods: ['get'] }), '"get" does not match GET'],
    [source({ principals: ['cluster.local/ns/*/sa/frontend'] }), 'stands for itself'],
    [source({ namespaces: ['team-*-prod'] }), 'stands for itself'],
  ])('%j', (object, expected) => {
    expect(errors(object)).toEqual([]);
    expect(errors(object, 'warning').join('\n')).toContain(expected);
  });

  test.each<[JsonObject]>([
    [operation({ methods: ['GET', '*', 'G*', 'brew'], hosts: ['*.shop', 'shop.*', '*'] })],
    [operation({ paths: ['/a/{*}/b', '/a/{**}', '/a*', '*/b', '*'] })],
    [source({ principals: ['*', 'cluster.local/ns/shop/*', '*/sa/frontend'] })],
  ])('%j is not', (object) => {
    expect(errors(object, 'warning')).toEqual([]);
  });

  test.each([
    ['request.header[x-role]', 'did you mean "request.headers[x-role]"?'],
    ['request.claims[groups]', 'did you mean "request.auth.claims[groups]"?'],
    ['request.auth.claim[groups]', 'did you mean "request.auth.claims[groups]"?'],
  ])('the key %s is told what it may have meant', (key, expected) => {
    expect(errors(when({ key, values: ['x'] })).join('\n')).toContain(expected);
  });

  test('a DENY of HTTP attributes with a port is not', () => {
    const rule = { to: [{ operation: { methods: ['GET'], ports: ['80'] } }] };
    expect(errors(policy({ action: 'DENY', rules: [rule] }), 'warning')).toEqual([]);
  });
});
