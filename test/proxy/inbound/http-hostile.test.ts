import { once } from 'node:events';
import type * as http from 'node:http';
import * as http2 from 'node:http2';
import { afterEach, describe, expect, test } from 'vitest';
import { App, Client } from '../../support/apps.ts';
import { eventually, within } from '../../support/eventually.ts';
import { ask, http1App, http2App } from '../../support/http-apps.ts';
import { TUNNEL_PORT } from '../support/data-plane.ts';
import { type Orders, PORT, security, startOrders, type Undo } from './orders.ts';

const undo: Undo = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const inFlight = (orders: Orders): number =>
  orders.plane.metric('postern_http_requests_in_flight', { direction: 'inbound' });

const drained = (orders: Orders): object | undefined => orders.plane.messages.find(({ type }) => type === 'drained');

test('CONNECT in HTTP/2 that its application ends first leaves nothing behind', async () => {
  const app = await http2App((stream) => {
    stream.on('error', () => undefined);
    stream.respond({ ':status': 200 });
    stream.end('bye');
  });
  undo.push(() => app.close());
  const orders = await startOrders(app, undo, { protocol: 'http2' });
  const client = http2.connect(`http://127.0.0.1:${orders.entry.port}`);
  undo.push(() => client.destroy());
  const stream = client.request({ ':method': 'CONNECT', ':authority': 'db:5432' });
  stream.on('error', () => undefined).resume();
  await within(once(stream, 'end'), 60_000, 'the end of the answer');
  await eventually(() => inFlight(orders) === 0, { what: 'no request in flight' });
  stream.close();
});

test('an application that takes credentials for those of the connection never sees a second caller on it', async () => {
  // Whoever has shown credentials once is known by the connection: NTLM, and Negotiate with most servers.
  const known = new WeakMap<object, string>();
  const app = await http1App((request, response) => {
    const shown = request.headers.authorization;
    if (shown !== undefined) known.set(request.socket, shown);
    response.end(known.get(request.socket) ?? 'nobody');
  });
  undo.push(() => app.close());
  const orders = await startOrders(app, undo);
  await ask(orders.entry, '/', { headers: { authorization: 'Negotiate alice' } });
  expect((await ask(orders.entry, '/')).body.toString()).toBe('nobody');
});

test('trailers tell the application nothing that only sidecars and tokens may say', async () => {
  const seen: http.IncomingMessage['trailers'][] = [];
  const app = await http1App((request, response) => {
    request.resume().on('end', () => {
      seen.push(request.trailers);
      response.end();
    });
  });
  undo.push(() => app.close());
  const orders = await startOrders(app, undo);
  const rule = {
    issuer: 'https://idp.example',
    jwks: '{"keys":[]}',
    outputClaimToHeaders: [{ header: 'x-user', claim: 'sub' }],
  };
  await orders.plane.push(security('RequestAuthentication', 'users', { jwtRules: [rule] }));
  const client = await Client.dial(orders.entry);
  undo.push(() => client.destroy());
  client.write(
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-User: root\r\nX_User: root\r\nX-Sum: 7\r\n\r\n',
  );
  await eventually(() => seen.length === 1, { what: 'the request' });
  expect(seen).toEqual([{ 'x-sum': '7' }]);
});

describe('an application that breaks its connection’s rules', () => {
  const CASES: readonly (readonly [string, string])[] = [
    ['answers HEAD with a body', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nevil!'],
    [
      'sends a second response behind the first',
      'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 EVIL\r\n\r\n',
    ],
    ['answers 204 with a body', 'HTTP/1.1 204 No Content\r\n\r\nevil!'],
  ];
  test.each(CASES)('which %s gets no other request on it', async (_, answer) => {
    let connections = 0;
    const app = await App.start((socket) => {
      connections++;
      socket.on('data', () => socket.write(answer));
    });
    undo.push(() => app.close());
    const orders = await startOrders(app, undo);
    for (let i = 1; i <= 3; i++) {
      expect((await ask(orders.entry, '/', { method: 'HEAD' })).headers['x-evil']).toBeUndefined();
      expect(connections).toBe(i);
    }
  });
});

test('a drain waits until a slow caller has the last response that it was given', async () => {
  const app = await http1App((_, response) => response.end('x'.repeat(20_000)));
  undo.push(() => app.close());
  const orders = await startOrders(app, undo);
  const { session } = orders.entry;
  session.settings({ initialWindowSize: 1_000 });
  await within(once(session, 'localSettings'), 60_000, 'the acknowledgement');
  const authority = `${orders.plane.address}:${PORT}`;
  const stream = session.request({ ':method': 'CONNECT', ':authority': authority });
  await within(once(stream, 'response'), 60_000, `the tunnel to port ${TUNNEL_PORT}`);
  stream.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await eventually(() => app.requests === 1 && inFlight(orders) === 0, { what: 'the response to be ready' });
  orders.plane.send({ type: 'drain', deadlineMs: 20_000 });
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  expect(drained(orders)).toBeUndefined();
  let received = 0;
  stream
    .on('error', () => undefined)
    .on('data', (chunk: Buffer) => {
      received += chunk.length;
    });
  await within(once(stream, 'end'), 60_000, 'the end of the response');
  expect(received).toBeGreaterThan(20_000);
  stream.end();
  await eventually(() => drained(orders), { what: 'the drain' });
});
