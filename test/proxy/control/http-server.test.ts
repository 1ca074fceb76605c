import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { HttpServer, text } from '../../../proxy/control/http-server.ts';
import { recordedLog } from './support/quiet-log.ts';

let server: HttpServer;
let calls = 0;

beforeEach(async () => {
  calls = 0;
  const routes = {
    'GET /page': () => {
      calls += 1;
      return text(200, 'a page');
    },
    'POST /act': () => text(200, 'done'),
    'GET /broken': () => {
      throw new Error('broken inside');
    },
  };
  server = new HttpServer({
    what: 'admin.listen',
    at: { address: '127.0.0.1', port: 0 },
    routes,
    guarded: true,
    log: recordedLog().log,
  });
  await server.listen();
});

afterEach(() => server.close());

function ask(
  path: string,
  headers: Record<string, string> = {},
  method = 'GET',
  body = '',
): Promise<{ status: number; body: string; close: boolean }> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port: server.port, path, method, headers }, (response) => {
      let received = '';
      response.on('data', (chunk) => {
        received += chunk;
      });
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, body: received, close: response.headers.connection === 'close' }),
      );
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

it.each([
  ['a page', '/page', {}, 'GET', 200],
  ['its head', '/page', {}, 'HEAD', 200],
  ['a page with a query', '/page?x=1', {}, 'GET', 200],
  ['by the name localhost', '/page', { host: 'localhost:15000' }, 'GET', 200],
  ['by an IPv6 address', '/page', { host: '[::1]:15000' }, 'GET', 200],
  ['an unknown path', '/pages', {}, 'GET', 404],
  ['a path of another method', '/act', {}, 'GET', 405],
  ['what every object has', '/constructor', {}, 'GET', 404],
  ['by a name that may be rebound', '/page', { host: 'evil.example' }, 'GET', 403],
  ['by a name that begins like an address', '/page', { host: '127.0.0.1.evil.example' }, 'GET', 403],
  ['from a web page', '/act', { origin: 'https://evil.example' }, 'POST', 403],
  ['from a web page without origin', '/page', { 'sec-fetch-site': 'cross-site' }, 'GET', 403],
  ['a route that fails', '/broken', {}, 'GET', 500],
])('answers %s', async (_, path, headers, method, status) => {
  expect((await ask(path, headers, method)).status).toBe(status);
});

it('does not read bodies', async () => {
  expect(await ask('/act', {}, 'POST', 'x'.repeat(100))).toEqual({ status: 200, body: 'done\n', close: true });
});

it('refuses headers over 16 KiB', async () => {
  expect((await ask('/page', { 'x-long': 'x'.repeat(17_000) })).status).toBe(431);
  expect(calls).toBe(0);
});

it('survives garbage', async () => {
  const socket = connect(server.port, '127.0.0.1');
  socket.on('error', () => undefined);
  socket.resume();
  socket.end('\x16\x03\x01 garbage\r\n\r\n');
  await new Promise((resolve) => socket.on('close', resolve));
  expect((await ask('/page')).status).toBe(200);
});

it('says which setting is in the way when its port is taken', async () => {
  const at = { address: '127.0.0.1', port: server.port };
  const second = new HttpServer({ what: 'metrics.listen', at, routes: {}, guarded: false, log: recordedLog().log });
  await expect(second.listen()).rejects.toMatchObject({
    code: 'ERR_ADDRESS_IN_USE',
    exitCode: 69,
    message: expect.stringContaining(`metrics.listen 127.0.0.1:${server.port} is in use`),
  });
});

it('answers one address however many connections another holds', async () => {
  const held = Array.from({ length: 64 }, () => {
    const socket = connect({ host: '127.0.0.1', port: server.port, localAddress: '127.0.0.2' });
    return socket.on('error', () => {});
  });
  await Promise.all(held.map((socket) => once(socket, 'connect')));
  expect((await ask('/page')).status).toBe(200);
  for (const socket of held) socket.destroy();
});

it.each([
  ['a few requests at once are answered', 3, 3],
  ['of a thousand at once no more are looked at than a few', 1000, 4],
])('%s', async (_, requests, most) => {
  const socket = connect({ host: '127.0.0.1', port: server.port });
  socket.on('error', () => {});
  let answers = '';
  socket.on('data', (bytes) => {
    answers += bytes.toString();
    if (answers.split('a page').length > requests) socket.destroy();
  });
  const closed = once(socket, 'close');
  socket.write('GET /page HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'.repeat(requests));
  await closed;
  expect(calls).toBe(most);
});
