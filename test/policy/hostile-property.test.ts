import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  compileAuthentication,
  compilePolicies,
  type JsonObject,
  type JsonValue,
  parseManifests,
  validateManifest,
  validateObject,
} from '../../policy/index.ts';
import { CONNECTION, MESH, ORDERS, requestOf } from './objects.ts';

const RUNS = { seed: 7, numRuns: 2_000 };

/** Words that take hostile data past the first checks. */
const WORDS = [
  ...[
    'action',
    'rules',
    'from',
    'source',
    'to',
    'operation',
    'when',
    'key',
    'values',
    'notValues',
    'selector',
    'matchLabels',
  ],
  ...[
    'principals',
    'notPrincipals',
    'serviceAccounts',
    'ipBlocks',
    'ports',
    'paths',
    'mtls',
    'mode',
    'portLevelMtls',
    'targetRefs',
  ],
  ...[
    'ALLOW',
    'DENY',
    'CUSTOM',
    'STRICT',
    'source.ip',
    'request.headers[a]',
    '10.0.0.0/8',
    '80',
    '*',
    '',
    '/{*}',
    'constructor',
    '__proto__',
  ],
];
const word = fc.constantFrom(...WORDS);
const json: fc.Arbitrary<JsonValue> = fc.letrec<{ value: JsonValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 7, depthSize: 'large' },
    fc.oneof(word, fc.constantFrom(null, true, 0, 80, 1e300)),
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(word, tie('value'), { maxKeys: 4 }),
  ),
})).value;

const KINDS: readonly (readonly [kind: string, apiVersion: string])[] = [
  ['AuthorizationPolicy', 'security.istio.io/v1'],
  ['PeerAuthentication', 'security.istio.io/v1'],
  ['RequestAuthentication', 'security.istio.io/v1'],
  ['Service', 'v1'],
  ['WorkloadEntry', 'networking.istio.io/v1'],
  ['MeshConfig', 'postern.dev/v1'],
];

/** Roughly the shape of a policy, with anything at all in any place. */
const spec: fc.Arbitrary<JsonValue> = fc.oneof(
  json,
  fc.record(
    {
      action: word,
      rules: fc.array(fc.record({ from: fc.array(fc.record({ source: json })), when: fc.array(json) }), {
        maxLength: 2,
      }),
    },
    { requiredKeys: [] },
  ),
  fc.record({
    rules: fc.array(
      fc.record({
        from: fc.array(
          fc.record({
            source: fc.dictionary(fc.constantFrom('principals', 'ipBlocks', 'notNamespaces'), fc.array(word)),
          }),
        ),
      }),
    ),
  }),
  fc.record({ selector: json, portLevelMtls: fc.dictionary(fc.constantFrom('80', '0', 'x'), json) }),
);
const object: fc.Arbitrary<JsonObject> = fc
  .tuple(
    fc.constantFrom(...KINDS),
    spec,
    fc.oneof(
      { weight: 3, arbitrary: fc.constant<JsonValue>({ name: 'a', namespace: 'shop' }) },
      { weight: 1, arbitrary: json },
    ),
  )
  .map(([[kind, apiVersion], content, metadata]) => ({ apiVersion, kind, metadata, spec: content }));

describe('whatever an object holds', () => {
  test('validation does not throw, and what it finds free of errors compiles and decides', () => {
    let admissible = 0;
    fc.assert(
      fc.property(object, (one) => {
        if (validateObject(one).some(({ severity }) => severity === 'error')) return;
        admissible++;
        const compiled = compilePolicies([one], ORDERS, MESH);
        compiled.explain(CONNECTION);
        const request = requestOf({ path: '/a', headers: { a: ['*'] } });
        compiled.explainRequest(CONNECTION, request, { iss: 'a', sub: 'constructor', aud: ['*'] });
        compileAuthentication([one], ORDERS, MESH).mode(80);
      }),
      RUNS,
    );
    expect(admissible).toBeGreaterThan(0);
  });
});

describe('whatever a file holds', () => {
  const piece = fc.constantFrom(
    ...[
      'apiVersion: v1\n',
      'kind: Service\n',
      'metadata: {name: a}\n',
      'spec:\n',
      '  ports:\n',
      '  - port: 80\n',
      '---\n',
      '...\n',
      '\t',
      '- ',
      '? ',
      ': ',
    ],
    ...[
      '{',
      '}',
      '[',
      ']',
      ',',
      '"',
      "'",
      '|',
      '>-\n',
      '#',
      '%YAML 1.2\n',
      '&a',
      '*a',
      '!!str ',
      '<<: ',
      '\0',
      '\u{feff}',
      '\r',
      '\n',
      '  ',
      'a',
      '1',
      '\u2028',
    ],
  );

  test('reading and validating do not throw, and every problem has a place', () => {
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
        const { manifests, problems } = parseManifests(pieces.join(''), 'f.yaml');
        for (const { location } of [...problems, ...manifests.flatMap(validateManifest)]) {
          expect(location.line > 0 && location.column > 0).toBe(true);
        }
      }),
      RUNS,
    );
  });
});
