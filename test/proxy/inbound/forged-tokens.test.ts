import { once } from 'node:events';
import * as http2 from 'node:http2';
import { connect } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { jwkOf, jwksText, signer, token } from '../../policy/jwt/forge.ts';
import { eventually, within } from '../../support/eventually.ts';
import { http1App, http2App, tellWhatYouSaw } from '../../support/http-apps.ts';
import { type Orders, type OrdersOptions, security, startOrders, type Undo } from './orders.ts';

const ISSUER = 'https://idp.example';
const key = signer('ES256', 'key');
const thief = signer('ES256', 'key');
/** So many as a connection may bring. */
const BUDGET = 100;

const undo: Undo = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

async function withTokens(app: { address: string; port: number }, options: OrdersOptions = {}): Promise<Orders> {
  const orders = await startOrders(app, undo, options);
  const rule = { issuer: ISSUER, jwks: jwksText(jwkOf(key)) };
  await orders.plane.push(security('RequestAuthentication', 'users', { jwtRules: [rule] }));
  return orders;
}

const bearer = (by: typeof key, jti: number): { authorization: string } => ({
  authorization: `Bearer ${token(by, { iss: ISSUER, sub: 'alice', jti: `${jti}` })}`,
});

/** Status and Connection of each answer to requests that were sent at once on one connection, until it has ended or all are answered. */
async function pipeline(orders: Orders, tokens: readonly string[]): Promise<readonly string[]> {
  const client = connect(orders.entry.port, orders.entry.address);
  undo.push(() => client.destroy());
  let text = '';
  client
    .on('error', () => undefined)
    .on('data', (bytes) => {
      text += String(bytes);
    });
  const requests = tokens.map((one) => `GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${one}\r\n\r\n`);
  client.write(requests.join(''));
  const answers = (): string[] =>
    [...text.matchAll(/HTTP\/1\.1 (\d+)[\s\S]*?\r\n\r\n/g)].map(
      ([head, status]) => `${status} ${/connection: (\w+)/i.exec(head)?.[1] ?? 'stays'}`,
    );
  await eventually(() => client.readableEnded || client.closed || answers().length === tokens.length, {
    what: 'the answers',
  });
  return answers();
}

const made = (by: typeof key, count: number): string[] =>
  Array.from({ length: count }, (_, i) => token(by, { iss: ISSUER, sub: 'alice', jti: `${i}` }));

test('a connection in HTTP/1.1 that brings forged tokens again and again ends after an answer', async () => {
  const app = await http1App(tellWhatYouSaw);
  undo.push(() => app.close());
  const orders = await withTokens(app);
  const answers = await pipeline(orders, made(thief, 3 * BUDGET));
  expect(answers.at(-1)).toBe('401 close');
  expect(new Set(answers.slice(0, -1))).toEqual(new Set(['401 stays']));
  expect(answers.length).toBeGreaterThan(BUDGET);
  // Nobody else is held to account.
  expect(await pipeline(orders, made(key, 1))).toEqual(['200 stays']);
});

test.each([
  ['the same forged token again and again', () => new Array<string>(2 * BUDGET).fill(made(thief, 1)[0] ?? '')],
  ['tokens that need no verification', () => new Array<string>(2 * BUDGET).fill('x.y.z')],
])('%s end nothing', async (_what, tokens) => {
  const app = await http1App(tellWhatYouSaw);
  undo.push(() => app.close());
  const orders = await withTokens(app);
  expect(new Set(await pipeline(orders, tokens()))).toEqual(new Set(['401 stays']));
});

test('a connection in HTTP/2 is told to go; what is under way on it goes on', async () => {
  const app = await http2App((stream) => {
    stream.on('error', () => undefined);
    stream.respond({ ':status': 200 });
    stream.write('first;');
    stream.on('data', (bytes) => stream.end(bytes));
  });
  undo.push(() => app.close());
  const orders = await withTokens(app, { protocol: 'http2' });
  const client = http2.connect(`http://127.0.0.1:${orders.entry.port}`);
  client.on('error', () => undefined);
  undo.push(() => client.destroy());
  const bystander = client.request({ ':path': '/', ':method': 'POST', ...bearer(key, 0) }, { endStream: false });
  await once(bystander, 'data');
  const goaway = once(client, 'goaway');
  // Within what the connection carries at a time.
  for (let batch = 0; batch < 3; batch++) {
    const answers = Array.from({ length: (BUDGET * 4) / 5 }, async (_, i) => {
      if (client.closed) return;
      const forged = client.request({ ':path': '/', ...bearer(thief, BUDGET * batch + i) });
      forged.on('error', () => undefined).resume();
      await once(forged, 'close');
    });
    await Promise.all(answers);
    if (client.closed || client.destroyed) break;
  }
  await within(goaway, 10_000, 'GOAWAY');
  let heard = '';
  bystander.on('data', (bytes) => {
    heard += String(bytes);
  });
  bystander.end('last');
  await eventually(() => heard === 'last', { what: 'the answer' });
});
