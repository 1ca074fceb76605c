import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { App, Client, echoApp, isAllowed, ping, type TcpAddress } from '../support/apps.ts';
import { eventually } from '../support/eventually.ts';
import { Mesh, serviceManifest } from '../support/mesh.ts';

const ORDERS = 'orders.shop:8080';
const SILENT = 'brief.shop:8081';
const CHATTY = 'brief.shop:8082';
/** Of the sidecar of `brief` alone: whoever is idle in the other tests may be so for as long as a slow machine takes. */
const IDLE_MS = 3_000;
let echo: App;
let silent: App;
let mesh: Mesh;
const from = (caller: string, service = ORDERS): TcpAddress => mesh.workload(caller).upstream(service);

beforeAll(async () => {
  echo = await echoApp();
  silent = await App.start((socket) => socket.resume());
  const brief = JSON.parse(serviceManifest('brief', 8081)) as { spec: { ports: object[] } };
  brief.spec.ports = [
    { name: 'tcp-silent', port: 8081 },
    { name: 'tcp-echo', port: 8082 },
  ];
  mesh = await Mesh.start({
    manifests: { 'orders.yaml': serviceManifest('orders', 8080), 'brief.yaml': JSON.stringify(brief) },
    workloads: [
      { name: 'orders', expose: [{ port: 8080, application: echo }] },
      {
        name: 'brief',
        expose: [
          { port: 8081, application: silent },
          { port: 8082, application: echo },
        ],
        config: { limits: { idleTimeout: `${IDLE_MS}ms` } },
      },
      { name: 'poor', upstreams: [ORDERS], descriptors: 100 },
      { name: 'limited', upstreams: [ORDERS], config: { limits: { maxConnections: 20 } } },
      { name: 'caller', upstreams: [ORDERS, SILENT, CHATTY] },
    ],
  });
  for (const name of ['poor', 'limited', 'caller']) {
    await eventually(() => isAllowed(from(name)), { what: `${name} to reach orders` });
  }
  await eventually(() => isAllowed(from('caller', CHATTY)), { what: 'caller to reach brief' });
});

afterAll(async () => {
  await mesh?.stop();
  await echo?.close();
  await silent?.close();
});

/** Opens `count` connections that stay; those that are not accepted wait in the kernel's backlog. */
async function crowd(caller: string, count: number): Promise<Client[]> {
  return await Promise.all(Array.from({ length: count }, () => Client.dial(from(caller))));
}

describe.each([
  ['descriptors', 'poor'],
  ['connections', 'limited'],
])('a sidecar that runs out of %s', (_, name) => {
  test('pauses accepting, keeps what it has, and recovers', async () => {
    const { pid } = mesh.workload(name).process;
    const first = await Client.dial(from(name));
    first.write('a');
    await first.read(1);
    const clients = await crowd(name, 150);
    // Each answer is a turn of the loop, in which it has accepted 64 of them or as many as it could.
    for (let turn = 0; turn < 5; turn++) {
      first.write('b');
      expect((await first.read(1)).toString()).toBe('b');
    }
    for (const client of clients) client.socket.resetAndDestroy();
    await eventually(() => ping(from(name)).then(() => true), { what: 'new connections to be served' });
    first.write('c');
    expect((await first.read(1)).toString()).toBe('c');
    first.destroy();
    const metrics = await mesh.workload(name).metrics();
    expect(metrics.sum('postern_accept_paused_total')).toBeGreaterThan(0);
    expect(metrics.sum('postern_worker_restarts_total')).toBe(0);
    expect(mesh.workload(name).process.pid).toBe(pid);
    expect(mesh.workload(name).process.alive).toBe(true);
  });
});

test('a connection without a byte in either direction is closed after the idle timeout, a busy one is not', async () => {
  const started = performance.now();
  const idle = await Client.dial(from('caller', SILENT));
  const busy = await Client.dial(from('caller', CHATTY));
  let over = false;
  const ended = idle.over().then(() => {
    over = true;
  });
  while (!over) {
    busy.write('.');
    await busy.read(1);
  }
  await ended;
  expect(performance.now() - started).toBeGreaterThan(0.9 * IDLE_MS);
  busy.destroy();
  idle.destroy();
  await mesh.workload('brief').accessLogLine((line) => line.flags === 'IDLE', 'the idle connection');
});

test('a second sidecar at the same addresses does not start, and says which address is in use', async () => {
  const second = await mesh.postern('proxy', '--config', mesh.workload('caller').configFile);
  expect(second.code).not.toBe(0);
  expect(second.stderr + second.stdout).toMatch(/in use/);
  expect(second.stderr + second.stdout).toContain(mesh.workload('caller').address);
  expect(await isAllowed(from('caller'))).toBe(true);
});
