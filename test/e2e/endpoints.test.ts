import { once } from 'node:events';
import { createServer } from 'node:net';
import { createServer as createTlsServer, type Server } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { App, Client, echoApp, isAllowed, ping, type TcpAddress } from '../support/apps.ts';
import { eventually } from '../support/eventually.ts';
import { FakeSidecar } from '../support/fake-sidecar.ts';
import { issueLeaf, meshAuthority } from '../support/forge.ts';
import { Mesh, peerAuthenticationManifest, serviceManifest } from '../support/mesh.ts';

const ORDERS = 'orders.shop:8080';
const LEGACY = 'legacy.shop:9000';
const named = (name: string): Promise<App> => App.start((socket) => socket.end(name));

let one: App;
let two: App;
let legacy: App;
let mesh: Mesh;
const frontend = (service: string): TcpAddress => mesh.workload('frontend').upstream(service);

/** How many of `count` connections each endpoint answered. */
async function answers(count: number): Promise<{ readonly [name: string]: number }> {
  const counts: { [name: string]: number } = {};
  for (let i = 0; i < count; i++) {
    const client = await Client.dial(frontend(ORDERS));
    client.write('?');
    const name = (await client.readToEnd()).toString();
    client.destroy();
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

beforeAll(async () => {
  one = await named('one');
  two = await named('two');
  legacy = await echoApp();
  const orders = { serviceAccount: 'orders', labels: { app: 'orders' } };
  const entry = {
    apiVersion: 'networking.istio.io/v1',
    kind: 'WorkloadEntry',
    metadata: { name: 'legacy-1', namespace: 'shop' },
    spec: { address: '127.0.0.1', labels: { app: 'legacy' }, ports: { tcp: legacy.port } },
  };
  mesh = await Mesh.start({
    manifests: {
      'orders.yaml': serviceManifest('orders', 8080),
      'legacy.yaml': serviceManifest('legacy', 9000),
      'entry.yaml': JSON.stringify(entry),
    },
    workloads: [
      { name: 'orders-1', ...orders, expose: [{ port: 8080, application: one }] },
      { name: 'orders-2', ...orders, expose: [{ port: 8080, application: two }] },
      { name: 'frontend', upstreams: [ORDERS, LEGACY] },
    ],
  });
  await eventually(async () => Object.keys(await answers(10)).length === 2, { what: 'both endpoints to answer' });
});

afterAll(async () => {
  await mesh?.stop();
  for (const app of [one, two, legacy]) await app?.close();
});

describe('the endpoints of a service', () => {
  test('share its connections', async () => {
    const counts = await answers(100);
    expect(Math.min(counts.one ?? 0, counts.two ?? 0)).toBeGreaterThan(15);
  });

  test('that refuse are skipped: no connection fails while one is gone, before the registry knows', async () => {
    await mesh.workload('orders-2').kill('SIGKILL');
    expect(await answers(50)).toEqual({ one: 50 });
  });

  test('that come back are used again', async () => {
    await mesh.startSidecar('orders-2', { newToken: true });
    await eventually(async () => (await answers(10)).two !== undefined, {
      what: 'the second endpoint',
    });
  });
});

test('a workload without a sidecar is reached in plaintext', async () => {
  await eventually(() => isAllowed(frontend(LEGACY)), { what: 'the WorkloadEntry to be an endpoint' });
  await ping(frontend(LEGACY));
});

test('a workload whose mode is DISABLE is called in plaintext, at its own address', async () => {
  const address = mesh.newAddress();
  let direct = 0;
  const plain = createServer((socket) => {
    direct++;
    socket.on('error', () => undefined);
    socket.pipe(socket);
  });
  plain.listen(8080, address);
  await once(plain, 'listening');
  mesh.editManifest('plain.yaml', serviceManifest('plain', 8080));
  mesh.editManifest('plain-mode.yaml', peerAuthenticationManifest('plain', 'plain', 'DISABLE'));
  const fake = await FakeSidecar.register(mesh, 'plain', address, { address, port: 15_008 });
  const caller = await mesh.addWorkload({ name: 'caller', upstreams: ['plain.shop:8080'] });
  await eventually(() => isAllowed(caller.upstream('plain.shop:8080')), { what: 'the plaintext call' });
  expect(direct).toBeGreaterThan(0);
  fake.close();
  plain.close();
});

describe('an endpoint that is an Istio sidecar', () => {
  const uri = 'spiffe://cluster.local/ns/shop/sa/bookinfo';
  let server: Server;
  let address: string;
  const peers: string[] = [];

  beforeAll(async () => {
    address = mesh.newAddress();
    const authority = meshAuthority(mesh.dataDir);
    const tls = { requestCert: true, rejectUnauthorized: true, ca: authority.root, ALPNProtocols: ['istio'] };
    server = createTlsServer({ ...issueLeaf(authority, { uris: [uri] }), ...tls, minVersion: 'TLSv1.3' });
    server.on('secureConnection', (socket) => {
      peers.push(`${socket.alpnProtocol} ${socket.getPeerCertificate().subjectaltname}`);
      socket.on('error', () => undefined);
      socket.pipe(socket);
    });
    server.on('tlsClientError', () => undefined);
    server.listen(9080, address);
    await once(server, 'listening');
    mesh.editManifest('bookinfo.yaml', serviceManifest('bookinfo', 9080));
    editEntry('bookinfo');
    await mesh.addWorkload({ name: 'reader', upstreams: ['bookinfo.shop:9080'] });
  });

  afterAll(() => {
    server?.close();
  });

  function editEntry(serviceAccount: string): void {
    const labels = { app: 'bookinfo', 'security.istio.io/tlsMode': 'istio' };
    const spec = { address, labels, serviceAccount, ports: { tcp: 9080 } };
    const metadata = { name: 'bookinfo-1', namespace: 'shop' };
    mesh.editManifest(
      'bookinfo-entry.yaml',
      JSON.stringify({ apiVersion: 'networking.istio.io/v1', kind: 'WorkloadEntry', metadata, spec }),
    );
  }

  test('is called by direct mutual TLS with ALPN istio and our identity', async () => {
    const bookinfo = mesh.workload('reader').upstream('bookinfo.shop:9080');
    await eventually(() => isAllowed(bookinfo), { what: 'the Istio sidecar to be reached' });
    await ping(bookinfo);
    expect(peers.at(-1)).toBe('istio URI:spiffe://cluster.local/ns/shop/sa/reader');
  });

  test('is not spoken to where it is not who the registry says', async () => {
    const bookinfo = mesh.workload('reader').upstream('bookinfo.shop:9080');
    editEntry('somebody-else');
    await eventually(async () => !(await isAllowed(bookinfo)), { what: 'the new expectation to arrive' });
    editEntry('bookinfo');
    await eventually(() => isAllowed(bookinfo), { what: 'the right expectation to arrive' });
  });
});
