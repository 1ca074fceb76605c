import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type App, echoApp, isAllowed } from '../support/apps.ts';
import { eventually } from '../support/eventually.ts';
import { type HttpApp, http1App, http2App, readAll } from '../support/http-apps.ts';
import { HttpTraffic } from '../support/http-traffic.ts';
import { Mesh, serviceManifest } from '../support/mesh.ts';
import { Traffic } from '../support/traffic.ts';

const ORDERS = 'orders.shop:8080';
const HTTP1 = 'orders.shop:8081';
const HTTP2 = 'orders.shop:8082';
let app: App;
let http1: HttpApp;
let http2: HttpApp;
let mesh: Mesh;
let traffic: Traffic;
let requests: HttpTraffic;

beforeAll(async () => {
  app = await echoApp();
  http1 = await http1App((request, response) => void readAll(request).then(() => response.end('ok')));
  http2 = await http2App((stream) => {
    void readAll(stream).then(() => {
      stream.respond({ ':status': 200 });
      stream.end('ok');
    });
  });
  const service = JSON.parse(serviceManifest('orders', 8080)) as { spec: { ports: object[] } };
  service.spec.ports = [
    { name: 'tcp', port: 8080 },
    { name: 'http', port: 8081 },
    { name: 'http2', port: 8082 },
  ];
  const applications = [app, http1, http2].map((application, index) => ({ port: 8080 + index, application }));
  mesh = await Mesh.start({
    manifests: { 'orders.yaml': JSON.stringify(service) },
    workloads: [
      { name: 'orders', expose: applications },
      { name: 'frontend', upstreams: [ORDERS, HTTP1, HTTP2] },
    ],
    certificates: { ttl: '10s' },
  });
  await eventually(() => isAllowed(mesh.workload('frontend').upstream(ORDERS)), { what: 'the mesh to work' });
});

afterAll(async () => {
  await mesh?.stop();
  await Promise.all([app, http1, http2].map((one) => one?.close()));
});

beforeEach(() => {
  const at = (service: string) => mesh.workload('frontend').upstream(service);
  traffic = new Traffic(at(ORDERS));
  requests = new HttpTraffic(at(HTTP1), { http2: at(HTTP2), pauseMs: 10, loops: 1 });
});

afterEach(async () => {
  await traffic.stop();
  await requests.stop();
});

/** Unix seconds at which the workload's certificate ends, as its metrics say. */
const expiry = async (name: string): Promise<number> =>
  (await mesh.workload(name).metrics()).sum('postern_certificate_expiry_seconds');

test('no connection and no request fails while certificates of ten seconds are renewed many times', async () => {
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
  const { requests: answered, failures } = await requests.stop();
  expect(failures).toEqual([]);
  expect(answered).toBeGreaterThan(200);
  expect(report.connections).toBeGreaterThan(50);
  expect(report.exchanges).toBeGreaterThan(50);
});

test('no connection and no request fails while the root of the CA is replaced', async () => {
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
  expect((await traffic.stop()).failures).toEqual([]);
  expect((await requests.stop()).failures).toEqual([]);
});
