import { once } from 'node:events';
import { createServer as createHttps } from 'node:https';
import { type AddressInfo, createServer, type Server } from 'node:net';
import * as grpc from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { GrpcProbe, HttpProbe, ProbeConfig, TcpProbe } from '../../../../proxy/config-pod.ts';
import { HttpServer } from '../../../../proxy/control/http-server.ts';
import { decodeStatus, encodeCheck } from '../../../../proxy/control/probes/health-message.ts';
import { probeRoutes } from '../../../../proxy/control/probes/probe-routes.ts';
import { eventually } from '../../../support/eventually.ts';
import { selfSigned } from '../../../support/forge.ts';
import { type Http1Handler, type HttpApp, http1App, http2App } from '../../../support/http-apps.ts';
import { recordedLog } from '../support/quiet-log.ts';

const PATH = '/app-health/web/readyz';
const HTTP: Omit<HttpProbe, 'port'> = { kind: 'http', path: '/healthz', scheme: 'HTTP', host: null, headers: [] };

const closing: (() => Promise<unknown> | unknown)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function serve(ask: ProbeConfig['ask'], timeoutMs = 20_000): Promise<string> {
  const server = new HttpServer({
    what: 'health.listen',
    at: { address: '127.0.0.1', port: 0 },
    routes: probeRoutes([{ path: PATH, timeoutMs, ask }], '127.0.0.1'),
    guarded: false,
    log: recordedLog().log,
  });
  await server.listen();
  closing.push(() => server.close());
  return `http://127.0.0.1:${server.port}`;
}

async function probe(
  ask: HttpProbe | TcpProbe | GrpcProbe,
  timeoutMs?: number,
): Promise<{ status: number; why: string }> {
  const origin = await serve(ask, timeoutMs);
  const answer = await fetch(`${origin}${PATH}`, { headers: { 'user-agent': 'kube-probe/1.31', cookie: 'a=b' } });
  return { status: answer.status, why: (await answer.text()).trim() };
}

async function app(handler: Http1Handler): Promise<HttpApp> {
  const started = await http1App(handler);
  closing.push(() => started.close());
  return started;
}

/** A port on which nothing listens. */
async function deadPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

describe('an HTTP probe', () => {
  it.each([
    [200, 200],
    [204, 200],
    [399, 200],
    [400, 503],
    [404, 503],
    [500, 503],
  ])('of an application that answers %i is answered %i', async (status, expected) => {
    const { port } = await app((_, response) => response.writeHead(status).end());
    expect(await probe({ ...HTTP, port })).toEqual({ status: expected, why: `status ${status}` });
  });

  it('carries what was configured and the User-Agent of whoever asks, and nothing else of the request', async () => {
    const seen: unknown[] = [];
    const { port } = await app(({ method, url, headers }, response) => {
      seen.push({ method, url, headers });
      response.end('ok');
    });
    const headers = [
      { name: 'X-Test', value: 'a' },
      { name: 'x-test', value: 'b' },
      { name: 'Content-Length', value: '5' },
      { name: 'Transfer-Encoding', value: 'chunked' },
    ];
    await probe({ ...HTTP, port, path: '/healthz?deep=1', host: 'shop.example', headers });
    expect(seen).toEqual([
      {
        method: 'GET',
        url: '/healthz?deep=1',
        headers: {
          accept: '*/*',
          'user-agent': 'kube-probe/1.31',
          host: 'shop.example',
          connection: 'close',
          'x-test': 'a, b',
        },
      },
    ]);
  });

  it('takes a configured Host, User-Agent and no Accept over its own', async () => {
    let seen: unknown;
    const { port } = await app(({ headers }, response) => {
      seen = headers;
      response.end();
    });
    const headers = [
      { name: 'Host', value: 'a.example' },
      { name: 'User-Agent', value: 'mine' },
      { name: 'Accept', value: '' },
    ];
    await probe({ ...HTTP, port, headers });
    expect(seen).toEqual({ host: 'a.example', 'user-agent': 'mine', connection: 'close' });
  });

  it('follows redirects on the same host, by another port too', async () => {
    const target = await app((_, response) => response.writeHead(500).end());
    const { port } = await app(({ url }, response) => {
      const location = url === '/healthz' ? '/next' : `http://127.0.0.1:${target.port}/there`;
      response.writeHead(302, { location }).end();
    });
    expect(await probe({ ...HTTP, port })).toEqual({ status: 503, why: 'status 500' });
    expect(target.requests).toBe(1);
  });

  it('takes a redirect to another host for success, without following it', async () => {
    const other = await app((_, response) => response.writeHead(500).end());
    const { port } = await app((_, response) =>
      response.writeHead(301, { location: `http://localhost:${other.port}/` }).end(),
    );
    expect(await probe({ ...HTTP, port })).toEqual({ status: 200, why: 'status 301' });
    expect(other.requests).toBe(0);
  });

  it('gives up at the tenth redirect', async () => {
    const loop = await app((_, response) => response.writeHead(302, { location: '/again' }).end());
    expect(await probe({ ...HTTP, port: loop.port })).toEqual({ status: 503, why: 'stopped after 10 redirects' });
    expect(loop.requests).toBe(10);
  });

  it('does not wait for the end of a long body', async () => {
    const { port } = await app((_, response) => response.writeHead(200).write(Buffer.alloc(20_000)));
    expect((await probe({ ...HTTP, port })).status).toBe(200);
  });

  it('fails where no answer comes in time', async () => {
    const { port } = await app(() => undefined);
    expect(await probe({ ...HTTP, port }, 100)).toEqual({ status: 503, why: 'no answer within 100 ms' });
  });

  it('fails where nothing listens', async () => {
    const port = await deadPort();
    expect(await probe({ ...HTTP, port })).toEqual({ status: 503, why: `connect ECONNREFUSED 127.0.0.1:${port}` });
  });

  it('by HTTPS takes any certificate', async () => {
    const { key, cert } = selfSigned({});
    const server = createHttps({ key, cert }, (_, response) => response.end('ok')).listen(0, '127.0.0.1');
    await once(server, 'listening');
    closing.push(() => server.close());
    const { port } = server.address() as AddressInfo;
    expect((await probe({ ...HTTP, port, scheme: 'HTTPS' })).status).toBe(200);
    expect((await probe({ ...HTTP, port, scheme: 'HTTP' })).status).toBe(503);
  });

  it('has four requests under way at most, and tells whoever else asks what the newest of them finds out', async () => {
    const held: (() => void)[] = [];
    const { port } = await app((_, response) => held.push(() => response.end()));
    const origin = await serve({ ...HTTP, port });
    const four = Array.from({ length: 4 }, () => fetch(`${origin}${PATH}`));
    await eventually(() => held.length === 4, { what: 'four requests at the application' });
    const fifth = fetch(`${origin}${PATH}`);
    const other = fetch(`${origin}/app-health/none`);
    expect((await other).status).toBe(404);
    expect(held.length).toBe(4);
    for (const end of held.splice(0)) end();
    expect((await Promise.all([...four, fifth])).map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
    const after = fetch(`${origin}${PATH}`);
    await eventually(() => held.length === 1, { what: 'room for another' });
    held[0]?.();
    expect((await after).status).toBe(200);
  });
});

describe('the health port', () => {
  it('answers HEAD like GET, refuses other methods, and knows no other path', async () => {
    const { port } = await app((_, response) => response.end('ok'));
    const origin = await serve({ ...HTTP, port });
    expect((await fetch(`${origin}${PATH}`, { method: 'HEAD' })).status).toBe(200);
    expect((await fetch(`${origin}${PATH}`, { method: 'POST' })).status).toBe(405);
    expect((await fetch(`${origin}/app-health/web/livez`)).status).toBe(404);
    expect((await fetch(`${origin}/app-health/constructor`)).status).toBe(404);
  });
});

describe('a TCP probe', () => {
  it('succeeds where something accepts', async () => {
    const server: Server = createServer((socket) => socket.on('error', () => undefined).resume()).listen(
      0,
      '127.0.0.1',
    );
    await once(server, 'listening');
    closing.push(() => server.close());
    expect((await probe({ kind: 'tcp', port: (server.address() as AddressInfo).port })).status).toBe(200);
  });

  it('fails where nothing listens', async () => {
    expect((await probe({ kind: 'tcp', port: await deadPort() })).status).toBe(503);
  });
});

describe('a gRPC probe', () => {
  let health: grpc.Server;
  let port = 0;
  const asked: string[] = [];
  const agents: unknown[] = [];

  /** The service by hand: requests and answers as the bytes that they are. */
  beforeEach(async () => {
    asked.length = 0;
    agents.length = 0;
    health = new grpc.Server();
    const bytes = (value: Buffer): Buffer => value;
    const check: grpc.handleUnaryCall<Buffer, Buffer> = (call, answer) => {
      const service = call.request.subarray(2).toString();
      asked.push(service);
      agents.push(call.metadata.get('user-agent')[0]);
      if (service === 'missing') answer({ code: grpc.status.NOT_FOUND });
      else if (service === 'slow') return;
      else answer(null, Buffer.from([8, service === 'down' ? 2 : 1]));
    };
    const definition = {
      Check: {
        path: '/grpc.health.v1.Health/Check',
        requestStream: false,
        responseStream: false,
        requestSerialize: bytes,
        requestDeserialize: bytes,
        responseSerialize: bytes,
        responseDeserialize: bytes,
      },
    };
    health.addService(definition, { Check: check });
    port = await new Promise<number>((resolve, reject) =>
      health.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      ),
    );
    closing.push(() => health.forceShutdown());
  });

  it.each([
    ['', 200, 'SERVING'],
    ['orders', 200, 'SERVING'],
    ['down', 503, 'NOT_SERVING'],
    ['missing', 503, 'gRPC status 5'],
  ])('for the service %j is answered %i: %s', async (service, status, why) => {
    expect(await probe({ kind: 'grpc', port, service })).toEqual({ status, why });
    expect(asked).toEqual([service]);
    expect(agents).toEqual(['kube-probe/1.31']);
  });

  it('fails where no answer comes in time', async () => {
    expect(await probe({ kind: 'grpc', port, service: 'slow' }, 300)).toEqual({
      status: 503,
      why: 'no answer within 300 ms',
    });
  });

  it('fails where nothing listens, or what listens speaks no HTTP/2', async () => {
    expect((await probe({ kind: 'grpc', port: await deadPort(), service: '' })).status).toBe(503);
    const plain = await app((_, response) => response.end());
    expect((await probe({ kind: 'grpc', port: plain.port, service: '' })).status).toBe(503);
  });

  it('fails where the answer is no gRPC, or too long', async () => {
    const bodies = [encodeCheck('x'), Buffer.alloc(10_000)];
    const other = await http2App((stream) => {
      stream.on('error', () => undefined);
      stream.respond({ ':status': 200 });
      stream.end(bodies.shift());
    });
    closing.push(() => other.close());
    const ask = { kind: 'grpc', port: other.port, service: '' } as const;
    expect(await probe(ask)).toEqual({ status: 503, why: 'gRPC status missing' });
    expect(await probe(ask)).toEqual({ status: 503, why: 'an answer that is too long' });
    expect(decodeStatus(encodeCheck('x'))).toBeNull();
  });
});
