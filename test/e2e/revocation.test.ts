import { X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type App, Client, echoApp, isAllowed, type TcpAddress } from '../support/apps.ts';
import { eventually } from '../support/eventually.ts';
import { RawHttp2 } from '../support/http2-raw.ts';
import { Mesh, serviceManifest } from '../support/mesh.ts';

const ORDERS = 'orders.shop:8080';
let app: App;
let mesh: Mesh;
const orders = (caller: string): TcpAddress => mesh.workload(caller).upstream(ORDERS);

async function revoke(...args: string[]): Promise<void> {
  const done = await mesh.postern('revoke', ...args, '--data-dir', mesh.dataDir);
  expect(done, done.stderr).toMatchObject({ code: 0 });
}

async function live(caller: string): Promise<Client> {
  const client = await Client.dial(orders(caller));
  client.write('live');
  await client.read(4);
  return client;
}

beforeAll(async () => {
  app = await echoApp();
  mesh = await Mesh.start({
    manifests: { 'orders.yaml': serviceManifest('orders', 8080) },
    workloads: [
      { name: 'orders', expose: [{ port: 8080, application: app }] },
      { name: 'frontend', upstreams: [ORDERS] },
      { name: 'payments', upstreams: [ORDERS] },
    ],
  });
  for (const name of ['frontend', 'payments']) {
    await eventually(() => isAllowed(orders(name)), { what: `${name} to reach orders` });
  }
});

afterAll(async () => {
  await mesh?.stop();
  await app?.close();
});

test('revoking an identity cuts its live connections and refuses new ones; others go on; undoing it lets it in again', async () => {
  const cut = await live('frontend');
  const kept = await live('payments');
  await revoke(mesh.workload('frontend').spiffeId);
  await cut.over();
  kept.write('still');
  expect((await kept.read(5)).toString()).toBe('still');
  expect(await isAllowed(orders('frontend'))).toBe(false);
  cut.destroy();
  kept.destroy();
  await revoke(mesh.workload('frontend').spiffeId, '--undo');
  await eventually(() => isAllowed(orders('frontend')), {
    what: 'the identity to be trusted again',
  });
});

test('revoking a serial number cuts the connections of that certificate alone', async () => {
  const credentials = await mesh.realCertificate('frontend');
  const { address, port } = mesh.workload('orders').tunnel;
  const client = await RawHttp2.connect({ ...credentials, host: address, port, ca: mesh.roots() });
  client.sendConnect(1, `${address}:8080`);
  expect(await client.connectStatus(1)).toBe('200');
  const kept = await live('frontend');
  await revoke(new X509Certificate(credentials.cert).serialNumber);
  await client.closed;
  kept.write('still');
  expect((await kept.read(5)).toString()).toBe('still');
  kept.destroy();
  const again = RawHttp2.connect({ ...credentials, host: address, port, ca: mesh.roots() }).then(async (second) => {
    second.sendConnect(1, `${address}:8080`);
    return await second.connectStatus(1);
  });
  await expect(again).rejects.toThrow();
});
