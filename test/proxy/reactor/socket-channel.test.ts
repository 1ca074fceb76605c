import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { afterEach, describe, expect, test } from 'vitest';
import { App, Client, type TcpAddress } from '../../support/apps.ts';
import { eventually, within } from '../../support/eventually.ts';
import { foreignAuthority, type Signer } from '../../support/forge.ts';
import { LoopbackBlock } from '../../support/loopback.ts';
import type { ChannelHostStart, ChannelOrder, ChannelState } from '../support/channel-host.ts';
import { LoopThread } from '../support/loop-thread.ts';
import { SocketReader } from '../support/socket-reader.ts';
import { materialOf } from '../support/tunnel-pair.ts';

const undo: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

class Host {
  readonly entry: TcpAddress;
  readonly thread: LoopThread;
  /** Descriptors of the loop without any channel. */
  readonly idle: number;
  readonly #signer: Signer;

  private constructor(entry: TcpAddress, thread: LoopThread, signer: Signer) {
    this.entry = entry;
    this.thread = thread;
    this.idle = thread.descriptors;
    this.#signer = signer;
  }

  static async start(options: Partial<ChannelHostStart> & { readonly tls?: boolean } = {}): Promise<Host> {
    const { tls = false, ...rest } = options;
    const block = await LoopbackBlock.take();
    const signer = foreignAuthority();
    const material = tls ? materialOf(signer, 'spiffe://cluster.local/ns/shop/sa/orders') : null;
    const listen = { address: block.address(), port: 15_006 };
    const start: ChannelHostStart = { listen, material, prefix: '', mode: 'collect', attach: true, ...rest };
    const thread = await LoopThread.start(new URL('../support/channel-host.ts', import.meta.url), start);
    const host = new Host(listen, thread, signer);
    undo.push(async () => {
      // Whatever the test did: every channel that is finished gives its descriptor back.
      await thread.ask('finishAll');
      await eventually(() => thread.descriptors === host.idle, { what: 'no descriptor to be left' });
      await thread.ask('destroy');
      expect(await thread.stop()).toBe(0);
      if (start.mode !== 'throw') expect(thread.faults).toEqual([]);
      block.release();
    });
    return host;
  }

  async dial(): Promise<Client> {
    const before = await this.thread.ask<number>('count');
    const client = await Client.dial(this.entry);
    undo.push(() => client.destroy());
    await eventually(async () => (await this.thread.ask<number>('count')) > before, { what: 'the channel' });
    return client;
  }

  async dialTls(by: TcpAddress = this.entry): Promise<SocketReader> {
    const { chain: cert, privateKey: key } = materialOf(this.#signer, 'spiffe://cluster.local/ns/shop/sa/frontend');
    const { address: host, port } = by;
    const tls = { cert, key, ca: this.#signer.root, ALPNProtocols: ['istio'], checkServerIdentity: () => undefined };
    const socket = connectTls({ host, port, ...tls });
    undo.push(() => void socket.destroy());
    await within(once(socket, 'secureConnect'), 60_000, 'the handshake');
    await eventually(async () => (await this.thread.ask<number>('count')) > 0, { what: 'the channel' });
    return new SocketReader(socket);
  }

  tell<T = unknown>(command: string, order: Partial<ChannelOrder> = {}): Promise<T> {
    return this.thread.ask<T>(command, { channel: 0, ...order });
  }

  state(channel = 0): Promise<ChannelState> {
    return this.tell<ChannelState>('state', { channel });
  }

  /** Until the channel holds so much that it says so. */
  async congest(): Promise<number> {
    const text = 'z'.repeat(256 * 1024);
    let times = 0;
    for (; !(await this.tell<boolean>('write', { text })); times++) expect(times).toBeLessThan(200);
    return (times + 1) * text.length;
  }

  received(text: string): Promise<unknown> {
    return eventually(async () => (await this.state()).received === text, { what: `the channel to have got ${text}` });
  }
}

describe('a socket channel', () => {
  test('sends what one turn wrote to it in one system call', async () => {
    const host = await Host.start();
    const client = await host.dial();
    await host.tell('write', { text: 'head body ', times: 20 });
    expect((await client.read(200)).toString()).toBe('head body '.repeat(20));
    const state = await host.state();
    expect([state.writes, state.bytesWritten]).toEqual([1, 200]);
    client.destroy();
  });

  test('keeps the bytes of several channels apart, and each in order', async () => {
    const host = await Host.start();
    const clients = [await host.dial(), await host.dial(), await host.dial()];
    await host.tell('writeAll', { text: 'abc' });
    for (const client of clients) expect((await client.read(6)).toString()).toBe('abcabc');
    for (const client of clients) client.destroy();
  });

  test('keeps the order of small and large writes', async () => {
    const host = await Host.start();
    const client = await host.dial();
    let wanted = '';
    for (const length of [5, 40_000, 7, 200_000, 90_000, 3, 262_000, 1]) {
      const text = String.fromCharCode(97 + (length % 26)).repeat(length);
      wanted += text;
      await host.tell('write', { text });
    }
    expect((await client.read(wanted.length)).toString() === wanted).toBe(true);
    client.destroy();
  });

  test('delivers what was read before it was made, first and once', async () => {
    const host = await Host.start({ prefix: 'GET ' });
    const client = await host.dial();
    client.write('/ HTTP/1.1');
    await host.received('GET / HTTP/1.1');
    expect((await host.state()).bytesRead).toBe(14);
    client.destroy();
  });

  test('delivers nothing before there is a handler, and then everything', async () => {
    const host = await Host.start({ prefix: 'first ', attach: false });
    const client = await host.dial();
    client.write('second');
    await sleep(50);
    expect((await host.state()).received).toBe('');
    await host.tell('attach');
    await host.received('first second');
    client.destroy();
  });

  test('delivers nothing while it is paused, and does not spin beside a sender', async () => {
    const host = await Host.start();
    const client = await host.dial();
    client.write('a');
    await host.received('a');
    await host.tell('pause');
    client.write('b');
    await sleep(100);
    const { received, wakeups } = await host.state();
    expect(received).toBe('a');
    await sleep(200);
    expect((await host.state()).wakeups - wakeups).toBe(0);
    await host.tell('resume');
    await host.received('ab');
    client.destroy();
  });

  test('says that it is congested, and again when it is not; nothing is lost', async () => {
    const host = await Host.start();
    const client = await host.dial();
    client.socket.pause();
    const written = await host.congest();
    expect((await host.state()).events).toEqual([]);
    client.socket.resume();
    expect((await client.read(written)).equals(Buffer.alloc(written, 'z'))).toBe(true);
    await eventually(async () => (await host.state()).events.join() === 'drain', { what: 'the drain' });
    expect((await host.state()).congested).toBe(false);
    client.destroy();
  });

  test('breaks off with a writer that never looks at the congestion', async () => {
    const host = await Host.start();
    const client = await host.dial();
    client.socket.pause();
    await host.congest();
    await host.tell('write', { text: 'y'.repeat(256 * 1024), times: 5 });
    await eventually(async () => (await host.state()).events.at(-1)?.startsWith('closed: more is written') === true, {
      what: 'the end',
    });
    client.destroy();
  });

  test('carries half-close in both directions', async () => {
    const host = await Host.start();
    const client = await host.dial();
    client.write('question');
    client.end();
    await eventually(async () => (await host.state()).events.join() === 'end', { what: 'the end' });
    await host.tell('write', { text: 'answer' });
    await host.tell('end');
    expect((await client.readToEnd()).toString()).toBe('answer');
    await host.tell('finish');
  });

  test('sends its end after the bytes that wait', async () => {
    const host = await Host.start();
    const client = await host.dial();
    client.socket.pause();
    const written = await host.congest();
    await host.tell('end');
    client.socket.resume();
    expect((await client.readToEnd()).length).toBe(written);
    client.write('still heard');
    await host.received('still heard');
    await host.tell('finish');
  });

  test('tells of a reset, once', async () => {
    const host = await Host.start();
    const client = await host.dial();
    client.write('x');
    await host.received('x');
    client.socket.resetAndDestroy();
    await eventually(async () => (await host.state()).events.join() === 'closed: ECONNRESET', { what: 'the reset' });
    await host.tell('write', { text: 'into the void' });
    await host.tell('finish');
    expect((await host.state()).events).toEqual(['closed: ECONNRESET']);
  });

  test('delivers what the peer said before it refused our bytes', async () => {
    const host = await Host.start();
    const client = await host.dial();
    await host.tell('pause');
    client.write('413');
    await sleep(50);
    client.socket.resetAndDestroy();
    await sleep(50);
    // So large a write leaves at once, before the loop could look at the socket again.
    await host.tell('resumeAndWrite', { text: 'b'.repeat(40_000) });
    await eventually(async () => (await host.state()).events.length > 0, { what: 'the end' });
    expect((await host.state()).received).toBe('413');
  });

  test('aborts by a reset', async () => {
    const host = await Host.start();
    const client = await host.dial();
    await host.tell('write', { text: 'half of a respo' });
    await host.tell('abort');
    expect(await within(client.closed, 60_000, 'the end')).toBe('ECONNRESET');
    expect((await host.state()).events).toEqual([]);
  });

  test('ends alone where its handler fails, and tells the handler', async () => {
    const host = await Host.start({ mode: 'throw' });
    const [first, second] = [await host.dial(), await host.dial()];
    first.write('x');
    await within(first.closed, 60_000, 'the end');
    expect((await host.state(0)).events).toEqual(['closed: internal error']);
    expect((await host.state(1)).events).toEqual([]);
    expect(host.thread.faults.length).toBe(1);
    second.destroy();
  });
});

describe('a socket channel that is finished', () => {
  test('delivers what was written, then ends both directions', async () => {
    const host = await Host.start();
    const client = await host.dial();
    await host.tell('write', { text: 'bye' });
    await host.tell('finish');
    expect((await client.readToEnd()).toString()).toBe('bye');
    client.end();
    expect(await within(client.closed, 60_000, 'the end')).toBe(null);
  });

  test('delivers everything to a slow reader', async () => {
    const host = await Host.start();
    const client = await host.dial();
    client.socket.pause();
    const written = await host.congest();
    await host.tell('finish');
    await sleep(1_200);
    client.socket.resume();
    expect((await client.readToEnd()).length).toBe(written);
    client.end();
  });

  test('counts as undelivered until its reader has everything', async () => {
    const host = await Host.start();
    const client = await host.dial();
    client.socket.pause();
    await host.congest();
    expect(await host.tell('undelivered')).toBe(0);
    await host.tell('finish');
    expect(await host.tell('undelivered')).toBe(1);
    client.socket.resume();
    await client.readToEnd();
    expect(await host.tell('undelivered')).toBe(0);
    client.end();
  });

  test('counts as undelivered no more where its reader has gone', async () => {
    const host = await Host.start();
    const client = await host.dial();
    client.socket.pause();
    await host.congest();
    await host.tell('finish');
    client.socket.resetAndDestroy();
    await eventually(async () => (await host.tell('undelivered')) === 0, { what: 'it to be given up' });
  });

  test('lets a peer that is still sending read the answer', async () => {
    const host = await Host.start();
    const client = await host.dial();
    client.write(Buffer.alloc(20_000));
    await eventually(async () => (await host.state()).bytesRead === 20_000, { what: 'the request' });
    await host.tell('write', { text: 'enough' });
    await host.tell('finish');
    client.write(Buffer.alloc(20_000));
    expect((await client.readToEnd()).toString()).toBe('enough');
    client.end();
    expect(await within(client.closed, 60_000, 'the end')).toBe(null);
  });

  test('does not listen to a peer that sends on and on', async () => {
    const host = await Host.start();
    const client = await host.dial();
    await host.tell('finish');
    const flood = setInterval(() => client.write(Buffer.alloc(60_000)), 1);
    expect(await within(client.closed, 60_000, 'the end')).not.toBe(null);
    clearInterval(flood);
    expect((await host.state()).reads).toBeLessThan(10);
  });

  test('does not wait for a peer that never ends', async () => {
    const host = await Host.start();
    const client = await host.dial();
    await host.tell('finish');
    await client.readToEnd();
    await eventually(() => host.thread.descriptors === host.idle, { what: 'the descriptor to be given back' });
    expect(client.isClosed).toBe(false);
  });
});

describe('a socket channel over TLS', () => {
  test('carries bytes both ways, and close_notify as the end', async () => {
    const host = await Host.start({ tls: true, mode: 'echo' });
    const client = await host.dialTls();
    const sent = randomBytes(3_000_000);
    client.write(sent);
    client.end();
    expect((await client.readToEnd()).equals(sent)).toBe(true);
  });

  test('delivers what a pause left in OpenSSL, where epoll cannot see it', async () => {
    const host = await Host.start({ tls: true, mode: 'sip' });
    const client = await host.dialTls();
    client.write('x');
    await host.received('x');
    // One read takes fifty records; OpenSSL has taken the others from the socket with them.
    for (let i = 0; i < 55; i++) client.write('p'.repeat(1_000));
    // What a socket of this machine has sent is in the other's buffer.
    await eventually(() => client.socket.writableLength === 0, { what: 'all records to have been sent' });
    await host.tell('resume');
    await eventually(async () => (await host.state()).received.length > 1, { what: 'a piece' });
    expect((await host.state()).received.length).toBeLessThan(55_001);
    await host.tell('resume');
    await host.received(`x${'p'.repeat(55_000)}`);
    client.destroy();
  });

  test('does not spin while half a record has come', async () => {
    const host = await Host.start({ tls: true });
    let holding = false;
    const rests: Buffer[] = [];
    const path = await App.start((socket) => {
      const on = connectTcp(host.entry.port, host.entry.address);
      on.pipe(socket);
      socket.on('data', (chunk: Buffer) => {
        on.write(holding ? chunk.subarray(0, chunk.length - 10) : chunk);
        if (holding) rests.push(chunk.subarray(chunk.length - 10));
      });
      socket.on('rest', () => void on.write(Buffer.concat(rests)));
    });
    undo.push(() => path.close());
    const client = await host.dialTls(path);
    client.write('whole');
    await host.received('whole');
    holding = true;
    const before = await host.state();
    client.write(' and half');
    await eventually(() => rests.length === 1, { what: 'half a record to be on its way' });
    await eventually(async () => (await host.state()).reads > before.reads, { what: 'half a record to be read' });
    await sleep(100);
    const { reads } = await host.state();
    await sleep(200);
    expect((await host.state()).reads).toBe(reads);
    for (const socket of path.sockets) socket.emit('rest');
    await host.received('whole and half');
    client.destroy();
  });

  test('tells of a connection that was cut without close_notify', async () => {
    const host = await Host.start({ tls: true });
    const client = await host.dialTls();
    client.write('x');
    await host.received('x');
    client.destroy();
    await eventually(async () => (await host.state()).events[0]?.startsWith('closed: ') === true, { what: 'the cut' });
  });
});
