import * as http from 'node:http';
import * as http2 from 'node:http2';
import { afterEach, describe, expect, test } from 'vitest';
import { Client, type TcpAddress } from '../../support/apps.ts';
import { eventually } from '../../support/eventually.ts';
import { foreignAuthority, type Signer } from '../../support/forge.ts';
import {
  ask,
  type Http1Handler,
  type Http2Handler,
  type HttpApp,
  http1App,
  http2App,
  readAll,
  tellWhatYouSaw,
} from '../../support/http-apps.ts';
import { LoopbackBlock } from '../../support/loopback.ts';
import { DataPlaneThread, meshConfig, trustBundle } from '../support/data-plane.ts';
import { orders, PORT, requestsOf } from './outbound-mesh.ts';

const undo: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

interface Mesh {
  readonly client: DataPlaneThread;
  readonly servers: readonly DataPlaneThread[];
  readonly signer: Signer;
}

/** A client's sidecar and one for each application behind `shop/orders`. @param seenByServers what the port is to them, where that differs */
async function meshOf(protocol: string, apps: readonly HttpApp[], seenByServers = protocol): Promise<Mesh> {
  const signer = foreignAuthority();
  const block = await LoopbackBlock.take();
  undo.push(() => block.release());
  const started = async (start: Promise<DataPlaneThread>): Promise<DataPlaneThread> => {
    const thread = await start;
    undo.push(() => thread.stop());
    return thread;
  };
  const servers = await Promise.all(
    apps.map((app, i) => {
      const expose = [{ port: 8080, application: { address: app.address, port: app.port } }];
      return started(DataPlaneThread.start({ name: `orders-${i}`, address: block.address(), expose }));
    }),
  );
  const upstreams = [{ service: 'shop/orders', port: PORT }];
  const client = await started(DataPlaneThread.start({ name: 'frontend', address: block.address(), upstreams }));
  const endpoints = Object.fromEntries(servers.map(({ name }) => [name, 8080]));
  const workloads = [...servers, client].map(({ workload }) => workload);
  for (const one of [...servers, client]) {
    one.identify(signer);
    const service = orders({ protocol: one === client ? protocol : seenByServers, endpoints });
    await one.push(meshConfig(), trustBundle(signer), ...workloads, service);
  }
  return { client, servers, signer };
}

async function started<A extends HttpApp>(app: Promise<A>): Promise<A> {
  const made = await app;
  undo.push(() => made.close());
  return made;
}

const hostOf = ({ address, port }: TcpAddress) => ({ host: address, port });

const pooled = (plane: DataPlaneThread): number =>
  plane.metric('postern_http_pool_connections', { direction: 'outbound' });

describe('HTTP/1.1 through two sidecars', () => {
  test('reaches the application behind, which is told who asks', async () => {
    const { client } = await meshOf('http', [await started(http1App(tellWhatYouSaw))]);
    const { status, body } = await ask(client.upstream, '/a?b=c', { method: 'POST', body: 'hello' });
    expect(status).toBe(200);
    const seen = JSON.parse(body.toString()) as { url: string; body: string; headers: Record<string, string> };
    expect(seen).toMatchObject({ url: '/a?b=c', body: 'hello' });
    expect(seen.headers['x-forwarded-client-cert']).toContain(`URI=${client.identity}`);
  });

  test('is told of by the client as encrypted, with the identity that the server showed', async () => {
    const { client, servers } = await meshOf('http', [await started(http1App(tellWhatYouSaw))]);
    await ask(client.upstream, '/');
    const [line] = await requestsOf(client, 1);
    expect(line).toMatchObject({
      transport: 'hbone',
      flags: '-',
      destination: { workload: 'orders-0', principal: servers[0]?.identity },
    });
  });

  test('many connections of the application share one stream of one tunnel', async () => {
    const app = await started(http1App(tellWhatYouSaw));
    const { client } = await meshOf('http', [app]);
    for (let i = 0; i < 10; i++) await ask(client.upstream, '/', { agent: false });
    expect(app.requests).toBe(10);
    expect(pooled(client)).toBe(1);
    expect(client.metric('postern_tunnels', { direction: 'outbound' })).toBe(1);
  });

  test('after a rotation of the certificate no idle stream is left, its tunnel ends, and requests go on', async () => {
    const { client, signer } = await meshOf('http', [await started(http1App(tellWhatYouSaw))]);
    await ask(client.upstream, '/');
    client.identify(signer);
    await eventually(() => pooled(client) === 0 && client.metric('postern_tunnels') === 0, { what: 'no tunnel' });
    expect((await ask(client.upstream, '/')).status).toBe(200);
  });

  test('a rotation lets the request under way end', async () => {
    const app = await started(
      http1App((_, response) => {
        response.write('begun ');
        setTimeout(() => response.end('ended'), 300);
      }),
    );
    const { client, signer } = await meshOf('http', [app]);
    const underWay = ask(client.upstream, '/');
    await eventually(() => app.requests === 1, { what: 'the request' });
    client.identify(signer);
    expect((await underWay).body.toString()).toBe('begun ended');
    await eventually(() => client.metric('postern_tunnels') === 0, { what: 'no tunnel' });
  });

  test('a server that is revoked loses the request under way, and gets no other', async () => {
    const app = await started(http1App((_, response) => response.write('begun ')));
    const { client, servers } = await meshOf('http', [app]);
    const underWay = await Client.dial(client.upstream);
    underWay.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    // Before that it would be answered by 503.
    expect(await underWay.answered()).toBe(true);
    const spiffeIds = [servers[0]?.identity ?? ''];
    await client.push({ kind: 'Revocations', name: 'revoked', spiffeIds, serials: [] });
    expect(await underWay.closed).toBe('ECONNRESET');
    expect((await ask(client.upstream, '/')).status).toBe(503);
    expect(app.requests).toBe(1);
  });

  test('a server that has gone costs no request while there is another', async () => {
    const apps = [await started(http1App(tellWhatYouSaw)), await started(http1App(tellWhatYouSaw))];
    const { client, servers } = await meshOf('http', apps);
    for (let i = 0; i < 6; i++) await ask(client.upstream, '/');
    await servers[0]?.stop();
    for (let i = 0; i < 20; i++) expect((await ask(client.upstream, '/')).status).toBe(200);
  });

  test('a connection that the other sidecar denies is a 403 for the request, and no other endpoint is asked', async () => {
    const apps = [await started(http1App(tellWhatYouSaw)), await started(http1App(tellWhatYouSaw))];
    // To them the port is opaque, so that they decide connections.
    const { client, servers } = await meshOf('http', apps, 'tcp');
    const object = { apiVersion: 'security.istio.io/v1', kind: 'AuthorizationPolicy', spec: {} };
    const deny = { ...object, metadata: { name: 'nobody', namespace: 'shop' } };
    for (const server of servers) await server.push({ kind: 'AuthorizationPolicy', name: 'shop/nobody', object: deny });
    const { status, body } = await ask(client.upstream, '/', { method: 'POST', body: 'x' });
    expect({ status, body: body.toString() }).toEqual({ status: 403, body: 'RBAC: access denied' });
    expect((await requestsOf(client, 1))[0]).toMatchObject({ verdict: 'denied', flags: '-', attempts: 1 });
    expect(client.metric('postern_http_retries_total')).toBe(0);
    await eventually(() => pooled(client) === 0, { what: 'no pooled connection' });
  });
});

describe('what a request may carry', () => {
  test('bodies that are far larger than any buffer, both ways at once', async () => {
    const app = await started(http1App((request, response) => request.pipe(response)));
    const { client } = await meshOf('http', [app]);
    const body = Buffer.alloc(24 * 1024 * 1024, 'postern ');
    const answer = await ask(client.upstream, '/', { method: 'PUT', body });
    expect(answer.status).toBe(200);
    expect(answer.body.equals(body)).toBe(true);
  });

  test('an upgrade: from then on bytes go both ways as they are', async () => {
    const app = await started(http1App(tellWhatYouSaw));
    app.server.on('upgrade', (_, socket) => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
      socket.pipe(socket);
    });
    const { client } = await meshOf('http', [app]);
    const caller = await Client.dial(client.upstream);
    undo.push(() => caller.destroy());
    caller.write('GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
    let got = '';
    while (!got.endsWith('\r\n\r\n')) got += (await caller.read(1)).toString();
    expect(got).toMatch(/^HTTP\/1\.1 101 /);
    caller.write('\x00 not HTTP');
    expect((await caller.read(10)).toString()).toBe('\x00 not HTTP');
    caller.end();
    await caller.over();
    expect((await requestsOf(client, 1))[0]).toMatchObject({ status: 101, path: '/ws' });
  });
});

describe('HTTP/2 through two sidecars', () => {
  test('many requests share one stream of one tunnel', async () => {
    const app = await started(
      http2App((stream, headers) => {
        stream.respond({ ':status': 200 });
        stream.end(`${headers[':path']}`);
      }),
    );
    const { client } = await meshOf('http2', [app]);
    const session = http2.connect(`http://${client.upstream.address}:${client.upstream.port}`);
    undo.push(() => session.destroy());
    const bodies = await Promise.all(
      Array.from({ length: 30 }, async (_, i) => (await readAll(session.request({ ':path': `/${i}` }))).toString()),
    );
    expect(bodies).toEqual(Array.from({ length: 30 }, (_, i) => `/${i}`));
    expect(pooled(client)).toBe(1);
  });

  test('after a rotation of the certificate no idle stream is left, and the same connection of the application goes on', async () => {
    const app = await started(
      http2App((stream) => {
        stream.respond({ ':status': 200 });
        stream.end('h2');
      }),
    );
    const { client, signer } = await meshOf('http2', [app]);
    const session = http2.connect(`http://${client.upstream.address}:${client.upstream.port}`);
    undo.push(() => session.destroy());
    await readAll(session.request({ ':path': '/' }));
    client.identify(signer);
    await eventually(() => pooled(client) === 0 && client.metric('postern_tunnels') === 0, { what: 'no tunnel' });
    expect((await readAll(session.request({ ':path': '/' }))).toString()).toBe('h2');
  });

  test('trailers come back: gRPC', async () => {
    const app = await started(
      http2App((stream) => {
        stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
        stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '5' }));
        stream.end(Buffer.from([0, 0, 0, 0, 1, 7]));
      }),
    );
    const { client } = await meshOf('grpc', [app]);
    const session = http2.connect(`http://${client.upstream.address}:${client.upstream.port}`);
    undo.push(() => session.destroy());
    const headers = { ':method': 'POST', ':path': '/s/m', 'content-type': 'application/grpc', te: 'trailers' };
    const stream = session.request(headers);
    const trailers = new Promise((resolve) => stream.on('trailers', resolve));
    stream.end(Buffer.from([0, 0, 0, 0, 0]));
    await readAll(stream);
    expect(await trailers).toMatchObject({ 'grpc-status': '5' });
    const labels = { grpc_response_status: '5', request_protocol: 'grpc' };
    await eventually(() => client.metric('istio_requests_total', labels) === 1, { what: 'the request to be counted' });
  });
});

describe('a storm', () => {
  /** Echoes, slowly or at once; `/reset` breaks off before an answer, `/half` within it. */
  const moody: Http1Handler = (request, response) => {
    const { url = '' } = request;
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    if (url === '/reset') request.socket.resetAndDestroy();
    else if (url === '/half') {
      response.write('half');
      setTimeout(() => request.socket.destroy(), 5);
    } else if (url === '/slow') setTimeout(() => request.pipe(response), 20);
    else request.pipe(response);
  };

  test('of clients that ask, send, break off and go leaves nothing behind, and no answer is another’s', async () => {
    const apps = [await started(http1App(moody)), await started(http1App(moody))];
    const { client, servers } = await meshOf('http', apps);
    const agent = new http.Agent({ keepAlive: true, maxSockets: 20 });
    undo.push(() => agent.destroy());
    const paths = ['/', '/', '/', '/slow', '/reset', '/half'];
    let whole = 0;
    const one = async (i: number): Promise<void> => {
      const path = paths[i % paths.length] ?? '/';
      const body = `${i}:`.repeat((i * 37) % 9_000);
      const request = http.request({ ...hostOf(client.upstream), path, agent, method: i % 2 === 0 ? 'PUT' : 'POST' });
      const over = new Promise<string | null>((resolve) => {
        request.on('error', () => resolve(null));
        request.on('response', (response) => {
          const text = readAll(response).then(
            (bytes) => (response.statusCode === 200 ? bytes.toString() : null),
            () => null,
          );
          void text.then(resolve);
        });
      });
      request.end(body);
      if (i % 11 === 0) setTimeout(() => request.destroy(), i % 7);
      const answer = await over;
      if (answer === null || path === '/half') return;
      expect(answer).toBe(body);
      whole++;
    };
    for (let i = 0; i < 400; i += 20) await Promise.all(Array.from({ length: 20 }, (_, k) => one(i + k)));
    expect(whole).toBeGreaterThan(150);
    agent.destroy();
    for (const plane of [client, ...servers]) {
      await eventually(
        () =>
          plane.metric('postern_http_requests_in_flight') === 0 && plane.metric('postern_http_pending_requests') === 0,
        { what: 'no request' },
      );
      expect(plane.metric('postern_internal_errors_total')).toBe(0);
    }
    await eventually(() => client.metric('postern_connections') === 0, { what: 'no connection' });
  });

  test('of HTTP/2 streams that are reset on either side leaves the others whole', async () => {
    const moodyStream: Http2Handler = (stream, headers) => {
      stream.on('error', () => undefined);
      if (headers[':path'] === '/reset') {
        stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
        return;
      }
      stream.respond({ ':status': 200 });
      stream.pipe(stream);
    };
    const apps = [await started(http2App(moodyStream)), await started(http2App(moodyStream))];
    const { client, servers } = await meshOf('http2', apps);
    const session = http2.connect(`http://${client.upstream.address}:${client.upstream.port}`);
    undo.push(() => session.destroy());
    let whole = 0;
    const one = async (i: number): Promise<void> => {
      const body = `${i}:`.repeat((i * 37) % 9_000);
      const path = i % 7 === 0 ? '/reset' : '/';
      const stream = session.request({ ':method': 'POST', ':path': path });
      stream.on('error', () => undefined);
      stream.end(body);
      if (i % 11 === 0) setTimeout(() => stream.close(http2.constants.NGHTTP2_CANCEL), i % 5);
      const status = new Promise<number>((resolve) => {
        stream.on('response', (headers) => resolve(headers[':status'] ?? 0));
        stream.on('close', () => resolve(0));
      });
      const answer = await readAll(stream).then(String, () => null);
      if ((await status) !== 200 || answer === null || i % 11 === 0) return;
      expect(answer).toBe(body);
      whole++;
    };
    for (let i = 0; i < 400; i += 40) await Promise.all(Array.from({ length: 40 }, (_, k) => one(i + k)));
    expect(whole).toBeGreaterThan(250);
    for (const plane of [client, ...servers]) {
      await eventually(() => plane.metric('postern_http_requests_in_flight') === 0, { what: 'no request' });
      expect(plane.metric('postern_internal_errors_total')).toBe(0);
    }
  });
});
