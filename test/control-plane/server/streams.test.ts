import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import { connect } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LIMITS } from '../../../mesh/push.ts';
import { eventually } from '../../support/eventually.ts';
import { TestPlane, TestSidecar } from '../support.ts';

let plane: TestPlane;
beforeEach(async () => {
  plane = await TestPlane.start();
});
afterEach(() => plane.stop());

describe('a registration is refused', () => {
  it('for another service account or namespace than the certificate says', async () => {
    const sidecar = await TestSidecar.join(plane, 'orders');
    await expect(sidecar.stream('x', { workload: { serviceAccount: 'payments' } })).rejects.toThrow(
      'identity-mismatch',
    );
    await expect(sidecar.stream('x', { workload: { namespace: 'bank' } })).rejects.toThrow('identity-mismatch');
  });

  it('for an address that is not the peer’s', async () => {
    const sidecar = await TestSidecar.join(plane, 'orders');
    await expect(sidecar.stream('x', { workload: { addresses: ['10.1.2.3'] } })).rejects.toThrow('address-not-allowed');
    const tunnel = { address: '10.1.2.3', port: 15008 };
    await expect(sidecar.stream('x', { workload: { tunnel } })).rejects.toThrow('address-not-allowed');
  });

  it('for an address that another connected workload has', async () => {
    const orders = await TestSidecar.join(plane, 'orders');
    const payments = await TestSidecar.join(plane, 'payments');
    await orders.stream('orders-1');
    await expect(payments.stream('payments-1')).rejects.toThrow('workload-conflict');
  });

  it('for a name that another identity is connected with', async () => {
    const orders = await TestSidecar.join(plane, 'orders');
    const payments = await TestSidecar.join(plane, 'payments');
    await orders.stream('one', { workload: { addresses: ['127.0.0.2'] } });
    await expect(payments.stream('one', { workload: { addresses: ['127.0.0.3'] } })).rejects.toThrow(
      'workload-conflict',
    );
  });

  it('for other labels than its join token named', async () => {
    const sidecar = await TestSidecar.join(plane, 'orders', { app: 'orders', version: 'v1' });
    await expect(sidecar.stream('x', { workload: { labels: { app: 'admin' } } })).rejects.toThrow('label-mismatch');
    const stream = await sidecar.stream('x', { workload: { labels: { version: 'v1', app: 'orders' } } });
    expect((await stream.first()).full).toBe(true);
  });

  it.each<[string, object]>([
    ['an unknown key', { extra: 1 }],
    ['a name that is none', { name: '../etc' }],
    ['a label that is none', { labels: { 'a b': 'c' } }],
    ['an address that is none', { addresses: ['localhost'] }],
    ['a port that is none', { ports: { http: 70000 } }],
    ['too many addresses', { addresses: Array.from({ length: 17 }, (_, index) => `127.0.1.${index}`) }],
  ])('with %s', async (_what, workload) => {
    const sidecar = await TestSidecar.join(plane, 'orders');
    await expect(sidecar.stream('x', { workload })).rejects.toThrow('bad-request');
  });
});

describe('loopback workloads', () => {
  it('may share an address where their tunnels differ', async () => {
    const orders = await TestSidecar.join(plane, 'orders');
    const payments = await TestSidecar.join(plane, 'payments');
    await orders.stream('orders-1', { workload: { tunnel: { address: '127.0.0.1', port: 15108 } } });
    const stream = await payments.stream('payments-1', { workload: { tunnel: { address: '127.0.0.1', port: 15208 } } });
    await stream.has('Workload/shop/orders-1');
  });
});

describe('an acknowledgement is refused', () => {
  it('for someone else’s stream', async () => {
    const orders = await TestSidecar.join(plane, 'orders');
    const payments = await TestSidecar.join(plane, 'payments');
    const stream = await orders.stream('orders-1');
    const { version } = await stream.first();
    expect(await payments.ack('orders-1', version)).toMatchObject({ status: 403, code: 'identity-mismatch' });
    expect(plane.plane.status().sidecars[0]?.versionAcknowledged).toBeNull();
  });

  it('for a version that was not sent, or without a stream', async () => {
    const orders = await TestSidecar.join(plane, 'orders');
    expect(await orders.ack('orders-1', 'x')).toMatchObject({ status: 404, code: 'no-stream' });
    await (await orders.stream('orders-1')).first();
    expect(await orders.ack('orders-1', 'x')).toMatchObject({ status: 404, code: 'unknown-version' });
  });
});

it('a client that would resume its TLS session shows its whole chain again', async () => {
  const sidecar = await TestSidecar.join(plane, 'orders');
  const agent = new https.Agent({ ca: plane.ca, maxCachedSessions: 10, ...sidecar.tls() });
  for (let round = 0; round < 3; round++) {
    const request = https.request(new URL('/v1/ack', plane.url), { method: 'POST', agent });
    request.end('{}');
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    response.resume();
    await once(response, 'close');
    // Known to us, and its acknowledgement is bad: an untrusted one would be refused with 403 before.
    expect(response.statusCode).toBe(400);
  }
  agent.destroy();
});

describe('a hostile client', () => {
  it('gets 413 for a body over the limit, declared or not', async () => {
    const sidecar = await TestSidecar.join(plane, 'orders');
    const big = 'x'.repeat(LIMITS.requestBytes + 1);
    expect((await sidecar.post('/v1/stream', big)).status).toBe(413);
    const request = sidecar.request('POST', '/v1/stream', { 'transfer-encoding': 'chunked' });
    request.end(big);
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    expect(response.statusCode).toBe(413);
    response.resume();
  });

  it.each(['', 'null', '[]', '{', '{"workload":null}', '\u0000', '"x"'])('gets 400 for the body %j', async (body) => {
    const sidecar = await TestSidecar.join(plane, 'orders');
    expect((await sidecar.post('/v1/stream', body)).status).toBe(400);
    expect((await sidecar.post('/v1/ack', body)).status).toBe(400);
    expect((await sidecar.post('/v1/certificates', body)).status).toBe(400);
  });

  it('gets nothing but the trust bundle without a certificate', async () => {
    const nobody = new TestSidecar(plane, 'nobody');
    expect((await nobody.post('/v1/stream', {})).code).toBe('no-certificate');
    expect((await nobody.post('/v1/ack', {})).code).toBe('no-certificate');
    expect((await nobody.post('/v1/elsewhere', {})).status).toBe(404);
  });

  it('cannot speak anything older than TLS 1.3', async () => {
    const socket = connect({ host: '127.0.0.1', port: plane.plane.port, ca: plane.ca, maxVersion: 'TLSv1.2' });
    const [error] = await once(socket, 'error');
    expect(String(error)).toMatch(/alert|protocol|version/i);
  });

  it('that sends garbage after the handshake is disconnected, and others go on', async () => {
    const socket = connect({ host: '127.0.0.1', port: plane.plane.port, ca: plane.ca });
    await once(socket, 'secureConnect');
    socket.on('error', () => {});
    socket.resume();
    socket.write('\x00\x01garbage\r\n\r\n');
    await once(socket, 'close');
    await (await (await TestSidecar.join(plane, 'orders')).stream('orders-1')).first();
  });
});

it('a stream ends with a goodbye that asks for renewal when its certificate expires', async () => {
  const brief = await TestPlane.start({ settings: 'certificates: { ttl: 2s, minTtl: 1s }' });
  try {
    const stream = await (await TestSidecar.join(brief, 'orders')).stream('orders-1');
    await eventually(() => stream.goodbye, { what: 'the goodbye' });
    expect(stream.goodbye).toMatchObject({ renew: true });
    await eventually(() => stream.ended, { what: 'the end' });
  } finally {
    await brief.stop();
  }
});
