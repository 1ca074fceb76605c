import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import { AddressGuard } from '../../../control-plane/jwks/address-guard.ts';
import { acceptable, type FetchOptions, fetchDocument } from '../../../control-plane/jwks/fetch-document.ts';
import { fetchKeySet, type RemoteSource } from '../../../control-plane/jwks/fetch-key-set.ts';
import { jwksSource } from '../../../policy/tokens/jwks-source.ts';
import { jwkOf, signer } from '../../policy/jwt/forge.ts';
import { Provider } from './provider.ts';

const HERE = new AddressGuard(['127.0.0.1']);
const BY_DEFAULT = new AddressGuard([]);
const KEY = signer('ES256', 'k1');

let provider: Provider;
let resolved: string[];
beforeEach(async () => {
  provider = await Provider.start();
  resolved = [];
});
afterEach(() => provider.stop());

const options = (more: Partial<FetchOptions> = {}): FetchOptions => ({
  guard: HERE,
  timeoutMs: 20_000,
  maxBytes: 10_000,
  ...more,
});
const resolve = (...answers: readonly string[]) => ({
  resolve: async (name: string) => {
    resolved.push(name);
    return answers;
  },
});
const failure = async (work: Promise<unknown>): Promise<string> => {
  try {
    await work;
  } catch (error) {
    expect(error).toMatchObject({ name: 'PosternError' });
    return (error as Error).message;
  }
  throw new Error('it was fetched');
};
const fails = (uri: string, more: Partial<FetchOptions> = {}) => failure(fetchDocument(uri, options(more)));

describe('a document', () => {
  test('is fetched', async () => {
    provider.body('/x?a=1', 'text');
    expect(await fetchDocument(`${provider.url}/x?a=1`, options())).toBe('text');
  });

  test('is fetched from the address that was looked at, by the name that was asked', async () => {
    let host = '';
    provider.routes.set('/', (request, response) => {
      host = request.headers.host ?? '';
      response.end('text');
    });
    const uri = `http://idp.invalid:${provider.port}/`;
    expect(await fetchDocument(uri, options(resolve('127.0.0.1')))).toBe('text');
    expect(host).toBe(`idp.invalid:${provider.port}`);
    expect(resolved).toEqual(['idp.invalid']);
  });

  test('is fetched from the first address that is open', async () => {
    provider.body('/', 'text');
    const uri = `http://idp.invalid:${provider.port}/`;
    expect(await fetchDocument(uri, options(resolve('169.254.169.254', '127.0.0.1')))).toBe('text');
  });

  it.each([
    ['file:///etc/passwd', /neither http nor https/],
    ['gopher://127.0.0.1/', /neither http nor https/],
    ['no URL', /not a URL/],
    [`http://idp.example/${'a'.repeat(3000)}`, /not a URL of bounded length/],
    ['http://user:secret@idp.example/', /user name or password/],
    ['http://user@idp.example/', /user name or password/],
    ['http://169.254.169.254/latest/meta-data/', /metadata/],
    ['http://[fd00:ec2::254]/', /metadata/],
    ['http://0x7f000002/', /loopback/],
    ['http://127.1.1.1/', /loopback/],
    ['http://0/', /unspecified/],
    ['http://[::]/', /unspecified/],
    ['http://[fe80::1]/', /link-local/],
  ])('at %s is not', async (uri, reason) => {
    const message = await fails(uri, resolve('8.8.8.8'));
    expect(message).toMatch(reason);
    expect(message).not.toContain('secret');
    expect(resolved).toEqual([]);
  });

  test('is not fetched where the name leads to an address that is not open', async () => {
    const uri = `http://idp.invalid:${provider.port}/`;
    expect(await fails(uri, { guard: BY_DEFAULT, ...resolve('127.0.0.1') })).toMatch(/loopback/);
    expect(await fails(uri, resolve())).toMatch(/no address/);
    expect(provider.asked).toEqual([]);
  });

  test('is not fetched where the name has changed by the time of the connection: it is asked once', async () => {
    let times = 0;
    const rebinding = async () => [++times === 1 ? '127.0.0.1' : '169.254.169.254'];
    provider.body('/', 'text');
    expect(await fetchDocument(`http://idp.invalid:${provider.port}/`, options({ resolve: rebinding }))).toBe('text');
    expect(times).toBe(1);
  });

  test('is bounded in size', async () => {
    provider.body('/', 'x'.repeat(10_001));
    expect(await fails(provider.url)).toMatch(/more than 10000 bytes/);
  });

  it.each([
    ['no answer', () => {}],
    ['half an answer', (_: unknown, response: { write(text: string): void }) => response.write('{')],
  ])('is not waited for without end: %s', async (_what, handler) => {
    provider.routes.set('/', handler as never);
    expect(await fails(provider.url, { timeoutMs: 100 })).toMatch(/100 ms|in time/);
  });

  test('is given up at once where that is asked for', async () => {
    provider.routes.set('/', () => stop.abort());
    const stop = new AbortController();
    expect(await fails(provider.url, { signal: stop.signal })).toMatch(/no answer/);
  });

  test('is not waited for without end: a resolver that does not answer', async () => {
    const never = () => new Promise<never>(() => {});
    expect(await fails('http://idp.invalid/', { timeoutMs: 50, resolve: never })).toMatch(/50 ms/);
  });

  it.each([204, 206, 304, 401, 404, 500])('with status %i is none', async (status) => {
    provider.status('/', status);
    expect(await fails(provider.url)).toMatch(`status ${status}`);
  });

  test('that cannot be reached says so', async () => {
    const { url } = provider;
    await provider.stop();
    expect(await fails(url)).toMatch(/ECONNREFUSED/);
    provider = await Provider.start();
  });
});

describe('a redirect', () => {
  it.each([301, 302, 303, 307, 308])('of status %i is followed', async (status) => {
    provider.redirect('/', '/there', status);
    provider.body('/there', 'text');
    expect(await fetchDocument(provider.url, options())).toBe('text');
  });

  it.each([
    ['http://169.254.169.254/latest/', /metadata/],
    ['//127.0.0.9/', /loopback/],
    ['file:///etc/passwd', /neither http nor https/],
    ['http://user:secret@idp.example/', /user name/],
  ])('to %s is not', async (location, reason) => {
    provider.redirect('/', location);
    const message = await fails(provider.url);
    expect(message).toMatch(reason);
    expect(message).not.toContain('secret');
  });

  test('to a name that leads to an address that is not open is not followed', async () => {
    provider.redirect('/', 'http://evil.invalid/');
    expect(await fails(provider.url, resolve('169.254.169.254'))).toMatch(/metadata/);
    expect(resolved).toEqual(['evil.invalid']);
  });

  it.each([
    ['https://idp.example/', 'http://idp.example/', false],
    ['https://idp.example/', 'https://other.example/', true],
    ['https://idp.example/', '/there', true],
    ['https://idp.example/', '//other.example/', true],
    ['http://idp.example/', 'https://idp.example/', true],
  ])('from %s to %s is open: %s', (from, to, open) => {
    const follow = () => acceptable(to, new URL(from)).href;
    if (open) expect(follow()).toMatch(/^https:/);
    else expect(follow).toThrow(/would leave https for http/);
  });

  test('is followed a bounded number of times', async () => {
    provider.redirect('/', '/');
    expect(await fails(provider.url)).toMatch(/more than 3 times/);
    expect(provider.asked).toHaveLength(4);
  });
});

describe('keys', () => {
  const source = (rule: { readonly issuer?: string; readonly uri?: string }): RemoteSource =>
    jwksSource({ issuer: null, uri: null, inline: null, ...rule }) as RemoteSource;
  const kids = (text: string) => JSON.parse(text).keys.map(({ kid }: { kid: string }) => kid);

  test('are fetched by URI', async () => {
    provider.keys('/keys', KEY);
    const { text } = await fetchKeySet(source({ uri: `${provider.url}/keys` }), options());
    expect(kids(text)).toEqual(['k1']);
  });

  it.each(['', '/'])('are found by discovery, the issuer ending in %j', async (end) => {
    provider.discovery(`${provider.url}/keys`, `${provider.url}${end}`);
    provider.keys('/keys', KEY);
    const { text } = await fetchKeySet(source({ issuer: `${provider.url}${end}` }), options());
    expect(kids(text)).toEqual(['k1']);
    expect(provider.asked).toEqual(['/.well-known/openid-configuration', '/keys']);
  });

  test('that are private do not go on, nor anything else of the document', async () => {
    const secret = { ...KEY.privateKey.export({ format: 'jwk' }), kid: 'k1', note: 'n' };
    provider.json('/keys', { keys: [secret, { kty: 'oct', k: 'c2VjcmV0', kid: 'hmac' }], more: 1 });
    const { text, ignored } = await fetchKeySet(source({ uri: `${provider.url}/keys` }), options());
    expect(JSON.parse(text)).toEqual({ keys: [jwkOf(KEY)] });
    expect(ignored).toHaveLength(1);
  });

  test('may be none: the issuer says so', async () => {
    provider.body('/keys', '{"keys":[]}');
    expect(await fetchKeySet(source({ uri: `${provider.url}/keys` }), options())).toEqual({
      text: '{"keys":[]}',
      ignored: [],
    });
  });

  it.each([
    ['no JSON', '<html>', /not a JSON object/],
    ['no set', '{}', /no list of keys/],
    ['none that is of use', '{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}', /no key of the JWK Set is of use/],
  ])('are not taken from what holds %s', async (_what, body, reason) => {
    provider.body('/keys', body);
    const message = await failure(fetchKeySet(source({ uri: `${provider.url}/keys` }), options()));
    expect(message).toMatch(reason);
    expect(message).not.toContain('html');
  });

  it.each([
    [
      'another issuer',
      { issuer: 'https://evil.example', jwks_uri: 'http://127.0.0.1/' },
      /that of the issuer "https:\/\/evil/,
    ],
    ['no issuer', { jwks_uri: 'http://127.0.0.1/' }, /that of the issuer null/],
    ['no URI', {}, /no jwks_uri/],
    ['a URI that is not open', { jwks_uri: 'http://169.254.169.254/' }, /metadata/],
    ['a URI that is no fetch', { jwks_uri: 'file:///etc/passwd' }, /neither http nor https/],
  ])('are not looked for where discovery tells of %s', async (what, configuration, reason) => {
    const issuer = what.endsWith('issuer') ? {} : { issuer: provider.url };
    provider.json('/.well-known/openid-configuration', { ...issuer, ...configuration });
    expect(await failure(fetchKeySet(source({ issuer: provider.url }), options()))).toMatch(reason);
  });

  test('of an issuer that is no URL cannot be found', async () => {
    expect(await failure(fetchKeySet(source({ issuer: 'joe@example.com' }), options()))).toMatch(/not a URL/);
  });
});
