import * as http2 from 'node:http2';
import { afterEach, describe, expect, test } from 'vitest';
import type { WorkloadResource } from '../../../mesh/resources.ts';
import { eventually } from '../../support/eventually.ts';
import { foreignAuthority, type Signer } from '../../support/forge.ts';
import { ask, readAll } from '../../support/http-apps.ts';
import { IstioPeer } from './istio-peer.ts';
import { OutboundMesh, orders, plainWorkload } from './outbound-mesh.ts';

const undo: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const IDENTITY = 'spiffe://cluster.local/ns/shop/sa/orders';

const istioWorkload = (): WorkloadResource => ({ ...plainWorkload('orders'), protocol: 'ISTIO', identity: IDENTITY });

/** A client's sidecar, and an Istio sidecar that shows a certificate of `identity` signed by `signer` (the mesh's own where it is null). */
async function meshOf(protocol: string, identity = IDENTITY, signer: Signer | null = null) {
  const mesh = await OutboundMesh.start({ protocol, endpoints: {} });
  undo.push(() => mesh.stop());
  const peer = await IstioPeer.start(signer ?? mesh.signer, identity);
  undo.push(() => peer.close());
  await mesh.push(istioWorkload(), orders({ protocol, endpoints: { orders: peer.port } }));
  return { mesh, peer };
}

describe('an endpoint of an Istio sidecar', () => {
  test('gets HTTP/1.1 by direct mutual TLS that says so, and one connection serves many of the application', async () => {
    const { mesh, peer } = await meshOf('http');
    for (let i = 0; i < 3; i++)
      expect((await ask(mesh.entry, '/', { agent: false })).body.toString()).toBe('istio 1.1');
    expect(peer.alpn).toEqual(['istio-http/1.1']);
    expect((await mesh.requests(1))[0]).toMatchObject({
      transport: 'mtls',
      destination: { workload: 'orders', principal: IDENTITY },
    });
  });

  test('gets HTTP/2 so, too', async () => {
    const { mesh, peer } = await meshOf('http2');
    const session = http2.connect(`http://${mesh.entry.address}:${mesh.entry.port}`);
    undo.push(() => session.destroy());
    expect((await readAll(session.request({ ':path': '/' }))).toString()).toBe('istio h2');
    expect(peer.alpn).toEqual(['istio-h2']);
  });

  test('gets what is declared to be TCP as it is, by mutual TLS that says so', async () => {
    const { mesh, peer } = await meshOf('tcp');
    expect((await ask(mesh.entry, '/', { agent: false })).body.toString()).toBe('istio 1.1');
    expect(peer.alpn).toEqual(['istio']);
    await eventually(() => mesh.client.access.length === 1, { what: 'the access log' });
    expect(mesh.client.access[0]).toMatchObject({ transport: 'mtls', destination: { principal: IDENTITY } });
  });

  test('that shows another identity than the registry expects gets no byte', async () => {
    const { mesh, peer } = await meshOf('http', 'spiffe://cluster.local/ns/shop/sa/impostor');
    expect((await ask(mesh.entry, '/')).status).toBe(503);
    const [line] = await mesh.requests(1);
    expect(line?.flags).toBe('UF');
    expect(line?.detail).toContain('identity mismatch');
    expect(peer.requests).toBe(0);
  });

  test('whose certificate comes from elsewhere gets no byte', async () => {
    const { mesh, peer } = await meshOf('http', IDENTITY, foreignAuthority());
    expect((await ask(mesh.entry, '/')).status).toBe(503);
    expect(peer.requests).toBe(0);
  });

  test('keeps no idle connection of before our certificate was rotated', async () => {
    const { mesh, peer } = await meshOf('http');
    await ask(mesh.entry, '/');
    mesh.client.identify(mesh.signer);
    await eventually(() => peer.sockets.size === 0, { what: 'the end of the idle connection' });
    expect((await ask(mesh.entry, '/')).status).toBe(200);
    expect(peer.alpn.length).toBe(2);
  });

  test('that is revoked is left at once', async () => {
    const { mesh, peer } = await meshOf('http');
    await ask(mesh.entry, '/');
    await mesh.push({ kind: 'Revocations', name: 'revoked', spiffeIds: [IDENTITY], serials: [] });
    await eventually(() => peer.sockets.size === 0, { what: 'the end of the connection' });
    expect((await ask(mesh.entry, '/')).status).toBe(503);
    expect(peer.requests).toBe(1);
  });
});
