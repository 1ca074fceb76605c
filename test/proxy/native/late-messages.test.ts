import { afterEach, test } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { foreignAuthority } from '../../support/forge.ts';
import { LoopbackBlock } from '../../support/loopback.ts';
import { DataPlaneThread, meshConfig, TUNNEL_PORT, trustBundle } from '../support/data-plane.ts';
import { RawTls } from '../support/raw-tls.ts';
import { materialOf } from '../support/tunnel-pair.ts';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0', 'latin1');
const FRONTEND = 'spiffe://cluster.local/ns/shop/sa/frontend';

const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

async function peer(): Promise<{ plane: DataPlaneThread; client: RawTls }> {
  const signer = foreignAuthority();
  const block = await LoopbackBlock.take();
  undo.push(() => block.release());
  const address = block.address();
  const plane = await DataPlaneThread.start({ name: 'orders', address });
  undo.push(() => plane.stop());
  plane.identify(signer);
  await plane.push(meshConfig(), trustBundle(signer), plane.workload);
  const client = await RawTls.connect({ address, port: TUNNEL_PORT }, materialOf(signer, FRONTEND), 'h2');
  undo.push(() => client.close());
  return { plane, client };
}

test('a peer that renews its keys now and then is heard', async () => {
  const { client } = await peer();
  client.updateKeys(50);
  client.write(PREFACE);
  // Our SETTINGS, and the acknowledgement of its own.
  await eventually(() => client.received.includes('\0\0\0\x04\x01\0\0\0\0'), { what: 'the acknowledgement' });
});

test('a peer that does nothing but renew its keys is cut off, since all others wait meanwhile', async () => {
  const { plane, client } = await peer();
  client.updateKeys(5_000);
  await eventually(() => client.socket.closed, { what: 'the end' });
  const flood = (message: DataPlaneThread['messages'][number]): boolean =>
    JSON.stringify(message).includes('a flood of handshake messages');
  await eventually(() => plane.messages.some(flood), { what: 'the line that says why' });
});
