import { once } from 'node:events';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type App, Client, echoApp, ping, type TcpAddress } from '../support/apps.ts';
import { eventually, within } from '../support/eventually.ts';
import { ask, type HttpApp, http1App, http2App, readAll } from '../support/http-apps.ts';
import { HttpTraffic } from '../support/http-traffic.ts';
import { Mesh, serviceManifest } from '../support/mesh.ts';
import type { Sidecar } from '../support/sidecar.ts';

const ORDERS = 'orders.shop:8080';
const ORDERS_H2 = 'orders.shop:8081';
const ORDERS_TCP = 'orders.shop:8082';
const PAYMENTS = 'payments.shop:9000';
const PAYMENTS_TCP = 'payments.shop:9001';

let web: HttpApp;
let web2: HttpApp;
let echo: App;
let mesh: Mesh;
const open: { destroy(): void }[] = [];

const upstream = (service: string, of = 'frontend'): TcpAddress => mesh.workload(of).upstream(service);
const isServed = async (at: TcpAddress): Promise<boolean> => (await ask(at, '/')).status === 200;

function manifest(name: string, ...ports: readonly (readonly [string, number])[]): string {
  const service = JSON.parse(serviceManifest(name, 1)) as { spec: { ports: object[] } };
  service.spec.ports = ports.map(([kind, port]) => ({ name: kind, port }));
  return JSON.stringify(service);
}

beforeAll(async () => {
  const answer: http.RequestListener = (request, response) => {
    void readAll(request).then(
      () => response.end('ok'),
      () => undefined,
    );
  };
  const answer2 = (stream: http2.ServerHttp2Stream): void => {
    stream.on('error', () => undefined);
    void readAll(stream).then(
      () => {
        stream.respond({ ':status': 200 });
        stream.end('ok');
      },
      () => undefined,
    );
  };
  [web, web2, echo] = await Promise.all([http1App(answer), http2App(answer2), echoApp()]);
  mesh = await Mesh.start({
    manifests: {
      'orders.yaml': manifest('orders', ['http', 8080], ['http2', 8081], ['tcp', 8082]),
      'payments.yaml': manifest('payments', ['http', 9000], ['tcp', 9001]),
    },
    workloads: [
      {
        name: 'payments',
        expose: [
          { port: 9000, application: web },
          { port: 9001, application: echo },
        ],
      },
      {
        name: 'orders',
        expose: [
          { port: 8080, application: web },
          { port: 8081, application: web2 },
          { port: 8082, application: echo },
        ],
        upstreams: [PAYMENTS, PAYMENTS_TCP],
        config: { drain: { keepOutbound: true }, drainTimeout: '30s' },
      },
      { name: 'frontend', upstreams: [ORDERS, ORDERS_H2, ORDERS_TCP] },
      { name: 'latecomer', upstreams: [ORDERS, ORDERS_TCP] },
    ],
  });
  await eventually(() => isServed(upstream(ORDERS)), { what: 'orders to be served' });
  await eventually(() => isServed(upstream(PAYMENTS, 'orders')), { what: 'payments to be served' });
});

afterEach(async () => {
  for (const one of open.splice(0)) one.destroy();
  const orders = mesh.workload('orders');
  if (orders.process.alive && (await orders.isReady())) return;
  if (orders.process.alive) await orders.kill('SIGKILL');
  await mesh.startSidecar('orders', { newToken: true });
  await eventually(() => isServed(upstream(ORDERS)), { what: 'orders to be served again' });
});

afterAll(async () => {
  await mesh?.stop();
  await Promise.all([web?.close(), web2?.close(), echo?.close()]);
});

async function drainInbound(sidecar: Sidecar): Promise<void> {
  const { address, port } = sidecar.admin;
  const { code, stderr } = await mesh.postern('drain', '--inbound', '--admin', `${address}:${port}`);
  expect([code, stderr]).toEqual([0, '']);
  expect(await sidecar.isReady()).toBe(false);
}

/** A connection of the sidecar's application to a service, for as long as the test lasts. */
async function echoConnection(at: TcpAddress): Promise<Client> {
  const client = await Client.dial(at);
  open.push(client);
  await echoes(client, 'first');
  return client;
}

async function echoes(client: Client, word: string): Promise<void> {
  client.write(word);
  expect((await client.read(word.length)).toString()).toBe(word);
}

const REQUEST = 'GET / HTTP/1.1\r\nHost: orders.shop\r\n\r\n';
/** So much of it goes ahead where it is to be under way. */
const BEGINNING = 20;

/** A peer of the mesh that is no sidecar of ours: a tunnel of Node's. */
class Peer {
  readonly session: http2.ClientHttp2Session;
  goaway = false;

  private constructor(session: http2.ClientHttp2Session) {
    this.session = session;
    session.on('error', () => undefined);
    session.on('goaway', () => {
      this.goaway = true;
    });
    open.push(session);
  }

  static async connect(sidecar: Sidecar): Promise<Peer> {
    const { cert, key } = await mesh.realCertificate('mallory');
    const { address, port } = sidecar.tunnel;
    const options = { cert, key, ca: mesh.roots(), checkServerIdentity: () => undefined };
    const session = http2.connect(`https://${address}:${port}`, options);
    const peer = new Peer(session);
    await within(once(session, 'connect'), 60_000, 'the tunnel');
    return peer;
  }

  /** HTTP/2 on a stream of a tunnel. */
  static async inside(tunnel: Peer, port: number): Promise<Peer> {
    const stream = await tunnel.stream(port);
    return new Peer(http2.connect('http://orders.shop', { createConnection: () => stream }));
  }

  /** Of one request over HTTP/2. */
  async status(): Promise<number> {
    const stream = this.session.request({ ':path': '/' });
    stream.on('error', () => undefined);
    const [headers] = (await within(once(stream.resume(), 'response'), 60_000, 'the answer')) as [
      http2.IncomingHttpHeaders,
    ];
    return Number(headers[':status']);
  }

  async stream(port: number): Promise<http2.ClientHttp2Stream> {
    const authority = `${mesh.workload('orders').address}:${port}`;
    const stream = this.session.request({ ':method': 'CONNECT', ':authority': authority }, { endStream: false });
    stream.on('error', () => undefined);
    const [headers] = (await within(once(stream, 'response'), 60_000, 'the answer to CONNECT')) as [
      http2.IncomingHttpHeaders,
    ];
    expect(headers[':status']).toBe(200);
    return stream;
  }

  /** One HTTP/1.1 request, or the rest of it; whether its answer is said to be the last. */
  async get(stream: http2.ClientHttp2Stream, begun = false): Promise<boolean> {
    const chunks: Buffer[] = [];
    const take = (chunk: Buffer): void => void chunks.push(chunk);
    stream.on('data', take);
    stream.write(begun ? REQUEST.slice(BEGINNING) : REQUEST);
    const text = (): string => Buffer.concat(chunks).toString();
    await eventually(() => text().endsWith('ok'), { what: 'the whole answer' });
    stream.off('data', take);
    expect(text()).toMatch(/^HTTP\/1\.1 200 /);
    return /^connection: close\r$/im.test(text());
  }
}

describe('while inbound drains', () => {
  test('no request fails, of those under way or new, over connections that live or come', async () => {
    const orders = mesh.workload('orders');
    const traffic = new HttpTraffic(upstream(ORDERS), { http2: upstream(ORDERS_H2) });
    const more = async (count: number): Promise<void> => {
      const { requests } = traffic;
      await eventually(() => traffic.requests > requests + count, { what: 'traffic' });
    };
    await more(200);
    await drainInbound(orders);
    // Long enough for connections that came since to be asked to leave too, more than once.
    await more(1_500);
    // Another sidecar, without a tunnel by now.
    expect((await ask(upstream(ORDERS, 'latecomer'), '/')).status).toBe(200);
    await ping(upstream(ORDERS_TCP, 'latecomer'));
    await more(200);
    expect((await traffic.stop()).failures).toEqual([]);
  });

  test('tunnels are given up by GOAWAY, answers over HTTP/1 are the last, and new tunnels are taken', async () => {
    const orders = mesh.workload('orders');
    const before = await Peer.connect(orders);
    const underWay = await before.stream(8080);
    underWay.write(REQUEST.slice(0, BEGINNING));
    const idle = await before.stream(8080);
    const idleEnds = once(idle.resume(), 'end');
    const bytes = await before.stream(8082);
    expect(await before.get(await before.stream(8080))).toBe(false);
    await drainInbound(orders);
    await eventually(() => before.goaway, { what: 'GOAWAY' });
    expect(await before.get(underWay, true)).toBe(true);
    await within(idleEnds, 60_000, 'the end of the idle connection');
    bytes.write('still');
    expect(String((await once(bytes, 'data'))[0])).toBe('still');
    const after = await Peer.connect(orders);
    expect(await after.get(await after.stream(8080))).toBe(true);
    expect(await after.get(await after.stream(8080))).toBe(true);
    expect(after.goaway).toBe(false);
  });

  test('HTTP/2 connections, old and new, are asked to leave by GOAWAY, and carry what comes until then', async () => {
    const orders = mesh.workload('orders');
    const peer = await Peer.connect(orders);
    const old = await Peer.inside(peer, 8081);
    expect(await old.status()).toBe(200);
    await drainInbound(orders);
    await eventually(() => old.goaway, { what: 'GOAWAY on the old one' });
    const after = await Peer.connect(orders);
    const busy = await Peer.inside(after, 8081);
    const idle = await Peer.inside(after, 8081);
    expect(await busy.status()).toBe(200);
    expect(await busy.status()).toBe(200);
    await eventually(() => busy.goaway && idle.goaway, { what: 'GOAWAY on the new ones' });
  });

  test("the application's own connections, old and new, notice nothing", async () => {
    const orders = mesh.workload('orders');
    const at = upstream(PAYMENTS, 'orders');
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    open.push(agent);
    const get = async (): Promise<[number, string | undefined]> => {
      const { status, headers } = await ask(at, '/', { agent });
      return [status, headers.connection];
    };
    const kept = await echoConnection(upstream(PAYMENTS_TCP, 'orders'));
    const first = await get();
    await drainInbound(orders);
    await echoes(kept, 'second');
    expect(await get()).toEqual(first);
    expect(await get()).toEqual(first);
    expect(first[1]).not.toBe('close');
    await ping(upstream(PAYMENTS_TCP, 'orders'));
  });
});

describe('a sidecar that is asked to stop and keeps outbound', () => {
  test('serves both directions until the last connection has gone, and ends with 0', async () => {
    const orders = mesh.workload('orders');
    const mine = await echoConnection(upstream(PAYMENTS_TCP, 'orders'));
    const theirs = await echoConnection(upstream(ORDERS_TCP));
    orders.process.kill('SIGTERM');
    await eventually(async () => !(await orders.isReady()), { what: 'not ready' });
    await echoes(mine, 'mine');
    await echoes(theirs, 'theirs');
    await ping(upstream(PAYMENTS_TCP, 'orders'));
    await ping(upstream(ORDERS_TCP));
    expect((await ask(upstream(ORDERS), '/')).status).toBe(200);
    mine.end();
    theirs.end();
    expect(await within(orders.process.exited, 60_000, 'its end')).toEqual({ code: 0, signal: null });
  });
});
