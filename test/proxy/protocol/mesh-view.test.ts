import { describe, expect, test } from 'vitest';
import { MeshView } from '../../../proxy/protocol/mesh-view.ts';
import { checkRoot, one, service, two, upsert, viewOf } from './mesh-fixtures.ts';

describe('a full delta', () => {
  test('drops what it does not name, and keeps the last good one of what it names but is bad', () => {
    const view = viewOf(one, two, service('orders'));
    const bad = { ...one, addresses: [] };
    const rejected = view.applyDelta({ full: true, upserts: [bad], removes: [] });
    expect(rejected).toEqual([{ key: 'Workload/shop/orders-1', reason: 'addresses is empty' }]);
    expect(view.registry.workload('shop/orders-1')).toEqual(one);
    expect(view.registry.workload('shop/orders-2')).toBeNull();
    expect(view.registry.service('shop/orders', 80)).toBeNull();
  });
});

const mesh = {
  kind: 'MeshConfig',
  name: 'mesh',
  trustDomain: 'cluster.local',
  trustDomainAliases: ['old.local'],
  rootNamespace: 'istio-system',
  outboundTrafficPolicy: 'ALLOW_ANY',
  defaultAction: 'ALLOW',
  pathNormalization: 'BASE',
  extensionProviders: [],
} as const;

describe('settings, trust, revocations and policies', () => {
  const policy = { kind: 'AuthorizationPolicy', name: 'shop/p', object: { spec: {} } } as const;

  test('each part has a version of its own that rises with its changes', () => {
    const view = viewOf(mesh);
    const before = { ...view.versions };
    upsert(view, policy);
    expect(view.versions).toEqual({ ...before, policies: before.policies + 1 });
    expect(view.meshConfig).toEqual(mesh);
  });

  test('mesh settings that an older control plane does not send have their defaults', () => {
    const { pathNormalization: _, extensionProviders: __, ...older } = mesh;
    const view = new MeshView(() => null, checkRoot);
    expect(upsert(view, older)).toEqual([]);
    expect(view.meshConfig).toEqual({ ...mesh, pathNormalization: 'BASE', extensionProviders: [] });
  });

  test('revocation is by identity and by serial number', () => {
    const id = 'spiffe://cluster.local/ns/shop/sa/orders';
    const view = viewOf({ kind: 'Revocations', name: 'revoked', spiffeIds: [id], serials: ['1AF'] });
    expect(view.isRevoked(id, '77')).toBe(true);
    expect(view.isRevoked('spiffe://cluster.local/ns/shop/sa/x', '1AF')).toBe(true);
    expect(view.isRevoked('spiffe://cluster.local/ns/shop/sa/x', '77')).toBe(false);
    view.applyDelta({ full: false, upserts: [], removes: ['Revocations/revoked'] });
    expect(view.isRevoked(id, '1AF')).toBe(false);
  });

  const requestAuthentication = { kind: 'RequestAuthentication', name: 'shop/jwt', object: { spec: {} } } as const;
  const jwks = { kind: 'Jwks', name: 'https://idp.example/keys', jwks: '{"keys":[]}' } as const;

  test('what tokens are verified by has a version; a RequestAuthentication is a policy, too, keys are none', () => {
    const view = viewOf(mesh);
    const before = { ...view.versions };
    upsert(view, requestAuthentication);
    expect(view.versions).toEqual({ ...before, policies: before.policies + 1, tokens: before.tokens + 1 });
    upsert(view, jwks);
    expect(view.versions).toEqual({ ...before, policies: before.policies + 1, tokens: before.tokens + 2 });
    expect(view.policies()).toEqual([requestAuthentication]);
  });

  test('keys of an issuer are found by their URI; null where they could not be fetched', () => {
    const view = viewOf(jwks, { ...jwks, name: 'https://other.example/keys', jwks: null });
    expect(view.jwks('https://idp.example/keys')?.jwks).toBe('{"keys":[]}');
    expect(view.jwks('https://other.example/keys')).toMatchObject({ jwks: null });
    expect(view.jwks('https://idp.example')).toBeNull();
    view.applyDelta({ full: false, upserts: [], removes: ['Jwks/https://idp.example/keys'] });
    expect(view.jwks('https://idp.example/keys')).toBeNull();
  });

  test('a RequestAuthentication is judged by the policy library', () => {
    const view = new MeshView(() => 'no', checkRoot);
    expect(upsert(view, requestAuthentication)).toEqual([{ key: 'RequestAuthentication/shop/jwt', reason: 'no' }]);
    expect(view.policies()).toEqual([]);
  });

  test('a policy that the policy library refuses is rejected with its reason, and the last good one stays', () => {
    let reason: string | null = null;
    const view = new MeshView(() => reason, checkRoot);
    upsert(view, policy);
    reason = 'spec.rules[0]: no';
    expect(upsert(view, { ...policy, object: {} })).toEqual([{ key: 'AuthorizationPolicy/shop/p', reason }]);
    expect(view.policies()).toEqual([policy]);
    expect(view.lacksPolicy).toBe(false);
  });

  describe('a policy that is rejected while none of its name is in force is missing', () => {
    const rejecting = (): { readonly view: MeshView; accept(): void } => {
      let reason: string | null = 'no';
      const view = new MeshView(() => reason, checkRoot);
      upsert(view, policy);
      return { view, accept: () => (reason = null) };
    };
    const removes = ['AuthorizationPolicy/shop/p'] as const;

    test('which is a change of the policies', () => {
      const { view } = rejecting();
      expect([view.lacksPolicy, view.versions.policies]).toEqual([true, 1]);
    });

    test('until a good one comes', () => {
      const { view, accept } = rejecting();
      accept();
      upsert(view, policy);
      expect(view.lacksPolicy).toBe(false);
    });

    test('until it is removed', () => {
      const { view } = rejecting();
      view.applyDelta({ full: false, upserts: [], removes: [...removes] });
      expect([view.lacksPolicy, view.versions.policies]).toEqual([false, 2]);
    });

    test('until a full delta does without it', () => {
      const { view } = rejecting();
      view.applyDelta({ full: true, upserts: [], removes: [] });
      expect(view.lacksPolicy).toBe(false);
    });

    test('also where it cannot even be read, but not a resource of another kind', () => {
      const view = viewOf();
      view.applyDelta({ full: false, upserts: [{ ...policy, object: 1 } as never], removes: [] });
      expect(view.lacksPolicy).toBe(true);
      const other = viewOf();
      other.applyDelta({ full: false, upserts: [{ kind: 'Workload', name: 'shop/x' } as never], removes: [] });
      expect(other.lacksPolicy).toBe(false);
    });
  });
});

describe('a resource that does not hold is rejected with what is wrong with it', () => {
  const bundle = { kind: 'TrustBundle', name: 'roots', roots: [] };
  test.each<[unknown, string]>([
    [null, 'not an object'],
    [[], 'not an object'],
    ['x', 'not an object'],
    [{}, 'kind is not a string'],
    [{ kind: 'Secret', name: 'x' }, 'unknown to this version'],
    [{ ...one, name: 'orders-1' }, '<namespace>/<name>'],
    [{ ...one, name: 'other/orders-1' }, 'not in namespace'],
    [{ ...one, addresses: ['10.0.0.300'] }, 'addresses[0] is not an IP'],
    [{ ...one, addresses: '10.0.0.1' }, 'addresses is not a list'],
    [{ ...one, addresses: ['fe80::1%lo'] }, 'addresses[0] is not an IP'],
    [{ ...one, identity: 'spiffe://cluster.local/orders' }, 'identity is not a SPIFFE ID'],
    [{ ...one, identity: null }, 'needs one to check'],
    [{ ...one, protocol: 'HTTP' }, 'not one of HBONE'],
    [{ ...one, tunnel: { address: '10.0.0.1', port: 0 } }, 'tunnel.port'],
    [{ ...one, tunnel: undefined }, 'tunnel is not an object'],
    [{ ...one, plaintextPorts: [1.5] }, 'plaintextPorts[0]'],
    [service('s', { ports: [service('s').ports[0], service('s').ports[0]] as never }), 'same port twice'],
    [service('s', { endpoints: [{ workload: 'shop/x', ports: { '81': 1 } }] }), 'port that the service does not have'],
    [service('s', { endpoints: [{ workload: 'shop/x', ports: { '80': 70_000 } }] }), 'not a port'],
    [bundle, 'roots is empty'],
    [
      { ...bundle, roots: ['-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'] },
      'roots[0] is not a certificate',
    ],
    [{ ...bundle, roots: ['nothing'] }, 'exactly one PEM'],
    [{ kind: 'Revocations', name: 'revoked', spiffeIds: [], serials: ['0af'] }, 'serials[0]'],
    [{ kind: 'Revocations', name: 'revoked', spiffeIds: ['x'], serials: [] }, 'spiffeIds[0]'],
    [{ kind: 'AuthorizationPolicy', name: 'p', object: {} }, '<namespace>/<name>'],
    [{ kind: 'AuthorizationPolicy', name: 'a/p', object: [] }, 'object is not an object'],
    [{ kind: 'RequestAuthentication', name: 'a/p', object: 'x' }, 'object is not an object'],
    [{ kind: 'Jwks', name: 'https://i/k', jwks: {} }, 'jwks is not a string'],
    [{ kind: 'Jwks', name: 'https://i/k' }, 'jwks is not a string'],
    [{ kind: 'Jwks', name: 'https://i/k', jwks: 'x'.repeat(1024 * 1024 + 1) }, 'jwks is longer'],
    [{ kind: 'Jwks', name: `https://i/${'k'.repeat(3000)}`, jwks: null }, 'name is longer'],
    [{ kind: 'MeshConfig', name: 'mesh', trustDomain: 'UPPER' }, 'trustDomain'],
    [{ ...mesh, pathNormalization: 'DEFAULT' }, 'pathNormalization'],
    [{ ...mesh, extensionProviders: {} }, 'extensionProviders'],
    [{ ...mesh, extensionProviders: [{ name: 'x', protocol: 'udp' }] }, 'protocol'],
  ])('%j: %s', (bad, reason) => {
    const rejected = upsert(new MeshView(() => null, checkRoot), bad, one);
    expect(rejected).toHaveLength(1);
    expect(rejected[0]?.reason).toContain(reason);
    expect(rejected[0]?.key).toMatch(/^[^/]+\/.+/);
  });

  test('a leaf certificate is no root', async () => {
    const { default: forge } = await import('node-forge');
    const keys = forge.pki.rsa.generateKeyPair(1024);
    const certificate = forge.pki.createCertificate();
    certificate.publicKey = keys.publicKey;
    certificate.sign(keys.privateKey);
    const pem = forge.pki.certificateToPem(certificate);
    expect(upsert(new MeshView(() => null, checkRoot), { ...bundle, roots: [pem] })[0]?.reason).toContain('not a CA');
  });
});

describe('what the control plane says of the workload itself', () => {
  const self = {
    kind: 'Self',
    name: 'self',
    labels: { app: 'orders', '': 'x', ['__proto__']: 'y' },
    ended: false,
  } as const;

  test('is taken whole, and counts as a change of policies and of tokens', () => {
    const view = viewOf();
    const { policies, tokens } = view.versions;
    expect(view.self).toBeNull();
    expect(upsert(view, self)).toEqual([]);
    expect(Object.entries(view.self?.labels ?? {})).toEqual(Object.entries(self.labels));
    expect([view.versions.policies > policies, view.versions.tokens > tokens]).toEqual([true, true]);
  });

  test('goes with a control plane that does not tell of it', () => {
    const view = viewOf(self);
    view.applyDelta({ full: true, upserts: [], removes: [] });
    expect(view.self).toBeNull();
  });

  test.each([
    ['no labels', { labels: null }],
    ['a label that is no text', { labels: { a: 1 } }],
    ['too many labels', { labels: Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`l${i}`, ''])) }],
    ['no word of its end', { ended: undefined }],
    ['another name', { name: 'other' }],
  ])('is refused with %s', (_what, more) => {
    const view = viewOf(self);
    expect(upsert(view, { ...self, ...more })).toHaveLength(1);
    expect(view.self).not.toBeNull();
    expect(view.lacksPolicy).toBe(false);
  });

  test('leaves nothing in force where it cannot be read and nothing else is known', () => {
    const view = viewOf();
    upsert(view, { ...self, labels: null });
    expect(view.lacksPolicy).toBe(true);
    upsert(view, self);
    expect(view.lacksPolicy).toBe(false);
  });
});
