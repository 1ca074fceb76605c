import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { closeDescriptor, localAddress, openListener } from '../../../proxy/native/socket.ts';
import { App, Client, echoApp } from '../../support/apps.ts';
import { eventually } from '../../support/eventually.ts';
import { FLAG, RawHttp2, TYPE } from '../../support/http2-raw.ts';
import { TunnelPair, type TunnelPairOptions } from '../support/tunnel-pair.ts';

const undo: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

async function started(options: TunnelPairOptions): Promise<TunnelPair> {
  const pair = await TunnelPair.start(options);
  undo.push(() => pair.stop());
  return pair;
}

async function app(handle: (socket: Socket) => void): Promise<App> {
  const made = await App.start(handle);
  undo.push(() => made.close());
  return made;
}

async function echoing(): Promise<App> {
  const made = await echoApp();
  undo.push(() => made.close());
  return made;
}

async function dial(pair: TunnelPair): Promise<Client> {
  const client = await Client.dial(pair.entry);
  undo.push(async () => client.destroy());
  return client;
}

async function rawPeer(pair: TunnelPair, options?: { bare: boolean }): Promise<RawHttp2> {
  const { address: host, port } = pair.tunnel;
  const peer = await RawHttp2.connect(
    { host, port, cert: pair.client.chain, key: pair.client.privateKey, ca: pair.signer.root },
    options,
  );
  undo.push(async () => peer.destroy());
  return peer;
}

describe('another destination', () => {
  const DEAD = '127.0.0.1:1';

  test('is tried with the same bytes where the first answers 503', async () => {
    const { port } = await echoing();
    const pair = await started({ authorities: [DEAD, DEAD, `127.0.0.1:${port}`] });
    const client = await dial(pair);
    client.write('said before any answer');
    expect((await client.read(22)).toString()).toBe('said before any answer');
    client.write(', and after it');
    client.end();
    expect((await client.readToEnd()).toString()).toBe(', and after it');
  });

  test('gets every byte once, also of a client that says more than may leave before the answer', async () => {
    const { port } = await echoing();
    const pair = await started({ authorities: [DEAD, `127.0.0.1:${port}`] });
    const client = await dial(pair);
    const sent = Buffer.alloc(300_000, 'abcdefg');
    client.write(sent);
    client.end();
    expect((await client.readToEnd()).equals(sent)).toBe(true);
  });

  test('gets the end of a client that had ended before any answer', async () => {
    const { port } = await echoing();
    const pair = await started({ authorities: [DEAD, `127.0.0.1:${port}`] });
    const client = await dial(pair);
    client.write('all');
    client.end();
    expect((await client.readToEnd()).toString()).toBe('all');
    await eventually(async () => (await pair.stats()).clientStreams === 0, { what: 'the stream to be over' });
  });
});

describe('a tunnel', () => {
  test('sleeps while half a TLS record is all it has', async () => {
    const { port } = await echoing();
    const pair = await started({ authorities: [`127.0.0.1:${port}`] });
    // Between the peer and the tunnel: passes everything on until it is told to keep the last bytes back.
    let keepBack = 0;
    let kept: Buffer = Buffer.alloc(0);
    let inner: Socket | null = null;
    const between = createServer((outer) => {
      const socket = connect(pair.tunnel.port, pair.tunnel.address);
      inner = socket;
      socket.pipe(outer);
      outer.on('data', (bytes: Buffer) => {
        kept = bytes.subarray(bytes.length - keepBack);
        socket.write(bytes.subarray(0, bytes.length - keepBack));
      });
      for (const one of [socket, outer]) one.on('error', () => undefined);
      outer.on('close', () => socket.destroy());
    });
    between.listen(0, '127.0.0.1');
    await once(between, 'listening');
    undo.push(async () => void between.close());
    const address = between.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    const { chain: cert, privateKey: key } = pair.client;
    const peer = await RawHttp2.connect({ host: '127.0.0.1', port: address.port, cert, key, ca: pair.signer.root });
    undo.push(async () => peer.destroy());
    peer.sendConnect(1, `127.0.0.1:${port}`);
    expect(await peer.connectStatus(1)).toBe('200');

    keepBack = 10;
    peer.send(TYPE.data, 0, 1, Buffer.alloc(5_000, 'x'));
    await eventually(() => kept.length === 10, { what: 'half a record to be on its way' });
    await sleep(50);
    const before = (await pair.stats()).laters;
    await sleep(200);
    // A loop that asks again and again puts off tens of thousands of tasks in this time.
    expect((await pair.stats()).laters - before).toBeLessThan(50);
    keepBack = 0;
    (inner as Socket | null)?.write(kept);
    await eventually(() => peer.data(1).length === 5_000, { what: 'the whole record to be used' });
  });

  test('that is lost aborts its connections on both sides, and the next connection gets a new one', async () => {
    const echo = await echoing();
    const pair = await started({ authorities: [`127.0.0.1:${echo.port}`] });
    const clients = await Promise.all([1, 2, 3].map(() => dial(pair)));
    for (const client of clients) {
      client.write('x');
      await client.read(1);
    }
    await pair.thread.ask('closeServers');
    for (const client of clients) await client.over();
    await eventually(() => echo.sockets.size === 0, { what: 'the application to be told' });
    const next = await dial(pair);
    next.write('y');
    expect((await next.read(1)).toString()).toBe('y');
    expect(await pair.extraDescriptors()).toBe(2);
  });

  test('that drains takes no newcomer, keeps what it carries, and ends with its last stream', async () => {
    const { port } = await echoing();
    const pair = await started({ authorities: [`127.0.0.1:${port}`] });
    const old = await dial(pair);
    old.write('x');
    await old.read(1);
    await pair.thread.ask('drainServers');
    // The client has heard of it when it opens another tunnel.
    const client = await eventually(
      async () => {
        const one = await dial(pair);
        one.write('n');
        await one.read(1);
        if ((await pair.stats()).clientTunnels === 2) return one;
        one.destroy();
        return null;
      },
      { what: 'a second tunnel' },
    );
    await sleep(1_300); // the final GOAWAY comes a second after the warning
    old.write('still here');
    expect((await old.read(10)).toString()).toBe('still here');
    old.end();
    await old.readToEnd();
    await eventually(async () => (await pair.stats()).serverTunnels === 1, { what: 'the drained tunnel to end' });
    client.write('me too');
    await client.read(6);
  });

  test('that ends after its last stream still lets a slow application have the last bytes', async () => {
    let sent = 0;
    const source = await app((socket) => void socket.resume());
    const pair = await started({ authorities: [`127.0.0.1:${source.port}`] });
    const client = await dial(pair);
    client.socket.pause();
    client.end();
    const socket = await eventually(() => [...source.sockets][0], { what: 'the application' });
    // Piece by piece, and no more than the tunnel's window takes beyond that: the server has to get rid of all of it.
    const isFull = async (): Promise<boolean> => {
      if ((await pair.stats()).clientBacklog > 0) return true;
      if (socket.writableLength === 0) {
        sent += 65_536;
        socket.write(Buffer.alloc(65_536, 'z'));
      }
      return false;
    };
    await eventually(isFull, { what: 'the client to be full', everyMs: 2 });
    socket.end();
    await eventually(async () => (await pair.stats()).serverStreams === 0, { what: 'the server to be done' });
    expect((await pair.stats()).clientBacklog).toBeGreaterThan(0);
    await pair.thread.ask('closeServers');
    await eventually(async () => (await pair.stats()).clientTunnels === 0, { what: 'the tunnel to be gone' });
    client.socket.resume();
    expect((await client.readToEnd()).length).toBe(sent);
    await eventually(async () => (await pair.extraDescriptors()) === 0, { what: 'everything to be gone' });
  });

  test('ends where the peer does not begin to speak HTTP/2', async () => {
    const { port } = await echoing();
    const pair = await started({ authorities: [`127.0.0.1:${port}`] });
    const peer = await rawPeer(pair, { bare: true });
    await eventually(() => peer.isClosed, { what: 'the tunnel to end' });
    expect((await pair.stats()).ends).toContain('server tunnel: the preface and SETTINGS did not come in time');
  });

  test('ends a stream that has been silent for too long, and no other', async () => {
    const { port } = await echoing();
    const pair = await started({ authorities: [`127.0.0.1:${port}`], streamIdleMs: 3_000 });
    const silent = await dial(pair);
    const busy = await dial(pair);
    silent.write('x');
    await silent.read(1);
    const talk = setInterval(() => busy.write('.'), 100);
    await silent.over();
    clearInterval(talk);
    busy.write('!');
    expect(busy.isClosed).toBe(false);
    expect((await pair.stats()).ends).toContain('stream idle: no bytes for 3000 ms');
  });
});

describe('connections that are aborted', () => {
  test('by the thousand on one tunnel are no attack', async () => {
    const { port } = await echoing();
    const pair = await started({ authorities: [`127.0.0.1:${port}`] });
    const kept = await dial(pair);
    kept.write('x');
    await kept.read(1);
    for (let round = 0; round < 60; round++) {
      const clients = await Promise.all(Array.from({ length: 50 }, () => Client.dial(pair.entry)));
      await Promise.all(
        clients.map(async (client) => {
          client.write('y');
          await client.read(1);
          client.socket.resetAndDestroy();
        }),
      );
    }
    kept.write('z');
    expect((await kept.read(1)).toString()).toBe('z');
    expect((await pair.stats()).ends.filter((end) => end.includes('tunnel:'))).toEqual([]);
  });

  test('because they are refused are no attack either', async () => {
    const pair = await started({ authorities: ['refused'] });
    for (let round = 0; round < 60; round++) {
      const { port, address } = pair.entry;
      await Promise.all(
        Array.from({ length: 100 }, async () => {
          const socket = connect(port, address).on('error', () => undefined);
          await new Promise<void>((resolve) => socket.once('close', () => resolve()));
        }),
      );
    }
    const { ends, clientTunnels } = await pair.stats();
    expect(ends.filter((end) => end.includes('tunnel:'))).toEqual([]);
    expect(ends.filter((end) => end === 'stream refused: CONNECT answered 403').length).toBe(6_000);
    expect(clientTunnels).toBe(1);
  });
});

test('a tunnel that stood still because no application took anything goes on when they do', async () => {
  const STREAMS = 200;
  const FRAME = 16_384;
  const FRAMES = 16; // a stream's first window
  let taken = 0;
  const sink = await app((socket) => {
    socket.on('data', (bytes: Buffer) => {
      taken += bytes.length;
    });
  });
  const pair = await started({ authorities: ['unused'], maxStreams: STREAMS, holdDials: true });
  const peer = await rawPeer(pair);
  const ids = Array.from({ length: STREAMS }, (_, i) => 2 * i + 1);
  for (const id of ids) peer.sendConnect(id, `127.0.0.1:${sink.port}`);
  const todo = ids.flatMap((id) => Array.from({ length: FRAMES }, () => id));
  let sent = 0;
  const payload = Buffer.alloc(FRAME);
  /** Sends as much as the tunnel's window allows; whether that was all. */
  const push = (): boolean => {
    let window = 65_535 - sent;
    for (const { type, stream, payload: increment } of peer.frames) {
      if (type === TYPE.windowUpdate && stream === 0) window += increment.readUInt32BE(0);
    }
    for (; window >= FRAME && todo.length > 0; window -= FRAME) {
      peer.send(TYPE.data, 0, todo.shift() ?? 0, payload);
      sent += FRAME;
    }
    return todo.length === 0;
  };
  let held = -1;
  await eventually(
    async () => {
      const before = held;
      push();
      held = (await pair.stats()).backlog;
      return held === before && held === sent;
    },
    { what: 'the tunnel to stand still', everyMs: 200 },
  );
  // Twice 16 MiB is the most that a tunnel takes for applications that take nothing, however many streams it has.
  expect(held).toBeGreaterThan(30 * 1024 * 1024);
  expect(held).toBeLessThanOrEqual(32 * 1024 * 1024);
  await pair.thread.ask('dial');
  await eventually(push, { what: 'window for the rest' });
  await eventually(() => taken === STREAMS * FRAMES * FRAME, { what: 'every byte to arrive' });
});

test('streams whose applications are half dead or stand still cost no turns of the loop', async () => {
  const deaf = await app((socket) => void socket.pause());
  const pair = await started({ authorities: [`127.0.0.1:${deaf.port}`] });
  const [ended, full, dead] = [await dial(pair), await dial(pair), await dial(pair)];
  ended.end();
  for (const client of [full, dead]) client.write(Buffer.alloc(20_000_000));
  let last = -1;
  await eventually(
    async () => {
      const before = last;
      last = (await pair.stats()).backlog;
      return last === before && last > 0;
    },
    { what: 'everything to stand still', everyMs: 200 },
  );
  dead.socket.resetAndDestroy();
  await sleep(100);
  const before = (await pair.stats()).events;
  await sleep(200);
  expect((await pair.stats()).events - before).toBeLessThan(20);
});

test('padding counts against the windows, and is given back like the bytes beside it', async () => {
  const { port } = await echoing();
  const pair = await started({ authorities: ['unused'] });
  const peer = await rawPeer(pair);
  peer.sendConnect(1, `127.0.0.1:${port}`);
  expect(await peer.connectStatus(1)).toBe('200');
  // A byte and 255 of padding: 257 bytes of window (RFC 9113, 6.9.1). A thousand of them would fill the window with a thousand bytes.
  const padded = Buffer.concat([Buffer.of(255), Buffer.from('x'), Buffer.alloc(255)]);
  for (let i = 0; i < 600; i++) peer.send(TYPE.data, FLAG.padded, 1, padded);
  const update = await peer.frame(
    ({ type, stream }) => type === TYPE.windowUpdate && stream === 1,
    'window for the stream',
  );
  expect(update.payload.readUInt32BE(0)).toBeGreaterThanOrEqual(131_072);
  await eventually(() => peer.data(1).length === 600, { what: 'the bytes without the padding' });
});

test('a peer that sends byte by byte to an application that is not connected yet costs little more than the bytes', async () => {
  // Accepts nobody: the queue is full with the first, so that everybody else waits for the answer to a SYN.
  const listener = openListener({ address: '127.0.0.1', port: 0 }, 0);
  const { port } = localAddress(listener);
  undo.push(async () => closeDescriptor(listener));
  const first = connect(port, '127.0.0.1').on('error', () => undefined);
  undo.push(async () => void first.destroy());
  await once(first, 'connect');
  const pair = await started({ authorities: ['unused'] });
  const peer = await rawPeer(pair);
  peer.sendConnect(1, `127.0.0.1:${port}`);
  const before = await pair.thread.ask<number>('heap');
  const thousand = Buffer.concat(
    Array.from({ length: 1_000 }, () => Buffer.from([0, 0, 1, TYPE.data, 0, 0, 0, 0, 1, 0x61])),
  );
  for (let sent = 0; sent < 262_000; sent += 1_000) peer.write(thousand);
  peer.send(TYPE.ping, 0, 0, Buffer.alloc(8));
  await peer.frame(({ type, flags }) => type === TYPE.ping && flags === FLAG.ack, 'the answer to PING');
  expect((await pair.stats()).backlog).toBe(262_000);
  // An object for each byte would be more than 20 MB.
  expect((await pair.thread.ask<number>('heap')) - before).toBeLessThan(4 * 1024 * 1024);
});
