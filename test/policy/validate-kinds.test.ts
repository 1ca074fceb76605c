import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  type JsonObject,
  type JsonValue,
  meshSettings,
  pathText,
  validateMeshSettings,
  validateObject,
} from '../../policy/index.ts';
import { object, peerAuthentication } from './objects.ts';

function errors(subject: JsonObject, severity = 'error'): string {
  const found = validateObject(subject).filter((one) => one.severity === severity);
  return found.map(({ path, message }) => `${pathText(path)}: ${message}`).join('\n');
}

const orders = { selector: { matchLabels: { app: 'orders' } } };
const strict = { mode: 'STRICT' };

describe('PeerAuthentication', () => {
  test.each<JsonObject>([
    {},
    { mtls: strict },
    { mtls: {} },
    { mtls: { mode: 'UNSET' } },
    { ...orders, mtls: strict, portLevelMtls: { 8080: { mode: 'DISABLE' }, 1: {}, 65535: strict } },
    { selector: {} },
  ])('%j is admissible', (spec) => {
    expect(errors(peerAuthentication(spec))).toBe('');
  });

  test.each<[JsonObject, string]>([
    [{ portLevelMtls: { 80: strict } }, 'needs a selector'],
    [{ selector: {}, portLevelMtls: { 80: strict } }, 'needs a selector'],
    [{ ...orders, portLevelMtls: {} }, 'must not be empty'],
    [{ ...orders, portLevelMtls: { 0: strict } }, 'is not a port'],
    [{ ...orders, portLevelMtls: { 65536: strict } }, 'is not a port'],
    [{ ...orders, portLevelMtls: { '080': strict } }, 'is not a port'],
    [{ ...orders, portLevelMtls: { http: strict } }, 'is not a port'],
    [{ ...orders, portLevelMtls: { 80: null } }, 'needs a mode'],
    [{ ...orders, portLevelMtls: { 80: { mode: 'ON' } } }, 'mode "ON" is unknown'],
    [{ mtls: { mode: 'strict' } }, 'it must be UNSET, DISABLE, PERMISSIVE, STRICT'],
    [{ mtls: { mode: 3 } }, 'mode must be a string'],
    [{ mtls: 'STRICT' }, 'mtls must be a map'],
    [{ mtls: { modes: 'STRICT' } }, 'did you mean mode?'],
    [{ targetRef: {} }, 'unknown field "targetRef"'],
    [{ selector: { matchLabels: { a: 'b*' } } }, '"*" is not allowed'],
  ])('%j is refused: %s', (spec, expected) => {
    expect(errors(peerAuthentication(spec))).toContain(expected);
  });

  test('a dry run is refused', () => {
    const subject = object(
      'PeerAuthentication',
      'security.istio.io/v1',
      {},
      { name: 'x', annotations: { 'istio.io/dry-run': 'true' } },
    );
    expect(errors(subject)).toContain('remove it');
  });
});

describe('RequestAuthentication', () => {
  const request = (...jwtRules: readonly JsonValue[]): JsonObject =>
    object('RequestAuthentication', 'security.istio.io/v1', { jwtRules });

  test('is admissible with every field that it may have', () => {
    const full = {
      issuer: 'https://issuer.example',
      audiences: ['a'],
      jwksUri: 'https://issuer.example/jwks',
      fromHeaders: [{ name: 'x', prefix: 'Bearer ' }],
      fromParams: ['t'],
      fromCookies: ['c'],
      outputPayloadToHeader: 'x-p',
      outputClaimToHeaders: [{ header: 'x-sub', claim: 'a.b' }],
      forwardOriginalToken: true,
      timeout: '1.5s',
      spaceDelimitedClaims: ['roles'],
    };
    expect(errors(request(full))).toBe('');
    expect(errors(request({ jwksUri: 'http://issuer.example:8080/jwks' }))).toBe('');
    expect(errors(request(full), 'warning')).toBe('');
  });

  test.each<[JsonValue, string]>([
    [null, 'must not be null'],
    [{}, 'needs an issuer'],
    [{ jwks: '{"keys":[]}' }, 'needs an issuer'],
    [{ issuer: '' }, 'issuer must be a string'],
    [{ issuer: 'a', audiences: [''] }, 'audiences[0]'],
    [{ issuer: 'a', jwks: '{"keys":[]}', jwksUri: 'https://a' }, 'only one of jwks and jwksUri'],
    [{ issuer: 'a', jwksUri: 'ftp://a' }, 'http or https URL'],
    [{ issuer: 'a', jwksUri: 'https://a:99999' }, 'http or https URL'],
    [{ issuer: 'a', jwksUri: `https://a/${'x'.repeat(2048)}` }, 'http or https URL'],
    [{ issuer: 'a', jwks: 'x' }, 'jwks is not a JSON object'],
    [{ issuer: 'a', jwks: '{}' }, 'jwks has no list of keys'],
    [{ issuer: 'a', jwks: '[]' }, 'jwks is not a JSON object'],
    [{ issuer: 'a', jwks: '{"keys":[1]}' }, 'keys[0] of jwks must be an object'],
    [{ issuer: 'a', jwks: '{"keys":[],"keys":[]}' }, 'jwks is not a JSON object, or one with a member twice'],
    [{ issuer: 'a', jwksUri: 'https:a.example/keys' }, 'http or https URL'],
    [{ issuer: 'a', jwksUri: 'https:///keys' }, 'http or https URL'],
    [{ issuer: 'a', jwksUri: 'https:\\\\a.example\\keys' }, 'http or https URL'],
    [{ issuer: 'a', jwksUri: ' https://a.example/keys' }, 'http or https URL'],
    [{ issuer: 'a', jwksUri: 'https://a.example/ke ys' }, 'http or https URL'],
    [{ issuer: 'a', jwksUri: 'https://a.exa\nmple/keys' }, 'http or https URL'],
    [{ issuer: 'a', fromHeaders: [{ name: '' }] }, 'fromHeaders[0].name'],
    [{ issuer: 'a', fromParams: [''] }, 'fromParams[0]'],
    [{ issuer: 'a', fromCookies: [''] }, 'fromCookies[0]'],
    [{ issuer: 'a', outputClaimToHeaders: [{ header: 'x y', claim: 'c' }] }, 'is not the name of a header'],
    [{ issuer: 'a', outputClaimToHeaders: [{ header: 'x' }] }, 'needs a claim'],
    [{ issuer: 'a', outputPayloadToHeader: 'x:y' }, 'is not the name of a header'],
    [
      {
        issuer: 'a',
        outputClaimToHeaders: [
          { header: 'x', claim: 'a' },
          { header: 'X', claim: 'b' },
        ],
      },
      'is the header of another claim already',
    ],
    [{ issuer: 'a', timeout: '0s' }, 'whole milliseconds'],
    [{ issuer: 'a', timeout: '1500us' }, 'whole milliseconds'],
    [{ issuer: 'a', timeout: '5' }, 'whole milliseconds'],
    [{ issuer: 'a', jwkUri: 'https://a' }, 'did you mean jwksUri?'],
  ])('%j is refused: %s', (rule, expected) => {
    expect(errors(request(rule))).toContain(expected);
  });

  test('private keys are warned of', () => {
    expect(errors(request({ issuer: 'a', jwks: '{"keys":[{"kty":"EC","d":"x"}]}' }), 'warning')).toContain(
      'private keys',
    );
  });

  test('more keys than a verifier takes are refused', () => {
    const jwks = JSON.stringify({ keys: new Array(257).fill({}) });
    expect(errors(request({ issuer: 'a', jwks }))).toContain('jwks has more than 256 keys');
  });

  test('keys none of which can verify a token are warned of, with the reason', () => {
    const unfit = '{"keys":[{"kty":"EC","crv":"P-256"},{"kty":"unheard-of"}]}';
    expect(errors(request({ issuer: 'a', jwks: unfit }))).toBe('');
    expect(errors(request({ issuer: 'a', jwks: unfit }), 'warning')).toMatch(
      /no key of jwks can verify a token, so every token is refused: keys\[0\] .+; keys\[1\] kty/,
    );
    expect(errors(request({ issuer: 'a', jwks: '{"keys":[]}' }), 'warning')).toContain('no key of jwks');
  });

  test('keys of which one can verify tokens pass without a word', () => {
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const jwks = JSON.stringify({ keys: [{ kty: 'unheard-of' }, publicKey.export({ format: 'jwk' })] });
    expect(validateObject(request({ issuer: 'a', jwks }))).toEqual([]);
  });
});

describe('Service', () => {
  const service = (spec: JsonValue, metadata: JsonObject = { name: 'orders' }): JsonObject =>
    object('Service', 'v1', spec, metadata);
  const port = { port: 80 };

  test.each<JsonObject>([
    { ports: [port] },
    {
      ports: [
        {
          name: 'http',
          port: 80,
          targetPort: 8080,
          protocol: 'TCP',
          appProtocol: 'kubernetes.io/h2c',
          nodePort: 30_000,
        },
        { name: 'udp', port: 80, protocol: 'UDP' },
      ],
      selector: { app: 'x' },
    },
    {
      ports: [{ port: 80, targetPort: 'http-main' }],
      clusterIP: '10.96.0.1',
      clusterIPs: ['10.96.0.1', 'fd00::1'],
      type: 'LoadBalancer',
    },
    { clusterIP: 'None' },
    { clusterIP: '', ports: [port] },
    { type: 'ExternalName', externalName: 'example.com' },
    { ports: [port], sessionAffinity: 'ClientIP', ipFamilyPolicy: 'PreferDualStack', internalTrafficPolicy: 'Cluster' },
  ])('%j is admissible', (spec) => {
    expect(errors(service(spec))).toBe('');
  });

  test.each<[JsonValue, string]>([
    [null, 'needs a spec'],
    [{}, 'needs ports'],
    [{ ports: [null] }, 'must not be null'],
    [{ ports: [{}] }, 'needs a number'],
    [{ ports: [{ port: 0 }] }, 'from 1 to 65535'],
    [{ ports: [{ port: '80' }] }, 'from 1 to 65535'],
    [{ ports: [{ port: 80.5 }] }, 'from 1 to 65535'],
    [{ ports: [port, { port: 81 }] }, 'needs a name'],
    [
      {
        ports: [
          { name: 'a', port: 80 },
          { name: 'a', port: 81 },
        ],
      },
      'two ports called a',
    ],
    [
      {
        ports: [
          { name: 'a', port: 80 },
          { name: 'b', port: 80 },
        ],
      },
      'two ports 80',
    ],
    [{ ports: [{ name: 'HTTP', port: 80 }] }, 'lower-case'],
    [{ ports: [{ port: 80, targetPort: 'a-name-that-is-too-long' }] }, 'targetPort must be'],
    [{ ports: [{ port: 80, targetPort: '8080' }] }, 'targetPort must be'],
    [{ ports: [{ port: 80, targetPort: 70_000 }] }, 'from 1 to 65535'],
    [{ ports: [{ port: 80, protocol: 'tcp' }] }, 'it must be TCP, UDP, SCTP'],
    [{ ports: [{ port: 80, targetport: 1 }] }, 'did you mean targetPort?'],
    [{ ports: [port], clusterIP: '10.0.0' }, 'neither an IP address nor None'],
    [{ ports: [port], clusterIPs: ['x'] }, 'neither an IP address nor None'],
    [{ ports: [port], selectors: {} }, 'did you mean selector?'],
    [{ ports: [port], selector: { app: 1 } }, 'write it in quotes'],
    [{ ports: [port], type: 'Internal' }, 'it must be ClusterIP'],
    [{ type: 'ExternalName' }, 'needs an externalName'],
  ])('%j is refused: %s', (spec, expected) => {
    expect(errors(service(spec))).toContain(expected);
  });

  test('a field of a later Kubernetes is only warned of', () => {
    expect(errors(service({ ports: [port], somethingNew: true }))).toBe('');
    expect(errors(service({ ports: [port], somethingNew: true }), 'warning')).toContain('is ignored');
  });

  test('its name is a DNS label', () => {
    expect(errors(service({ ports: [port] }, { name: 'a.b' }))).toContain('metadata.name');
  });
});

describe('WorkloadEntry', () => {
  const entry = (spec: JsonObject, version = 'v1'): JsonObject =>
    object('WorkloadEntry', `networking.istio.io/${version}`, spec);

  test.each(['v1', 'v1beta1', 'v1alpha3'])('%s is admissible', (version) => {
    const spec = {
      address: '2001:db8::1',
      ports: { http: 8080 },
      labels: { app: 'x' },
      network: 'n',
      locality: 'a/b',
      weight: 0,
      serviceAccount: 'orders',
    };
    expect(errors(entry(spec, version))).toBe('');
  });

  test.each<[JsonObject, string]>([
    [{}, 'needs an address'],
    [{ address: 'host.example' }, 'is not an IP address'],
    [{ address: 'unix:///x' }, 'is not an IP address'],
    [{ address: '10.0.0.1', ports: { http: 0 } }, 'from 1 to 65535'],
    [{ address: '10.0.0.1', ports: { http: null } }, 'from 1 to 65535'],
    [{ address: '10.0.0.1', ports: { Http: 80 } }, 'is not the name of a port'],
    [{ address: '10.0.0.1', weight: -1 }, 'weight must be a whole number'],
    [{ address: '10.0.0.1', labels: { a: true } }, 'write it in quotes'],
    [{ address: '10.0.0.1', serviceAccount: 'A' }, 'is not the name of a service account'],
    [{ address: '10.0.0.1', servicAccount: 'a' }, 'did you mean serviceAccount?'],
  ])('%j is refused: %s', (spec, expected) => {
    expect(errors(entry(spec))).toContain(expected);
  });
});

describe('MeshConfig', () => {
  const mesh = (spec: JsonValue): JsonObject => object('MeshConfig', 'postern.dev/v1', spec);
  const full = {
    trustDomainAliases: ['old-td'],
    rootNamespace: 'mesh',
    outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' },
    defaultAction: 'DENY',
    pathNormalization: { normalization: 'MERGE_SLASHES' },
    extensionProviders: [
      { name: 'opa', envoyExtAuthzGrpc: { service: 'opa.auth.svc.cluster.local', port: 9191, timeout: '1s' } },
      { name: 'prom', prometheus: {} },
      { name: 'ext', envoyExtAuthzHttp: { service: 'ext.auth', port: 8000, includeRequestHeadersInCheck: ['x-a'] } },
    ],
  };

  test('gives the settings of the mesh', () => {
    expect(errors(mesh(full))).toBe('');
    expect(errors(mesh(full), 'warning')).toContain('prometheus is for telemetry');
    expect(meshSettings(mesh(full), 'td')).toEqual({
      kind: 'MeshConfig',
      name: 'mesh',
      trustDomain: 'td',
      trustDomainAliases: ['old-td'],
      rootNamespace: 'mesh',
      outboundTrafficPolicy: 'REGISTRY_ONLY',
      defaultAction: 'DENY',
      pathNormalization: 'MERGE_SLASHES',
      extensionProviders: [
        { name: 'opa', protocol: 'grpc' },
        { name: 'ext', protocol: 'http' },
      ],
    });
  });

  test('has defaults, the same as without any', () => {
    expect(errors(mesh({}))).toBe('');
    expect(meshSettings(mesh({}), 'td')).toEqual(meshSettings(null, 'td'));
    expect(meshSettings(null, 'td')).toMatchObject({
      rootNamespace: 'istio-system',
      outboundTrafficPolicy: 'ALLOW_ANY',
      defaultAction: 'ALLOW',
      trustDomainAliases: [],
      pathNormalization: 'BASE',
      extensionProviders: [],
    });
    expect(meshSettings(mesh({ pathNormalization: { normalization: 'DEFAULT' } }), 'td').pathNormalization).toBe(
      'BASE',
    );
  });

  const provider = (...providers: readonly JsonValue[]): JsonObject => ({ extensionProviders: providers });
  const opa = { name: 'opa', envoyExtAuthzGrpc: { service: 'opa', port: 9191 } };
  test.each<[JsonObject, string]>([
    [{ trustDomain: 'td' }, 'set where the control plane is configured'],
    [{ trustDomainAliases: ['A B'] }, 'is not a trust domain'],
    [{ trustDomainAliases: 'a' }, 'must be a list'],
    [{ rootNamespace: 'A' }, 'is not the name of a namespace'],
    [{ outboundTrafficPolicy: { mode: 'ANY' } }, 'it must be ALLOW_ANY, REGISTRY_ONLY'],
    [{ outboundTrafficPolicy: 'ALLOW_ANY' }, 'must be a map'],
    [{ defaultAction: 'deny' }, 'it must be ALLOW, DENY'],
    [{ defaultaction: 'DENY' }, 'did you mean defaultAction?'],
    [{ pathNormalization: { normalization: 'MERGE' } }, 'it must be DEFAULT, NONE, BASE'],
    [{ pathNormalization: { normalisation: 'BASE' } }, 'did you mean normalization?'],
    [{ pathNormalization: 'BASE' }, 'must be a map'],
    [{ extensionProviders: opa }, 'must be a list'],
    [provider(null), 'must not be null'],
    [provider({ ...opa, name: '' }), 'extensionProviders[0].name'],
    [provider({ envoyExtAuthzGrpc: opa.envoyExtAuthzGrpc }), 'needs a name'],
    [provider(opa, opa), 'stands for another already'],
    [provider({ name: 'x' }), 'exactly one kind'],
    [provider({ ...opa, prometheus: {} }), 'exactly one kind'],
    [provider({ name: 'x', envoyExtAuthz: {} }), 'unknown field "envoyExtAuthz"'],
    [provider({ name: 'x', envoyExtAuthzHttp: { port: 80 } }), 'needs a service'],
    [provider({ name: 'x', envoyExtAuthzHttp: { service: 'a' } }), 'needs a port'],
    [provider({ name: 'x', envoyExtAuthzHttp: { service: 'a', port: 0 } }), 'from 1 to 65535'],
    [provider({ name: 'x', envoyExtAuthzHttp: { service: 'a', port: 80, failopen: true } }), 'did you mean failOpen?'],
  ])('%j is refused: %s', (spec, expected) => {
    expect(errors(mesh(spec))).toContain(expected);
  });

  test('settings in a file of their own may name the trust domain and what Postern does not have', () => {
    expect(validateMeshSettings({ ...full, extensionProviders: [], trustDomain: 'td', accessLogFile: '-' })).toEqual(
      [],
    );
    expect(validateMeshSettings({ trustDomain: 'A' })).toHaveLength(1);
  });
});
