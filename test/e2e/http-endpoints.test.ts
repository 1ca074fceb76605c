import * as http from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type App, Client, type TcpAddress, App as TcpApp } from '../support/apps.ts';
import { eventually } from '../support/eventually.ts';
import { ask, type HttpApp, http1App, readAll } from '../support/http-apps.ts';
import { Mesh, serviceManifest } from '../support/mesh.ts';

const ORDERS = 'orders.shop:8080';
const SNIFFED = 'sniffed.shop:7000';
const GREETER = 'greeter.shop:7001';
/** Of sidecars that wait for a client's first bytes, however slow the machine is. */
const PATIENT = { http: { detectTimeout: '60s' } };

let apps: HttpApp[] = [];
let greeter: App;
let mesh: Mesh;
const at = (service: string): TcpAddress =>
  mesh.workload(service === SNIFFED ? 'patient' : 'frontend').upstream(service);

/** Answers with its own name; `/tired` after a while, `/slow` never. */
const named =
  (name: string): http.RequestListener =>
  (request, response) => {
    if (request.url === '/slow') return;
    if (request.url === '/drop') {
      request.socket.destroy();
      return;
    }
    const delay = request.url === '/tired' ? 300 : 0;
    void readAll(request).then(() => setTimeout(() => response.end(name), delay));
  };

beforeAll(async () => {
  apps = [await http1App(named('one')), await http1App(named('two')), await http1App(named('sniffed'))];
  greeter = await TcpApp.start((socket) => socket.end('220 hello\r\n'));
  const [one, two, sniffed] = apps as [HttpApp, HttpApp, HttpApp];
  const labels = { app: 'orders' };
  mesh = await Mesh.start({
    manifests: {
      'orders.yaml': serviceManifest('orders', 8080, 8080, 'http'),
      'sniffed.yaml': serviceManifest('sniffed', 7000, 7000, 'main'),
      'greeter.yaml': serviceManifest('greeter', 7001, 7001, 'main'),
    },
    workloads: [
      { name: 'orders-1', serviceAccount: 'orders', labels, expose: [{ port: 8080, application: one }] },
      { name: 'orders-2', serviceAccount: 'orders', labels, expose: [{ port: 8080, application: two }] },
      { name: 'sniffed', expose: [{ port: 7000, application: sniffed }], config: PATIENT },
      { name: 'greeter', expose: [{ port: 7001, application: greeter }] },
      { name: 'frontend', upstreams: [ORDERS, GREETER] },
      { name: 'patient', upstreams: [SNIFFED], config: PATIENT },
    ],
  });
  const both = async (): Promise<boolean> => (await namesOf(20)).size === 2;
  await eventually(both, { what: 'both endpoints to be used' });
  await eventually(async () => (await ask(at(SNIFFED), '/')).status === 200, { what: 'patient to be served' });
});

afterAll(async () => {
  await mesh?.stop();
  await Promise.all(apps.map((app) => app.close()));
  await greeter?.close();
});

/** Who answers when so many ask at a time. */
async function namesOf(count: number): Promise<Set<string>> {
  const answers = await Promise.all(Array.from({ length: count }, () => ask(at(ORDERS), '/')));
  return new Set(answers.map(({ body }) => body.toString()));
}

describe('endpoints', () => {
  test('requests of one connection go to all endpoints', async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const names = new Set<string>();
    // Whoever has just been slow is avoided, so that the better endpoint is now the one, now the other. What a busy machine has made slower than that is
    // avoided until it is forgotten.
    const both = async (): Promise<boolean> => {
      await ask(at(ORDERS), '/tired');
      names.add((await ask(at(ORDERS), '/', { agent })).body.toString());
      return names.size === 2;
    };
    await eventually(both, { what: 'answers of both endpoints' });
    agent.destroy();
    expect(names).toEqual(new Set(['one', 'two']));
  });

  test('a request of which an application has dropped the connection is tried once more elsewhere where that is safe, and only there', async () => {
    const before = apps.map((app) => app.requests);
    expect((await ask(at(ORDERS), '/drop')).status).toBe(503);
    const tries = apps.slice(0, 2).reduce((sum, app, i) => sum + app.requests - (before[i] ?? 0), 0);
    expect(tries).toBe(2);
    const posted = apps.map((app) => app.requests);
    expect((await ask(at(ORDERS), '/drop', { method: 'POST', body: 'once' })).status).toBe(503);
    expect(apps.slice(0, 2).reduce((sum, app, i) => sum + app.requests - (posted[i] ?? 0), 0)).toBe(1);
  });

  test('when a sidecar is killed, every request is answered by the other endpoint', async () => {
    await mesh.workload('orders-2').kill('SIGKILL');
    const statuses = new Set<number>();
    for (let i = 0; i < 60; i++) statuses.add((await ask(at(ORDERS), '/')).status);
    expect(statuses).toEqual(new Set([200]));
    await mesh.startSidecar('orders-2', { newToken: true });
    await eventually(async () => (await namesOf(20)).size === 2, { what: 'the second endpoint to come back' });
  });

  test('where no application listens the answer is 503 and says so', async () => {
    const [, , sniffed] = apps;
    await sniffed?.close();
    const { status } = await ask(at(SNIFFED), '/');
    expect(status).toBe(503);
    const line = await mesh.workload('sniffed').accessLogLine((one) => one.status === 503, 'the failure');
    expect(JSON.stringify(line)).toContain('ECONNREFUSED');
    apps[2] = await http1App(named('sniffed'), sniffed?.port);
  });
});

describe('ports that nobody has declared', () => {
  test('HTTP is found in its first bytes', async () => {
    const { body } = await ask(at(SNIFFED), '/');
    expect(body.toString()).toBe('sniffed');
    const line = await mesh.workload('sniffed').accessLogLine((one) => one.status === 200, 'a request');
    expect(line).toMatchObject({ method: 'GET', path: '/' });
  });

  test('a server that speaks first is heard', async () => {
    const client = await Client.dial(at(GREETER));
    expect((await client.readToEnd()).toString()).toBe('220 hello\r\n');
    client.destroy();
  });
});

test('an application that never answers holds no other request up', async () => {
  const { address, port } = at(ORDERS);
  const stuck = http.get({ host: address, port, path: '/slow' });
  stuck.on('error', () => undefined);
  for (let i = 0; i < 20; i++) expect((await ask(at(ORDERS), '/')).status).toBe(200);
  stuck.destroy();
});
