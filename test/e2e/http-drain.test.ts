import { once } from 'node:events';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Client, type TcpAddress } from '../support/apps.ts';
import { eventually, within } from '../support/eventually.ts';
import { ask, type HttpApp, http1App, http2App, readAll } from '../support/http-apps.ts';
import { HttpTraffic } from '../support/http-traffic.ts';
import { Mesh, serviceManifest } from '../support/mesh.ts';

const ORDERS = 'orders.shop:8080';
const ORDERS_H2 = 'orders.shop:8081';
const SLOW = 'slow.shop:8082';
const SLOW_H2 = 'slow.shop:8083';

/** Ends of the answers that are waited for. */
const waiting: ((body: string) => void)[] = [];
let apps: HttpApp[] = [];
let mesh: Mesh;
const at = (service: string, caller = 'frontend'): TcpAddress => mesh.workload(caller).upstream(service);

beforeAll(async () => {
  const answer: http.RequestListener = (request, response) => {
    if (request.url === '/slow') waiting.push((body) => response.end(body));
    else
      void readAll(request).then(
        () => response.end('ok'),
        () => undefined,
      );
  };
  const answer2 = (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders): void => {
    stream.on('error', () => undefined);
    const end = (body: string): void => {
      stream.respond({ ':status': 200 });
      stream.end(body);
    };
    if (headers[':path'] === '/slow') waiting.push(end);
    else
      void readAll(stream).then(
        () => end('ok'),
        () => undefined,
      );
  };
  apps = await Promise.all([http1App(answer), http1App(answer), http2App(answer2), http2App(answer2)]);
  const [one, two, one2, two2] = apps as [HttpApp, HttpApp, HttpApp, HttpApp];
  const both = (name: string, http1: number): string => {
    const service = JSON.parse(serviceManifest(name, http1)) as { spec: { ports: object[] } };
    service.spec.ports = [
      { name: 'http', port: http1 },
      { name: 'http2', port: http1 + 1 },
    ];
    return JSON.stringify(service);
  };
  const labels = { app: 'orders' };
  mesh = await Mesh.start({
    manifests: { 'orders.yaml': both('orders', 8080), 'slow.yaml': both('slow', 8082) },
    workloads: [
      {
        name: 'orders-1',
        serviceAccount: 'orders',
        labels,
        expose: [
          { port: 8080, application: one },
          { port: 8081, application: one2 },
        ],
      },
      {
        name: 'orders-2',
        serviceAccount: 'orders',
        labels,
        expose: [
          { port: 8080, application: two },
          { port: 8081, application: two2 },
        ],
      },
      {
        name: 'slow',
        expose: [
          { port: 8082, application: one },
          { port: 8083, application: one2 },
        ],
        config: { drainTimeout: '20s' },
      },
      { name: 'frontend', upstreams: [ORDERS, ORDERS_H2, SLOW, SLOW_H2], config: { drainTimeout: '20s' } },
      { name: 'caller', upstreams: [ORDERS, ORDERS_H2] },
    ],
  });
  for (const [service, caller] of [
    [SLOW, 'frontend'],
    [ORDERS, 'caller'],
  ] as const) {
    await eventually(async () => (await ask(at(service, caller), '/')).status === 200, {
      what: `${caller} to be served`,
    });
  }
});

afterAll(async () => {
  await mesh?.stop();
  await Promise.all(apps.map((app) => app.close()));
});

interface SlowRequest {
  /** Resolves to its answer: status, body, and whether the connection was said to end with it. */
  readonly answer: Promise<{ readonly status: number; readonly body: string; readonly last: boolean }>;
}

function slow1({ address, port }: TcpAddress): SlowRequest {
  const agent = new http.Agent({ keepAlive: true });
  const request = http.get({ host: address, port, path: '/slow', agent });
  const answered = once(request, 'response') as Promise<[http.IncomingMessage]>;
  const answer = answered.then(async ([response]) => ({
    status: response.statusCode ?? 0,
    last: response.headers.connection === 'close',
    body: (await readAll(response)).toString(),
  }));
  return { answer };
}

function slow2({ address, port }: TcpAddress): SlowRequest {
  const session = http2.connect(`http://${address}:${port}`);
  session.on('error', () => undefined);
  let last = false;
  session.on('goaway', () => {
    last = true;
  });
  const stream = session.request({ ':path': '/slow' });
  const answered = once(stream, 'response') as Promise<[http2.IncomingHttpHeaders]>;
  const answer = answered.then(async ([headers]) => {
    const body = (await readAll(stream)).toString();
    return { status: Number(headers[':status']), body, last };
  });
  return { answer };
}

describe('a sidecar that is asked to stop while a request is under way', () => {
  test.each([
    ["the server's", 'slow', 'HTTP/1.1', SLOW, slow1],
    ["the server's", 'slow', 'HTTP/2', SLOW_H2, slow2],
    ["the client's", 'frontend', 'HTTP/1.1', SLOW, slow1],
    ["the client's", 'frontend', 'HTTP/2', SLOW_H2, slow2],
  ])('(%s, %s, %s) lets it end, then ends itself', async (_, name, _version, service, begin) => {
    const served = async (): Promise<boolean> => (await ask(at(SLOW), '/')).status === 200;
    await eventually(served, { what: 'the mesh to work' });
    const sidecar = mesh.workload(name);
    const { answer } = begin(at(service));
    const end = await eventually(() => waiting.pop(), { what: 'the application to have the request' });
    sidecar.process.kill('SIGTERM');
    await eventually(async () => !(await sidecar.isReady()), { what: 'not ready' });
    // It is not ready from the signal on; its data plane drains once the control plane knows, and listens no more then.
    const door = name === 'frontend' ? at(service) : sidecar.tunnel;
    const refuses = (): Promise<boolean> =>
      Client.dial(door).then(
        (client) => {
          client.destroy();
          return false;
        },
        (error: NodeJS.ErrnoException) => error.code === 'ECONNREFUSED',
      );
    await eventually(refuses, { what: 'a data plane that drains' });
    end('after all');
    const { status, body, last } = await within(answer, 60_000, 'the answer');
    expect({ status, body }).toEqual({ status: 200, body: 'after all' });
    // To the application of the other side nothing has happened.
    expect(last).toBe(name === 'frontend');
    expect(await within(sidecar.process.exited, 60_000, 'its end')).toEqual({ code: 0, signal: null });
    await mesh.startSidecar(name, { newToken: true });
  });
});

describe('under load', () => {
  test('an endpoint that was ejected while it was away answers as soon as the other one is gone', async () => {
    const ejections = async (): Promise<number> =>
      (await mesh.workload('caller').metrics()).sum('postern_http_ejections_total');
    const before = await ejections();
    const burst = (count: number): Promise<number[]> =>
      Promise.all(Array.from({ length: count }, () => ask(at(ORDERS, 'caller'), '/').then(({ status }) => status)));
    await mesh.workload('orders-1').kill('SIGKILL');
    const ejected = async (): Promise<boolean> => {
      expect(new Set(await burst(40))).toEqual(new Set([200]));
      return (await ejections()) > before;
    };
    await eventually(ejected, { what: 'the endpoint to be ejected' });
    await mesh.startSidecar('orders-1', { newToken: true });
    await mesh.workload('orders-2').kill('SIGTERM');
    for (let i = 0; i < 5; i++) expect(new Set(await burst(10))).toEqual(new Set([200]));
    await mesh.startSidecar('orders-2', { newToken: true });
  });

  test('no request fails while one of two endpoints is replaced, and then the other', async () => {
    const traffic = new HttpTraffic(at(ORDERS, 'caller'), { http2: at(ORDERS_H2, 'caller') });
    const more = async (count: number): Promise<void> => {
      const { requests } = traffic;
      await eventually(() => traffic.requests > requests + count, { what: 'traffic' });
    };
    for (const name of ['orders-1', 'orders-2']) {
      await more(200);
      expect(await mesh.workload(name).kill('SIGTERM')).toEqual({ code: 0, signal: null });
      await more(200);
      await mesh.startSidecar(name, { newToken: true });
    }
    expect((await traffic.stop()).failures).toEqual([]);
  });

  test('no request fails while the control plane is killed and started again', async () => {
    const traffic = new HttpTraffic(at(ORDERS, 'caller'), { http2: at(ORDERS_H2, 'caller') });
    mesh.controlPlane.kill('SIGKILL');
    await mesh.controlPlane.exited;
    const { requests } = traffic;
    await eventually(() => traffic.requests > requests + 500, { what: 'traffic without a control plane' });
    await mesh.startControlPlane();
    for (const name of ['orders-1', 'orders-2', 'caller']) {
      const connected = async (): Promise<boolean> =>
        (await mesh.workload(name).metrics()).sum('postern_control_plane_connected') === 1;
      await eventually(connected, { what: `${name} to be connected again` });
    }
    expect((await traffic.stop()).failures).toEqual([]);
  });
});
