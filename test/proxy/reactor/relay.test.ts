import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { afterEach, describe, expect, test } from 'vitest';
import { App, Client, echoApp, type TcpAddress } from '../../support/apps.ts';
import { eventually, within } from '../../support/eventually.ts';
import { foreignAuthority } from '../../support/forge.ts';
import { LoopbackBlock } from '../../support/loopback.ts';
import { LoopThread } from '../support/loop-thread.ts';
import type { RelayHostStart, RelayStats } from '../support/relay-host.ts';
import { SocketReader } from '../support/socket-reader.ts';
import { materialOf } from '../support/tunnel-pair.ts';

const undo: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

interface Host {
  readonly entry: TcpAddress;
  readonly thread: LoopThread;
  stats(): Promise<RelayStats>;
}

async function host(options: Partial<RelayHostStart> & { readonly to: TcpAddress }): Promise<Host> {
  const block = await LoopbackBlock.take();
  const listen = { address: block.address(), port: 15_006 };
  const defaults = { listen, material: null, idleMs: 60_000, timeoutMs: 20_000, endDelays: 0, maxConnections: 1_000 };
  const thread = await LoopThread.start(new URL('../support/relay-host.ts', import.meta.url), {
    ...defaults,
    ...options,
  });
  const idle = thread.descriptors;
  undo.push(async () => {
    // Whatever the test did: every connection ended once, and gave its descriptors back.
    await eventually(async () => (await thread.ask<RelayStats>('stats')).live === 0, { what: 'no live connection' });
    await eventually(() => thread.descriptors === idle, { what: 'no descriptor to be left' });
    await thread.ask('destroy');
    expect(await thread.stop()).toBe(0);
    expect(thread.faults).toEqual([]);
    block.release();
  });
  return { entry: listen, thread, stats: () => thread.ask<RelayStats>('stats') };
}

async function app(handle?: Parameters<typeof App.start>[0]): Promise<App> {
  const made = handle === undefined ? await echoApp() : await App.start(handle);
  undo.push(() => made.close());
  return made;
}

async function dial(to: TcpAddress): Promise<Client> {
  const client = await Client.dial(to);
  undo.push(() => client.destroy());
  return client;
}

describe('a relay', () => {
  test('carries bytes and both ends, and counts them', async () => {
    const relay = await host({ to: await app() });
    const client = await dial(relay.entry);
    const sent = randomBytes(2_000_000);
    client.write(sent);
    client.end();
    expect((await client.readToEnd()).equals(sent)).toBe(true);
    await eventually(async () => (await relay.stats()).ends.length === 1, { what: 'the end' });
    expect((await relay.stats()).ends).toEqual(['closed:  2000000/2000000']);
  });

  test('tells the other side of an end that could not be told at once', async () => {
    const relay = await host({ to: await app((socket) => void socket.end('bye')), endDelays: 3 });
    const client = await dial(relay.entry);
    expect((await client.readToEnd()).toString()).toBe('bye');
    client.end();
  });

  test('holds little for a reader that does not read, and loses nothing', async () => {
    const sent = randomBytes(12_000_000);
    const source = await app((socket) => void socket.end(sent));
    const relay = await host({ to: source });
    const client = await dial(relay.entry);
    client.socket.pause();
    const [socket] = [
      ...(await eventually(() => source.sockets.size === 1 && source.sockets, { what: 'a connection' })),
    ];
    let last = -1;
    await eventually(
      () => {
        const before = last;
        last = (socket?.bytesWritten ?? 0) - (socket?.writableLength ?? 0);
        return before === last;
      },
      { what: 'the sender to be stopped', everyMs: 300 },
    );
    client.socket.resume();
    expect((await client.readToEnd()).equals(sent)).toBe(true);
    client.end();
  });

  test.each(['client', 'application'] as const)('aborts the other side where the %s resets', async (who) => {
    const target = await app((socket) => void socket.write('hello'));
    const relay = await host({ to: target });
    const client = await dial(relay.entry);
    await client.read(5);
    const [socket] = [...target.sockets];
    if (who === 'client') client.socket.resetAndDestroy();
    else socket?.resetAndDestroy();
    await eventually(() => client.isClosed && target.sockets.size === 0, { what: 'both to be closed' });
    await eventually(async () => (await relay.stats()).ends.length === 1, { what: 'the end' });
    expect((await relay.stats()).ends[0]).toMatch(/^aborted: ECONNRESET/);
  });

  test('ends where no byte comes for too long, not where bytes come in one direction', async () => {
    const relay = await host({ to: await app((socket) => void socket.resume()), idleMs: 600 });
    const busy = await dial(relay.entry);
    const silent = await dial(relay.entry);
    const talk = setInterval(() => busy.write('.'), 50);
    await silent.over();
    clearInterval(talk);
    expect(busy.isClosed).toBe(false);
    await busy.over();
    expect((await relay.stats()).ends.every((end) => end.startsWith('idle: '))).toBe(true);
  });

  test.each([
    ['that has ended its side', (client: Client) => client.end()],
    ['that died while its bytes wait for the application', (client: Client) => client.socket.resetAndDestroy()],
  ])('sleeps beside a client %s', async (_, leave) => {
    const deaf = await app((socket) => void socket.pause());
    const relay = await host({ to: deaf });
    const client = await dial(relay.entry);
    const chunk = Buffer.alloc(65_536);
    for (let i = 0; i < 200; i++) client.write(chunk);
    // Until the application's socket is full, and with it the relay and the client's socket.
    let last = -1;
    await eventually(
      () => {
        const before = last;
        last = client.socket.bytesWritten - client.socket.writableLength;
        return last === before && last > 0;
      },
      { what: 'everything to stand still', everyMs: 200 },
    );
    leave(client);
    await sleep(100);
    const before = (await relay.stats()).events;
    await sleep(200);
    expect((await relay.stats()).events - before).toBeLessThan(20);
    client.destroy();
    for (const socket of deaf.sockets) socket.destroy();
  });

  test('is not made where nobody listens, and the client is told', async () => {
    const relay = await host({ to: { address: '127.0.0.1', port: 1 } });
    const socket = connectTcp(relay.entry.port, relay.entry.address).on('error', () => undefined);
    await within(new Promise<void>((resolve) => socket.once('close', () => resolve())), 60_000, 'the end');
    expect((await relay.stats()).ends).toEqual(['dial: ECONNREFUSED']);
  });
});

describe('a listener', () => {
  test('rests at its limit of connections and goes on when one has ended', async () => {
    const relay = await host({ to: await app(), maxConnections: 2 });
    const [first, second] = [await dial(relay.entry), await dial(relay.entry)];
    for (const client of [first, second]) {
      client.write('x');
      await client.read(1);
    }
    const third = await dial(relay.entry);
    third.write('y');
    await eventually(async () => (await relay.stats()).pauses > 0, { what: 'accepting to rest' });
    expect((await relay.stats()).live).toBe(2);
    first.end();
    expect((await third.read(1)).toString()).toBe('y');
    for (const client of [second, third]) client.end();
  });
});

describe('a relay of TLS', () => {
  async function secured(to: TcpAddress, options: Partial<RelayHostStart> = {}) {
    const signer = foreignAuthority();
    const material = materialOf(signer, 'spiffe://cluster.local/ns/shop/sa/orders');
    const relay = await host({ to, material, ...options });
    const { chain: cert, privateKey: key } = materialOf(signer, 'spiffe://cluster.local/ns/shop/sa/frontend');
    const tls = { cert, key, ca: signer.root, ALPNProtocols: ['istio'], checkServerIdentity: () => undefined };
    const open = async (): Promise<SocketReader> => {
      const { address: host, port } = relay.entry;
      const socket = connectTls({ host, port, ...tls });
      undo.push(() => void socket.destroy());
      const reader = new SocketReader(socket);
      await within(once(socket, 'secureConnect'), 60_000, 'the handshake');
      return reader;
    };
    return { relay, open };
  }

  test('carries bytes, and close_notify as the end', async () => {
    const { open } = await secured(await app());
    const client = await open();
    const sent = randomBytes(3_000_000);
    client.write(sent);
    client.end();
    expect((await client.readToEnd()).equals(sent)).toBe(true);
  });

  test('takes the loss of TCP without close_notify for an abort', async () => {
    const target = await app();
    const { relay, open } = await secured(target);
    const client = await open();
    client.write('x');
    await client.read(1);
    client.destroy();
    await eventually(() => target.sockets.size === 0, { what: 'the application to be told' });
    await eventually(async () => (await relay.stats()).ends.length === 1, { what: 'the end' });
  });

  test('gives up a client that does not finish its handshake', async () => {
    const { relay } = await secured(await app(), { timeoutMs: 300 });
    const client = await dial(relay.entry);
    client.write(Buffer.from([22, 3, 1, 2, 0, 1]));
    await client.over();
    expect((await relay.stats()).ends).toEqual(['handshake: timeout']);
  });

  test('refuses garbage with the reason, and forgets it for the next client', async () => {
    const { relay, open } = await secured(await app());
    for (let i = 0; i < 5; i++) {
      const garbage = await dial(relay.entry);
      garbage.write(randomBytes(600));
      garbage.end();
      await garbage.over();
      // An error that OpenSSL has left in its queue would end a healthy session.
      const client = await open();
      client.write('fine');
      expect((await client.read(4)).toString()).toBe('fine');
      client.end();
      await client.readToEnd();
    }
    expect((await relay.stats()).ends.filter((end) => end.startsWith('handshake: ')).length).toBe(5);
  });
});
