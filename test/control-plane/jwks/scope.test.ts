import { describe, expect, it, test } from 'vitest';
import { publicObject } from '../../../control-plane/jwks/public-object.ts';
import { jwksNamesOf, wantedSources } from '../../../control-plane/jwks/wanted-sources.ts';
import { ScopeCache } from '../../../control-plane/registry/scope.ts';
import { buildSnapshot, type RegistryInputs } from '../../../control-plane/registry/snapshot.ts';
import { jwkOf, jwksText, signer } from '../../policy/jwt/forge.ts';
import { requestAuthentication } from '../../policy/tokens/objects.ts';
import { manifestsOf, SETTINGS } from '../registry/support.ts';

const manifest = (name: string, rules: string, more = '', namespace = 'shop') =>
  `apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: { name: ${name}, namespace: ${namespace} }\nspec: { ${more}jwtRules: [ ${rules} ] }\n`;
const SELECT = (app: string) => `selector: { matchLabels: { app: ${app} } }, `;
const BY_URI = (name: string) => `{ issuer: i, jwksUri: "https://idp/${name}" }`;

const snapshotOf = (texts: readonly string[], more: Partial<RegistryInputs> = {}) =>
  buildSnapshot({ ...SETTINGS, manifests: manifestsOf(texts.join('---\n')), ...more }, null);

describe('a sidecar is told', () => {
  const snapshot = snapshotOf(
    [
      manifest('orders', `${BY_URI('orders')}, ${BY_URI('shared')}`, SELECT('orders')),
      manifest('web', BY_URI('web'), SELECT('web')),
      manifest('all', `${BY_URI('shared')}, { issuer: "https://idp/" }`),
      manifest('bank', BY_URI('bank'), '', 'bank'),
      manifest('root', BY_URI('root'), '', 'istio-system'),
    ],
    { jwks: new Map([['https://idp/shared', '{"keys":[]}']]) },
  );
  const told = (kind: string) =>
    [
      ...new ScopeCache('e')
        .scopeOf(snapshot, { namespace: 'shop', labels: { app: 'orders' }, ended: false })
        .resources.values(),
    ].filter((one) => one.kind === kind);

  test('the RequestAuthentications that select it', () => {
    expect(
      told('RequestAuthentication')
        .map(({ name }) => name)
        .sort(),
    ).toEqual(['istio-system/root', 'shop/all', 'shop/orders']);
  });

  test('the keys that those need and no others, null where they are not known', () => {
    expect(told('Jwks').sort((a, b) => (a.name < b.name ? -1 : 1))).toEqual([
      { kind: 'Jwks', name: 'https://idp/.well-known/openid-configuration', jwks: null },
      { kind: 'Jwks', name: 'https://idp/orders', jwks: null },
      { kind: 'Jwks', name: 'https://idp/root', jwks: null },
      { kind: 'Jwks', name: 'https://idp/shared', jwks: '{"keys":[]}' },
    ]);
  });

  test('nothing new where no keys have changed', () => {
    const inputs = {
      ...SETTINGS,
      manifests: manifestsOf(manifest('a', BY_URI('a'))),
      jwks: new Map([['https://idp/a', '{}']]),
    };
    const before = buildSnapshot(inputs, null);
    const scopes = new ScopeCache('e');
    const first = scopes.scopeOf(before, { namespace: 'shop', labels: {}, ended: false });
    const same = buildSnapshot({ ...inputs, jwks: new Map(inputs.jwks) }, before);
    expect(scopes.scopeOf(same, { namespace: 'shop', labels: {}, ended: false })).toBe(first);
    const other = buildSnapshot({ ...inputs, jwks: new Map([['https://idp/a', '{"keys":[]}']]) }, same);
    expect(scopes.scopeOf(other, { namespace: 'shop', labels: {}, ended: false })).not.toBe(first);
  });
});

describe('what is fetched', () => {
  test('is what rules name that bring no keys of their own', () => {
    const text = [
      manifest('a', `{ issuer: i, jwks: '{"keys":[]}' }, ${BY_URI('a')}`),
      manifest('b', '{ issuer: "https://idp", timeout: 7s }, { issuer: "https://idp/", timeout: 90s }'),
    ].join('---\n');
    expect([...wantedSources(manifestsOf(text)).values()]).toEqual([
      { source: { kind: 'uri', name: 'https://idp/a' }, timeoutMs: 5_000, namespaces: ['shop'] },
      {
        source: { kind: 'discovery', name: 'https://idp/.well-known/openid-configuration', issuer: 'https://idp' },
        timeoutMs: 30_000,
        namespaces: ['shop'],
      },
    ]);
  });

  it.each([
    ['first', ['{ issuer: "https://idp" }', '{ jwksUri: "https://idp/.well-known/openid-configuration" }']],
    ['last', ['{ jwksUri: "https://idp/.well-known/openid-configuration" }', '{ issuer: "https://idp" }']],
  ])('is an issuer’s discovery rather than the same URI as that of keys, whichever comes %s', (_which, rules) => {
    const [only, ...more] = wantedSources(manifestsOf(manifest('a', rules.join()))).values();
    expect(only?.source.kind).toBe('discovery');
    expect(more).toEqual([]);
  });

  test('has names that sidecars take', () => {
    const long = `https://idp/${'a'.repeat(3000)}`;
    expect(jwksNamesOf(requestAuthentication([{ issuer: long }, { issuer: 'https://idp' }]))).toHaveLength(1);
  });

  test('is nothing of an object that cannot be read: the rest of the mesh goes on', () => {
    expect(jwksNamesOf(requestAuthentication([{ issuer: '' }]))).toEqual([]);
  });
});

describe('inline keys', () => {
  const KEY = signer();
  const PUBLIC = jwksText(jwkOf(KEY));
  const published = (jwks: string) => publicObject(requestAuthentication([{ issuer: 'i', jwks }, { issuer: 'j' }]));

  test('go on as they are where they are public', () => {
    const object = requestAuthentication([{ issuer: 'i', jwks: PUBLIC }]);
    expect(publicObject(object)).toBe(object);
  });

  it.each([
    ['a private key', jwksText({ ...KEY.privateKey.export({ format: 'jwk' }), kid: 'k1' }), PUBLIC],
    ['a secret beside a public key', jwksText(jwkOf(KEY), { kty: 'oct', k: 'c2VjcmV0' }), PUBLIC],
    ['what cannot be read', `{"keys":[{"d":"c2VjcmV0","d":"c2VjcmV0"}]}`, '{"keys":[]}'],
  ])('go on without %s', (_what, jwks, expected) => {
    const object = published(jwks);
    const [rule] = (object.spec as { jwtRules: { jwks: string }[] }).jwtRules;
    expect(JSON.parse(rule?.jwks ?? '')).toEqual(JSON.parse(expected));
    expect(JSON.stringify(object)).not.toContain('c2VjcmV0');
    expect(JSON.stringify(object)).not.toMatch(/\\"d\\"/);
  });

  test('of a manifest stay with the control plane where they are private', () => {
    const jwks = jwksText({ ...KEY.privateKey.export({ format: 'jwk' }), kid: 'k1' });
    const snapshot = snapshotOf([manifest('a', `{ issuer: i, jwks: '${jwks}' }`)]);
    expect(JSON.stringify([...snapshot.resources.values()])).not.toMatch(/\\"d\\"/);
    expect(JSON.stringify([...snapshot.resources.values()])).toContain('\\"x\\"');
  });
});
