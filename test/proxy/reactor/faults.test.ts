import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { afterEach, expect, test } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { foreignAuthority } from '../../support/forge.ts';
import { LoopbackBlock } from '../../support/loopback.ts';
import type { FaultHostStart } from '../support/fault-host.ts';
import { LoopThread } from '../support/loop-thread.ts';
import { materialOf } from '../support/tunnel-pair.ts';

const undo: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const HTTP = 'GET / HTTP/1.1\r\n\r\n';

async function start(step: FaultHostStart['step']): Promise<{ thread: LoopThread; call(): void; idle: number }> {
  const block = await LoopbackBlock.take();
  undo.push(() => block.release());
  const listen = { address: block.address(), port: 7_000 };
  const signer = foreignAuthority();
  const uri = 'spiffe://cluster.local/ns/shop/sa/orders';
  const given: FaultHostStart = { listen, material: materialOf(signer, uri), step };
  const thread = await LoopThread.start(new URL('../support/fault-host.ts', import.meta.url), given);
  undo.push(async () => {
    await thread.ask('destroy');
    expect(await thread.stop()).toBe(0);
  });
  const client = materialOf(signer, uri);
  const options = { cert: client.chain, key: client.privateKey, ca: signer.root, ALPNProtocols: ['h2'] };
  const call = (): void => {
    const at = { host: listen.address, port: listen.port };
    const secure = step === 'handshake' || step === 'sniff within TLS';
    const socket = secure ? connectTls({ ...at, ...options, checkServerIdentity: () => undefined }) : connectTcp(at);
    socket.on('error', () => undefined).write(HTTP);
    undo.push(() => socket.destroy());
  };
  return { thread, call, idle: thread.descriptors };
}

test.each<FaultHostStart['step']>(['peek', 'sniff', 'dial', 'handshake', 'sniff within TLS'])(
  'an exception after %s is reported once, and leaves no descriptor behind',
  async (step) => {
    const { thread, call, idle } = await start(step);
    call();
    await eventually(() => thread.faults.length > 0, { what: 'the report' });
    await eventually(() => thread.descriptors === idle, { what: 'the descriptor to be closed' });
    expect(thread.faults.map((stack) => stack.split('\n')[0])).toEqual([`Error: fault after ${step}`]);
  },
);

test('a handshake that there is no memory for fails as every other', async () => {
  const { thread, call, idle } = await start('no memory for TLS');
  call();
  await eventually(async () => (await thread.ask<string[]>('failures')).length === 1, { what: 'the failure' });
  await eventually(() => thread.descriptors === idle, { what: 'the descriptor to be closed' });
  expect(await thread.ask<string[]>('failures')).toEqual([expect.stringMatching(/^SSL_new: /)]);
  expect(thread.faults).toEqual([]);
});
