import { afterEach, describe, expect, it } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { ALLOW_ALL, SERVICE, TestPlane, TestSidecar, type TestStream } from '../support.ts';

let plane: TestPlane;
afterEach(() => plane.stop());

describe('a sidecar that connects', () => {
  it('gets everything that concerns it, itself included, and nothing that selects others', async () => {
    const manifests = {
      'a.yaml': SERVICE('orders'),
      'b.yaml': `${ALLOW_ALL('mine', 'orders')}---${ALLOW_ALL('other', 'payments')}`,
    };
    plane = await TestPlane.start({ manifests });
    const orders = await TestSidecar.join(plane, 'orders');
    const stream = await orders.stream('orders-1');
    expect((await stream.first()).full).toBe(true);
    expect(stream.keys()).toEqual([
      'AuthorizationPolicy/shop/mine',
      'MeshConfig/mesh',
      'Revocations/revoked',
      'Self/self',
      'Service/shop/orders',
      'TrustBundle/roots',
      'Workload/shop/orders-1',
    ]);
    expect(stream.resources.get('Service/shop/orders')).toMatchObject({
      endpoints: [{ workload: 'shop/orders-1', ports: { '80': 8080 } }],
    });
    expect(stream.resources.get('Workload/shop/orders-1')).toMatchObject({
      identity: orders.uri,
      protocol: 'HBONE',
      addresses: ['127.0.0.1'],
    });
  });

  it('gets later changes as deltas and acknowledges them', async () => {
    plane = await TestPlane.start({ manifests: { 'a.yaml': SERVICE('orders') } });
    const stream = await (await TestSidecar.join(plane, 'orders')).stream('orders-1');
    await stream.first();
    plane.write('b.yaml', ALLOW_ALL('mine', 'orders'));
    await stream.has('AuthorizationPolicy/shop/mine');
    const delta = stream.deltas.at(-1);
    expect(delta).toMatchObject({ full: false, removes: [] });
    expect(delta?.upserts).toHaveLength(1);
    expect((await stream.acknowledge()).status).toBe(204);
    const [sidecar] = plane.plane.status().sidecars;
    expect(sidecar?.versionAcknowledged).toBe(stream.version);
    plane.remove('b.yaml');
    await stream.loses('AuthorizationPolicy/shop/mine');
  });

  it('again and again is told to wait, and nobody else is', async () => {
    plane = await TestPlane.start();
    const orders = await TestSidecar.join(plane, 'orders');
    const payments = await TestSidecar.join(plane, 'payments');
    const often = async () => {
      for (let count = 0; count < 100; count++) await orders.stream('orders-1');
    };
    await expect(often()).rejects.toThrow('too-many-requests');
    await (await payments.stream('payments-1', { workload: { addresses: ['127.0.0.3'] } })).first();
  });

  it('is told when others come', async () => {
    plane = await TestPlane.start({ manifests: { 'a.yaml': SERVICE('payments') } });
    const orders = await (await TestSidecar.join(plane, 'orders')).stream('orders-1', {
      workload: { addresses: ['127.0.0.2'] },
    });
    await orders.first();
    await (await TestSidecar.join(plane, 'payments')).stream('payments-1', { workload: { addresses: ['127.0.0.3'] } });
    await orders.has('Workload/shop/payments-1');
    expect(orders.deltas.at(-1)?.full).toBe(false);
  });

  it('is not pushed to where a change does not concern it', async () => {
    plane = await TestPlane.start();
    const orders = await (await TestSidecar.join(plane, 'orders')).stream('orders-1');
    await orders.first();
    plane.write('a.yaml', ALLOW_ALL('other', 'payments'));
    plane.write('b.yaml', ALLOW_ALL('mine', 'orders'));
    await orders.has('AuthorizationPolicy/shop/mine');
    expect(orders.deltas).toHaveLength(2);
  });
});

describe('a sidecar that comes back', () => {
  const reopen = async (sidecar: TestSidecar, stream: TestStream) => {
    await stream.first();
    return await sidecar.stream('orders-1', { resume: stream.version });
  };

  it('gets an empty delta where nothing changed', async () => {
    plane = await TestPlane.start({ manifests: { 'a.yaml': SERVICE('orders') } });
    const sidecar = await TestSidecar.join(plane, 'orders');
    const again = await reopen(sidecar, await sidecar.stream('orders-1'));
    expect(await again.first()).toMatchObject({ full: false, upserts: [], removes: [] });
  });

  it('gets only what changed meanwhile', async () => {
    plane = await TestPlane.start({ manifests: { 'a.yaml': ALLOW_ALL('old', 'orders') } });
    const sidecar = await TestSidecar.join(plane, 'orders');
    const stream = await sidecar.stream('orders-1');
    await stream.first();
    stream.close();
    plane.write('a.yaml', ALLOW_ALL('new', 'orders'));
    await eventually(async () => (await plane.admin('GET', '/ca')) && plane.plane.status().sidecars.length === 0, {
      what: 'the new manifest',
    });
    const watcher = await (await TestSidecar.join(plane, 'orders')).stream('orders-2', {
      workload: { addresses: ['127.0.0.9'] },
    });
    await watcher.has('AuthorizationPolicy/shop/new');
    const again = await sidecar.stream('orders-1', { resume: stream.version });
    const delta = await again.first();
    expect(delta.full).toBe(false);
    expect(delta.removes).toEqual(['AuthorizationPolicy/shop/old']);
    expect(delta.upserts.map(({ name }) => name).sort()).toEqual(['shop/new', 'shop/orders-2']);
  });

  it('gets everything where its version is unknown', async () => {
    plane = await TestPlane.start();
    const sidecar = await TestSidecar.join(plane, 'orders');
    const stream = await sidecar.stream('orders-1', { resume: 'someone.1.else' });
    expect((await stream.first()).full).toBe(true);
  });

  it('gets nothing new after a restart of the control plane that changed nothing, not even lost endpoints', async () => {
    plane = await TestPlane.start({ manifests: { 'a.yaml': SERVICE('payments') } });
    const orders = await TestSidecar.join(plane, 'orders');
    const payments = await TestSidecar.join(plane, 'payments');
    const stream = await orders.stream('orders-1', { workload: { addresses: ['127.0.0.2'] } });
    await stream.first();
    await payments.stream('payments-1', { workload: { addresses: ['127.0.0.3'] } });
    await stream.has('Workload/shop/payments-1');
    const { directory } = plane;
    await plane.plane.stop();
    await eventually(() => stream.goodbye, { what: 'the goodbye' });
    expect(stream.goodbye).toMatchObject({ renew: false });
    plane = await TestPlane.start({ directory });
    Object.assign(orders, { plane });
    const again = await orders.stream('orders-1', { resume: stream.version, workload: { addresses: ['127.0.0.2'] } });
    expect(await again.first()).toMatchObject({ full: false, upserts: [], removes: [] });
  });

  it('takes its own name over from the stream it had', async () => {
    plane = await TestPlane.start();
    const sidecar = await TestSidecar.join(plane, 'orders');
    const stream = await sidecar.stream('orders-1');
    await reopen(sidecar, stream);
    await eventually(() => stream.ended, { what: 'the end of the old stream' });
    expect(plane.plane.status().sidecars).toHaveLength(1);
  });
});

describe('a resource that a sidecar rejects', () => {
  it('shows in the status with its reason until it is replaced, also across a reconnect', async () => {
    plane = await TestPlane.start({ manifests: { 'a.yaml': ALLOW_ALL('mine', 'orders') } });
    const sidecar = await TestSidecar.join(plane, 'orders');
    const stream = await sidecar.stream('orders-1');
    await stream.first();
    const rejected = [{ key: 'AuthorizationPolicy/shop/mine', reason: 'not today' }] as const;
    expect((await stream.acknowledge(rejected)).status).toBe(204);
    expect(plane.plane.status().sidecars[0]?.rejected).toEqual(rejected);
    const again = await sidecar.stream('orders-1', { resume: stream.version });
    expect((await again.first()).upserts.map(({ name }) => name)).toEqual(['shop/mine']);
    await again.acknowledge();
    expect(plane.plane.status().sidecars[0]?.rejected).toEqual([]);
  });
});

it('metrics count pushes, convergence and connected sidecars', async () => {
  plane = await TestPlane.start();
  const stream = await (await TestSidecar.join(plane, 'orders')).stream('orders-1');
  await stream.first();
  await stream.acknowledge();
  const text = await plane.metrics();
  expect(text).toContain('postern_connected_sidecars 1');
  expect(text).toContain('postern_pushes_total{kind="full"} 1');
  expect(text).toContain('postern_certificates_issued_total{proof="token"} 1');
  expect(text).toMatch(/postern_convergence_seconds_bucket\{le="30"\} 1/);
});
