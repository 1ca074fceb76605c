import { createHash, randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { App, Client, echoApp } from '../../support/apps.ts';
import { eventually } from '../../support/eventually.ts';
import { SocketReader } from '../support/socket-reader.ts';
import { TunnelPair } from '../support/tunnel-pair.ts';

let echo: App;
let pair: TunnelPair;

beforeAll(async () => {
  echo = await echoApp();
  pair = await TunnelPair.start({ authorities: [`127.0.0.1:${echo.port}`] });
});

/** Whatever a test did, nothing of it is left: no stream, no descriptor, no connection of the application. */
afterEach(async () => {
  await eventually(
    async () => {
      const { clientStreams, serverStreams } = await pair.stats();
      return clientStreams + serverStreams + (await pair.extraDescriptors()) + echo.sockets.size === 0;
    },
    { what: 'streams, descriptors and connections to be gone' },
  );
  expect(pair.thread.faults).toEqual([]);
});

afterAll(async () => {
  await pair?.stop();
  await echo?.close();
});

async function write(socket: Socket, bytes: Buffer): Promise<void> {
  if (!socket.write(bytes)) await new Promise<void>((resolve) => socket.once('drain', () => resolve()));
}

/** Sends `total` bytes in pieces of random sizes, then FIN; their digest. */
async function sendRandom(socket: Socket, total: number): Promise<string> {
  const hash = createHash('sha256');
  for (let left = total; left > 0; ) {
    const piece = randomBytes(Math.min(left, 1 + Math.floor(Math.random() ** 3 * 200_000)));
    hash.update(piece);
    await write(socket, piece);
    left -= piece.length;
    if (Math.random() < 0.05) await sleep(1);
  }
  socket.end();
  return hash.digest('hex');
}

const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

describe('bytes', () => {
  test('in pieces of any size come back whole and in order, with the end after them', async () => {
    await Promise.all(
      [0, 1, 65_535, 65_536, 1_000_000, 6_000_000].map(async (size) => {
        const client = await Client.dial(pair.entry);
        const [sent, received] = await Promise.all([sendRandom(client.socket, size), client.readToEnd()]);
        expect(received.length).toBe(size);
        expect(digest(received)).toBe(sent);
      }),
    );
  });

  test('of a thousand connections go through ten tunnels of a hundred streams', async () => {
    const clients = await Promise.all(
      Array.from({ length: 1_000 }, async (_, i) => {
        const client = await Client.dial(pair.entry);
        client.write(`number ${i}`);
        expect((await client.read(`number ${i}`.length)).toString()).toBe(`number ${i}`);
        return client;
      }),
    );
    const { clientTunnels, serverTunnels, clientStreams, serverStreams } = await pair.stats();
    expect({ clientTunnels, serverTunnels, clientStreams, serverStreams }).toEqual({
      clientTunnels: 10,
      serverTunnels: 10,
      clientStreams: 1_000,
      serverStreams: 1_000,
    });
    for (const client of clients) client.end();
    await Promise.all(clients.map((client) => client.readToEnd()));
  });
});

/** An application that does with its only connection what the test says. */
async function single(): Promise<{
  pair: TunnelPair;
  client: Client;
  server: SocketReader;
  close: () => Promise<void>;
}> {
  let accepted: Socket | null = null;
  const app = await App.start((socket) => {
    accepted = socket;
  });
  const own = await TunnelPair.start({ authorities: [`127.0.0.1:${app.port}`] });
  const client = await Client.dial(own.entry);
  client.write('?');
  const socket = await eventually(() => accepted, { what: 'the application to be connected' });
  const server = new SocketReader(socket);
  await server.read(1);
  const close = async (): Promise<void> => {
    client.destroy();
    server.destroy();
    await eventually(
      async () => {
        const stats = await own.stats();
        return stats.clientStreams + stats.serverStreams + (await own.extraDescriptors()) === 0;
      },
      { what: 'everything to be gone' },
    );
    await own.stop();
    await app.close();
  };
  return { pair: own, client, server, close };
}

describe('the end of a connection', () => {
  test.each(['client', 'server'] as const)('comes in two halves, that of the %s first', async (first) => {
    const { client, server, close } = await single();
    const [one, other] = first === 'client' ? [client, server] : [server, client];
    one.write('last words');
    one.end();
    expect((await other.readToEnd()).toString()).toBe('last words');
    other.write('an answer all the same');
    other.end();
    expect((await one.readToEnd()).toString()).toBe('an answer all the same');
    await close();
  });

  test('of both sides at once loses nothing', async () => {
    const { client, server, close } = await single();
    client.write('a'.repeat(300_000));
    server.write('b'.repeat(300_000));
    client.end();
    server.end();
    expect((await server.readToEnd()).length).toBe(300_000);
    expect((await client.readToEnd()).length).toBe(300_000);
    await close();
  });

  test.each([
    ['client', 'at once'],
    ['server', 'at once'],
    ['client', 'after its own end'],
    ['server', 'after its own end'],
    ['client', 'after the other’s end'],
    ['server', 'after the other’s end'],
  ] as const)('by reset of the %s %s reaches the other side as an abort', async (who, when) => {
    const { client, server, close } = await single();
    const [one, other] = who === 'client' ? [client, server] : [server, client];
    if (when === 'after its own end') {
      one.end();
      await other.readToEnd();
    } else if (when === 'after the other’s end') {
      other.end();
      await one.readToEnd();
    }
    one.socket.resetAndDestroy();
    // After one's own FIN a reset is only seen by those who still send.
    const pushing = setInterval(() => other.socket.writable && other.write('more'), 20);
    await other.over();
    await eventually(() => other.isClosed || other.socket.readableEnded, { what: 'the abort to be seen' });
    clearInterval(pushing);
    await close();
  });
});

test('a reader that does not read holds a bounded number of bytes, and gets all of them in the end', async () => {
  const { pair: own, client, server, close } = await single();
  server.socket.pause();
  const total = 24 * 1024 * 1024;
  const sent = sendRandom(client.socket, total);
  let last = -1;
  await eventually(
    async () => {
      const before = last;
      last = client.socket.bytesWritten - client.socket.writableLength;
      return last === before && last > 0;
    },
    { what: 'the sender to be stopped', everyMs: 400 },
  );
  const { backlog } = await own.stats();
  expect(backlog).toBeGreaterThan(0);
  expect(backlog).toBeLessThanOrEqual(4 * 1024 * 1024);
  server.socket.resume();
  const [wanted, received] = await Promise.all([sent, server.readToEnd()]);
  expect(received.length).toBe(total);
  expect(digest(received)).toBe(wanted);
  await close();
});
