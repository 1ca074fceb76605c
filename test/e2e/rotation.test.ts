import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { type App, echoApp, isAllowed } from '../support/apps.ts';
import { eventually } from '../support/eventually.ts';
import { Mesh, serviceManifest } from '../support/mesh.ts';
import { Traffic } from '../support/traffic.ts';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 90_000 });

const ORDERS = 'orders.shop:8080';
let app: App;
let mesh: Mesh;
let traffic: Traffic;

beforeAll(async () => {
  app = await echoApp();
  mesh = await Mesh.start({
    manifests: { 'orders.yaml': serviceManifest('orders', 8080) },
    workloads: [
      { name: 'orders', expose: [{ port: 8080, application: app }] },
      { name: 'frontend', upstreams: [ORDERS] },
    ],
    certificates: { ttl: '10s' },
  });
  await eventually(() => isAllowed(mesh.workload('frontend').upstream(ORDERS)), { what: 'the mesh to work' });
});

afterAll(async () => {
  await mesh?.stop();
  await app?.close();
});

beforeEach(() => {
  traffic = new Traffic(mesh.workload('frontend').upstream(ORDERS));
});

afterEach(async () => {
  await traffic.stop();
});

/** Unix seconds at which the workload's certificate ends, as its metrics say. */
const expiry = async (name: string): Promise<number> =>
  (await mesh.workload(name).metrics()).sum('postern_certificate_expiry_seconds');

test('no connection fails while certificates of ten seconds are renewed many times', async () => {
  const seen = { orders: new Set<number>(), frontend: new Set<number>() };
  await eventually(
    async () => {
      seen.orders.add(await expiry('orders'));
      seen.frontend.add(await expiry('frontend'));
      return Math.min(seen.orders.size, seen.frontend.size) > 5;
    },
    { what: 'five renewals of both sidecars', timeoutMs: 120_000, everyMs: 500 },
  );
  const report = await traffic.stop();
  expect(report.failures).toEqual([]);
  expect(report.connections).toBeGreaterThan(50);
  expect(report.exchanges).toBeGreaterThan(50);
});

test('no connection fails while the root of the CA is replaced', async () => {
  const before = mesh.roots();
  const rotated = await mesh.postern('ca', 'rotate', '--data-dir', mesh.dataDir);
  expect(rotated, rotated.stderr).toMatchObject({ code: 0 });
  await eventually(() => mesh.roots() !== before && !mesh.roots().includes(before.trim()), {
    what: 'the old root to be dropped',
    timeoutMs: 90_000,
    everyMs: 500,
  });
  // Whoever still depended on the old root would fail now.
  await sleep(2_000);
  const { connections } = traffic;
  await eventually(() => traffic.connections > connections + 20, { what: 'traffic under the new root' });
  const report = await traffic.stop();
  expect(report.failures).toEqual([]);
});
