import { once } from 'node:events';
import {
  createSecureServer,
  type Http2SecureServer,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { createServer } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type App, Client, echoApp, isAllowed, type TcpAddress } from '../support/apps.ts';
import { eventually, within } from '../support/eventually.ts';
import { FakeSidecar } from '../support/fake-sidecar.ts';
import {
  type Credentials,
  issueLeaf,
  meshAuthority,
  type Signer,
  WRONG_KINDS,
  wrongCertificates,
} from '../support/forge.ts';
import { RawHttp2 } from '../support/http2-raw.ts';
import { Mesh, serviceManifest } from '../support/mesh.ts';

const ORDERS = 'orders.shop:8080';
let app: App;
let mesh: Mesh;
let authority: Signer;
const orders = (): TcpAddress => mesh.workload('frontend').upstream(ORDERS);

beforeAll(async () => {
  app = await echoApp();
  mesh = await Mesh.start({
    manifests: {
      'orders.yaml': serviceManifest('orders', 8080),
      'impostor.yaml': serviceManifest('impostor', 8080),
    },
    workloads: [
      { name: 'orders', expose: [{ port: 8080, application: app }], config: { limits: { handshakeTimeout: '2s' } } },
      { name: 'frontend', upstreams: [ORDERS, 'impostor.shop:8080'] },
    ],
  });
  authority = meshAuthority(mesh.dataDir);
  await eventually(() => isAllowed(orders()), { what: 'the mesh to work' });
});

afterAll(async () => {
  await mesh?.stop();
  await app?.close();
});

/** Whether a client with these credentials gets as far as an answer to CONNECT. */
async function getsThrough(credentials: Partial<Credentials>): Promise<boolean> {
  const { address, port } = mesh.workload('orders').tunnel;
  const cert = credentials.cert ?? '';
  const key = credentials.key ?? '';
  const tls = cert === '' ? { cert: undefined as never, key: undefined as never } : {};
  try {
    const client = await RawHttp2.connect({ cert, key, host: address, port, ca: mesh.roots(), tls });
    client.sendConnect(1, `${address}:8080`);
    try {
      await client.connectStatus(1);
      return true;
    } finally {
      client.destroy();
    }
  } catch (error) {
    if (error instanceof Error && error.message.startsWith('waited')) throw error;
    return false;
  }
}

describe('a client whose certificate is', () => {
  test('right gets through', async () => {
    const uris = ['spiffe://cluster.local/ns/shop/sa/forged'];
    expect(await getsThrough(issueLeaf(authority, { uris }))).toBe(true);
  });

  test.each(WRONG_KINDS)('%s does not, and the failure is counted', async (kind) => {
    const failures = async (): Promise<number> =>
      (await mesh.workload('orders').metrics()).sum('postern_handshake_failures_total', { direction: 'inbound' });
    const before = await failures();
    const credentials = wrongCertificates(authority, 'spiffe://cluster.local/ns/shop/sa/forged')[kind];
    expect(await getsThrough(credentials)).toBe(false);
    await eventually(async () => (await failures()) > before, { what: 'the failure to be counted' });
    expect(await isAllowed(orders())).toBe(true);
  });

  test('missing does not', async () => {
    expect(await getsThrough({})).toBe(false);
  });

  test('shown over TLS 1.2 does not', async () => {
    const { address, port } = mesh.workload('orders').tunnel;
    const credentials = issueLeaf(authority, { uris: ['spiffe://cluster.local/ns/shop/sa/forged'] });
    const socket = connectTls({
      ...credentials,
      host: address,
      port,
      rejectUnauthorized: false,
      maxVersion: 'TLSv1.2',
      ALPNProtocols: ['h2'],
    });
    await expect(within(once(socket, 'secureConnect'), 60_000, 'the handshake')).rejects.toThrow(
      /protocol version|alert|ECONNRESET|disconnected/i,
    );
  });
});

describe('a server whose certificate is', () => {
  let server: Http2SecureServer;
  let fake: FakeSidecar;
  const sessions = new Set<ServerHttp2Session>();
  let requests = 0;
  const impostor = (): TcpAddress => mesh.workload('frontend').upstream('impostor.shop:8080');

  beforeAll(async () => {
    const address = mesh.newAddress();
    const right = issueLeaf(authority, { uris: ['spiffe://cluster.local/ns/shop/sa/impostor'] });
    server = createSecureServer({ ...right, requestCert: true, rejectUnauthorized: false, minVersion: 'TLSv1.3' });
    server.on('stream', (stream: ServerHttp2Stream) => {
      requests++;
      stream.on('error', () => undefined);
      stream.respond({ ':status': 200 });
      stream.pipe(stream);
    });
    server.on('session', (session) => {
      sessions.add(session);
      session.on('close', () => sessions.delete(session));
      session.on('error', () => undefined);
    });
    server.on('tlsClientError', () => undefined);
    server.listen(15_008, address);
    await once(server, 'listening');
    fake = await FakeSidecar.register(mesh, 'impostor', address, { address, port: 15_008 });
    await eventually(() => isAllowed(impostor()), { what: 'the impostor to be an endpoint' });
  });

  afterAll(() => {
    fake?.close();
    server?.close();
  });

  /** Tunnels that are open go with the certificate they were opened with. */
  function show(credentials: Credentials): void {
    server.setSecureContext(credentials);
    for (const session of sessions) session.destroy();
  }

  test.each([...WRONG_KINDS, 'of another identity of the mesh'] as const)(
    '%s gets no byte of the application',
    async (kind) => {
      const wrong: Readonly<Record<typeof kind, Credentials>> = {
        ...wrongCertificates(authority, 'spiffe://cluster.local/ns/shop/sa/impostor'),
        'of another identity of the mesh': issueLeaf(authority, { uris: ['spiffe://cluster.local/ns/shop/sa/orders'] }),
      };
      show(wrong[kind]);
      const before = requests;
      expect(await isAllowed(impostor())).toBe(false);
      expect(requests).toBe(before);
      show(issueLeaf(authority, { uris: ['spiffe://cluster.local/ns/shop/sa/impostor'] }));
      await eventually(() => isAllowed(impostor()), { what: 'the right certificate to be taken again' });
    },
  );
});

describe('a ClientHello that is', () => {
  const hello = async (): Promise<Buffer> => {
    const chunks: Buffer[] = [];
    const relay = createServer((socket) => socket.on('data', (chunk: Buffer) => chunks.push(chunk)));
    relay.listen(0, '127.0.0.1');
    await once(relay, 'listening');
    const bound = relay.address();
    const socket: TLSSocket = connectTls({
      host: '127.0.0.1',
      port: typeof bound === 'object' ? (bound?.port ?? 0) : 0,
      ALPNProtocols: ['h2'],
    });
    socket.on('error', () => undefined);
    await eventually(() => Buffer.concat(chunks).length > 100, { what: 'a ClientHello' });
    socket.destroy();
    relay.close();
    return Buffer.concat(chunks);
  };

  const cases: readonly (readonly [string, (hello: Buffer) => Buffer])[] = [
    ['garbage', () => Buffer.alloc(4_096, 0xa5)],
    ['plaintext HTTP', () => Buffer.from('GET / HTTP/1.1\r\nhost: a\r\n\r\n')],
    ['half', (whole) => whole.subarray(0, whole.length / 2)],
    ['one byte', (whole) => whole.subarray(0, 1)],
    ['a record header without a body', (whole) => whole.subarray(0, 5)],
    [
      'larger than a record may be',
      (whole) => Buffer.concat([Buffer.from([0x16, 3, 1, 0xff, 0xff]), whole, Buffer.alloc(70_000)]),
    ],
    [
      'a hello of 16 MB by its own word',
      () => Buffer.concat([Buffer.from([0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff]), Buffer.alloc(16_380)]),
    ],
    ['followed by garbage', (whole) => Buffer.concat([whole, Buffer.alloc(2_000, 0xff)])],
    ['nothing at all', () => Buffer.alloc(0)],
  ];

  test.each(
    cases.flatMap(([name, bytes]) => [
      [name, 'the tunnel', 15_008, bytes] as const,
      [name, 'the redirected', 15_006, bytes] as const,
    ]),
  )('%s at %s port is closed in time', async (_, __, port, bytes) => {
    const client = await Client.dial({ address: mesh.workload('orders').address, port }).catch(() => null);
    if (client !== null) {
      client.write(bytes(await hello()));
      await client.over();
      client.destroy();
    }
    expect(await isAllowed(orders())).toBe(true);
  });
});

test('a redirected port that is dialled itself is refused, not looped', async () => {
  expect(await isAllowed({ address: mesh.workload('frontend').address, port: 15_001 })).toBe(false);
  expect(await isAllowed({ address: mesh.workload('orders').address, port: 15_006 })).toBe(false);
  expect(mesh.workload('frontend').process.alive).toBe(true);
});
