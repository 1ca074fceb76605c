import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { App, Client, echoApp, isAllowed, ping } from '../support/apps.ts';
import { eventually, within } from '../support/eventually.ts';
import type { Credentials } from '../support/forge.ts';
import {
  FLAG,
  frameBytes,
  literalHeaders,
  PREFACE,
  RawHttp2,
  type RawHttp2Target,
  settingsPayload,
  TYPE,
  uint32,
} from '../support/http2-raw.ts';
import { Mesh, policyManifest, serviceManifest } from '../support/mesh.ts';

/*
 * A peer with a real certificate of the mesh, in whose name a policy allows everything, that does what RFC 9113 forbids or what costs it nothing
 * and the sidecar much. Each must end the connection (or the stream) and nothing else.
 */
const ORDERS = 'orders.shop:8080';
const CHUNK = Buffer.alloc(64 * 1024, 0x61);
let echo: App;
let flood: App;
let mesh: Mesh;
let credentials: Credentials;
let pid: number;
let bystander: Client;

const target = (): RawHttp2Target => {
  const { address, port } = mesh.workload('orders').tunnel;
  return { ...credentials, host: address, port, ca: mesh.roots() };
};
const connect = (options?: { bare: boolean }): Promise<RawHttp2> => RawHttp2.connect(target(), options);
const authority = (port = 8080): string => `${mesh.workload('orders').address}:${port}`;
const over = (client: RawHttp2): Promise<void> => within(client.closed, 60_000, 'the sidecar to end the connection');

async function openStream(client: RawHttp2, stream = 1, port = 8080): Promise<void> {
  client.sendConnect(stream, authority(port));
  expect(await client.connectStatus(stream)).toBe('200');
}

beforeAll(async () => {
  echo = await echoApp();
  flood = await App.start((socket) => {
    const more = (): void => {
      while (!socket.destroyed && socket.write(CHUNK));
    };
    socket.on('drain', more);
    more();
  });
  mesh = await Mesh.start({
    manifests: {
      'orders.yaml': serviceManifest('orders', 8080),
      'allow.yaml': policyManifest({ name: 'allow', app: 'orders', from: ['frontend', 'mallory'] }),
    },
    workloads: [
      {
        name: 'orders',
        expose: [
          { port: 8080, application: echo },
          { port: 8081, application: flood },
        ],
        config: { limits: { handshakeTimeout: '2s' } },
      },
      { name: 'frontend', upstreams: [ORDERS] },
    ],
  });
  credentials = await mesh.realCertificate('mallory');
  await eventually(() => isAllowed(mesh.workload('frontend').upstream(ORDERS)), { what: 'the mesh to work' });
  pid = mesh.workload('orders').process.pid;
});

afterAll(async () => {
  await mesh?.stop();
  await echo?.close();
  await flood?.close();
});

beforeEach(async () => {
  bystander = await Client.dial(mesh.workload('frontend').upstream(ORDERS));
});

/** Whatever was done: the process lives, its other connections live, its worker was not replaced, and new ones are served. */
afterEach(async () => {
  bystander.write('still here');
  expect((await bystander.read(10)).toString()).toBe('still here');
  bystander.destroy();
  await ping(mesh.workload('frontend').upstream(ORDERS));
  const sidecar = mesh.workload('orders');
  expect(sidecar.process.pid).toBe(pid);
  expect(sidecar.process.alive).toBe(true);
  const metrics = await sidecar.metrics();
  expect(metrics.sum('postern_worker_restarts_total')).toBe(0);
  expect(metrics.sum('postern_internal_errors_total')).toBe(0);
});

test('a peer that keeps to the rules gets its tunnel, its bytes and its end', async () => {
  const client = await connect();
  await openStream(client);
  client.send(TYPE.data, 0, 1, Buffer.from('hello'));
  await eventually(() => client.data(1).toString() === 'hello', { what: 'the echo' });
  client.send(TYPE.data, FLAG.endStream, 1);
  await client.frame(
    ({ type, flags, stream }) => type === TYPE.data && stream === 1 && (flags & FLAG.endStream) !== 0,
    'the end',
  );
  client.send(TYPE.ping, 0, 0, Buffer.from('abcdefgh'));
  const pong = await client.frame(({ type, flags }) => type === TYPE.ping && flags === FLAG.ack, 'the answer to PING');
  expect(pong.payload.toString()).toBe('abcdefgh');
  client.destroy();
});

describe('a flood ends the connection', () => {
  const headers = literalHeaders([
    [':method', 'CONNECT'],
    [':authority', '127.0.0.1:1'],
  ]);
  const repeat = (count: number, bytes: (index: number) => Buffer): Buffer =>
    Buffer.concat(Array.from({ length: count }, (_, i) => bytes(i)));

  test.each<[string, () => Buffer]>([
    ['of SETTINGS', () => repeat(20_000, () => frameBytes(TYPE.settings, 0, 0))],
    ['of PING', () => repeat(20_000, () => frameBytes(TYPE.ping, 0, 0, Buffer.alloc(8)))],
    [
      'of streams that are reset at once (rapid reset)',
      () =>
        repeat(10_000, (i) =>
          Buffer.concat([
            frameBytes(TYPE.headers, FLAG.endHeaders, 2 * i + 1, headers),
            frameBytes(TYPE.rstStream, 0, 2 * i + 1, uint32(8)),
          ]),
        ),
    ],
    [
      'of CONTINUATION without an end',
      () =>
        Buffer.concat([
          frameBytes(TYPE.headers, 0, 1, headers),
          repeat(20_000, () => frameBytes(TYPE.continuation, 0, 1, literalHeaders([['a', 'b'.repeat(50)]]))),
        ]),
    ],
    [
      'of empty CONTINUATION',
      () =>
        Buffer.concat([
          frameBytes(TYPE.headers, 0, 1, headers),
          repeat(50_000, () => frameBytes(TYPE.continuation, 0, 1)),
        ]),
    ],
    ['of PRIORITY', () => repeat(200_000, () => frameBytes(TYPE.priority, 0, 3, Buffer.alloc(5)))],
    ['of unknown frames', () => repeat(200_000, () => frameBytes(0xbe, 0, 0))],
  ])('%s', async (_, bytes) => {
    const client = await connect();
    client.write(bytes());
    await over(client);
  });

  test('of empty DATA', async () => {
    const client = await connect();
    await openStream(client);
    client.write(repeat(50_000, () => frameBytes(TYPE.data, 0, 1)));
    await over(client);
  });

  test('of WINDOW_UPDATE', async () => {
    const client = await connect();
    await openStream(client);
    client.write(repeat(400_000, () => frameBytes(TYPE.windowUpdate, 0, 1, uint32(1))));
    await over(client);
  });

  test('of PING whose answers are never read', async () => {
    const client = await connect();
    client.socket.pause();
    client.write(repeat(200_000, () => frameBytes(TYPE.ping, 0, 0, Buffer.alloc(8))));
    await eventually(() => client.socket.destroyed || client.socket.writableLength === 0 || client.isClosed, {
      what: 'the flood to have left',
    });
    client.socket.resume();
    await over(client);
  });
});

describe('what RFC 9113 makes an error of the connection ends it', () => {
  const cases: readonly (readonly [string, () => Buffer])[] = [
    ['a frame beyond the size that was announced', () => frameBytes(TYPE.data, 0, 1).fill(0xff, 0, 3)],
    ['DATA on an idle stream', () => frameBytes(TYPE.data, 0, 7, Buffer.from('x'))],
    ['DATA on stream 0', () => frameBytes(TYPE.data, 0, 0, Buffer.from('x'))],
    [
      'HEADERS on stream 0',
      () => frameBytes(TYPE.headers, FLAG.endHeaders, 0, literalHeaders([[':method', 'CONNECT']])),
    ],
    [
      'HEADERS on a stream of the server',
      () => frameBytes(TYPE.headers, FLAG.endHeaders, 2, literalHeaders([[':method', 'CONNECT']])),
    ],
    ['HPACK that cannot be read', () => frameBytes(TYPE.headers, FLAG.endHeaders, 1, Buffer.alloc(8, 0xff))],
    ['CONTINUATION without HEADERS', () => frameBytes(TYPE.continuation, FLAG.endHeaders, 1)],
    [
      'another frame between HEADERS and CONTINUATION',
      () =>
        Buffer.concat([
          frameBytes(TYPE.headers, 0, 1, literalHeaders([[':method', 'CONNECT']])),
          frameBytes(TYPE.ping, 0, 0, Buffer.alloc(8)),
        ]),
    ],
    [
      'padding longer than its frame',
      () => frameBytes(TYPE.headers, FLAG.endHeaders | FLAG.padded, 1, Buffer.from([200, 0])),
    ],
    ['PUSH_PROMISE of a client', () => frameBytes(TYPE.pushPromise, FLAG.endHeaders, 1, uint32(2))],
    ['SETTINGS of a wrong length', () => frameBytes(TYPE.settings, 0, 0, Buffer.alloc(5))],
    ['SETTINGS on a stream', () => frameBytes(TYPE.settings, 0, 1)],
    ['an acknowledgement of SETTINGS with a payload', () => frameBytes(TYPE.settings, FLAG.ack, 0, Buffer.alloc(6))],
    ['an initial window above 2^31-1', () => frameBytes(TYPE.settings, 0, 0, settingsPayload([[4, 0x8000_0000]]))],
    ['a maximum frame size below 2^14', () => frameBytes(TYPE.settings, 0, 0, settingsPayload([[5, 100]]))],
    ['PING of a wrong length', () => frameBytes(TYPE.ping, 0, 0, Buffer.alloc(7))],
    ['PING on a stream', () => frameBytes(TYPE.ping, 0, 1, Buffer.alloc(8))],
    ['RST_STREAM of an idle stream', () => frameBytes(TYPE.rstStream, 0, 9, uint32(8))],
    ['RST_STREAM of a wrong length', () => frameBytes(TYPE.rstStream, 0, 1, Buffer.alloc(3))],
    ['WINDOW_UPDATE of zero for the connection', () => frameBytes(TYPE.windowUpdate, 0, 0, uint32(0))],
    [
      'windows that together pass 2^31-1',
      () =>
        Buffer.concat([
          frameBytes(TYPE.windowUpdate, 0, 0, uint32(0x7fff_ffff)),
          frameBytes(TYPE.windowUpdate, 0, 0, uint32(0x7fff_ffff)),
        ]),
    ],
  ];
  test.each(cases)('%s', async (_, bytes) => {
    const client = await connect();
    client.write(bytes());
    await over(client);
  });

  test.each([
    ['HTTP/1.1 instead of the preface', Buffer.from('GET / HTTP/1.1\r\nhost: a\r\n\r\n')],
    ['a preface that is wrong in its last byte', Buffer.concat([PREFACE.subarray(0, -1), Buffer.from('x')])],
    ['another frame than SETTINGS first', Buffer.concat([PREFACE, frameBytes(TYPE.ping, 0, 0, Buffer.alloc(8))])],
  ])('%s', async (_, bytes) => {
    const client = await connect({ bare: true });
    client.write(bytes);
    await over(client);
  });

  test('a preface that never comes', async () => {
    const client = await connect({ bare: true });
    client.write(PREFACE.subarray(0, 10));
    await over(client);
  });

  test('headers that are too large', async () => {
    const client = await connect();
    client.sendConnect(
      1,
      authority(),
      Array.from({ length: 15 }, (_, i) => [`x-${i}`, 'v'.repeat(1_000)] as const),
    );
    const block = literalHeaders(Array.from({ length: 30 }, (_, i) => [`x-${i}`, 'v'.repeat(1_000)] as const));
    client.send(TYPE.headers, 0, 3, block.subarray(0, 15_000));
    client.send(TYPE.continuation, FLAG.endHeaders, 3, block.subarray(15_000));
    await over(client);
  });
});

describe('a request that is not for this workload is refused, and the tunnel goes on', () => {
  const notHere: readonly (readonly [string, () => string])[] = [
    ['an address of somebody else', () => '192.0.2.1:8080'],
    ['the loopback address', () => '127.0.0.1:8080'],
    ['the unspecified address', () => '0.0.0.0:8080'],
    ['a name', () => 'localhost:8080'],
    ['no port', () => mesh.workload('orders').address],
    ['port 0', () => `${mesh.workload('orders').address}:0`],
    ['a port with a sign', () => `${mesh.workload('orders').address}:+8080`],
    ['user information', () => `a@${mesh.workload('orders').address}:8080`],
    ['the sidecar’s admin port', () => authority(15_000)],
    ['the sidecar’s tunnel', () => authority(15_008)],
    ['the sidecar’s metrics', () => authority(15_020)],
  ];
  test.each(notHere)('%s', async (_, where) => {
    const client = await connect();
    client.sendConnect(1, where());
    const status = await client.connectStatus(1);
    expect(status).not.toBe('200');
    await openStream(client, 3);
    client.destroy();
  });

  const badHeaders: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
    [
      'another method',
      [
        [':method', 'GET'],
        [':scheme', 'https'],
        [':path', '/'],
        [':authority', 'a:1'],
      ],
    ],
    ['no method', [[':authority', '127.0.0.1:1']]],
    [
      'a scheme and a path with CONNECT',
      [
        [':method', 'CONNECT'],
        [':scheme', 'https'],
        [':path', '/'],
        [':authority', '127.0.0.1:1'],
      ],
    ],
    [
      'two authorities',
      [
        [':method', 'CONNECT'],
        [':authority', '127.0.0.1:1'],
        [':authority', '127.0.0.1:2'],
      ],
    ],
    [
      'an upper-case header',
      [
        [':method', 'CONNECT'],
        [':authority', '127.0.0.1:1'],
        ['X-Upper', 'a'],
      ],
    ],
    [
      'a line break in a value',
      [
        [':method', 'CONNECT'],
        [':authority', '127.0.0.1:1'],
        ['x', 'a\r\nb: c'],
      ],
    ],
  ];
  test.each(badHeaders)('%s', async (_, fields) => {
    const client = await connect();
    client.send(TYPE.headers, FLAG.endHeaders, 1, literalHeaders(fields));
    expect(await client.connectStatus(1)).not.toBe('200');
    await openStream(client, 3);
    client.destroy();
  });

  test('more streams than were announced: the surplus is refused', async () => {
    const client = await connect();
    for (let i = 0; i < 150; i++) client.sendConnect(2 * i + 1, authority());
    const answers = await Promise.all(Array.from({ length: 150 }, (_, i) => client.connectStatus(2 * i + 1)));
    expect(answers.filter((answer) => answer === '200').length).toBeLessThanOrEqual(100);
    // REFUSED_STREAM (RFC 9113, section 8.7): the peer may try elsewhere.
    expect(answers.filter((answer) => answer === 'reset 7').length).toBeGreaterThanOrEqual(50);
    client.destroy();
  });
});

describe('what concerns one stream ends that one', () => {
  const resets = (client: RawHttp2, id: number): number[] =>
    client.frames
      .filter(({ type, stream }) => type === TYPE.rstStream && stream === id)
      .map(({ payload }) => payload.readUInt32BE(0));

  test('more bytes than its window allows', async () => {
    const client = await connect();
    await openStream(client, 1);
    // The echo cannot give them back, for our own window is small: nobody takes them for long.
    const bytes = Buffer.alloc(16_384, 1);
    for (let i = 0; i < 2_000 && !client.isClosed; i++) client.send(TYPE.data, 0, 1, bytes);
    // FLOW_CONTROL_ERROR (RFC 9113, section 6.9.1), of the stream or of the connection.
    await eventually(() => client.isClosed || resets(client, 1).includes(3), { what: 'the violation to be answered' });
    client.destroy();
  });

  test('a stream number that goes backwards opens nothing', async () => {
    const client = await connect();
    const before = echo.accepted;
    await openStream(client, 5);
    // The kernel takes the connection before the application hears of it.
    const accepted = before + 1;
    await eventually(() => echo.accepted === accepted, { what: 'the application to hear of the stream' });
    client.sendConnect(3, authority());
    await openStream(client, 7).catch((error: unknown) => {
      if (!client.isClosed) throw error;
    });
    expect(client.frames.some(({ type, stream }) => type === TYPE.headers && stream === 3)).toBe(false);
    expect(echo.accepted - accepted).toBeLessThanOrEqual(1);
    client.destroy();
  });
});

describe('a peer that does not take what it asked for', () => {
  test('with windows that never open holds nothing but its own stream', async () => {
    const client = await connect({ bare: true });
    client.write(PREFACE);
    client.send(TYPE.settings, 0, 0, settingsPayload([[4, 0]]));
    await openStream(client, 1, 8081);
    client.sendConnect(3, authority());
    client.send(TYPE.windowUpdate, 0, 3, uint32(1_000));
    client.send(TYPE.data, 0, 3, Buffer.from('past it'));
    await eventually(() => client.data(3).toString() === 'past it', { what: 'the echo on the other stream' });
    expect(client.data(1)).toHaveLength(0);
    client.destroy();
    await eventually(() => flood.sockets.size === 0, { what: 'the application to be let go' });
  });

  test('without reading its socket does not hold up others', async () => {
    const client = await connect();
    client.send(TYPE.windowUpdate, 0, 0, uint32(0x7000_0000));
    client.send(TYPE.settings, 0, 0, settingsPayload([[4, 0x7fff_0000]]));
    client.socket.pause();
    for (let i = 0; i < 20; i++) client.sendConnect(2 * i + 1, authority(8081));
    await sleep(500);
    await ping(mesh.workload('frontend').upstream(ORDERS));
    client.destroy();
    await eventually(() => flood.sockets.size === 0, { what: 'the applications to be let go' });
  });
});
