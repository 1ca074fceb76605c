import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type App, Client, echoApp, type TcpAddress } from '../../support/apps.ts';
import { eventually } from '../../support/eventually.ts';
import { LoopbackBlock } from '../../support/loopback.ts';
import { LoopThread } from '../support/loop-thread.ts';
import type { PeekHostStart } from '../support/peek-host.ts';

let block: LoopbackBlock;
let echo: App;
const threads: LoopThread[] = [];

beforeAll(async () => {
  block = await LoopbackBlock.take();
  echo = await echoApp();
});
afterAll(async () => {
  for (const thread of threads) {
    await thread.ask('destroy');
    expect(await thread.stop()).toBe(0);
    expect(thread.faults).toEqual([]);
  }
  await echo?.close();
  block?.release();
});

async function peeking(timeoutMs: number): Promise<{ entry: TcpAddress; seen: () => Promise<string> }> {
  const listen = { address: block.address(), port: 15_006 };
  const start: PeekHostStart = { listen, to: echo, timeoutMs };
  const thread = await LoopThread.start(new URL('../support/peek-host.ts', import.meta.url), start);
  threads.push(thread);
  const seen = async (): Promise<string> => {
    const [first] = await eventually(
      async () => {
        const all = await thread.ask<string[]>('seen');
        return all.length > 0 ? all : null;
      },
      { what: 'an answer' },
    );
    return first ?? '';
  };
  return { entry: listen, seen };
}

/** Long enough that no test ends by it. */
const NEVER = 600_000;

test('plaintext is told by its first byte and then carried whole, the looked-at bytes included', async () => {
  const { entry, seen } = await peeking(NEVER);
  const client = await Client.dial(entry);
  client.write('GET / HTTP/1.1\r\n\r\n');
  expect((await client.read(18)).toString()).toBe('GET / HTTP/1.1\r\n\r\n');
  expect(await seen()).toBe('plaintext');
  client.write('and more');
  client.end();
  expect((await client.readToEnd()).toString()).toBe('and more');
});

test('a hello that comes in pieces is waited for, piece by piece', async () => {
  const { entry, seen } = await peeking(NEVER);
  const client = await Client.dial(entry);
  // A record of handshake type, TLS 1.0, 6 bytes: ClientHello of an impossible body.
  for (const byte of [22, 3, 1, 0, 6, 1, 0, 0, 2, 3]) {
    client.write(Buffer.of(byte));
    await sleep(5);
  }
  client.write(Buffer.of(3));
  expect(await seen()).toMatch(/^malformed: /);
  client.destroy();
});

test.each([
  ['silence', '', 'silent'],
  ['half a hello', '\u0016\u0003\u0001', 'malformed: the hello did not come in time'],
])('%s is told at the deadline', async (_, bytes, wanted) => {
  const { entry, seen } = await peeking(100);
  const client = await Client.dial(entry);
  if (bytes !== '') client.write(Buffer.from(bytes, 'latin1'));
  expect(await seen()).toBe(wanted);
  client.destroy();
});

test('a client that ends without a byte is told at once', async () => {
  const { entry, seen } = await peeking(NEVER);
  const client = await Client.dial(entry);
  client.end();
  expect(await seen()).toBe('ended');
});

test('a client that resets without a byte is told at once, and not taken for a silent one', async () => {
  const { entry, seen } = await peeking(NEVER);
  const client = await Client.dial(entry);
  await sleep(50);
  client.socket.resetAndDestroy();
  expect(await seen()).toBe('ended');
});
