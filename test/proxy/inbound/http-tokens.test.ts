import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { ask, askWhatYouSaw, http1App, tellWhatYouSaw } from '../../support/http-apps.ts';
import { type Orders, policy, security, startOrders, type Undo } from './orders.ts';

const ISSUER = 'https://idp.example';
const undo: Undo = [];
let orders: Orders;
let key: KeyObject;

const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');

function token(claims: object, signer = key): string {
  const signed = `${part({ alg: 'ES256', kid: '1' })}.${part({ iss: ISSUER, sub: 'alice', aud: ['orders'], ...claims })}`;
  const signature = sign('sha256', Buffer.from(signed), { key: signer, dsaEncoding: 'ieee-p1363' });
  return `${signed}.${signature.toString('base64url')}`;
}

const bearer = (text: string): { headers: { [name: string]: string } } => ({
  headers: { authorization: `Bearer ${text}` },
});

beforeAll(async () => {
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  key = pair.privateKey;
  const app = await http1App(tellWhatYouSaw);
  undo.push(() => app.close());
  orders = await startOrders(app, undo);
  const jwks = JSON.stringify({ keys: [{ ...pair.publicKey.export({ format: 'jwk' }), kid: '1', alg: 'ES256' }] });
  const rule = {
    issuer: ISSUER,
    audiences: ['orders'],
    jwks,
    outputClaimToHeaders: [{ header: 'x-user', claim: 'sub' }],
  };
  await orders.plane.push(
    security('RequestAuthentication', 'users', { jwtRules: [rule] }),
    policy(
      'users',
      'ALLOW',
      { to: [{ operation: { paths: ['/public'] } }] },
      { from: [{ source: { requestPrincipals: [`${ISSUER}/alice`] } }] },
    ),
  );
});

afterAll(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

test('a verified token makes a principal, which policies see and the log tells', async () => {
  expect((await ask(orders.entry, '/mine', bearer(token({})))).status).toBe(200);
  const line = await eventually(() => orders.plane.access.find((one) => 'path' in one && one.path === '/mine'), {
    what: 'the line',
  });
  expect(line).toMatchObject({ userPrincipal: `${ISSUER}/alice` });
});

test('another user is denied by policy', async () => {
  const answer = await ask(orders.entry, '/mine', bearer(token({ sub: 'bob' })));
  expect([answer.status, answer.body.toString()]).toEqual([403, 'RBAC: access denied']);
});

test('no token is for policy to judge', async () => {
  expect((await ask(orders.entry, '/public')).status).toBe(200);
  expect((await ask(orders.entry, '/mine')).status).toBe(403);
});

test.each([
  ['an expired one', () => token({ exp: 1 }), 401, 'Jwt is expired'],
  ['one of another issuer', () => token({ iss: 'https://evil.example' }), 401, 'Jwt issuer is not configured'],
  ['one for somebody else', () => token({ aud: ['billing'] }), 403, 'Audiences in Jwt are not allowed'],
  [
    'one of another key',
    () => token({}, generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey),
    401,
    'Jwt verification fails',
  ],
])('%s is refused, even where policy asks for none', async (_, make, status, reason) => {
  const answer = await ask(orders.entry, '/public', bearer(make()));
  expect([answer.status, answer.body.toString()]).toEqual([status, reason]);
  expect(answer.headers['www-authenticate']).toMatch(
    /^Bearer realm="https?:\/\/[^"]+\/public", error="invalid_token"$/,
  );
});

test('the application gets what the token says, but neither the token nor what the caller made up', async () => {
  const { headers, url } = await askWhatYouSaw(orders.entry, `/mine?a=1&access_token=${token({})}&b=2`, {
    headers: { 'x-user': 'root' },
  });
  expect(headers['x-user']).toBe('alice');
  expect(url).toBe('/mine?a=1&b=2');
  const { headers: anonymous } = await askWhatYouSaw(orders.entry, '/public', { headers: { 'x-user': 'root' } });
  expect(anonymous['x-user']).toBeUndefined();
});
