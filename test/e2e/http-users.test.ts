import type * as http from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Provider } from '../control-plane/jwks/provider.ts';
import { type Members, type Signer, signer, token } from '../policy/jwt/forge.ts';
import type { TcpAddress } from '../support/apps.ts';
import { eventually } from '../support/eventually.ts';
import { ask, askWhatYouSaw, type HttpApp, http1App, tellWhatYouSaw } from '../support/http-apps.ts';
import { Mesh, serviceManifest } from '../support/mesh.ts';

const ORDERS = 'orders.shop:8080';
/** Of a provider that says by itself where its keys are. */
const PARTNERS = 'partners.shop:8081';

let provider: Provider;
let app: HttpApp;
let mesh: Mesh;
let key: Signer;
const STRANGER = signer('ES256', 'k1');
const at = (service = ORDERS): TcpAddress => mesh.workload('frontend').upstream(service);

function manifest(kind: string, name: string, workload: string, spec: object): string {
  const selector = { matchLabels: { app: workload } };
  return JSON.stringify({
    apiVersion: 'security.istio.io/v1',
    kind,
    metadata: { name, namespace: 'shop' },
    spec: { selector, ...spec },
  });
}

const seconds = (): number => Math.floor(Date.now() / 1000);

/** A token of the shop's own provider. */
function userToken(more: Members = {}, by: Signer = key): string {
  return token(by, { iss: provider.url, sub: 'alice', aud: 'orders', exp: seconds() + 600, iat: seconds(), ...more });
}

const bearer = (text: string): { readonly authorization: string } => ({ authorization: `Bearer ${text}` });

async function statusOf(path: string, headers: http.OutgoingHttpHeaders = {}, service = ORDERS): Promise<number> {
  return (await ask(at(service), path, { headers })).status;
}

function usersOfOrders(): string {
  return manifest('RequestAuthentication', 'orders-users', 'orders', {
    jwtRules: [
      {
        issuer: provider.url,
        audiences: ['orders'],
        jwksUri: `${provider.url}/keys`,
        fromHeaders: [{ name: 'Authorization', prefix: 'Bearer ' }, { name: 'x-user-token' }],
        fromParams: ['token'],
        fromCookies: ['session'],
        outputPayloadToHeader: 'x-payload',
        outputClaimToHeaders: [
          { header: 'x-user', claim: 'sub' },
          { header: 'x-team', claim: 'org.team' },
        ],
      },
    ],
  });
}

function policyOfOrders(): string {
  const to = (path: string): object[] => [{ operation: { paths: [path] } }];
  return manifest('AuthorizationPolicy', 'orders', 'orders', {
    rules: [
      { to: to('/public') },
      { from: [{ source: { requestPrincipals: [`${provider.url}/*`] } }], to: to('/users*') },
      { to: to('/admins'), when: [{ key: 'request.auth.claims[groups]', values: ['admins'] }] },
      { to: to('/blue'), when: [{ key: 'request.auth.claims[org][team]', values: ['blue'] }] },
    ],
  });
}

beforeAll(async () => {
  provider = await Provider.start();
  key = signer('RS256', 'k1');
  provider.keys('/keys', key);
  provider.keys('/partner-keys', key);
  provider.discovery(`${provider.url}/partner-keys`);
  app = await http1App(tellWhatYouSaw);
  const partners = manifest('RequestAuthentication', 'partners-users', 'partners', {
    jwtRules: [{ issuer: provider.url, forwardOriginalToken: true }],
  });
  const onlyUsers = manifest('AuthorizationPolicy', 'partners', 'partners', {
    rules: [{ from: [{ source: { requestPrincipals: ['*'] } }] }],
  });
  mesh = await Mesh.start({
    manifests: {
      'orders.yaml': serviceManifest('orders', 8080, 8080, 'http'),
      'partners.yaml': serviceManifest('partners', 8081, 8081, 'http'),
      'orders-users.yaml': usersOfOrders(),
      'orders-policy.yaml': policyOfOrders(),
      'partners-users.yaml': partners,
      'partners-policy.yaml': onlyUsers,
    },
    workloads: [
      { name: 'orders', expose: [{ port: 8080, application: app }] },
      { name: 'partners', expose: [{ port: 8081, application: app }] },
      { name: 'frontend', upstreams: [ORDERS, PARTNERS] },
    ],
    controlPlane: { jwks: { allowedAddresses: ['127.0.0.0/8'], refreshInterval: '1s' } },
  });
  await eventually(async () => (await statusOf('/users', bearer(userToken()))) === 200, { what: 'keys to arrive' });
});

afterAll(async () => {
  await mesh?.stop();
  await app?.close();
  await provider?.stop();
});

describe('a user whose keys the control plane has fetched', () => {
  test.each<[string, string, () => http.OutgoingHttpHeaders]>([
    ['a header', '/users', () => bearer(userToken())],
    ['a header of its own', '/users', () => ({ 'x-user-token': userToken() })],
  ])('is known by a token in %s, which does not go on to the application', async (_, path, headers) => {
    const sent = headers();
    const seen = await askWhatYouSaw(at(), path, { headers: sent });
    expect(seen.headers['x-user']).toBe('alice');
    expect(JSON.stringify(seen)).not.toContain(Object.values(sent).join().slice(-40));
  });

  test('is known by a token in a cookie, which goes on like every cookie', async () => {
    const cookie = `theme=dark; session=${userToken()}`;
    expect((await askWhatYouSaw(at(), '/users', { headers: { cookie } })).headers).toMatchObject({
      'x-user': 'alice',
      cookie,
    });
  });

  test('is known by a token in the query, which is cut out of it', async () => {
    const seen = await askWhatYouSaw(at(), `/users?a=1&token=${userToken()}&b=2`);
    expect(seen).toMatchObject({ url: '/users?a=1&b=2', headers: { 'x-user': 'alice' } });
    const line = await mesh.workload('orders').accessLogLine((one) => one.path === '/users', 'the request');
    expect(JSON.stringify(line)).not.toContain('token=');
  });

  test('keeps its token on the way to an application that asks for it', async () => {
    const headers = bearer(userToken());
    const seen = await eventually(() => askWhatYouSaw(at(PARTNERS), '/', { headers }), { what: 'keys by discovery' });
    expect(seen.headers.authorization).toBe(headers.authorization);
    expect(provider.asked).toContain('/.well-known/openid-configuration');
  });

  test('cannot write the headers in which the application is told who it is', async () => {
    const forged = { 'x-user': 'root', 'X-Team': 'red', x_user: 'root', 'x-payload': 'e30' };
    const anonymous = await askWhatYouSaw(at(), '/public', { headers: forged });
    for (const name of Object.keys(forged)) expect(anonymous.headers).not.toHaveProperty(name.toLowerCase());
    const claims = { org: { team: 'blue' } };
    const known = await askWhatYouSaw(at(), '/users', { headers: { ...forged, ...bearer(userToken(claims)) } });
    expect(known.headers).toMatchObject({ 'x-user': 'alice', 'x-team': 'blue' });
    expect(known.headers).not.toHaveProperty('x_user');
    const payload = Buffer.from(String(known.headers['x-payload']), 'base64url').toString();
    expect(JSON.parse(payload)).toMatchObject({ sub: 'alice', ...claims });
  });

  test('is named by the access log', async () => {
    await ask(at(), '/users/logged', { headers: bearer(userToken()) });
    const line = await mesh.workload('orders').accessLogLine((one) => one.path === '/users/logged', 'the request');
    expect(JSON.stringify(line)).toContain(`${provider.url}/alice`);
  });
});

describe('policies decide by who the user is', () => {
  test.each<[string, string, Members | null, number]>([
    ['what is public, for nobody', '/public', null, 200],
    ['what is for users, for nobody', '/users', null, 403],
    ['what is for users, for one', '/users', {}, 200],
    ['what is for admins, for a user', '/admins', {}, 403],
    ['what is for admins, for one', '/admins', { groups: ['staff', 'admins'] }, 200],
    ['what is for one who only has such a word in a text', '/admins', { groups: 'staff admins' }, 403],
    ['what is for a team, for another', '/blue', { org: { team: 'red' } }, 403],
    ['what is for a team, for the team', '/blue', { org: { team: 'blue' } }, 200],
  ])('%s', async (_, path, claims, status) => {
    const before = app.requests;
    expect(await statusOf(path, claims === null ? {} : bearer(userToken(claims)))).toBe(status);
    expect(app.requests - before).toBe(status === 200 ? 1 : 0);
  });
});

describe('a token that is not right is refused, even where none is needed', () => {
  test.each<[string, () => string]>([
    ['expired', () => userToken({ exp: seconds() - 3600 })],
    ['not valid yet', () => userToken({ nbf: seconds() + 3600 })],
    ['by somebody else', () => userToken({}, STRANGER)],
    ['of another issuer', () => userToken({ iss: 'https://evil.example' })],
    ['without a signature', () => `${userToken().split('.').slice(0, 2).join('.')}.`],
    ['no token at all', () => 'abc'],
  ])('%s', async (_, text) => {
    const before = app.requests;
    const { status, headers } = await ask(at(), '/public', { headers: bearer(text()) });
    expect(status).toBe(401);
    expect(headers['www-authenticate']).toMatch(/^Bearer realm="http:\/\/[^"]+\/public", error="invalid_token"$/);
    expect(app.requests).toBe(before);
  });

  test('for another audience: 403', async () => {
    expect(await statusOf('/public', bearer(userToken({ aud: 'payments' })))).toBe(403);
  });
});

describe('keys', () => {
  test('that the provider changes are in force soon, and the old ones are not any more', async () => {
    const old = userToken();
    const next = signer('ES256', 'k2');
    provider.keys('/keys', key, next);
    await eventually(async () => (await statusOf('/users', bearer(userToken({}, next)))) === 200, {
      what: 'the new key',
    });
    expect(await statusOf('/users', bearer(old))).toBe(200);
    provider.keys('/keys', next);
    await eventually(async () => (await statusOf('/users', bearer(old))) === 401, { what: 'the end of the old key' });
    expect(await statusOf('/users', bearer(userToken({}, next)))).toBe(200);
    key = next;
  });

  test('stay in force while the provider is down', async () => {
    provider.status('/keys', 500);
    const asked = provider.asked.length;
    await eventually(() => provider.asked.slice(asked).filter((path) => path === '/keys').length >= 1, {
      what: 'the control plane to have asked in vain',
    });
    expect(await statusOf('/users', bearer(userToken()))).toBe(200);
    provider.keys('/keys', key);
  });

  test('stay in force while there is no control plane, and tokens that expire do so all the same', async () => {
    mesh.controlPlane.kill('SIGKILL');
    await mesh.controlPlane.exited;
    // A minute of grace is given, for clocks that differ.
    const short = userToken({ exp: seconds() - 52 });
    expect(await statusOf('/users', bearer(short))).toBe(200);
    expect(await statusOf('/users', bearer(userToken({ sub: 'bob' })))).toBe(200);
    expect(await statusOf('/users', bearer(userToken({}, STRANGER)))).toBe(401);
    await eventually(async () => (await statusOf('/users', bearer(short))) === 401, { what: 'the token to expire' });
  });
});
