import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { App, Client, echoApp } from '../../support/apps.ts';
import { eventually } from '../../support/eventually.ts';
import { SocketReader } from '../support/socket-reader.ts';
import { TunnelPair, type TunnelPairOptions } from '../support/tunnel-pair.ts';

/** Streams of a tunnel as channels, on both ends, between real sockets. */

const undo: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

interface Path {
  readonly pair: TunnelPair;
  readonly client: Client;
  readonly server: SocketReader;
}

async function started(options: Partial<TunnelPairOptions>, handle?: (socket: Socket) => void): Promise<TunnelPair> {
  const app = handle === undefined ? await echoApp() : await App.start(handle);
  undo.push(() => app.close());
  const pair = await TunnelPair.start({ authorities: [`127.0.0.1:${app.port}`], channels: true, ...options });
  undo.push(() => pair.stop());
  undo.push(() => gone(pair));
  return pair;
}

/** Whatever a test did, nothing of it is left. */
async function gone(pair: TunnelPair): Promise<void> {
  await eventually(
    async () => {
      const { clientStreams, serverStreams } = await pair.stats();
      return clientStreams + serverStreams + (await pair.extraDescriptors()) === 0;
    },
    { what: 'streams and descriptors to be gone' },
  );
}

async function dial(pair: TunnelPair): Promise<Client> {
  const client = await Client.dial(pair.entry);
  undo.push(async () => client.destroy());
  return client;
}

/** A client and the application's end of its connection. */
async function path(): Promise<Path> {
  let accepted: Socket | null = null;
  const pair = await started({}, (socket) => {
    accepted = socket;
  });
  const client = await dial(pair);
  client.write('?');
  const server = new SocketReader(await eventually(() => accepted, { what: 'the application to be connected' }));
  undo.push(async () => server.destroy());
  await server.read(1);
  return { pair, client, server };
}

const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

async function send(socket: Socket, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; at += 100_000) {
    if (!socket.write(bytes.subarray(at, at + 100_000))) await once(socket, 'drain');
  }
  socket.end();
}

describe('through channels, bytes', () => {
  test('of any size come back whole and in order, with the end after them', async () => {
    const pair = await started({});
    await Promise.all(
      [0, 1, 16_384, 65_537, 1_000_000, 8_000_000].map(async (size) => {
        const client = await dial(pair);
        const sent = randomBytes(size);
        const [received] = await Promise.all([client.readToEnd(), send(client.socket, sent)]);
        expect([received.length, digest(received)]).toEqual([size, digest(sent)]);
      }),
    );
  });

  test.each(['client', 'server'] as const)('end in two halves, that of the %s first', async (first) => {
    const { client, server } = await path();
    const [one, other] = first === 'client' ? [client, server] : [server, client];
    one.write('last words');
    one.end();
    expect((await other.readToEnd()).toString()).toBe('last words');
    other.write('an answer all the same');
    other.end();
    expect((await one.readToEnd()).toString()).toBe('an answer all the same');
  });

  test.each(['client', 'server'] as const)('that the %s breaks off are an abort to the other side', async (who) => {
    const { client, server } = await path();
    const [one, other] = who === 'client' ? [client, server] : [server, client];
    one.socket.resetAndDestroy();
    await other.over();
  });

  test('for a reader that does not read are held within a bound, and arrive in the end', async () => {
    const { pair, client, server } = await path();
    server.socket.pause();
    const sent = randomBytes(16 * 1024 * 1024);
    const sending = send(client.socket, sent);
    let last = -1;
    await eventually(
      async () => {
        const before = last;
        last = client.socket.bytesWritten - client.socket.writableLength;
        return last === before && last > 0;
      },
      { what: 'the sender to be stopped', everyMs: 300 },
    );
    const { backlog } = await pair.stats();
    expect(backlog).toBeGreaterThan(0);
    expect(backlog).toBeLessThanOrEqual(4 * 1024 * 1024);
    server.socket.resume();
    server.end();
    const [received] = await Promise.all([server.readToEnd(), sending]);
    expect(digest(received)).toBe(digest(sent));
  });

  test('of many connections share a tunnel', async () => {
    const pair = await started({});
    const clients = await Promise.all(
      Array.from({ length: 80 }, async (_, i) => {
        const client = await dial(pair);
        client.write(`number ${i}`);
        expect((await client.read(`number ${i}`.length)).toString()).toBe(`number ${i}`);
        return client;
      }),
    );
    expect((await pair.stats()).clientTunnels).toBe(1);
    for (const client of clients) client.end();
    await Promise.all(clients.map((client) => client.readToEnd()));
  });
});

describe('before CONNECT is answered', () => {
  test('no more leaves than may be lost, and the rest after it', async () => {
    const pair = await started({ holdDials: true });
    const client = await dial(pair);
    const sent = randomBytes(200_000);
    const received = client.readToEnd();
    await send(client.socket, sent);
    await eventually(async () => (await pair.stats()).backlog === 16_384, { what: 'the first bytes to wait' });
    await pair.thread.ask('dial');
    expect(digest(await received)).toBe(digest(sent));
  });

  test('the server sees the first words, and may still refuse them with a reason that the channel hears', async () => {
    const pair = await started({ refuseWords: 'bad words' });
    const client = await dial(pair);
    client.write('bad ');
    await eventually(async () => (await pair.stats()).backlog === 4, { what: 'the first words to wait' });
    client.write('words and more');
    await client.over();
    const { ends } = await pair.stats();
    expect(ends).toContain('client pipe: CONNECT answered 403: such words are not wanted');
  });

  test('what was looked at is not lost', async () => {
    const pair = await started({ refuseWords: 'bad words' });
    const [whole, short] = [await dial(pair), await dial(pair)];
    whole.write('good words, all of them');
    whole.end();
    short.write('good');
    short.end();
    expect((await whole.readToEnd()).toString()).toBe('good words, all of them');
    expect((await short.readToEnd()).toString()).toBe('good');
  });
});

test('a tunnel that is lost closes its channels on both sides', async () => {
  const { pair, client, server } = await path();
  await pair.thread.ask('closeServers');
  await Promise.all([client.over(), server.over()]);
  const { ends } = await pair.stats();
  expect(ends.filter((end) => end.includes('pipe: tunnel:'))).toHaveLength(2);
});
