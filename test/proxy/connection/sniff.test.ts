import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { SniffResult } from '../../../proxy/connection/sniff.ts';
import { type App, echoApp, type TcpAddress } from '../../support/apps.ts';
import { eventually, within } from '../../support/eventually.ts';
import { foreignAuthority, issueLeaf } from '../../support/forge.ts';
import { LoopbackBlock } from '../../support/loopback.ts';
import { LoopThread } from '../support/loop-thread.ts';
import type { SniffHostStart } from '../support/sniff-host.ts';
import { materialOf } from '../support/tunnel-pair.ts';

/** Long enough that no test ends by it. */
const NEVER = 600_000;
const ID = 'spiffe://cluster.local/ns/shop/sa/orders';

let block: LoopbackBlock;
let echo: App;
const signer = foreignAuthority();
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

interface Sniffing {
  readonly entry: TcpAddress;
  /** The first result. */
  result(): Promise<SniffResult>;
}

async function sniffing(how: 'plain' | 'tls', timeoutMs: number): Promise<Sniffing> {
  const entry = { address: block.address(), port: 15_006 };
  const material = how === 'plain' ? null : materialOf(signer, ID);
  const start: SniffHostStart = { listen: entry, to: { address: echo.address, port: echo.port }, material, timeoutMs };
  const thread = await LoopThread.start(new URL('../support/sniff-host.ts', import.meta.url), start);
  threads.push(thread);
  const result = (): Promise<SniffResult> =>
    eventually(async () => (await thread.ask<SniffResult[]>('seen'))[0] ?? null, {
      what: 'an answer',
    });
  return { entry, result };
}

async function dial(how: 'plain' | 'tls', { address, port }: TcpAddress): Promise<Duplex> {
  if (how === 'plain') {
    const plain = connectTcp({ host: address, port, allowHalfOpen: true, noDelay: true });
    await within(once(plain, 'connect'), 60_000, 'the connection');
    return plain;
  }
  const identity = issueLeaf(signer, { uris: ['spiffe://cluster.local/ns/shop/sa/frontend'] });
  const options = { ...identity, rejectUnauthorized: false, ALPNProtocols: ['istio'] };
  const socket = connectTls({ host: address, port, ...options });
  await within(once(socket, 'secureConnect'), 60_000, 'the handshake');
  return socket;
}

async function readBack(stream: Duplex, length: number): Promise<string> {
  let text = '';
  const whole = (async () => {
    for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
      text += (chunk as Buffer).toString('latin1');
      if (text.length >= length) return;
    }
  })();
  await within(whole, 60_000, `${length} bytes`);
  return text;
}

/** First bytes in pieces, and what they are. */
const TABLE: readonly (readonly [what: string, pieces: readonly string[], result: SniffResult])[] = [
  ['a request', ['GET / HTTP/1.1\r\n'], 'http/1'],
  ['a request in pieces', ['PO', 'ST /a?b HT', 'TP/1.0\r', '\n'], 'http/1'],
  ['the preface of HTTP/2', ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'], 'h2'],
  ['the preface in pieces', ['PRI * HT', 'TP/2.0\r\n', '\r\nSM'], 'h2'],
  ['a word in capitals', ['QUIT\r\n'], 'opaque'],
  ['a line that only begins like a request', ['GET the kettle\r\n'], 'opaque'],
  ['HTTP/0.9', ['GET /\r\n'], 'opaque'],
  ['bytes that are no text', ['\x00\x00\x00\x08'], 'opaque'],
];

for (const how of ['plain', 'tls'] as const) {
  describe(`the first bytes of a connection (${how})`, () => {
    test.each(TABLE)('are known: %s', async (_, pieces, expected) => {
      const { entry, result } = await sniffing(how, NEVER);
      const socket = await dial(how, entry);
      for (const piece of pieces) {
        socket.write(piece, 'latin1');
        await sleep(15);
      }
      expect(await result()).toBe(expected);
      socket.write('and more');
      const all = `${pieces.join('')}and more`;
      expect(await readBack(socket, all.length)).toBe(all);
      socket.destroy();
    });

    test('are opaque where they are not complete at the deadline, and none is lost', async () => {
      const { entry, result } = await sniffing(how, 100);
      const socket = await dial(how, entry);
      socket.write('GET /');
      expect(await result()).toBe('opaque');
      expect(await readBack(socket, 5)).toBe('GET /');
      socket.destroy();
    });

    test('are silence where none comes in time, and the connection goes on', async () => {
      const { entry, result } = await sniffing(how, 50);
      const socket = await dial(how, entry);
      expect(await result()).toBe('silent');
      socket.write('late');
      expect(await readBack(socket, 4)).toBe('late');
      socket.destroy();
    });

    test('are none where the client only ends', async () => {
      const { entry, result } = await sniffing(how, NEVER);
      const socket = await dial(how, entry);
      socket.end();
      expect(await result()).toBe('ended');
      socket.destroy();
    });

    test('are opaque where the client ends in the middle', async () => {
      const { entry, result } = await sniffing(how, NEVER);
      const socket = await dial(how, entry);
      socket.end('GET /');
      expect(await result()).toBe('opaque');
      expect(await readBack(socket, 5)).toBe('GET /');
      socket.destroy();
    });
  });
}
