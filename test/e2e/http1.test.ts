import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import * as http from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { Client, type TcpAddress } from '../support/apps.ts';
import { eventually } from '../support/eventually.ts';
import { ask, askWhatYouSaw, type HttpApp, http1App, readAll, tellWhatYouSaw } from '../support/http-apps.ts';
import { Mesh, policyManifest, serviceManifest } from '../support/mesh.ts';

const ORDERS = 'orders.shop:8080';
const BIG = randomBytes(8 * 1024 * 1024);
const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

let app: HttpApp & { readonly server: http.Server };
let mesh: Mesh;
const orders = (caller = 'frontend'): TcpAddress => mesh.workload(caller).upstream(ORDERS);

function answer(request: http.IncomingMessage, response: http.ServerResponse): void {
  const { pathname } = new URL(request.url ?? '/', 'http://app');
  if (pathname === '/big') response.end(BIG);
  else if (pathname === '/digest') void readAll(request).then((body) => response.end(digest(body)));
  else if (pathname === '/chunks') {
    const trailers = request.headers.te === 'trailers';
    if (trailers) response.setHeader('trailer', 'x-sum');
    for (const part of ['one', 'two', 'three']) response.write(part);
    if (trailers) response.addTrailers({ 'x-sum': '3' });
    response.end();
  } else if (pathname === '/early') {
    response.writeEarlyHints({ link: '</style.css>; rel=preload' });
    response.end('late');
  } else if (pathname === '/forever') {
    response.write('first');
  } else if (pathname === '/broken') {
    response.writeHead(200, { 'content-length': '100' });
    response.write('half', () => request.socket.destroy());
  } else if (pathname === '/status') {
    response.statusCode = Number(new URL(request.url ?? '', 'http://app').searchParams.get('code'));
    response.end();
  } else tellWhatYouSaw(request, response);
}

beforeAll(async () => {
  app = await http1App(answer);
  const allow = policyManifest({ name: 'reads', app: 'orders', from: ['frontend'] });
  mesh = await Mesh.start({
    manifests: { 'orders.yaml': serviceManifest('orders', 8080, 8080, 'http'), 'allow.yaml': allow },
    workloads: [
      { name: 'orders', expose: [{ port: 8080, application: app }] },
      { name: 'frontend', upstreams: [ORDERS] },
      { name: 'payments', upstreams: [ORDERS] },
    ],
  });
  await eventually(async () => (await ask(orders(), '/')).status === 200, { what: 'the endpoints to reach frontend' });
});

afterAll(async () => {
  await mesh?.stop();
  await app?.close();
});

describe("Node's own client and server, through two sidecars", () => {
  test('a request arrives as it was sent, with the identity of its sender', async () => {
    const seen = await askWhatYouSaw(orders(), '/orders/7?full=1', {
      method: 'POST',
      headers: { 'x-team': 'blue', 'content-type': 'text/plain' },
      body: 'hello',
    });
    expect(seen).toMatchObject({ method: 'POST', url: '/orders/7?full=1', body: 'hello' });
    expect(seen.headers).toMatchObject({ 'x-team': 'blue', 'content-type': 'text/plain' });
    expect(seen.headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
    expect(seen.headers.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/);
    expect(seen.headers['x-forwarded-client-cert']).toContain(`URI=${mesh.workload('frontend').spiffeId}`);
  });

  test('what the caller says of identities does not arrive', async () => {
    const forged = 'By=spiffe://cluster.local/ns/shop/sa/orders;URI=spiffe://cluster.local/ns/shop/sa/admin';
    const seen = await askWhatYouSaw(orders(), '/', { headers: { 'x-forwarded-client-cert': forged } });
    expect(seen.headers['x-forwarded-client-cert']).not.toContain('sa/admin');
  });

  test('large bodies pass whole in both directions', async () => {
    expect(digest((await ask(orders(), '/big')).body)).toBe(digest(BIG));
    const uploaded = await ask(orders(), '/digest', { method: 'PUT', body: BIG });
    expect(uploaded.body.toString()).toBe(digest(BIG));
    const chunked = await ask(orders(), '/digest', {
      method: 'PUT',
      body: BIG,
      headers: { 'transfer-encoding': 'chunked' },
    });
    expect(chunked.body.toString()).toBe(digest(BIG));
  });

  test('chunks and trailers', async () => {
    const { body, trailers } = await ask(orders(), '/chunks', { headers: { te: 'trailers' } });
    expect(body.toString()).toBe('onetwothree');
    expect(trailers).toEqual({ 'x-sum': '3' });
  });

  test('HEAD has the length and no body', async () => {
    const { status, body } = await ask(orders(), '/big', { method: 'HEAD' });
    expect(status).toBe(200);
    expect(body).toHaveLength(0);
  });

  test('an informational response comes before the final one', async () => {
    const { address, port } = orders();
    const request = http.get({ host: address, port, path: '/early' });
    const answered = once(request, 'response');
    const [information] = await once(request, 'information');
    expect(information.statusCode).toBe(103);
    const [response] = (await answered) as [http.IncomingMessage];
    expect((await readAll(response)).toString()).toBe('late');
  });

  test('a body that waits for 100 Continue is asked for and sent', async () => {
    const { address, port } = orders();
    const headers = { expect: '100-continue', 'content-length': '5' };
    const request = http.request({ host: address, port, path: '/digest', method: 'POST', headers });
    request.flushHeaders();
    await once(request, 'continue');
    request.end('hello');
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    expect((await readAll(response)).toString()).toBe(digest(Buffer.from('hello')));
  });

  test.each([200, 204, 304, 404, 500, 503])('status %i arrives', async (code) => {
    expect((await ask(orders(), `/status?code=${code}`)).status).toBe(code);
  });

  test('connections to the application are shared by requests of many callers', async () => {
    const before = app.accepted;
    for (let i = 0; i < 20; i++) await ask(orders(), '/', { agent: new http.Agent({ keepAlive: false }) });
    expect(app.accepted - before).toBeLessThanOrEqual(2);
  });

  test('an answer that breaks off is never taken for a whole one', async () => {
    await expect(ask(orders(), '/broken')).rejects.toThrow();
    expect((await ask(orders(), '/')).status).toBe(200);
  });
});

describe('a WebSocket library', () => {
  test('carries messages both ways, and the close', async () => {
    const server = new WebSocketServer({ server: app.server });
    server.on('connection', (socket) => socket.on('message', (data, binary) => socket.send(data, { binary })));
    const { address, port } = orders();
    const socket = new WebSocket(`ws://${address}:${port}/socket`);
    await once(socket, 'open');
    for (const text of ['one', 'x'.repeat(100_000)]) {
      socket.send(text);
      const [data] = await once(socket, 'message');
      expect(String(data)).toBe(text);
    }
    socket.close(1000);
    const [code] = await once(socket, 'close');
    expect(code).toBe(1000);
    server.close();
  });
});

describe('what is on the wire', () => {
  test('pipelined requests are answered in order', async () => {
    const client = await Client.dial(orders());
    const paths = ['/a', '/b', '/c'];
    const last = `GET /d HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n`;
    client.write(paths.map((path) => `GET ${path} HTTP/1.1\r\nHost: orders\r\n\r\n`).join('') + last);
    const text = (await client.readToEnd()).toString();
    const urls = [...text.matchAll(/"url":"([^"]*)"/g)].map(([, url]) => url);
    expect(urls).toEqual([...paths, '/d']);
    client.destroy();
  });

  test('HTTP/1.0 is answered without chunks, and closed', async () => {
    const client = await Client.dial(orders());
    client.write('GET /chunks HTTP/1.0\r\n\r\n');
    const text = (await client.readToEnd()).toString();
    expect(text).toMatch(/^HTTP\/1\.1 200 /);
    expect(text).not.toMatch(/transfer-encoding/i);
    expect(text).toMatch(/\r\n\r\nonetwothree$/);
    client.destroy();
  });

  test.each([
    [
      'both lengths',
      'POST / HTTP/1.1\r\nHost: o\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      400,
    ],
    ['two lengths', 'POST / HTTP/1.1\r\nHost: o\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello', 400],
    ['a space before the colon', 'GET / HTTP/1.1\r\nHost : o\r\n\r\n', 400],
    ['no Host', 'GET / HTTP/1.1\r\n\r\n', 400],
    ['a bare LF', 'GET / HTTP/1.1\nHost: o\n\n', 400],
    ['a method in lower case', 'get / HTTP/1.1\r\nHost: o\r\n\r\n', 400],
    ['a NUL', 'GET / HTTP/1.1\r\nHost: o\r\nX-A: a\0b\r\n\r\n', 400],
    ['a long target', `GET /${'a'.repeat(20_000)} HTTP/1.1\r\nHost: o\r\n\r\n`, 414],
    ['a large head', `GET / HTTP/1.1\r\nHost: o\r\nX-A: ${'a'.repeat(70_000)}\r\n\r\n`, 431],
    ['an escaped NUL in the path', 'GET /a%00b HTTP/1.1\r\nHost: o\r\nConnection: close\r\n\r\n', 400],
  ])('%s: refused, and the connection closed, without a word to the application', async (_what, bytes, status) => {
    const before = app.requests;
    const client = await Client.dial(orders());
    client.write(bytes);
    const text = (await client.readToEnd()).toString();
    expect(text).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(app.requests).toBe(before);
    client.destroy();
  });
});

describe('who may do what', () => {
  test('another caller is told so, and the application does not hear of it', async () => {
    const before = app.requests;
    const { status, body } = await ask(orders('payments'), '/');
    expect([status, body.toString()]).toEqual([403, 'RBAC: access denied']);
    expect(app.requests).toBe(before);
    const line = await mesh.workload('orders').accessLogLine((one) => one.status === 403, 'the denial');
    expect(line).toMatchObject({ verdict: 'denied', method: 'GET', path: '/', reason: 'no-allow-policy-matched' });
  });

  test('a policy by method and path is in force for the next request of a connection that lives', async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    expect((await ask(orders(), '/admin/users', { agent })).status).toBe(200);
    const deny = policyManifest({
      name: 'no-admin',
      app: 'orders',
      action: 'DENY',
      from: ['frontend'],
      paths: ['/admin/*'],
    });
    mesh.editManifest('deny.yaml', deny);
    await eventually(async () => (await ask(orders(), '/admin/users', { agent })).status === 403, {
      what: 'the denial',
    });
    expect((await ask(orders(), '/a/../admin/users', { agent })).status).toBe(403);
    expect((await ask(orders(), '/%61dmin/users', { agent })).status).toBe(403);
    expect((await ask(orders(), '/orders', { agent })).status).toBe(200);
    const line = await mesh
      .workload('orders')
      .accessLogLine((one) => one.policy === 'shop/no-admin', 'the policy that denied');
    expect(line).toMatchObject({ rule: 0, reason: 'deny-policy', path: '/admin/users' });
    mesh.removeManifest('deny.yaml');
    await eventually(async () => (await ask(orders(), '/admin/users', { agent })).status === 200, { what: 'the end' });
    agent.destroy();
  });

  test('an answer that is under way is cut when a policy no longer allows it', async () => {
    const { address, port } = orders();
    const request = http.get({ host: address, port, path: '/forever' });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    request.on('error', () => undefined);
    await once(response, 'data');
    const cut = once(response, 'error');
    const deny = policyManifest({
      name: 'no-forever',
      app: 'orders',
      action: 'DENY',
      from: ['frontend'],
      paths: ['/forever'],
    });
    mesh.editManifest('deny.yaml', deny);
    const [error] = await cut;
    expect(error).toMatchObject({ code: 'ECONNRESET' });
    mesh.removeManifest('deny.yaml');
  });
});

test('both reporters count requests under Istio’s names', async () => {
  await ask(orders(), '/counted');
  for (const [name, reporter] of [
    ['frontend', 'source'],
    ['orders', 'destination'],
  ] as const) {
    const labels = {
      reporter,
      response_code: '200',
      source_workload: 'frontend',
      destination_workload: 'orders',
      destination_service_name: 'orders',
      request_protocol: 'http',
      response_flags: '-',
    };
    const count = async (): Promise<number> =>
      (await mesh.workload(name).metrics()).sum('istio_requests_total', labels);
    await eventually(async () => (await count()) > 0, { what: `${name} to count` });
  }
});
