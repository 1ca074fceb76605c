import { once } from 'node:events';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import type { Duplex, Readable, Writable } from 'node:stream';
import { afterEach, describe, expect, test } from 'vitest';
import type { Resource } from '../../../mesh/resources.ts';
import { jwkOf, jwksText, type Signer, signer, token } from '../../policy/jwt/forge.ts';
import { eventually, within } from '../../support/eventually.ts';
import { http1App, http2App } from '../../support/http-apps.ts';
import { type Orders, policy, security, startOrders, type Undo } from './orders.ts';

const ISSUER = 'https://idp.example';
const OTHER_ISSUER = 'https://other.example';
const KEYS_URI = `${ISSUER}/keys`;
const CLAIMS = { iss: ISSUER, sub: 'alice' };
const [key, next] = [signer('ES256', 'key'), signer('ES256', 'next')];

const undo: Undo = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const rules = (...issuers: readonly string[]): Resource =>
  security('RequestAuthentication', 'users', {
    jwtRules: issuers.map((issuer) => ({ issuer, jwksUri: KEYS_URI })),
  });
const keys = (...signers: readonly Signer[]): Resource => ({
  kind: 'Jwks',
  name: KEYS_URI,
  jwks: jwksText(...signers.map((one) => jwkOf(one))),
});
const USERS = policy(
  'users',
  'ALLOW',
  { to: [{ operation: { paths: ['/public'] } }] },
  { from: [{ source: { requestPrincipals: [`${ISSUER}/alice`] } }] },
);

/** What the caller hears, until it is over. */
interface Call {
  readonly heard: () => string;
  readonly over: Promise<unknown>;
}

/** Calls with a token of `key`, and the application's side of them. */
interface World {
  readonly orders: Orders;
  begin(path?: string): Promise<Call>;
  /** The application says it to all. */
  say(words: string): void;
}

async function listen(from: Readable): Promise<Call> {
  let heard = '';
  from
    .on('error', () => undefined)
    .on('data', (bytes) => {
      heard += String(bytes);
    });
  const over = new Promise((resolve) => from.once('close', resolve));
  await eventually(() => heard.includes('first'), { what: 'the first words' });
  return { heard: () => heard, over };
}

const authorization = (): string => `Bearer ${token(key, CLAIMS)}`;

async function http1(headers: http.OutgoingHttpHeaders = {}): Promise<World> {
  const speakers: Writable[] = [];
  const app = await http1App((_request, response) => {
    response.write('first;');
    speakers.push(response);
  });
  undo.push(() => app.close());
  app.server.on('upgrade', (_request: http.IncomingMessage, socket: Duplex) => {
    socket.on('error', () => undefined);
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: words\r\n\r\nfirst;');
    speakers.push(socket);
  });
  const orders = await startOrders(app, undo);
  const { address: host, port } = orders.entry;
  return {
    orders,
    begin: async (path = '/') => {
      const request = http.get({ host, port, path, headers: { authorization: authorization(), ...headers } });
      const [answer, socket, first] = await Promise.race([once(request, 'response'), once(request, 'upgrade')]);
      if (socket === undefined) return await listen(answer as Readable);
      undo.push(() => (socket as Duplex).destroy());
      (socket as Duplex).unshift(first);
      return await listen(socket as Duplex);
    },
    say: (words) => {
      for (const speaker of speakers) speaker.write(words);
    },
  };
}

async function http2World(): Promise<World> {
  const speakers: Writable[] = [];
  const app = await http2App((stream) => {
    stream.on('error', () => undefined);
    stream.respond({ ':status': 200 });
    stream.write('first;');
    speakers.push(stream);
  });
  undo.push(() => app.close());
  const orders = await startOrders(app, undo, { protocol: 'http2' });
  const client = http2.connect(`http://127.0.0.1:${orders.entry.port}`);
  client.on('error', () => undefined);
  undo.push(() => client.destroy());
  return {
    orders,
    begin: async (path = '/') => await listen(client.request({ ':path': path, authorization: authorization() })),
    say: (words) => {
      for (const speaker of speakers) speaker.write(words);
    },
  };
}

describe.each<[string, () => Promise<World>]>([
  ['a response that goes on', () => http1()],
  ['a connection that was upgraded', () => http1({ connection: 'upgrade', upgrade: 'words' })],
  ['a stream of HTTP/2', http2World],
])('%s', (_what, start) => {
  test.each<[string, Resource]>([
    ['its issuer is trusted no more', rules(OTHER_ISSUER)],
    ['the key that signed its token is gone', keys(next)],
    ['nobody verifies tokens any more', rules()],
  ])('ends when %s', async (_why, change) => {
    const { orders, begin } = await start();
    await orders.plane.push(rules(ISSUER), keys(key), USERS);
    const call = await begin();
    await orders.plane.push(change);
    await within(call.over, 10_000, 'its end');
    await eventually(() => orders.plane.access.some(({ flags }) => flags === 'LR'), { what: 'the line' });
  });

  test('goes on when there are more keys, and more issuers', async () => {
    const { orders, begin, say } = await start();
    await orders.plane.push(rules(ISSUER), keys(key), USERS);
    const call = await begin();
    await orders.plane.push(keys(next, key));
    await orders.plane.push(rules(OTHER_ISSUER, ISSUER));
    say('last;');
    await eventually(() => call.heard() === 'first;last;', { what: 'the last words' });
  });

  test('goes on without its token where that is not asked for', async () => {
    const { orders, begin, say } = await start();
    await orders.plane.push(rules(ISSUER), keys(key), USERS);
    const [open, closed] = [await begin('/public'), await begin()];
    await orders.plane.push(rules());
    await within(closed.over, 10_000, 'the end of the other');
    say('last;');
    await eventually(() => open.heard() === 'first;last;', { what: 'the last words' });
    expect(closed.heard()).toBe('first;');
  });
});
