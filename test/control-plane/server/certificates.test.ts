import { X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestPlane, TestSidecar } from '../support.ts';

let plane: TestPlane;
beforeAll(async () => {
  plane = await TestPlane.start();
});
afterAll(() => plane.stop());

describe('a certificate by join token', () => {
  it('shows the identity of the token, not that of the request', async () => {
    const sidecar = new TestSidecar(plane, 'orders');
    const csr = sidecar.csr('spiffe://cluster.local/ns/shop/sa/admin');
    const answer = await sidecar.requestCertificate({ token: await plane.token('orders'), csr });
    expect(answer.status).toBe(200);
    const { chain, spiffeId } = JSON.parse(answer.body);
    expect(spiffeId).toBe('spiffe://cluster.local/ns/shop/sa/orders');
    expect(new X509Certificate(chain).subjectAltName).toBe('URI:spiffe://cluster.local/ns/shop/sa/orders');
  });

  it('is refused where the body names another identity', async () => {
    const sidecar = new TestSidecar(plane, 'orders');
    const spiffeId = 'spiffe://cluster.local/ns/shop/sa/admin';
    expect(await sidecar.requestCertificate({ token: await plane.token('orders'), spiffeId })).toMatchObject({
      status: 403,
      code: 'identity-mismatch',
    });
  });

  it('is refused the second time', async () => {
    const token = await plane.token('orders');
    expect((await new TestSidecar(plane, 'orders').requestCertificate({ token })).status).toBe(200);
    expect(await new TestSidecar(plane, 'orders').requestCertificate({ token })).toMatchObject({
      status: 401,
      code: 'token-used',
    });
  });

  it('is given again to the same key, whose answer may have been lost', async () => {
    const token = await plane.token('orders');
    const sidecar = new TestSidecar(plane, 'orders');
    expect((await sidecar.requestCertificate({ token })).status).toBe(200);
    expect((await sidecar.requestCertificate({ token })).status).toBe(200);
  });

  it('is refused for an unknown token', async () => {
    expect(await new TestSidecar(plane, 'orders').requestCertificate({ token: 'made-up' })).toMatchObject({
      status: 401,
      code: 'token-unknown',
    });
  });

  it('does not use the token up for a bad request', async () => {
    const token = await plane.token('orders');
    const sidecar = new TestSidecar(plane, 'orders');
    expect(await sidecar.requestCertificate({ token, csr: 'garbage' })).toMatchObject({ status: 400, code: 'bad-csr' });
    expect((await sidecar.requestCertificate({ token })).status).toBe(200);
  });
});

describe('a certificate by client certificate', () => {
  it('renews the same identity', async () => {
    const sidecar = await TestSidecar.join(plane, 'orders');
    const answer = await sidecar.requestCertificate({});
    expect(JSON.parse(answer.body)).toMatchObject({ spiffeId: sidecar.uri });
  });

  it('is refused for another identity', async () => {
    const sidecar = await TestSidecar.join(plane, 'orders');
    const spiffeId = 'spiffe://cluster.local/ns/shop/sa/payments';
    expect(await sidecar.requestCertificate({ spiffeId })).toMatchObject({ status: 403, code: 'identity-mismatch' });
  });

  it('is refused without any proof', async () => {
    expect(await new TestSidecar(plane, 'orders').requestCertificate({})).toMatchObject({
      status: 401,
      code: 'no-certificate',
    });
  });

  it('is refused for a chain of a foreign authority', async () => {
    const foreign = await TestPlane.start();
    try {
      const sidecar = await TestSidecar.join(foreign, 'orders');
      Object.assign(sidecar, { plane });
      expect(await sidecar.requestCertificate({})).toMatchObject({ status: 403, code: 'untrusted' });
      await expect(sidecar.stream('orders-1')).rejects.toThrow('untrusted');
    } finally {
      await foreign.stop();
    }
  });

  it('is refused once the certificate has expired', async () => {
    const brief = await TestPlane.start({ settings: 'certificates: { ttl: 1s, minTtl: 1s }' });
    try {
      const sidecar = await TestSidecar.join(brief, 'orders');
      await new Promise((resolve) => setTimeout(resolve, (sidecar.certificate?.notAfter ?? 0) - Date.now() + 50));
      expect(await sidecar.requestCertificate({})).toMatchObject({ status: 403, code: 'expired' });
    } finally {
      await brief.stop();
    }
  });
});

describe('a revoked identity', () => {
  it('loses its stream at once and is refused everything', async () => {
    const sidecar = await TestSidecar.join(plane, 'revoked');
    const other = await TestSidecar.join(plane, 'other');
    const token = await plane.token('revoked');
    const stream = await sidecar.stream('revoked-1', { workload: { addresses: ['127.0.0.2'] } });
    const watcher = await other.stream('other-1', { workload: { addresses: ['127.0.0.3'] } });
    await stream.first();
    await watcher.has('Workload/shop/revoked-1');
    await plane.admin('POST', '/revocations', { subject: sidecar.uri });
    await watcher.loses('Workload/shop/revoked-1');
    expect(watcher.resources.get('Revocations/revoked')).toMatchObject({ spiffeIds: [sidecar.uri] });
    expect(stream.goodbye).toMatchObject({ type: 'goodbye' });
    expect(await sidecar.requestCertificate({})).toMatchObject({ status: 403, code: 'revoked' });
    expect(await new TestSidecar(plane, 'revoked').requestCertificate({ token })).toMatchObject({
      status: 403,
      code: 'revoked',
    });
    await expect(sidecar.stream('revoked-1')).rejects.toThrow('revoked');
    expect(await sidecar.ack('revoked-1', stream.version ?? '')).toMatchObject({ status: 403 });
  });
});
