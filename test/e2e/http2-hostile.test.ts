import { once } from 'node:events';
import * as http2 from 'node:http2';
import { connect as connectTcp } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { privateMemory } from '../../benchmarks/lib/memory.ts';
import { eventually, within } from '../support/eventually.ts';
import type { Credentials } from '../support/forge.ts';
import { type HttpApp, http2App, readAll } from '../support/http-apps.ts';
import { FLAG, frameBytes, literalHeaders, RawHttp2, settingsPayload, TYPE, uint32 } from '../support/http2-raw.ts';
import { Mesh, policyManifest, serviceManifest } from '../support/mesh.ts';

/*
 * HTTP/2 that costs its sender nothing and a sidecar much: from an application to its own sidecar, and from a peer with a real certificate inside
 * a stream of its tunnel. Each must end that connection and nothing else.
 */
const ORDERS = 'orders.shop:8080';
const CHUNK = Buffer.alloc(64 * 1024, 0x61);
/** What a sidecar may hold on behalf of one such connection, with what its heap grows by meanwhile: 84 MB were seen on a machine that was busy. */
const HOSTILE_BYTES = 128 * 1024 * 1024;
const INITIAL_WINDOW_SIZE = 4;

let app: HttpApp;
/** Endless responses under way, and how many pieces they have given to node. */
let endless = 0;
let pieces = 0;
let mesh: Mesh;
let credentials: Credentials;
let bystander: http2.ClientHttp2Session;
let before: number[];
const NAMES = ['frontend', 'orders'] as const;
const memory = (): number[] => NAMES.map((name) => privateMemory(mesh.workload(name).process.pid));

function answer(stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders): void {
  stream.on('error', () => undefined);
  stream.respond({ ':status': 200 });
  if (headers[':path'] !== '/endless') {
    stream.resume();
    stream.end('ok');
    return;
  }
  endless++;
  stream.on('close', () => endless--);
  const more = (): void => {
    while (!stream.destroyed) {
      pieces++;
      if (!stream.write(CHUNK)) break;
    }
  };
  stream.on('drain', more);
  more();
}

async function fromApplication(): Promise<Duplex> {
  const { address, port } = mesh.workload('frontend').upstream(ORDERS);
  const socket = connectTcp({ host: address, port, noDelay: true });
  await once(socket, 'connect');
  return socket;
}

async function fromPeer(): Promise<Duplex> {
  const { address, port } = mesh.workload('orders').tunnel;
  const { cert, key } = credentials;
  const session = http2.connect(`https://${address}:${port}`, {
    ...{ cert, key, ca: mesh.roots(), checkServerIdentity: () => undefined },
  });
  session.on('error', () => undefined);
  const stream = session.request({ ':method': 'CONNECT', ':authority': `${address}:8080` });
  stream.on('end', () => stream.destroy());
  stream.on('close', () => session.destroy());
  await once(stream, 'response');
  return stream;
}

async function get(session: http2.ClientHttp2Session): Promise<number> {
  const stream = session.request({ ':path': '/' });
  const [headers] = (await within(once(stream, 'response'), 60_000, 'a response')) as [http2.IncomingHttpHeaders];
  expect((await readAll(stream)).toString()).toBe('ok');
  return Number(headers[':status']);
}

function connectBystander(): http2.ClientHttp2Session {
  const { address, port } = mesh.workload('frontend').upstream(ORDERS);
  const session = http2.connect(`http://${address}:${port}`);
  session.on('error', () => undefined);
  return session;
}

beforeAll(async () => {
  app = await http2App(answer);
  const config = { accessLog: 'off', http: { streamIdleTimeout: '2s' } };
  mesh = await Mesh.start({
    manifests: {
      'orders.yaml': serviceManifest('orders', 8080, 8080, 'http2'),
      'allow.yaml': policyManifest({ name: 'allow', app: 'orders', from: ['frontend', 'mallory'] }),
    },
    workloads: [
      { name: 'orders', expose: [{ port: 8080, application: app }], config },
      { name: 'frontend', upstreams: [ORDERS], config },
    ],
  });
  credentials = await mesh.realCertificate('mallory');
  const served = async (): Promise<boolean> => {
    const session = connectBystander();
    return await get(session)
      .then((status) => status === 200)
      .finally(() => session.destroy());
  };
  await eventually(served, { what: 'the mesh to work' });
});

afterAll(async () => {
  await mesh?.stop();
  await app?.close();
});

beforeEach(async () => {
  bystander = connectBystander();
  expect(await get(bystander)).toBe(200);
  before = memory();
});

/** Whatever was done: others are served over the connections that they have, and no sidecar holds more or has failed. */
afterEach(async () => {
  expect(await get(bystander)).toBe(200);
  bystander.destroy();
  for (const [index, now] of memory().entries()) expect(now - (before[index] ?? 0)).toBeLessThan(HOSTILE_BYTES);
  for (const name of NAMES) {
    const metrics = await mesh.workload(name).metrics();
    expect(metrics.sum('postern_worker_restarts_total')).toBe(0);
    expect(metrics.sum('postern_internal_errors_total')).toBe(0);
  }
});

const head = (path = '/', method = 'GET', more: readonly (readonly [string, string])[] = []): Buffer =>
  literalHeaders([[':method', method], [':scheme', 'http'], [':path', path], [':authority', 'orders'], ...more]);
const REQUEST = head();
const repeat = (count: number, bytes: (index: number) => Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, index) => bytes(index)));
const request = (stream: number, block = REQUEST): Buffer =>
  frameBytes(TYPE.headers, FLAG.endHeaders | FLAG.endStream, stream, block);

const FLOODS: readonly (readonly [string, () => Buffer])[] = [
  [
    'streams that are reset at once (rapid reset)',
    () =>
      repeat(10_000, (i) => Buffer.concat([request(2 * i + 1), frameBytes(TYPE.rstStream, 0, 2 * i + 1, uint32(8))])),
  ],
  [
    'streams that the sidecar has to reset',
    () =>
      repeat(10_000, (i) =>
        Buffer.concat([
          frameBytes(TYPE.headers, FLAG.endHeaders, 2 * i + 1, head('/', 'POST')),
          frameBytes(TYPE.windowUpdate, 0, 2 * i + 1, uint32(0)),
        ]),
      ),
  ],
  [
    'CONTINUATION without an end',
    () =>
      Buffer.concat([
        frameBytes(TYPE.headers, 0, 1, REQUEST),
        repeat(20_000, () => frameBytes(TYPE.continuation, 0, 1, literalHeaders([['a', 'b'.repeat(50)]]))),
      ]),
  ],
  ['SETTINGS', () => repeat(20_000, () => frameBytes(TYPE.settings, 0, 0, settingsPayload([[4, 65_535]])))],
  ['PING', () => repeat(200_000, () => frameBytes(TYPE.ping, 0, 0, Buffer.alloc(8)))],
  ['PRIORITY', () => repeat(200_000, () => frameBytes(TYPE.priority, 0, 3, Buffer.alloc(5)))],
  [
    'empty DATA',
    () =>
      Buffer.concat([
        frameBytes(TYPE.headers, FLAG.endHeaders, 1, head('/', 'POST')),
        repeat(50_000, () => frameBytes(TYPE.data, 0, 1)),
      ]),
  ],
];

describe.each([
  ['an application to its sidecar', fromApplication],
  ['a peer inside its tunnel', fromPeer],
])('from %s', (_, dial) => {
  test.each(FLOODS)('a flood of %s ends the connection', async (_name, bytes) => {
    const client = RawHttp2.over(await dial());
    client.write(bytes());
    await within(client.closed, 60_000, 'the sidecar to end the connection');
  });

  test('a small block that unpacks into a huge one (HPACK bomb) does not reach the application', async () => {
    const seen = app.requests;
    const client = RawHttp2.over(await dial());
    // A field of 4,000 bytes for the dynamic table (RFC 7541, 6.2.1), and then that one again and again (6.1).
    const large = Buffer.concat([Buffer.from([0x40]), literalHeaders([['a', 'b'.repeat(4_000)]]).subarray(1)]);
    const block = Buffer.concat([REQUEST, large, Buffer.alloc(8_000, 0xbe)]);
    for (let i = 0; i < 50; i++) client.send(TYPE.headers, FLAG.endHeaders | FLAG.endStream, 2 * i + 1, block);
    const refused = client.status(1).catch(() => 'closed');
    expect(['431', 'closed', 'index 431']).toContain(await refused);
    expect(app.requests).toBe(seen);
    client.destroy();
  });

  test('a client whose windows never open has its streams reset, and its application is let go', async () => {
    const client = RawHttp2.over(await dial(), [[INITIAL_WINDOW_SIZE, 0]]);
    for (let i = 0; i < 50; i++) client.write(request(2 * i + 1, head('/endless')));
    await eventually(() => endless === 50, { what: 'the requests to arrive' });
    // Until the connection that they share between the sidecars is full of what nobody takes: then their time runs, before the bystander's.
    let last = -1;
    const isFull = (): boolean => {
      const before = last;
      last = pieces;
      return last === before;
    };
    await eventually(isFull, { what: 'nothing to move any more', everyMs: 500 });
    expect(await get(bystander)).toBe(200);
    await client.frame(({ type }) => type === TYPE.rstStream, 'a stream to be reset');
    await eventually(() => endless === 0, { what: 'the application to be let go' });
    client.destroy();
  });

  test('a client that asks for much and reads nothing holds nobody up', async () => {
    const client = RawHttp2.over(await dial(), [[INITIAL_WINDOW_SIZE, 0x7fff_0000]]);
    client.send(TYPE.windowUpdate, 0, 0, uint32(0x7000_0000));
    client.socket.pause();
    for (let i = 0; i < 50; i++) client.write(request(2 * i + 1, head('/endless')));
    await eventually(() => endless === 50, { what: 'the requests to arrive' });
    await sleep(300);
    expect(await get(bystander)).toBe(200);
    client.destroy();
    await eventually(() => endless === 0, { what: 'the application to be let go' });
  });
});
