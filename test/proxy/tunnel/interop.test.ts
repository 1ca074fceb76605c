import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  createSecureServer,
  type SecureServerOptions,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type Settings,
} from 'node:http2';
import type { Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { App, Client, echoApp } from '../../support/apps.ts';
import { eventually, within } from '../../support/eventually.ts';
import { foreignAuthority } from '../../support/forge.ts';
import { LoopbackBlock } from '../../support/loopback.ts';
import { materialOf, TunnelPair, type TunnelPairOptions } from '../support/tunnel-pair.ts';

/** Against node:http2 (nghttp2): an implementation that knows nothing of ours. */

const undo: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

async function app(handle?: (socket: Socket) => void): Promise<App> {
  const made = handle === undefined ? await echoApp() : await App.start(handle);
  undo.push(() => made.close());
  return made;
}

async function started(options: TunnelPairOptions, signer = foreignAuthority()): Promise<TunnelPair> {
  const pair = await TunnelPair.start(options, signer);
  undo.push(() => pair.stop());
  return pair;
}

const sha = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

describe('our server and a client of nghttp2', () => {
  async function session(pair: TunnelPair, settings: Settings = {}): Promise<ClientHttp2Session> {
    const made = connect(`https://${pair.tunnel.address}:${pair.tunnel.port}`, {
      ca: pair.signer.root,
      cert: pair.client.chain,
      key: pair.client.privateKey,
      checkServerIdentity: () => undefined,
      paddingStrategy: constants.PADDING_STRATEGY_MAX,
      settings,
    });
    made.on('error', () => undefined);
    undo.push(() => made.destroy());
    await within(once(made, 'remoteSettings'), 60_000, 'SETTINGS');
    return made;
  }

  async function open(from: ClientHttp2Session, port: number, options = {}): Promise<ClientHttp2Stream> {
    const stream = from.request({ ':method': 'CONNECT', ':authority': `127.0.0.1:${port}` }, options);
    const [headers] = (await within(once(stream, 'response'), 60_000, 'an answer')) as [{ ':status': number }];
    expect(headers[':status']).toBe(200);
    return stream;
  }

  async function collect(stream: NodeJS.ReadableStream): Promise<Buffer> {
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    await within(once(stream, 'end'), 60_000, 'the end of the stream');
    return Buffer.concat(chunks);
  }

  test('pass bytes both ways, however much the client pads its frames', async () => {
    const { port } = await app();
    const pair = await started({ authorities: [] });
    const stream = await open(await session(pair), port);
    const sent = randomBytes(3_000_000);
    const received = collect(stream);
    // Small frames: nearly half of what counts against the window is padding.
    for (let at = 0; at < sent.length; at += 500) {
      if (!stream.write(sent.subarray(at, at + 500))) await once(stream, 'drain');
    }
    stream.end();
    expect(sha(await received)).toBe(sha(sent));
  });

  test('pass all bytes while the client’s windows shrink and grow', async () => {
    const sent = randomBytes(2_000_000);
    const source = await app((socket) => void socket.end(sent));
    const pair = await started({ authorities: [] });
    const client = await session(pair, { initialWindowSize: 100 });
    const stream = await open(client, source.port);
    const received = collect(stream);
    for (const initialWindowSize of [0, 70_000, 1, 20_000, 3, 500_000]) {
      client.settings({ initialWindowSize });
      await within(once(client, 'localSettings'), 60_000, 'the acknowledgement of SETTINGS');
    }
    stream.end();
    expect(sha(await received)).toBe(sha(sent));
  });

  test('take trailers as the end of the client’s side', async () => {
    const { port } = await app();
    const pair = await started({ authorities: [] });
    const stream = await open(await session(pair), port, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-checksum': 'none' }));
    const received = collect(stream);
    stream.end('before the trailers');
    expect((await received).toString()).toBe('before the trailers');
  });

  test('agree on how many streams there may be', async () => {
    const { port } = await app();
    const pair = await started({ authorities: [], maxStreams: 3 });
    const client = await session(pair);
    expect(client.remoteSettings?.maxConcurrentStreams).toBe(3);
    const streams = await Promise.all([1, 2, 3].map(() => open(client, port)));
    // The fourth waits in the client until one of the three has ended.
    const fourth = open(client, port);
    for (const stream of streams) {
      stream.resume();
      stream.end();
    }
    const last = await fourth;
    last.end('x');
    expect((await collect(last)).toString()).toBe('x');
  });

  test('let streams end after the warning of a drain', async () => {
    const { port } = await app();
    const pair = await started({ authorities: [] });
    const client = await session(pair);
    const stream = await open(client, port);
    const warned = once(client, 'goaway');
    await pair.thread.ask('drainServers');
    await within(warned, 60_000, 'GOAWAY');
    const received = collect(stream);
    stream.end('after the warning');
    expect((await received).toString()).toBe('after the warning');
    await eventually(async () => (await pair.stats()).serverTunnels === 0, { what: 'the tunnel to end' });
  });
});

describe('our client and a server of nghttp2', () => {
  interface Peer {
    readonly pair: TunnelPair;
    readonly sessions: ServerHttp2Session[];
  }

  async function peer(
    onStream: (stream: ServerHttp2Stream, authority: string) => void,
    options: SecureServerOptions & { authorities?: readonly string[] } = {},
  ): Promise<Peer> {
    const { authorities = ['127.0.0.1:80'], ...server } = options;
    const signer = foreignAuthority();
    const block = await LoopbackBlock.take();
    undo.push(() => block.release());
    const to = { address: block.address(), port: 15_009 };
    const { chain: cert, privateKey: key } = materialOf(signer, 'spiffe://cluster.local/ns/shop/sa/foreign');
    const sessions: ServerHttp2Session[] = [];
    const http2 = createSecureServer({
      cert,
      key,
      ca: signer.root,
      requestCert: true,
      minVersion: 'TLSv1.3',
      ...server,
    });
    http2.on('session', (one) => sessions.push(one));
    http2.on('sessionError', () => undefined);
    http2.on('stream', (stream: ServerHttp2Stream, headers) => {
      stream.on('error', () => undefined);
      onStream(stream, headers[':authority'] ?? '');
    });
    http2.listen(to.port, to.address);
    await once(http2, 'listening');
    undo.push(() => {
      for (const one of sessions) one.destroy();
      http2.close();
    });
    return { pair: await started({ authorities, to }, signer), sessions };
  }

  const echoing = (stream: ServerHttp2Stream): void => {
    stream.respond({ ':status': 200 });
    stream.pipe(stream);
  };

  async function dial(pair: TunnelPair): Promise<Client> {
    const client = await Client.dial(pair.entry);
    undo.push(() => client.destroy());
    return client;
  }

  test('pass bytes both ways through small windows and frames, with padding', async () => {
    const { pair } = await peer(echoing, {
      settings: { initialWindowSize: 5_000 },
      paddingStrategy: constants.PADDING_STRATEGY_MAX,
    });
    const client = await dial(pair);
    const sent = randomBytes(1_000_000);
    client.write(sent);
    client.end();
    expect(sha(await client.readToEnd())).toBe(sha(sent));
  });

  test('agree on how many streams there may be: what is refused is tried again elsewhere', async () => {
    const { pair } = await peer(echoing, {
      settings: { maxConcurrentStreams: 5 },
      authorities: Array.from({ length: 6 }, () => '127.0.0.1:80'),
    });
    const clients = await Promise.all(
      Array.from({ length: 20 }, async (_, i) => {
        const client = await dial(pair);
        client.write(`number ${i}`);
        expect((await client.read(`number ${i}`.length)).toString()).toBe(`number ${i}`);
        return client;
      }),
    );
    expect((await pair.stats()).clientStreams).toBe(20);
    for (const client of clients) client.end();
    await Promise.all(clients.map((client) => client.readToEnd()));
  });

  test('fail a connection whose first bytes do not fit the next stream’s window, and not the tunnel', async () => {
    let asked = 0;
    const { pair } = await peer(
      (stream) => {
        if (asked++ === 0) echoing(stream);
        else stream.respond({ ':status': asked === 2 ? 503 : 200 }, { endStream: asked === 2 });
      },
      { settings: { initialWindowSize: 100 }, authorities: ['127.0.0.1:80', '127.0.0.1:80'] },
    );
    const bystander = await dial(pair);
    bystander.write('x');
    await bystander.read(1);
    const client = await dial(pair);
    client.write(Buffer.alloc(10_000));
    await eventually(() => asked === 3 || client.isClosed, { what: 'the second try' });
    bystander.write('y');
    expect((await bystander.read(1)).toString()).toBe('y');
    expect((await pair.stats()).clientTunnels).toBe(1);
  });

  test('deliver what came before a reset that says there was no error', async () => {
    const total = 12_000_000;
    const { pair } = await peer((stream) => {
      stream.respond({ ':status': 200 });
      // RFC 9113, 8.1: complete, and no interest in the rest of the request.
      stream.end(Buffer.alloc(total, 'q'), () => stream.close(constants.NGHTTP2_NO_ERROR));
    });
    const client = await dial(pair);
    expect((await client.readToEnd()).length).toBe(total);
  });

  test('move on after GOAWAY: old streams stay where they are, new ones go to a new tunnel', async () => {
    const { pair, sessions } = await peer(echoing);
    const old = await dial(pair);
    old.write('x');
    await old.read(1);
    sessions[0]?.goaway(constants.NGHTTP2_NO_ERROR, 1);
    const next = await eventually(
      async () => {
        const one = await dial(pair);
        one.write('n');
        await one.read(1);
        return sessions.length === 2 ? one : null;
      },
      { what: 'a second tunnel' },
    );
    for (const client of [old, next]) {
      client.write('both live');
      expect((await client.read(9)).toString()).toBe('both live');
    }
  });

  test('end a connection that the server resets before its answer', async () => {
    const { pair } = await peer((stream) => stream.close(constants.NGHTTP2_PROTOCOL_ERROR));
    const client = await dial(pair);
    await client.over();
    await eventually(async () => (await pair.stats()).clientStreams === 0, { what: 'the stream to be gone' });
  });
});
