import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import * as http from 'node:http';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import type { HttpLimits } from '../../../../proxy/worker/messages.ts';
import { App, Client, type TcpAddress } from '../../../support/apps.ts';
import { eventually, within } from '../../../support/eventually.ts';
import { LoopbackBlock } from '../../../support/loopback.ts';
import type { Http1Stats } from '../../support/http1-host.ts';
import { LoopThread } from '../../support/loop-thread.ts';
import { LIMITS } from './support.ts';

const undo: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

class Forwarding {
  readonly entry: TcpAddress;
  readonly #thread: LoopThread;
  readonly agent = new http.Agent({ keepAlive: true, maxSockets: 64 });

  private constructor(entry: TcpAddress, thread: LoopThread) {
    this.entry = entry;
    this.#thread = thread;
  }

  static async start(to: TcpAddress, limits: Partial<HttpLimits> = {}): Promise<Forwarding> {
    const block = await LoopbackBlock.take();
    const listen = { address: block.address(), port: 15_006 };
    const { address, port } = to;
    const thread = await LoopThread.start(new URL('../../support/http1-host.ts', import.meta.url), {
      listen,
      to: { address, port },
      limits: { ...LIMITS, headerBytes: 61_440, headerCount: 100, ...limits },
    });
    const idle = thread.descriptors;
    const proxy = new Forwarding(listen, thread);
    undo.push(async () => {
      proxy.agent.destroy();
      await eventually(async () => (await proxy.stats()).sessions === 0, { what: 'no session to be left' });
      await thread.ask('retire');
      await eventually(() => thread.descriptors === idle, { what: 'no descriptor to be left' });
      expect((await proxy.stats()).upstreams).toBe(0);
      await thread.ask('destroy');
      expect(await thread.stop()).toBe(0);
      expect(thread.faults).toEqual([]);
      block.release();
    });
    return proxy;
  }

  stats(): Promise<Http1Stats> {
    return this.#thread.ask<Http1Stats>('stats');
  }

  async request(options: http.RequestOptions, body: Buffer | string | null = null): Promise<Response> {
    const { address: host, port } = this.entry;
    const request = http.request({ host, port, agent: this.agent, ...options });
    request.end(body ?? undefined);
    return readResponse(request);
  }

  async dial(): Promise<Client> {
    const client = await Client.dial(this.entry);
    undo.push(() => client.destroy());
    return client;
  }
}

interface Response {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly trailers: NodeJS.Dict<string>;
  readonly body: Buffer;
}

async function readResponse(request: http.ClientRequest): Promise<Response> {
  const [response] = (await within(once(request, 'response'), 60_000, 'a response')) as [http.IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const { statusCode: status = 0, headers, trailers } = response;
  return { status, headers, trailers, body: Buffer.concat(chunks) };
}

async function app(handler: http.RequestListener): Promise<TcpAddress & { readonly server: http.Server }> {
  const server = http.createServer({ keepAliveTimeout: 60_000 }, handler);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  undo.push(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new Error('no TCP address');
  return { address: '127.0.0.1', port: bound.port, server };
}

const echo: http.RequestListener = (request, response) => {
  response.writeHead(200, { 'x-url': request.url ?? '', 'x-method': request.method ?? '' });
  request.pipe(response);
};

describe('between Node’s client and server', () => {
  test('small requests share one connection on each side, one read and one write each', async () => {
    const proxy = await Forwarding.start(await app((_, response) => void response.end('hello')));
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    undo.push(() => agent.destroy());
    for (let i = 0; i < 5; i++) await proxy.request({ path: '/', agent });
    const before = await proxy.stats();
    for (let i = 0; i < 20; i++) {
      const { status, body } = await proxy.request({ path: `/${i}`, agent });
      expect([status, body.toString()]).toEqual([200, 'hello']);
    }
    const after = await proxy.stats();
    expect([after.dialled, after.sessions]).toEqual([1, 1]);
    expect([after.reads - before.reads, after.writes - before.writes]).toEqual([40, 40]);
  });

  test.each([
    ['of known length', { 'content-length': '3000000' }],
    ['chunked', { 'transfer-encoding': 'chunked' }],
  ])('large bodies go both ways, %s', async (_, headers) => {
    const proxy = await Forwarding.start(await app(echo));
    const sent = randomBytes(3_000_000);
    const { body, headers: got } = await proxy.request({ method: 'POST', path: '/up?x=1', headers }, sent);
    expect([body.equals(sent), got['x-url'], got['x-method']]).toEqual([true, '/up?x=1', 'POST']);
    expect((await proxy.stats()).flags).toEqual(['-']);
  });

  test('many at a time', async () => {
    const proxy = await Forwarding.start(await app(echo));
    const one = async (i: number): Promise<boolean> => {
      const sent = randomBytes(i * 997);
      const { body } = await proxy.request({ method: 'PUT', path: `/${i}` }, sent);
      return body.equals(sent);
    };
    const all = await Promise.all(Array.from({ length: 100 }, (_, i) => one(i)));
    expect(all.every((whole) => whole)).toBe(true);
  });

  test('HEAD, 204, 304 and HTTP/1.0 keep the connection in step', async () => {
    const proxy = await Forwarding.start(
      await app((request, response) => {
        const status = Number(request.url?.slice(1));
        response.writeHead(status, status === 200 ? { 'content-length': 7 } : {});
        response.end(status === 200 && request.method === 'GET' ? 'content' : undefined);
      }),
    );
    for (let i = 0; i < 3; i++) {
      const head = await proxy.request({ method: 'HEAD', path: '/200' });
      expect([head.status, head.headers['content-length'], head.body.length]).toEqual([200, '7', 0]);
      expect((await proxy.request({ path: '/204' })).status).toBe(204);
      expect((await proxy.request({ path: '/304' })).status).toBe(304);
      expect((await proxy.request({ path: '/200' })).body.toString()).toBe('content');
    }
    expect((await proxy.stats()).dialled).toBe(1);
    const old = await proxy.dial();
    old.write('GET /200 HTTP/1.0\r\n\r\n');
    expect((await old.readToEnd()).toString()).toMatch(/^HTTP\/1\.1 200 [\s\S]*\r\n\r\ncontent$/);
    old.end();
  });

  test('trailers go both ways', async () => {
    const proxy = await Forwarding.start(
      await app((request, response) => {
        request.resume();
        request.on('end', () => {
          response.writeHead(200, { trailer: 'x-sum' });
          response.write('body');
          response.addTrailers({ 'x-sum': request.trailers['x-sent'] ?? 'none' });
          response.end();
        });
      }),
    );
    const { address: host, port } = proxy.entry;
    const request = http.request({ host, port, method: 'POST', agent: proxy.agent, headers: { trailer: 'x-sent' } });
    request.write('part');
    request.addTrailers({ 'x-sent': '17' });
    request.end();
    expect((await readResponse(request)).trailers).toEqual({ 'x-sum': '17' });
  });

  test('Expect: 100-continue is asked of the application', async () => {
    const target = await app(echo);
    let asked = 0;
    target.server.on('checkContinue', (request: http.IncomingMessage, response: http.ServerResponse) => {
      asked++;
      response.writeContinue();
      echo(request, response);
    });
    const proxy = await Forwarding.start(target);
    const { address: host, port } = proxy.entry;
    const headers = { expect: '100-continue', 'content-length': 4 };
    const request = http.request({ host, port, method: 'POST', agent: proxy.agent, headers });
    request.flushHeaders();
    await within(once(request, 'continue'), 60_000, '100');
    request.end('body');
    expect([(await readResponse(request)).body.toString(), asked]).toEqual(['body', 1]);
  });

  test('an answer before the end of the request reaches the client', async () => {
    const proxy = await Forwarding.start(
      await app((_, response) => void response.writeHead(413, { connection: 'close' }).end('too much')),
    );
    const client = await proxy.dial();
    client.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n');
    client.write(Buffer.alloc(300_000));
    expect((await client.read(12)).toString()).toBe('HTTP/1.1 413');
    client.destroy();
  });

  test('a slow reader holds its own response alone, and loses nothing', async () => {
    const sent = randomBytes(8_000_000);
    const proxy = await Forwarding.start(await app((_, response) => void response.end(sent)));
    const slow = await proxy.dial();
    slow.socket.pause();
    slow.write('GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    await sleep(200);
    expect((await proxy.request({ path: '/' })).body.equals(sent)).toBe(true);
    slow.socket.resume();
    const all = await slow.readToEnd();
    expect(all.subarray(all.length - sent.length).equals(sent)).toBe(true);
    slow.end();
  });
});

describe('what breaks', () => {
  test.each([
    ['of known length', 'Content-Length: 100'],
    ['chunked', 'Transfer-Encoding: chunked'],
  ])('a response that breaks off never looks complete: %s', async (_, framing) => {
    const target = await App.start((socket) => {
      socket.on('data', () => {
        socket.write(`HTTP/1.1 200 OK\r\n${framing}\r\n\r\n5\r\nhello\r\n`);
        setTimeout(() => socket.destroy(), 50);
      });
    });
    undo.push(() => target.close());
    const proxy = await Forwarding.start(target);
    const client = await proxy.dial();
    client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    expect(await within(client.closed, 60_000, 'the end')).toBe('ECONNRESET');
    expect((await proxy.stats()).flags).toEqual(['UC']);
  });

  test('an application that is gone is a 503', async () => {
    const target = await App.start((socket) => void socket.on('data', () => socket.destroy()));
    undo.push(() => target.close());
    const proxy = await Forwarding.start(target);
    expect((await proxy.request({ path: '/' })).status).toBe(503);
    expect((await proxy.stats()).flags).toEqual(['UC']);
  });

  test('a client that goes away costs the application its request', async () => {
    const come = Promise.withResolvers<void>();
    const gone = Promise.withResolvers<void>();
    const target = await app((request) => {
      come.resolve();
      request.on('close', () => gone.resolve());
    });
    const proxy = await Forwarding.start(target);
    const client = await proxy.dial();
    client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await within(come.promise, 60_000, 'the request');
    client.destroy();
    await within(gone.promise, 60_000, 'the application to be told');
    expect((await proxy.stats()).flags).toEqual(['DC']);
  });

  test('what is no HTTP is refused, and the client can read why', async () => {
    const proxy = await Forwarding.start(await app(echo));
    const client = await proxy.dial();
    client.write(
      `GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n${'x'.repeat(9_000)}`,
    );
    expect((await client.readToEnd()).toString()).toMatch(/^HTTP\/1\.1 400 /);
    client.end();
    expect((await proxy.stats()).flags).toEqual(['rejected 400']);
  });
});

describe('pipelining and protocols that take over', () => {
  test('requests sent ahead are answered in order', async () => {
    const proxy = await Forwarding.start(
      await app((request, response) => {
        setTimeout(() => response.end(request.url), request.url === '/0' ? 50 : 0);
      }),
    );
    const client = await proxy.dial();
    const requests = Array.from({ length: 20 }, (_, i) => `GET /${i} HTTP/1.1\r\nHost: a\r\n`);
    client.write(requests.map((one, i) => `${one}${i === 19 ? 'Connection: close\r\n' : ''}\r\n`).join(''));
    const all = (await client.readToEnd()).toString();
    expect([...all.matchAll(/\r\n\r\n(?:\w+\r\n)?(\/\d+)/g)].map((match) => match[1])).toEqual(
      Array.from({ length: 20 }, (_, i) => `/${i}`),
    );
    client.end();
  });

  test('a WebSocket', async () => {
    const target = await app((_, response) => void response.end());
    const sockets = new WebSocketServer({ server: target.server });
    sockets.on('connection', (socket) => socket.on('message', (data, binary) => socket.send(data, { binary })));
    const proxy = await Forwarding.start(target);
    const client = new WebSocket(`ws://${proxy.entry.address}:${proxy.entry.port}/chat`);
    await within(once(client, 'open'), 60_000, 'the WebSocket');
    for (const size of [1, 100, 70_000, 1_000_000]) {
      const sent = randomBytes(size);
      client.send(sent);
      const [got] = (await within(once(client, 'message'), 60_000, 'the echo')) as [Buffer];
      expect(got.equals(sent)).toBe(true);
    }
    client.close();
    await within(once(client, 'close'), 60_000, 'the end');
    await eventually(async () => (await proxy.stats()).flags.join() === '-', { what: 'the record' });
  });

  test.each(['client', 'application'])('CONNECT carries the end of the %s first', async (first) => {
    const target = await app(() => {});
    const far = Promise.withResolvers<Socket>();
    target.server.on('connect', (_: http.IncomingMessage, socket: Socket) => {
      socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
      far.resolve(socket);
    });
    const proxy = await Forwarding.start(target);
    const near = connect({ host: proxy.entry.address, port: proxy.entry.port, allowHalfOpen: true });
    undo.push(() => void near.destroy());
    near.write('CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n');
    const [answer] = (await within(once(near, 'data'), 60_000, 'the answer')) as [Buffer];
    expect(answer.toString()).toBe('HTTP/1.1 200 Connection Established\r\n\r\n');
    const [one, other] = first === 'client' ? [near, await far.promise] : [await far.promise, near];
    const heard: string[] = [];
    for (const [who, socket] of [
      ['one', one],
      ['other', other],
    ] as const) {
      socket
        .on('data', (chunk: Buffer) => heard.push(`${who}: ${chunk}`))
        .on('end', () => heard.push(`${who} heard the end`));
    }
    one.end('last words');
    await eventually(() => heard.join() === 'other: last words,other heard the end', { what: 'the first end' });
    other.end('and mine');
    await eventually(() => heard.slice(2).join() === 'one: and mine,one heard the end', { what: 'the second end' });
    await eventually(async () => (await proxy.stats()).flags.join() === '-', { what: 'the record' });
  });
});

describe('limits of time', () => {
  test('a slow head is answered by 408, an idle request by 504', async () => {
    const proxy = await Forwarding.start(await app(() => {}), { headersTimeoutMs: 300, streamIdleTimeoutMs: 500 });
    const slow = await proxy.dial();
    slow.write('GET / HT');
    expect((await slow.readToEnd()).toString()).toMatch(/^HTTP\/1\.1 408 /);
    slow.end();
    expect((await proxy.request({ path: '/' })).status).toBe(504);
    expect((await proxy.stats()).flags).toEqual(['rejected 408', 'SI']);
  });

  test('a response that takes too long is a 504', async () => {
    const proxy = await Forwarding.start(await app(() => {}), { requestTimeoutMs: 300 });
    expect((await proxy.request({ path: '/' })).status).toBe(504);
    expect((await proxy.stats()).flags).toEqual(['UT']);
  });
});
