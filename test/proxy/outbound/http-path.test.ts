import type * as http from 'node:http';
import * as http2 from 'node:http2';
import { afterEach, describe, expect, test } from 'vitest';
import { App } from '../../support/apps.ts';
import { eventually } from '../../support/eventually.ts';
import { ask, type HttpApp, http1App, http2App, readAll, tellWhatYouSaw } from '../../support/http-apps.ts';
import { type Limits, OutboundMesh, type ServiceShape, say } from './outbound-mesh.ts';

const undo: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

async function started<T extends { close(): Promise<unknown> }>(app: Promise<T>): Promise<T> {
  const made = await app;
  undo.push(() => made.close());
  return made;
}

async function meshOf(shape: ServiceShape, limits: Limits = {}): Promise<OutboundMesh> {
  const mesh = await OutboundMesh.start(shape, limits);
  undo.push(() => mesh.stop());
  return mesh;
}

/** Nothing listens there. */
async function deadPort(): Promise<number> {
  const app = await App.start(() => {});
  await app.close();
  return app.port;
}

/** Takes a request and resets the connection; counts what it took. */
async function resetter(): Promise<App & { requests: number }> {
  const app = await started(
    App.start((socket) => {
      socket.once('data', () => {
        counted.requests++;
        socket.resetAndDestroy();
      });
    }),
  );
  const counted = Object.assign(app, { requests: 0 });
  return counted;
}

async function fails(mesh: OutboundMesh, options: http.RequestOptions & { body?: string } = {}) {
  const { status, body } = await ask(mesh.entry, '/', options);
  return { status, body: body.toString() };
}

describe('a request', () => {
  test('reaches an endpoint with its method, target, header and body, and its answer comes back', async () => {
    const app = await started(http1App(tellWhatYouSaw));
    const mesh = await meshOf({ protocol: 'http', endpoints: { orders: app.port } });
    const answer = await ask(mesh.entry, '/a?b=c', { method: 'PUT', body: 'hello', headers: { 'x-own': '1' } });
    const seen = JSON.parse(answer.body.toString()) as { method: string; url: string; body: string; headers: object };
    expect(seen).toMatchObject({ method: 'PUT', url: '/a?b=c', body: 'hello', headers: { 'x-own': '1' } });
  });

  test('is told of once, with its service, its endpoint and its status', async () => {
    const app = await started(http1App(say('ok')));
    const mesh = await meshOf({ protocol: 'http', endpoints: { orders: app.port } });
    await ask(mesh.entry, '/told?secret=1');
    const [line] = await mesh.requests(1);
    expect(line).toMatchObject({
      direction: 'outbound',
      verdict: 'allowed',
      method: 'GET',
      path: '/told',
      status: 200,
      flags: '-',
      attempts: 1,
      transport: 'plaintext',
      service: 'orders.shop.svc.cluster.local',
      destination: { workload: 'orders', principal: null },
    });
    expect(mesh.client.metric('istio_requests_total', { reporter: 'source', response_code: '200' })).toBe(1);
  });

  test('counts as one of HTTP, and its connection not as one of TCP', async () => {
    const app = await started(http1App(say('ok')));
    const mesh = await meshOf({ protocol: 'http', endpoints: { orders: app.port } });
    await ask(mesh.entry, '/');
    await mesh.requests(1);
    await eventually(() => mesh.client.metric('postern_connections') === 0, { what: 'the end of the connection' });
    expect(mesh.client.metric('istio_tcp_connections_opened_total')).toBe(0);
    expect(mesh.client.metric('postern_http_requests_in_flight')).toBe(0);
  });

  test('carries an identifier and a trace, and nothing that is internal', async () => {
    const app = await started(http1App(tellWhatYouSaw));
    const mesh = await meshOf({ protocol: 'http', endpoints: { orders: app.port } });
    const headers = { 'x-postern-reason': 'x', 'x-forwarded-client-cert': 'By=me', 'x-envoy-retry-on': '5xx' };
    const { body } = await ask(mesh.entry, '/', { headers });
    const seen = (JSON.parse(body.toString()) as { headers: Record<string, string> }).headers;
    expect(seen['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
    expect(seen.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/);
    for (const name of Object.keys(headers)) expect(seen[name]).toBeUndefined();
  });

  test('of HTTP/2 stays HTTP/2', async () => {
    const app = await started(
      http2App((stream, headers) => {
        stream.respond({ ':status': 200, 'x-path': headers[':path'] });
        stream.end('h2');
      }),
    );
    const mesh = await meshOf({ protocol: 'http2', endpoints: { orders: app.port } });
    const session = http2.connect(`http://${mesh.entry.address}:${mesh.entry.port}`);
    undo.push(() => session.destroy());
    const bodies = await Promise.all(
      Array.from({ length: 20 }, async (_, i) => (await readAll(session.request({ ':path': `/${i}` }))).toString()),
    );
    expect(bodies).toEqual(Array(20).fill('h2'));
    expect(app.accepted).toBe(1);
  });

  test('of one HTTP/2 connection may go to another endpoint than the one before', async () => {
    const apps = await Promise.all(
      ['a', 'b'].map((name) =>
        started(
          http2App((stream) => {
            // Held, so that the balancer sees it as under way.
            setTimeout(() => {
              stream.respond({ ':status': 200 });
              stream.end(name);
            }, 20);
          }),
        ),
      ),
    );
    const [a, b] = apps as [HttpApp, HttpApp];
    const mesh = await meshOf({ protocol: 'grpc', endpoints: { a: a.port, b: b.port } });
    const session = http2.connect(`http://${mesh.entry.address}:${mesh.entry.port}`);
    undo.push(() => session.destroy());
    const requests = Array.from({ length: 30 }, async () =>
      (await readAll(session.request({ ':path': '/' }))).toString(),
    );
    expect(new Set(await Promise.all(requests))).toEqual(new Set(['a', 'b']));
  });
});

describe('connections to an endpoint', () => {
  test('are reused by the connections of the application one after another', async () => {
    const app = await started(http1App(say('ok')));
    const mesh = await meshOf({ protocol: 'http', endpoints: { orders: app.port } });
    for (let i = 0; i < 10; i++) await ask(mesh.entry, '/', { agent: false });
    expect(app.requests).toBe(10);
    expect(app.accepted).toBe(1);
    expect(mesh.client.metric('postern_http_pool_connections', { direction: 'outbound' })).toBe(1);
  });

  test('end when they were idle for long', async () => {
    const app = await started(http1App(say('ok')));
    const mesh = await meshOf(
      { protocol: 'http', endpoints: { orders: app.port } },
      { http: { idlePoolTimeoutMs: 100 } },
    );
    await ask(mesh.entry, '/');
    await eventually(() => mesh.client.metric('postern_http_pool_connections') === 0, { what: 'no pooled connection' });
  });

  test('of an endpoint that leaves the service end, and its requests do not', async () => {
    const app = await started(
      http1App((_, response) => {
        response.write('begun ');
        setTimeout(() => response.end('ended'), 300);
      }),
    );
    const other = await started(http1App(say('other')));
    const mesh = await meshOf({ protocol: 'http', endpoints: { old: app.port } });
    const underWay = ask(mesh.entry, '/');
    await eventually(() => app.requests === 1, { what: 'the request' });
    await mesh.serve({ protocol: 'http', endpoints: { new: other.port } });
    expect((await ask(mesh.entry, '/')).body.toString()).toBe('other');
    expect((await underWay).body.toString()).toBe('begun ended');
    await eventually(() => mesh.client.metric('postern_http_pool_connections') === 1, { what: 'only the new one' });
  });
});

describe('an endpoint that does not work', () => {
  test('costs no request: another is asked', async () => {
    const app = await started(http1App(say('alive')));
    const mesh = await meshOf({ protocol: 'http', endpoints: { dead: await deadPort(), alive: app.port } });
    for (let i = 0; i < 20; i++) expect((await ask(mesh.entry, '/', { method: 'POST', body: 'x' })).status).toBe(200);
    expect(mesh.client.metric('postern_http_retries_total')).toBeGreaterThan(0);
    // What could not be connected is avoided at once: not every request finds out by itself.
    expect(mesh.client.metric('postern_http_retries_total')).toBeLessThan(10);
  });

  test('and is the only one: 503 with UF', async () => {
    const mesh = await meshOf({ protocol: 'http', endpoints: { dead: await deadPort() } });
    const { status, body } = await fails(mesh);
    expect(status).toBe(503);
    expect(body).toContain('upstream connect error');
    expect((await mesh.requests(1))[0]).toMatchObject({ status: 503, flags: 'UF', verdict: 'failed', attempts: 1 });
  });

  test('nor does the second: 503 with URX', async () => {
    const mesh = await meshOf({ protocol: 'http', endpoints: { a: await deadPort(), b: await deadPort() } });
    expect((await fails(mesh)).status).toBe(503);
    expect((await mesh.requests(1))[0]).toMatchObject({ flags: 'URX', attempts: 2 });
  });

  test('a GET that was reset before any byte of an answer goes to another', async () => {
    const [bad, good] = [await resetter(), await started(http1App(say('alive')))];
    const mesh = await meshOf({ protocol: 'http', endpoints: { bad: bad.port, good: good.port } });
    for (let i = 0; i < 20; i++) expect((await ask(mesh.entry, '/')).status).toBe(200);
    expect(bad.requests).toBeGreaterThan(0);
  });

  test('a POST that was reset is not sent again', async () => {
    const [a, b] = [await resetter(), await resetter()];
    const mesh = await meshOf({ protocol: 'http', endpoints: { a: a.port, b: b.port } });
    expect((await fails(mesh, { method: 'POST', headers: { 'content-length': '0' } })).status).toBe(503);
    expect(a.requests + b.requests).toBe(1);
    expect((await mesh.requests(1))[0]).toMatchObject({ flags: 'UC', attempts: 1 });
  });

  test('a PUT whose body is on its way is not sent again', async () => {
    const [a, b] = [await resetter(), await resetter()];
    const mesh = await meshOf({ protocol: 'http', endpoints: { a: a.port, b: b.port } });
    expect((await fails(mesh, { method: 'PUT', body: 'some' })).status).toBe(503);
    expect(a.requests + b.requests).toBe(1);
  });

  test('is ejected after five failures running, so that no request sees it', async () => {
    const bad = await started(
      http1App((_, response) => {
        response.statusCode = 500;
        response.end();
      }),
    );
    const good = await started(http1App(say('good')));
    const mesh = await meshOf({ protocol: 'http', endpoints: { bad: bad.port, good: good.port } });
    await eventually(
      async () => {
        await ask(mesh.entry, '/');
        return mesh.client.metric('postern_http_ejections_total') === 1;
      },
      { what: 'the ejection' },
    );
    const seen = bad.requests;
    for (let i = 0; i < 30; i++) expect((await ask(mesh.entry, '/')).status).toBe(200);
    expect(bad.requests).toBe(seen);
  });

  test('a service without endpoints: 503 with UH', async () => {
    const mesh = await meshOf({ protocol: 'http', endpoints: {} });
    expect(await fails(mesh)).toEqual({ status: 503, body: 'no healthy upstream' });
    expect((await mesh.requests(1))[0]).toMatchObject({ flags: 'UH', attempts: 0 });
  });

  test('a caller of gRPC is told in its own form', async () => {
    const mesh = await meshOf({ protocol: 'grpc', endpoints: {} });
    const session = http2.connect(`http://${mesh.entry.address}:${mesh.entry.port}`);
    undo.push(() => session.destroy());
    const stream = session.request({ ':method': 'POST', ':path': '/s/m', 'content-type': 'application/grpc' });
    stream.resume();
    const headers = await new Promise<http2.IncomingHttpHeaders>((resolve) => stream.on('response', resolve));
    expect(headers).toMatchObject({ ':status': 200, 'grpc-status': '14', 'grpc-message': 'no%20healthy%20upstream' });
  });
});
