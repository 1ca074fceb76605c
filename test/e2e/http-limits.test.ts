import { once } from 'node:events';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Client, type TcpAddress } from '../support/apps.ts';
import { eventually, within } from '../support/eventually.ts';
import { ask, type HttpApp, http1App, http2App, readAll } from '../support/http-apps.ts';
import { Mesh, serviceManifest } from '../support/mesh.ts';

const ORDERS = 'orders.shop:8080';
const ORDERS_H2 = 'orders.shop:8081';
/** Whose sidecar has small limits itself. */
const TIGHT = 'tight.shop:8082';

/** How long a stream may be idle: far longer than from one drip to the next on a slow machine, and shorter than all of them take. */
const IDLE_MS = 2_000;
const DRIP_MS = 100;

/** Answers that are waited for until `release` is called. */
const held = new Set<() => void>();
let app: HttpApp;
let app2: HttpApp;
let mesh: Mesh;
const at = (service: string, caller: string): TcpAddress => mesh.workload(caller).upstream(service);

function answer(request: http.IncomingMessage, response: http.ServerResponse): void {
  if (request.url === '/held') held.add(() => response.end('at last'));
  else if (request.url === '/stalls') response.write('first');
  else if (request.url === '/drips') {
    let left = 30;
    const drip = setInterval(() => {
      response.write('.');
      if (--left > 0) return;
      clearInterval(drip);
      response.end();
    }, DRIP_MS);
  } else
    void readAll(request).then(
      ({ length }) => response.end(String(length)),
      () => undefined,
    );
}

function release(): void {
  for (const end of held) end();
  held.clear();
}

beforeAll(async () => {
  app = await http1App(answer);
  app2 = await http2App((stream, headers) => {
    stream.on('error', () => undefined);
    if (headers[':path'] === '/held') return;
    stream.respond({ ':status': 200 });
    stream.end('ok');
  });
  const service = JSON.parse(serviceManifest('orders', 8080)) as { spec: { ports: object[] } };
  service.spec.ports = [
    { name: 'http', port: 8080 },
    { name: 'http2', port: 8081 },
  ];
  mesh = await Mesh.start({
    manifests: {
      'orders.yaml': JSON.stringify(service),
      'tight.yaml': serviceManifest('tight', 8082, 8082, 'http'),
    },
    workloads: [
      {
        name: 'orders',
        expose: [
          { port: 8080, application: app },
          { port: 8081, application: app2 },
        ],
      },
      {
        name: 'tight',
        expose: [{ port: 8082, application: app }],
        config: {
          http: {
            maxConnectionsPerEndpoint: 1,
            maxPendingRequests: 1,
            headerCount: 12,
            headerBytes: '4KiB',
            targetBytes: '1KiB',
          },
        },
      },
      { name: 'frontend', upstreams: [ORDERS, TIGHT] },
      {
        name: 'narrow',
        upstreams: [ORDERS],
        config: { http: { maxConnectionsPerEndpoint: 1, maxPendingRequests: 1 } },
      },
      {
        name: 'hasty',
        upstreams: [ORDERS, ORDERS_H2],
        config: {
          http: {
            headersTimeout: '500ms',
            keepAliveTimeout: '2s',
            requestTimeout: '60s',
            streamIdleTimeout: `${IDLE_MS}ms`,
          },
        },
      },
      { name: 'prompt', upstreams: [ORDERS, ORDERS_H2], config: { http: { requestTimeout: '500ms' } } },
    ],
  });
  for (const [caller, service] of [
    ['frontend', ORDERS],
    ['frontend', TIGHT],
    ['narrow', ORDERS],
    ['hasty', ORDERS],
    ['prompt', ORDERS],
  ] as const) {
    await eventually(async () => (await ask(at(service, caller), '/')).status === 200, {
      what: `${caller} to be served`,
    });
  }
});

afterAll(async () => {
  release();
  await mesh?.stop();
  await app?.close();
  await app2?.close();
});

/** What a connection gets to read until its end, after it has sent that. */
async function exchange(target: TcpAddress, bytes: string): Promise<string> {
  const client = await Client.dial(target);
  client.write(bytes);
  const text = (await client.readToEnd()).toString();
  client.destroy();
  return text;
}

async function get2(target: TcpAddress, path: string): Promise<number> {
  const session = http2.connect(`http://${target.address}:${target.port}`);
  session.on('error', () => undefined);
  const stream = session.request({ ':path': path });
  const [headers] = (await within(once(stream, 'response'), 60_000, 'a response')) as [http2.IncomingHttpHeaders];
  session.destroy();
  return Number(headers[':status']);
}

describe('a client that takes its time', () => {
  test.each([
    ['over the request line', 'GET /slow HT'],
    ['over the fields', 'GET /slow HTTP/1.1\r\nHost: orders\r\nX-A: '],
  ])('%s is answered 408', async (_, bytes) => {
    expect(await exchange(at(ORDERS, 'hasty'), bytes)).toMatch(/^HTTP\/1\.1 408 /);
  });

  test('over its body is answered 408', async () => {
    const head = 'POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 10\r\n\r\nhello';
    expect(await exchange(at(ORDERS, 'hasty'), head)).toMatch(/^HTTP\/1\.1 408 /);
    const line = await mesh.workload('hasty').accessLogLine((one) => one.method === 'POST', 'the request');
    expect(line).toMatchObject({ flags: 'SI' });
  });

  test('between two requests finds its connection closed without a word', async () => {
    const text = await exchange(at(ORDERS, 'hasty'), 'GET / HTTP/1.1\r\nHost: orders\r\n\r\n');
    expect(text.match(/HTTP\/1\.1 /g)).toHaveLength(1);
    expect(text).toMatch(/^HTTP\/1\.1 200 /);
  });
});

describe('heads', () => {
  test.each([
    [
      'with more fields than the other sidecar takes',
      '/',
      Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`x-${i}`, '1'])),
      431,
    ],
    ['larger than the other sidecar takes', '/', { 'x-a': 'a'.repeat(6_000) }, 431],
    ['with a longer target than the other sidecar takes', `/${'a'.repeat(1_500)}`, {}, 414],
  ])('%s are refused, and the next request is served', async (_, path, headers, status) => {
    const before = app.requests;
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    expect((await ask(at(TIGHT, 'frontend'), path, { headers, agent })).status).toBe(status);
    expect(app.requests).toBe(before);
    expect((await ask(at(TIGHT, 'frontend'), '/', { agent })).status).toBe(200);
    agent.destroy();
  });
});

describe('an application that takes its time', () => {
  test.each([
    ["the caller's sidecar", 'narrow', ORDERS, 'narrow'],
    ["the application's sidecar", 'frontend', TIGHT, 'tight'],
  ])('gets as many requests as it may, some wait in %s, the rest are told 503', async (_, caller, service, where) => {
    const target = at(service, caller);
    const answers = Array.from({ length: 6 }, () => ask(target, '/held').then(({ status }) => status));
    let done = 0;
    for (const one of answers) void one.then(() => done++);
    await eventually(() => done === 4 && held.size === 1, { what: 'four of six to be refused' });
    release();
    // The one that waited is sent now.
    await eventually(() => held.size === 1, { what: 'the next request' });
    release();
    expect((await Promise.all(answers)).sort()).toEqual([200, 200, 503, 503, 503, 503]);
    const line = await mesh.workload(where).accessLogLine((one) => one.status === 503, 'the refusal');
    expect(line).toMatchObject({ flags: 'UO' });
    expect((await ask(target, '/')).status).toBe(200);
  });

  test('longer than a request may: 504, and its connection is not used again', async () => {
    expect((await ask(at(ORDERS, 'prompt'), '/held')).status).toBe(504);
    release();
    const line = await mesh.workload('prompt').accessLogLine((one) => one.status === 504, 'the request');
    expect(line).toMatchObject({ flags: 'UT' });
    expect((await ask(at(ORDERS, 'prompt'), '/')).body.toString()).toBe('0');
  });

  test('longer than a request may over HTTP/2: 504', async () => {
    expect(await get2(at(ORDERS_H2, 'prompt'), '/held')).toBe(504);
    expect(await get2(at(ORDERS_H2, 'prompt'), '/')).toBe(200);
  });

  test('and says nothing for longer than a stream may be idle: 504', async () => {
    expect((await ask(at(ORDERS, 'hasty'), '/held')).status).toBe(504);
    release();
  });

  test('and says nothing for longer than a stream may be idle over HTTP/2: 504', async () => {
    expect(await get2(at(ORDERS_H2, 'hasty'), '/held')).toBe(504);
  });

  test('in the midst of its answer: the answer breaks off', async () => {
    await expect(ask(at(ORDERS, 'hasty'), '/stalls')).rejects.toThrow();
    const line = await mesh.workload('hasty').accessLogLine((one) => one.path === '/stalls', 'the request');
    expect(line).toMatchObject({ flags: 'SI', status: 200 });
  });

  test('but says something now and then is heard to its end', async () => {
    expect((await ask(at(ORDERS, 'hasty'), '/drips')).body.toString()).toBe('.'.repeat(30));
  });
});
