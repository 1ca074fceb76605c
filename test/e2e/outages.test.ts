import { renameSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type App, Client, echoApp, isAllowed, type TcpAddress } from '../support/apps.ts';
import { eventually } from '../support/eventually.ts';
import { Mesh, policyManifest, serviceManifest } from '../support/mesh.ts';
import { Traffic } from '../support/traffic.ts';

const ORDERS = 'orders.shop:8080';
const HURRIED = 'hurried.shop:8080';
const allow = (...from: string[]): string => policyManifest({ name: 'allow', app: 'orders', from });
let app: App;
let mesh: Mesh;
const orders = (caller: string): TcpAddress => mesh.workload(caller).upstream(ORDERS);

beforeAll(async () => {
  app = await echoApp();
  mesh = await Mesh.start({
    manifests: {
      'orders.yaml': serviceManifest('orders', 8080),
      'hurried.yaml': serviceManifest('hurried', 8080),
      'allow.yaml': allow('frontend'),
    },
    workloads: [
      // Long enough for whatever a slow machine does meanwhile; the tests end their connections.
      { name: 'orders', expose: [{ port: 8080, application: app }], config: { drainTimeout: '60s' } },
      { name: 'hurried', expose: [{ port: 8080, application: app }] },
      { name: 'frontend', upstreams: [ORDERS, HURRIED] },
      { name: 'payments', upstreams: [ORDERS] },
    ],
  });
  await eventually(() => isAllowed(orders('frontend')), { what: 'the mesh to work' });
});

afterAll(async () => {
  await mesh?.stop();
  await app?.close();
});

describe('the control plane', () => {
  test('killed and restarted under traffic: no connection fails, policy is kept, later edits arrive', async () => {
    const traffic = new Traffic(orders('frontend'));
    mesh.controlPlane.kill('SIGKILL');
    await mesh.controlPlane.exited;
    await eventually(
      async () => (await mesh.workload('orders').metrics()).sum('postern_control_plane_connected') === 0,
      { what: 'the sidecar to say that the control plane is lost' },
    );
    expect(await mesh.workload('orders').isReady()).toBe(true);
    expect(await isAllowed(orders('payments'))).toBe(false);
    const { connections } = traffic;
    await eventually(() => traffic.connections > connections + 20, { what: 'traffic without a control plane' });
    await mesh.startControlPlane();
    for (const name of ['orders', 'frontend', 'payments']) {
      await eventually(async () => (await mesh.workload(name).metrics()).sum('postern_control_plane_connected') === 1, {
        what: `${name} to be connected again`,
      });
    }
    mesh.editManifest('allow.yaml', allow('frontend', 'payments'));
    await eventually(() => isAllowed(orders('payments')), { what: 'the edit to arrive' });
    mesh.editManifest('allow.yaml', allow('frontend'));
    await eventually(async () => !(await isAllowed(orders('payments'))), { what: 'the next edit to arrive' });
    expect((await traffic.stop()).failures).toEqual([]);
  });

  test('with a manifest directory that disappears keeps what it knows, and goes on when it is back', async () => {
    const aside = `${mesh.manifests}.aside`;
    renameSync(mesh.manifests, aside);
    await sleep(3_000);
    expect(await isAllowed(orders('frontend'))).toBe(true);
    expect(await isAllowed(orders('payments'))).toBe(false);
    renameSync(aside, mesh.manifests);
    await eventually(
      async () => {
        mesh.editManifest('allow.yaml', allow('frontend', 'payments'));
        return await isAllowed(orders('payments'));
      },
      { what: 'edits to count again', everyMs: 500 },
    );
    mesh.editManifest('allow.yaml', allow('frontend'));
    await eventually(async () => !(await isAllowed(orders('payments'))), { what: 'the policy as before' });
  });
});

describe('a sidecar', () => {
  test('killed ends its connections; restarted, it serves again', async () => {
    const client = await Client.dial(orders('frontend'));
    client.write('x');
    await client.read(1);
    await mesh.workload('orders').kill('SIGKILL');
    await client.over();
    client.destroy();
    expect(await isAllowed(orders('frontend'))).toBe(false);
    await mesh.startSidecar('orders', { newToken: true });
    await eventually(() => isAllowed(orders('frontend')), {
      what: 'the restarted sidecar to be reached',
    });
  });

  test('cannot join twice with one token', async () => {
    await mesh.workload('payments').kill('SIGKILL');
    mesh.workload('payments').start();
    const { process } = mesh.workload('payments');
    await eventually(
      () => !process.alive || [...process.stdout, ...process.stderr].some((line) => /token/i.test(line)),
      {
        what: 'a message about the token',
      },
    );
    expect(await mesh.workload('payments').isReady()).toBe(false);
    await process.stop(5_000);
    await mesh.startSidecar('payments', { newToken: true });
  });
});

describe('a sidecar that is asked to stop', () => {
  /** A connection that is open through the sidecar of `orders`, or of `hurried`. */
  async function live(service = ORDERS): Promise<Client> {
    const target = mesh.workload('frontend').upstream(service);
    await eventually(() => isAllowed(target), { what: `${service} to be reached` });
    const client = await Client.dial(target);
    client.write('live');
    await client.read(4);
    return client;
  }

  test('lets connections end, takes no new ones, is not ready any more, and exits with 0', async () => {
    const client = await live();
    const sidecar = mesh.workload('orders');
    sidecar.process.kill('SIGTERM');
    await eventually(async () => !(await sidecar.isReady()), { what: 'not ready' });
    // It is not ready from the signal on, and takes no connections once the control plane knows.
    await eventually(async () => !(await isAllowed(orders('frontend'))), { what: 'no new connections' });
    client.write('more');
    expect((await client.read(4)).toString()).toBe('more');
    client.end();
    await client.readToEnd();
    expect(await sidecar.process.exited).toEqual({ code: 0, signal: null });
    await mesh.startSidecar('orders', { newToken: true });
  });

  test('closes what is left after the drain timeout', async () => {
    const client = await live(HURRIED);
    const exit = await mesh.workload('hurried').kill('SIGTERM');
    expect(exit).toEqual({ code: 0, signal: null });
    await client.over();
    client.destroy();
    await mesh.startSidecar('hurried', { newToken: true });
  });

  test('by POST /quitquitquit drains as well', async () => {
    const sidecar = mesh.workload('orders');
    const answer = await fetch(`http://${sidecar.admin.address}:${sidecar.admin.port}/quitquitquit`, {
      method: 'POST',
    });
    expect(answer.ok).toBe(true);
    expect(await sidecar.process.exited).toEqual({ code: 0, signal: null });
    await mesh.startSidecar('orders', { newToken: true });
  });

  test('twice ends at once', async () => {
    const client = await live();
    const sidecar = mesh.workload('orders');
    sidecar.process.kill('SIGTERM');
    await eventually(async () => !(await sidecar.isReady()), { what: 'not ready' });
    const exit = await sidecar.kill('SIGTERM');
    expect(exit.code === 143 || exit.signal === 'SIGTERM').toBe(true);
    await client.over();
    client.destroy();
    await mesh.startSidecar('orders', { newToken: true });
  });
});
