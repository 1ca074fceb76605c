import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { privateMemory } from '../../benchmarks/lib/memory.ts';
import { Client, type TcpAddress } from '../support/apps.ts';
import { eventually } from '../support/eventually.ts';
import { ask, type HttpApp, http1App, http2App, readAll } from '../support/http-apps.ts';
import { Mesh, serviceManifest } from '../support/mesh.ts';

const ORDERS = 'orders.shop:8080';
const ORDERS_H2 = 'orders.shop:8081';
const MIB = 1024 * 1024;
const LARGE = 200 * MIB;
const CHUNK = Buffer.alloc(64 * 1024, 0x61);
/** What a sidecar may hold of one stream whose reader is slow: windows of both hops, buffers, and what the heap grows by meanwhile. */
const SLOW_STREAM_BYTES = 64 * MIB;
const IDLE_CONNECTIONS = 5_000;
/** Private memory of a sidecar for an idle connection. */
const IDLE_CONNECTION_BYTES = 8 * 1024;

let app: HttpApp & { readonly server: http.Server };
let app2: HttpApp;
let mesh: Mesh;
/** Requests whose body the application does not read until they are resumed. */
const uploads: Readable[] = [];
/** Connections of requests to `/held`. */
const heldRequests = new Set<http.IncomingMessage>();
const at = (service = ORDERS): TcpAddress => mesh.workload('frontend').upstream(service);
const pids = (): number[] => ['frontend', 'orders'].map((name) => mesh.workload(name).process.pid);

function sendLarge(to: Writable): void {
  let left = LARGE;
  const more = (): void => {
    while (left > 0 && !to.destroyed) {
      left -= CHUNK.length;
      if (!to.write(CHUNK)) break;
    }
    if (left <= 0) to.end();
  };
  to.on('drain', more);
  to.on('error', () => undefined);
  more();
}

async function count(body: AsyncIterable<Buffer>): Promise<number> {
  let total = 0;
  for await (const { length } of body) total += length;
  return total;
}

beforeAll(async () => {
  app = await http1App((request, response) => {
    if (request.url === '/large') sendLarge(response);
    else if (request.url === '/upload') {
      uploads.push(request);
      request.pause();
      request.on('resume', () => void count(request).then((total) => response.end(String(total))));
    } else if (request.url === '/held') {
      heldRequests.add(request);
      request.resume();
      request.socket.once('close', () => heldRequests.delete(request));
    } else
      void readAll(request).then(
        ({ length }) => response.end(String(length)),
        () => undefined,
      );
  });
  app.server.requestTimeout = 0;
  app2 = await http2App((stream, headers) => {
    stream.on('error', () => undefined);
    stream.respond({ ':status': 200 });
    if (headers[':path'] === '/large') sendLarge(stream);
    else stream.end('ok');
  });
  const service = JSON.parse(serviceManifest('orders', 8080)) as { spec: { ports: object[] } };
  service.spec.ports = [
    { name: 'http', port: 8080 },
    { name: 'http2', port: 8081 },
  ];
  const config = { accessLog: 'off', http: { idlePoolTimeout: '500ms' }, limits: { tunnelIdleTimeout: '500ms' } };
  mesh = await Mesh.start({
    manifests: { 'orders.yaml': JSON.stringify(service) },
    workloads: [
      {
        name: 'orders',
        expose: [
          { port: 8080, application: app },
          { port: 8081, application: app2 },
        ],
        config,
      },
      { name: 'frontend', upstreams: [ORDERS, ORDERS_H2], config },
    ],
  });
  await eventually(async () => (await ask(at(), '/')).status === 200, { what: 'the mesh to work' });
});

afterAll(async () => {
  await mesh?.stop();
  await app?.close();
  await app2?.close();
});

/** Runs it and looks at both sidecars all the time; the most that one of them has grown by, in bytes. */
async function growthDuring(work: () => Promise<void>): Promise<number> {
  const before = pids().map(privateMemory);
  let growth = 0;
  const look = (): void => {
    for (const [index, pid] of pids().entries()) growth = Math.max(growth, privateMemory(pid) - (before[index] ?? 0));
  };
  const watch = setInterval(look, 50);
  await work();
  look();
  clearInterval(watch);
  return growth;
}

/** Waits until bytes stop coming through. */
async function untilBlocked(moved: () => number): Promise<void> {
  let last = -1;
  await eventually(
    () => {
      const now = moved();
      const same = now === last && now > 0;
      last = now;
      return same;
    },
    { what: 'the flow to stop', everyMs: 300 },
  );
}

describe('who takes its time holds no more than its share of memory', () => {
  test('the reader of a large response', async () => {
    const { address, port } = at();
    const growth = await growthDuring(async () => {
      const request = http.get({ host: address, port, path: '/large' });
      const [response] = (await once(request, 'response')) as [http.IncomingMessage];
      response.pause();
      await untilBlocked(() => request.socket?.bytesRead ?? 0);
      await sleep(300);
      expect(await count(response)).toBe(LARGE);
    });
    expect(growth).toBeLessThan(SLOW_STREAM_BYTES);
  });

  test('the reader of a large response over HTTP/2', async () => {
    const { address, port } = at(ORDERS_H2);
    const session = http2.connect(`http://${address}:${port}`);
    const growth = await growthDuring(async () => {
      const stream = session.request({ ':path': '/large' });
      await once(stream, 'response');
      await untilBlocked(() => session.socket.bytesRead);
      const beside = session.request({ ':path': '/' });
      expect((await readAll(beside)).toString()).toBe('ok');
      expect(await count(stream)).toBe(LARGE);
    });
    session.destroy();
    expect(growth).toBeLessThan(SLOW_STREAM_BYTES);
  });

  test('an application that does not read what is sent up to it', async () => {
    const { address, port } = at();
    const growth = await growthDuring(async () => {
      const request = http.request({ host: address, port, path: '/upload', method: 'PUT' });
      const answered = once(request, 'response');
      sendLarge(request);
      await untilBlocked(() => request.socket?.bytesWritten ?? 0);
      expect(request.socket?.bytesWritten).toBeLessThan(LARGE / 2);
      uploads.pop()?.resume();
      const [response] = (await answered) as [http.IncomingMessage];
      expect((await readAll(response)).toString()).toBe(String(LARGE));
    });
    expect(growth).toBeLessThan(SLOW_STREAM_BYTES);
  });
});

test('a client that goes away while it waits frees the connection of the application', async () => {
  const clients = await Promise.all(Array.from({ length: 10 }, () => Client.dial(at())));
  for (const client of clients) client.write('GET /held HTTP/1.1\r\nHost: orders\r\n\r\n');
  await eventually(() => heldRequests.size === 10, { what: 'the application to hold ten requests' });
  for (const [index, client] of clients.entries()) {
    if (index % 2 === 0) client.destroy();
    else client.socket.resetAndDestroy();
  }
  await eventually(() => heldRequests.size === 0, { what: 'the application to be let go' });
});

test(`${IDLE_CONNECTIONS} idle connections cost little, and each of them works`, async () => {
  const { address, port } = at();
  const body = Buffer.alloc(1_000, 0x62);
  /** One request on every connection, so many at a time that each needs one of its own. */
  const roundTrip = async (connections: readonly Client[]): Promise<void> => {
    for (let begin = 0; begin < connections.length; begin += 500) {
      const batch = connections.slice(begin, begin + 500);
      for (const client of batch) {
        client.write(`POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: ${body.length}\r\n\r\n`);
        client.write(body);
      }
      await Promise.all(batch.map((client) => client.answered()));
    }
  };
  const warm = await Promise.all(Array.from({ length: 500 }, () => Client.dial({ address, port })));
  await roundTrip(warm);
  for (const client of warm) client.destroy();
  const before = privateMemory(mesh.workload('frontend').process.pid);
  const clients: Client[] = [];
  while (clients.length < IDLE_CONNECTIONS) {
    clients.push(...(await Promise.all(Array.from({ length: 500 }, () => Client.dial({ address, port })))));
  }
  await roundTrip(clients);
  const each = (privateMemory(mesh.workload('frontend').process.pid) - before) / IDLE_CONNECTIONS;
  expect(each).toBeLessThan(IDLE_CONNECTION_BYTES);
  for (const client of clients) await client.read(client.bytesReceived);
  await roundTrip(clients);
  expect(clients.filter(({ isClosed }) => isClosed)).toEqual([]);
  for (const client of clients) client.destroy();
});

test('no descriptor is left of thousands of connections, many of which were reset in the midst of something', async () => {
  const open = (): number[] => pids().map((pid) => readdirSync(`/proc/${pid}/fd`).length);
  // Idle connections between the sidecars and to the application end by themselves.
  const settled = async (): Promise<number[]> => {
    let last: number[] = [];
    const same = (): boolean => {
      const before = last;
      last = open();
      return last.join() === before.join();
    };
    await eventually(same, { what: 'the descriptors to settle', everyMs: 1_000 });
    return last;
  };
  await ask(at(), '/');
  const before = await settled();
  const words = [
    '',
    'GET / HT',
    'GET / HTTP/1.1\r\nHost: orders\r\n',
    'GET /held HTTP/1.1\r\nHost: orders\r\n\r\n',
    'GET /large HTTP/1.1\r\nHost: orders\r\n\r\n',
    'PUT /upload HTTP/1.1\r\nHost: orders\r\nContent-Length: 100000\r\n\r\nbegun',
    'GET / HTTP/1.1\r\nHost: orders\r\n\r\nGET /held HTTP/1.1\r\nHost: orders\r\n\r\n',
    'nonsense\r\n\r\n',
  ];
  for (let round = 0; round < 20; round++) {
    const clients = await Promise.all(Array.from({ length: 104 }, () => Client.dial(at())));
    for (const [index, client] of clients.entries()) client.write(words[index % words.length] ?? '');
    await sleep(20);
    for (const [index, client] of clients.entries()) {
      if ((index + round) % 3 === 0) client.destroy();
      else client.socket.resetAndDestroy();
    }
  }
  await eventually(() => open().every((now, index) => now <= (before[index] ?? 0)), {
    what: `the descriptors of the sidecars to be ${before.join(' and ')} again`,
  });
  expect((await ask(at(), '/')).status).toBe(200);
});
