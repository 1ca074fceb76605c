import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { createSecureServer, type ServerHttp2Stream } from 'node:http2';
import { expect, test } from 'vitest';
import { App, Client, echoApp, ping } from './apps.ts';
import { foreignAuthority, issueLeaf, type Signer, selfSigned, type WrongKind, wrongCertificates } from './forge.ts';
import { FLAG, RawHttp2, TYPE } from './http2-raw.ts';
import { Metrics } from './prometheus.ts';

const id = 'spiffe://cluster.local/ns/shop/sa/orders';
const first = (pem: string): X509Certificate => new X509Certificate(pem);

/** A signer below another, as the mesh's intermediate is below its root. */
const authority: Signer = foreignAuthority();

test('a forged leaf is a certificate that verifies, with the SAN that was asked for', () => {
  const leaf = first(issueLeaf(authority, { uris: [id] }).cert);
  const root = first(authority.root);
  expect(leaf.subjectAltName).toBe(`URI:${id}`);
  expect(leaf.ca).toBe(false);
  expect(leaf.checkIssued(root)).toBe(true);
  expect(leaf.verify(root.publicKey)).toBe(true);
  expect(root.ca).toBe(true);
});

test('each wrong certificate is wrong in what its name says', () => {
  const wrong = wrongCertificates(authority, id);
  const san = (kind: WrongKind): string | undefined => first(wrong[kind].cert).subjectAltName;
  expect(san('of another trust domain')).toBe('URI:spiffe://evil.example/ns/shop/sa/orders');
  expect(san('with two URI SANs')).toBe(`URI:${id}, URI:${id}-2`);
  expect(san('without a SAN')).toBeUndefined();
  expect(first(wrong['that is a CA'].cert).ca).toBe(true);
  expect(first(wrong.expired.cert).validToDate.getTime()).toBeLessThan(Date.now());
  expect(first(wrong['not yet valid'].cert).validFromDate.getTime()).toBeGreaterThan(Date.now());
  expect(first(wrong['of a foreign CA'].cert).verify(first(authority.root).publicKey)).toBe(false);
  expect(first(wrong['for another use'].cert).keyUsage).toEqual(['1.3.6.1.5.5.7.3.3']);
  const own = first(selfSigned({ uris: [id] }).cert);
  expect(own.verify(own.publicKey)).toBe(true);
});

test('hand-made frames open a CONNECT stream at a real HTTP/2 server, and its answer is read', async () => {
  const server = createSecureServer(issueLeaf(authority, { uris: [id] }));
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    stream.respond({ ':status': headers[':authority'] === '10.0.0.1:80' ? 200 : 403 });
    stream.pipe(stream);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const bound = server.address();
  const port = typeof bound === 'object' ? (bound?.port ?? 0) : 0;
  const client = await RawHttp2.connect({
    ...issueLeaf(authority, { uris: [id] }),
    host: '127.0.0.1',
    port,
    ca: authority.root,
  });
  client.sendConnect(1, '10.0.0.1:80', [['x-long', 'v'.repeat(300)]]);
  expect(await client.connectStatus(1)).toBe('200');
  client.send(TYPE.data, 0, 1, Buffer.from('hello'));
  await client.frame(({ type, stream }) => type === TYPE.data && stream === 1, 'the echo');
  expect(client.data(1).toString()).toBe('hello');
  client.sendConnect(3, '10.0.0.2:80');
  expect(await client.connectStatus(3)).toBe('403');
  client.send(TYPE.ping, 0, 0, Buffer.alloc(8, 1));
  const pong = await client.frame(({ type, flags }) => type === TYPE.ping && flags === FLAG.ack, 'the answer to PING');
  expect(pong.payload).toEqual(Buffer.alloc(8, 1));
  client.destroy();
  await client.closed;
  server.close();
});

test('an echo application gives back what it got, and its end', async () => {
  const app = await echoApp();
  await ping(app);
  await app.close();
});

test('a client tells an end from a reset', async () => {
  const app = await App.start((socket) => {
    socket.on('data', (data) => (data.toString() === 'reset' ? socket.resetAndDestroy() : socket.end()));
  });
  const reset = await Client.dial(app);
  reset.write('reset');
  await expect(reset.readToEnd()).rejects.toThrow('ECONNRESET');
  const ended = await Client.dial(app);
  ended.write('end');
  expect(await ended.readToEnd()).toHaveLength(0);
  await app.close();
});

test('metrics are read with their labels', () => {
  const metrics = new Metrics('# HELP a b\na{x="1",y="q\\"z"} 3\na{x="2"} 4.5\nb 1\n');
  expect(metrics.sum('a')).toBe(7.5);
  expect(metrics.sum('a', { y: 'q"z' })).toBe(3);
  expect(metrics.matching('b')).toHaveLength(1);
  expect(() => new Metrics('a{x=1} 3')).toThrow();
});
