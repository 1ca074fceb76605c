import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { adminUrl, fetchStatus, renderStatus } from '../../../control-plane/admin/status-client.ts';
import { eventually } from '../../support/eventually.ts';
import { ALLOW_ALL, TestPlane, TestSidecar } from '../support.ts';

let plane: TestPlane;
beforeAll(async () => {
  plane = await TestPlane.start({ manifests: { 'a.yaml': ALLOW_ALL('p', 'orders') } });
});
afterAll(() => plane.stop());

describe('postern status', () => {
  it('shows identity, expiry, versions, what was rejected and why, and what is wrong with the manifests', async () => {
    const stream = await (await TestSidecar.join(plane, 'orders')).stream('orders-1');
    await stream.first();
    const admin = new URL(`http://127.0.0.1:${plane.plane.adminPort}`);
    expect(renderStatus(await fetchStatus(admin), Date.now())).toMatch(
      /shop\/orders-1 +spiffe:\/\/cluster\.local\/ns\/shop\/sa\/orders +(59|60)m left +\S+ +none +\d+s ago +-/,
    );
    await stream.acknowledge([{ key: 'AuthorizationPolicy/shop/p', reason: 'odd\u001b[31m' }]);
    plane.write('b.yaml', 'kind: [');
    await eventually(async () => (await fetchStatus(admin)).manifests.problems.length > 0, { what: 'the complaint' });
    const text = renderStatus(await fetchStatus(admin), Date.now());
    expect(text).toMatch(/shop\/orders-1 .* yes /);
    expect(text).toContain('REJECTED by shop/orders-1: AuthorizationPolicy/shop/p: odd?[31m\n');
    expect(text).toMatch(/MANIFEST: .*b\.yaml:\d+:\d+: error: /);
  });

  it('says who was asked where nobody answers', async () => {
    await expect(fetchStatus(new URL('http://127.0.0.1:9'))).rejects.toMatchObject({
      code: 'ERR_STATUS',
      exitCode: 69,
      message: expect.stringContaining('127.0.0.1:9'),
    });
  });

  it('takes plain HTTP URLs only', () => {
    expect(adminUrl({ admin: 'http://10.0.0.1:15014' }).href).toBe('http://10.0.0.1:15014/');
    expect(() => adminUrl({ admin: 'ftp://x' })).toThrow('--admin');
  });
});
