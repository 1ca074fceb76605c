import { once } from 'node:events';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TcpAddress } from '../support/apps.ts';
import { eventually, within } from '../support/eventually.ts';
import { ask, type HttpApp, http1App, http2App } from '../support/http-apps.ts';
import { Mesh, serviceManifest } from '../support/mesh.ts';

const ORDERS = 'orders.shop:8080';
const ORDERS_H2 = 'orders.shop:8081';
let apps: readonly HttpApp[] = [];
let mesh: Mesh;
const at = (service: string, caller: string): TcpAddress => mesh.workload(caller).upstream(service);

beforeAll(async () => {
  const http1 = await http1App((request, response) => {
    response.write('first');
    if (request.url !== '/stream') response.end();
  });
  const http2 = await http2App((stream) => {
    stream.on('error', () => undefined);
    stream.respond({ ':status': 200 });
    stream.write('first');
  });
  apps = [http1, http2];
  const service = JSON.parse(serviceManifest('orders', 8080)) as { spec: { ports: object[] } };
  service.spec.ports = [
    { name: 'http', port: 8080 },
    { name: 'http2', port: 8081 },
  ];
  mesh = await Mesh.start({
    manifests: { 'orders.yaml': JSON.stringify(service) },
    workloads: [
      { name: 'orders', expose: apps.map((application, index) => ({ port: 8080 + index, application })) },
      { name: 'frontend', upstreams: [ORDERS, ORDERS_H2] },
      { name: 'payments', upstreams: [ORDERS, ORDERS_H2] },
    ],
  });
  for (const caller of ['frontend', 'payments']) {
    await eventually(async () => (await ask(at(ORDERS, caller), '/')).status === 200, {
      what: `${caller} to be served`,
    });
  }
});

afterAll(async () => {
  await mesh?.stop();
  await Promise.all(apps.map((app) => app.close()));
});

/** A response that has begun and does not end by itself; resolves when it has ended nevertheless. */
type Streaming = { readonly cut: Promise<unknown>; isCut: boolean; stop(): void };

function watched(cut: Promise<unknown>, stop: () => void): Streaming {
  const streaming: Streaming = { cut, isCut: false, stop };
  void cut.then(() => {
    streaming.isCut = true;
  });
  return streaming;
}

async function stream1(caller: string): Promise<Streaming> {
  const { address, port } = at(ORDERS, caller);
  const request = http.get({ host: address, port, path: '/stream' });
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  request.on('error', () => undefined);
  await once(response, 'data');
  return watched(once(response, 'error'), () => request.destroy());
}

async function stream2(caller: string): Promise<Streaming> {
  const { address, port } = at(ORDERS_H2, caller);
  const session = http2.connect(`http://${address}:${port}`);
  session.on('error', () => undefined);
  const stream = session.request({ ':path': '/stream' });
  await once(stream, 'data');
  return watched(once(stream, 'error'), () => session.destroy());
}

test('revoking an identity cuts the responses that it is being sent, and those of nobody else', async () => {
  const theirs = await Promise.all([stream1('frontend'), stream2('frontend')]);
  const others = await Promise.all([stream1('payments'), stream2('payments')]);
  const { spiffeId } = mesh.workload('frontend');
  const done = await mesh.postern('revoke', spiffeId, '--data-dir', mesh.dataDir);
  expect(done, done.stderr).toMatchObject({ code: 0 });
  await within(Promise.all(theirs.map(({ cut }) => cut)), 60_000, 'the responses to be cut');
  expect((await ask(at(ORDERS, 'frontend'), '/')).status).toBe(503);
  expect((await ask(at(ORDERS, 'payments'), '/')).status).toBe(200);
  expect(others.map(({ isCut }) => isCut)).toEqual([false, false]);
  for (const { stop } of others) stop();
  const line = await mesh.workload('orders').accessLogLine((one) => one.path === '/stream', 'the request');
  expect(line).toMatchObject({ flags: 'LR' });
});
