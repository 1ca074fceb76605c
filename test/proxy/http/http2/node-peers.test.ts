import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { eventually, within } from '../../../support/eventually.ts';
import { LoopbackBlock } from '../../../support/loopback.ts';
import { LoopThread } from '../../support/loop-thread.ts';
import type { ProxyHostStart, ProxyStats } from './support/proxy-host.ts';

/** Our sessions between a client and a server of node:http2 (nghttp2), which know nothing of ours. */

const LARGE = 48 * 1024 * 1024;
const PORT = 15006;

let backend: Http2Server;
let block: LoopbackBlock;
let thread: LoopThread;
let client: ClientHttp2Session;
let address: string;
/** Bytes that the backend's application has written on /large. */
let produced = 0;

function serve(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
  stream.on('error', () => undefined);
  switch (headers[':path']) {
    case '/echo':
      stream.respond({ ':status': 200, 'x-seen': String(headers['x-a']) }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.pipe(stream);
      break;
    case '/large':
      produced = 0;
      stream.respond({ 'content-length': String(LARGE) });
      produce(stream);
      break;
    case '/early':
      stream.respond({ ':status': 413 });
      stream.end('too much');
      break;
    case '/hint':
      stream.additionalHeaders({ ':status': 103, link: '</a>' });
      stream.respond({ ':status': 204 }, { endStream: true });
      break;
    case '/reset':
      stream.respond({ ':status': 200 });
      stream.write('some');
      setTimeout(() => stream.destroy(new Error('given up')), 50);
      break;
    default:
      stream.respond({ ':status': 200, 'content-length': '5' }, { endStream: headers[':method'] === 'HEAD' });
      if (headers[':method'] !== 'HEAD') stream.end('hello');
  }
}

function produce(stream: ServerHttp2Stream): void {
  const piece = Buffer.alloc(65_536, 'z');
  while (produced < LARGE && !stream.destroyed) {
    produced += piece.length;
    if (!stream.write(piece)) {
      stream.once('drain', () => produce(stream));
      return;
    }
  }
  stream.end();
}

beforeAll(async () => {
  backend = createServer();
  backend.on('stream', serve);
  backend.listen(0, '127.0.0.1');
  await once(backend, 'listening');
  block = await LoopbackBlock.take();
  address = block.address();
  const start: ProxyHostStart = {
    listen: { address, port: PORT },
    backend: { address: '127.0.0.1', port: (backend.address() as AddressInfo).port },
  };
  thread = await LoopThread.start(new URL('./support/proxy-host.ts', import.meta.url), start);
  client = await open();
});

async function open(): Promise<ClientHttp2Session> {
  const made = connect(`http://${address}:${PORT}`);
  made.on('error', () => undefined);
  await within(once(made, 'connect'), 60_000, 'a connection');
  return made;
}

afterEach(async () => {
  await eventually(
    async () => {
      const { serverStreams, clientStreams } = await thread.ask<ProxyStats>('stats');
      return serverStreams + clientStreams === 0;
    },
    { what: 'the streams to be over' },
  );
  expect(thread.faults).toEqual([]);
});

afterAll(async () => {
  client?.destroy();
  await thread?.ask('destroy');
  expect(await thread?.stop()).toBe(0);
  block?.release();
  backend?.close();
});

async function head(stream: ClientHttp2Stream): Promise<IncomingHttpHeaders & { ':status'?: number }> {
  const [headers] = (await within(once(stream, 'response'), 60_000, 'a response')) as [IncomingHttpHeaders];
  return headers;
}

async function body(stream: ClientHttp2Stream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await within(once(stream, 'end'), 60_000, 'the end of the body');
  return Buffer.concat(chunks);
}

const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

describe('between node’s peers', () => {
  test('a hundred requests at a time are answered', async () => {
    const texts = await Promise.all(
      Array.from({ length: 300 }, async () => (await body(client.request({ ':path': '/' }))).toString()),
    );
    expect(new Set(texts)).toEqual(new Set(['hello']));
  });

  test('bodies of any size go both ways at once, with fields and trailers', async () => {
    await Promise.all(
      [0, 1, 65_535, 300_000, 5_000_000].map(async (size) => {
        const sent = randomBytes(size);
        const stream = client.request({ ':method': 'POST', ':path': '/echo', 'x-a': 'b' });
        const trailers = once(stream, 'trailers');
        const [headers, received] = await Promise.all([head(stream), body(stream), stream.end(sent)]);
        expect([headers['x-seen'], received.length, digest(received)]).toEqual(['b', size, digest(sent)]);
        const [fields] = (await within(trailers, 60_000, 'trailers')) as [IncomingHttpHeaders];
        expect(fields['grpc-status']).toBe('0');
      }),
    );
  });

  test('messages go back and forth on one stream while it is open', async () => {
    const stream = client.request({ ':method': 'POST', ':path': '/echo' });
    for (let i = 0; i < 20; i++) {
      stream.write(`message ${i};`);
      const [chunk] = (await within(once(stream, 'data'), 60_000, 'an echo')) as [Buffer];
      expect(chunk.toString()).toBe(`message ${i};`);
    }
    stream.end();
    await body(stream);
  });

  test('HEAD has no body, and an interim response comes before the final one', async () => {
    const stream = client.request({ ':method': 'HEAD', ':path': '/' });
    expect((await head(stream))['content-length']).toBe('5');
    stream.resume();
    const hinted = client.request({ ':path': '/hint' });
    const hints = once(hinted, 'headers');
    const headers = await head(hinted);
    hinted.resume();
    const [early] = (await hints) as [IncomingHttpHeaders & { ':status'?: number }];
    expect([early[':status'], headers[':status']]).toEqual([103, 204]);
  });

  test('an answer before the request is complete arrives whole', async () => {
    const stream = client.request({ ':method': 'POST', ':path': '/early' });
    stream.on('error', () => undefined);
    stream.write(randomBytes(100_000));
    const [headers, text] = await Promise.all([head(stream), body(stream)]);
    expect([headers[':status'], text.toString()]).toEqual([413, 'too much']);
    stream.close();
  });

  test('a stream that the server resets is reset to the client, and one that the client gives up to the server', async () => {
    const stream = client.request({ ':path': '/reset' });
    const failed = once(stream, 'error');
    stream.resume();
    await within(failed, 60_000, 'the reset');
    const given = client.request({ ':method': 'POST', ':path': '/echo' });
    given.on('error', () => undefined);
    await head(given);
    given.close(8);
    await eventually(
      async () => (await thread.ask<ProxyStats>('stats')).failures.some((one) => one.startsWith('request disconnect')),
      { what: 'the server’s side to hear of it' },
    );
  });

  test('a client that does not read stops the server, within a bound, and gets everything when it reads', async () => {
    const own = await open();
    const stream = own.request({ ':path': '/large' });
    await head(stream);
    stream.pause();
    let last = -1;
    await eventually(
      () => {
        const before = last;
        last = produced;
        return last === before && last > 0;
      },
      { what: 'the server to stand still', everyMs: 300 },
    );
    expect(produced).toBeLessThan(LARGE / 4);
    const received = await body(stream.resume());
    expect(received.length).toBe(LARGE);
    own.destroy();
  });

  test('a drain lets what is under way end, and the client goes elsewhere', async () => {
    const own = await open();
    const stream = own.request({ ':method': 'POST', ':path': '/echo' });
    await head(stream);
    const gone = once(own, 'close');
    await thread.ask('drain');
    await sleep(1_200);
    stream.end('last words');
    expect((await body(stream)).toString()).toBe('last words');
    await within(gone, 60_000, 'the connection to end');
    client = await open();
  });
});
