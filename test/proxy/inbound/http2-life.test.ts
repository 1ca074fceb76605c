import { once } from 'node:events';
import * as http2 from 'node:http2';
import { afterEach, describe, expect, test } from 'vitest';
import { eventually, within } from '../../support/eventually.ts';
import { http2App, readAll } from '../../support/http-apps.ts';
import { type Orders, operation, policy, startOrders, type Undo } from './orders.ts';

const undo: Undo = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

interface Call {
  readonly stream: http2.ClientHttp2Stream;
  readonly body: () => string;
  /** Reset code; 0: it ended in order. */
  readonly over: Promise<number>;
}

interface World {
  readonly orders: Orders;
  readonly client: http2.ClientHttp2Session;
  /** Streams as the application has them, by path. */
  readonly streams: Map<string, http2.ServerHttp2Stream>;
  begin(path: string): Promise<Call>;
}

async function world(): Promise<World> {
  const streams = new Map<string, http2.ServerHttp2Stream>();
  const app = await http2App((stream, headers) => {
    streams.set(String(headers[':path']), stream);
    stream.on('error', () => undefined);
    stream.respond({ ':status': 200 });
    stream.write('first words;');
  });
  undo.push(() => app.close());
  const orders = await startOrders(app, undo, { protocol: 'http2' });
  const client = http2.connect(`http://127.0.0.1:${orders.entry.port}`);
  client.on('error', () => undefined);
  undo.push(() => client.destroy());
  const begin = async (path: string): Promise<Call> => {
    const stream = client.request({ ':path': path });
    let body = '';
    stream
      .on('error', () => undefined)
      .on('data', (chunk) => {
        body += String(chunk);
      });
    const over = new Promise<number>((resolve) => stream.on('close', () => resolve(stream.rstCode ?? -1)));
    await eventually(() => body === 'first words;', { what: 'the first words' });
    return { stream, body: () => body, over };
  };
  return { orders, client, streams, begin };
}

describe('on one connection in HTTP/2', () => {
  test('a policy change resets the streams that it does not allow, and the others go on', async () => {
    const { orders, streams, begin } = await world();
    const [denied, allowed] = [await begin('/denied'), await begin('/allowed')];
    await orders.plane.push(policy('some', 'DENY', operation([], ['/denied'])));
    expect(await within(denied.over, 60_000, 'the reset')).not.toBe(0);
    await eventually(() => streams.get('/denied')?.destroyed, { what: 'the application to hear of it' });
    streams.get('/allowed')?.end('last words');
    expect(await allowed.over).toBe(0);
    expect(allowed.body()).toBe('first words;last words');
  });

  test('a request with a body is sent whole, though the application is only being connected', async () => {
    const { client, streams } = await world();
    const stream = client.request({ ':path': '/posted', ':method': 'POST' });
    stream.end('all of it');
    const received = await eventually(() => streams.get('/posted'), { what: 'the request' });
    expect((await readAll(received)).toString()).toBe('all of it');
    stream.close();
  });

  test('a caller that gives a request up ends it at the application, and its other requests go on', async () => {
    const { orders, streams, begin } = await world();
    const [given, kept] = [await begin('/given-up'), await begin('/kept')];
    given.stream.close(http2.constants.NGHTTP2_CANCEL);
    await eventually(() => streams.get('/given-up')?.destroyed, { what: 'the application to hear of it' });
    streams.get('/kept')?.end('last words');
    expect(await kept.over).toBe(0);
    await eventually(() => orders.plane.access.some(({ flags }) => flags === 'DC'), { what: 'the line' });
  });

  test('requests under way are finished when the sidecar ends, and GOAWAY tells the caller', async () => {
    const { orders, client, streams, begin } = await world();
    const call = await begin('/stream');
    const goaway = once(client, 'goaway');
    orders.plane.send({ type: 'drain', deadlineMs: 20_000 });
    await within(goaway, 60_000, 'GOAWAY');
    streams.get('/stream')?.end('last words');
    expect(await call.over).toBe(0);
    const drained = await eventually(() => orders.plane.messages.find(({ type }) => type === 'drained'), {
      what: 'the drain',
    });
    expect(drained).toMatchObject({ forced: 0 });
  });
});
