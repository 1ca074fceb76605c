import { afterEach, describe, expect, test } from 'vitest';
import { App, Client, echoApp } from '../../support/apps.ts';
import { eventually } from '../../support/eventually.ts';
import { ask, http1App, tellWhatYouSaw } from '../../support/http-apps.ts';
import { type Orders, type OrdersOptions, operation, PORT, policy, startOrders, type Undo } from './orders.ts';

const undo: Undo = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

/** Long enough that no test ends by it. */
const NEVER = 60_000;

async function overEcho(options: OrdersOptions): Promise<Orders> {
  const app = await echoApp();
  undo.push(() => app.close());
  return await startOrders(app, undo, options);
}

async function overHttp(options: OrdersOptions): Promise<Orders> {
  const app = await http1App(tellWhatYouSaw);
  undo.push(() => app.close());
  return await startOrders(app, undo, options);
}

const tcpConnections = (orders: Orders): number => orders.plane.metric('istio_tcp_connections_opened_total');
const GET = 'GET /a HTTP/1.1\r\nHost: orders\r\n\r\n';

describe('a port that is declared tcp', () => {
  test('carries bytes that look like HTTP untouched', async () => {
    const orders = await overEcho({ protocol: 'tcp' });
    const client = await Client.dial(orders.entry);
    client.write(GET);
    expect((await client.read(GET.length)).toString()).toBe(GET);
    expect(tcpConnections(orders)).toBe(1);
    client.destroy();
  });

  test('does not wait for the client to speak first', async () => {
    const app = await App.start((socket) => socket.write('220 ready\r\n'));
    undo.push(() => app.close());
    const orders = await startOrders(app, undo, { protocol: 'mysql', http: { detectTimeoutMs: NEVER } });
    const client = await Client.dial(orders.entry);
    expect((await client.read(11)).toString()).toBe('220 ready\r\n');
    client.destroy();
  });
});

describe('a port that is declared http', () => {
  test('answers what is not HTTP with 400 and closes', async () => {
    const orders = await overHttp({ protocol: 'http' });
    const client = await Client.dial(orders.entry);
    client.write('EHLO orders\r\n\r\n');
    expect((await client.readToEnd()).toString()).toMatch(/^HTTP\/1\.1 400 /);
    expect(orders.plane.metric('postern_http_rejected_requests_total')).toBe(1);
  });

  test('waits for a client that is slow to begin', async () => {
    const orders = await overHttp({ protocol: 'http', http: { detectTimeoutMs: 20 } });
    const client = await Client.dial(orders.entry);
    await eventually(() => orders.plane.metric('postern_connections') === 1, { what: 'the connection' });
    client.write(GET);
    expect((await client.read(15)).toString()).toBe('HTTP/1.1 200 OK');
    expect(tcpConnections(orders)).toBe(0);
    client.destroy();
  });
});

describe('a port of which nothing is declared', () => {
  test('is HTTP where the first bytes are, however they are split', async () => {
    const orders = await overHttp({ protocol: null, http: { detectTimeoutMs: NEVER } });
    await orders.plane.push(policy('a', 'DENY', operation([], ['/secret'])));
    expect((await ask(orders.entry, '/a')).status).toBe(200);
    expect((await ask(orders.entry, '/secret')).status).toBe(403);
    const client = await Client.dial(orders.entry);
    for (const piece of ['G', 'ET /a HT', 'TP/1.1\r\nHost: orders\r\n\r\n']) {
      client.write(piece);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect((await client.read(15)).toString()).toBe('HTTP/1.1 200 OK');
    expect(tcpConnections(orders)).toBe(0);
    client.destroy();
  });

  test.each([
    ['bytes that are none', '\x16\x03\x01\x00\x05hello'],
    ['words that only begin like a request', 'GET the kettle\r\n'],
  ])('is opaque at once for %s', async (_, words) => {
    const orders = await overEcho({ protocol: null, http: { detectTimeoutMs: NEVER } });
    const client = await Client.dial(orders.entry);
    client.socket.write(words, 'latin1');
    expect((await client.read(words.length)).toString('latin1')).toBe(words);
    client.write('and more');
    expect((await client.read(8)).toString()).toBe('and more');
    expect(tcpConnections(orders)).toBe(1);
    client.destroy();
  });

  test('is opaque after the deadline where the server speaks first', async () => {
    const app = await App.start((socket) => socket.write('220 ready\r\n'));
    undo.push(() => app.close());
    const orders = await startOrders(app, undo, { protocol: null, http: { detectTimeoutMs: 50 } });
    const client = await Client.dial(orders.entry);
    expect((await client.read(11)).toString()).toBe('220 ready\r\n');
    client.destroy();
  });

  test('is never looked into where its number is in the list of opaque ports', async () => {
    const orders = await overEcho({ protocol: null, opaquePorts: [PORT], http: { detectTimeoutMs: NEVER } });
    const client = await Client.dial(orders.entry);
    client.write(GET);
    expect((await client.read(GET.length)).toString()).toBe(GET);
    client.destroy();
  });

  test('refuses an opaque connection before it is accepted', async () => {
    const orders = await overEcho({ protocol: null, http: { detectTimeoutMs: NEVER } });
    await orders.plane.push(policy('http-only', 'ALLOW', operation(['GET'], ['/a'])));
    const client = await Client.dial(orders.entry);
    client.socket.write('\x00opaque');
    await client.closed;
    expect(orders.entry.refusals).toEqual([{ status: 403, reason: 'no ALLOW policy matched' }]);
  });

  test('forgets a stream that ends while its first bytes are awaited', async () => {
    const orders = await overEcho({ protocol: null, http: { detectTimeoutMs: NEVER } });
    const client = await Client.dial(orders.entry);
    client.write('GE');
    client.socket.resetAndDestroy();
    const next = await Client.dial(orders.entry);
    next.socket.write('\x00x');
    expect(await next.read(2)).toHaveLength(2);
    expect(orders.plane.metric('postern_connections')).toBe(1);
    next.destroy();
  });
});
