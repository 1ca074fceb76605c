import { once } from 'node:events';
import * as http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { App, Client } from '../../support/apps.ts';
import { eventually, within } from '../../support/eventually.ts';
import { ask, type Http1Handler, http1App, tellWhatYouSaw } from '../../support/http-apps.ts';
import {
  FRONTEND,
  type Orders,
  type OrdersOptions,
  operation,
  policy,
  security,
  startOrders,
  type Undo,
} from './orders.ts';

const undo: Undo = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

/** `/stream` sends its first words and goes on when it is told to; `/wait` says nothing until then; everything else is answered. */
class Talker {
  readonly responses: http.ServerResponse[] = [];
  aborted = 0;

  readonly handle: Http1Handler = (request, response) => {
    if (!['/stream', '/wait'].includes(request.url ?? '')) {
      tellWhatYouSaw(request, response);
      return;
    }
    this.responses.push(response);
    response.on('close', () => {
      if (!response.writableFinished) this.aborted++;
    });
    if (request.url === '/stream') response.write('first words;');
  };

  finish(): void {
    for (const response of this.responses) response.end('last words');
  }
}

async function talking(options: OrdersOptions = {}): Promise<{ talker: Talker; orders: Orders }> {
  const talker = new Talker();
  const app = await http1App(talker.handle);
  undo.push(() => app.close());
  return { talker, orders: await startOrders(app, undo, options) };
}

interface Stream {
  readonly response: http.IncomingMessage;
  readonly body: () => string;
  /** How it ended: `whole`, or the error. */
  readonly over: Promise<string>;
}

/** A response that has begun. */
async function begin(orders: Orders, path = '/stream'): Promise<Stream> {
  const request = http.get({ host: orders.entry.address, port: orders.entry.port, path });
  const [response] = (await within(once(request, 'response'), 60_000, 'the response')) as [http.IncomingMessage];
  let body = '';
  response.on('data', (chunk) => {
    body += String(chunk);
  });
  const over = new Promise<string>((resolve) => {
    response.on('end', () => resolve('whole')).on('error', (error) => resolve(error.message));
  });
  await eventually(() => body.length > 0, { what: 'the first words' });
  return { response, body: () => body, over };
}

const inFlight = (orders: Orders): number =>
  orders.plane.metric('postern_http_requests_in_flight', { direction: 'inbound' });

describe('when the policies change', () => {
  test('a response under way that is not allowed any more breaks off, so that nobody takes it for whole', async () => {
    const { talker, orders } = await talking();
    const stream = await begin(orders);
    await orders.plane.push(policy('none', 'DENY', operation([], ['/stream'])));
    expect(await within(stream.over, 60_000, 'the end')).toBe('aborted');
    expect(stream.body()).toBe('first words;');
    await eventually(() => talker.aborted === 1, { what: 'the application to hear of it' });
    await eventually(() => inFlight(orders) === 0, { what: 'no request in flight' });
    const line = await eventually(() => orders.plane.access.find(({ flags }) => flags === 'LR'), { what: 'the line' });
    expect(line.detail).toMatch(/policy change: denied by shop\/none rule 0/);
  });

  test('a request that waits for its response is answered with 403', async () => {
    const { talker, orders } = await talking();
    const answer = ask(orders.entry, '/wait');
    await eventually(() => talker.responses.length === 1, { what: 'the request' });
    await orders.plane.push(policy('none', 'DENY', operation([], ['/wait'])));
    expect((await answer).status).toBe(403);
    await eventually(() => talker.aborted === 1, { what: 'the application to hear of it' });
  });

  test('what is still allowed goes on', async () => {
    const { talker, orders } = await talking();
    const stream = await begin(orders);
    await orders.plane.push(policy('none', 'DENY', operation([], ['/admin'])));
    expect((await ask(orders.entry, '/admin')).status).toBe(403);
    talker.finish();
    expect(await stream.over).toBe('whole');
    expect(stream.body()).toBe('first words;last words');
  });

  test('a peer that is revoked loses its requests', async () => {
    const { talker, orders } = await talking();
    const stream = await begin(orders);
    await orders.plane.push({ kind: 'Revocations', name: 'revoked', spiffeIds: [FRONTEND], serials: [] });
    expect(await within(stream.over, 60_000, 'the end')).toBe('aborted');
    await eventually(() => talker.aborted === 1, { what: 'the application to hear of it' });
    await eventually(() => orders.plane.metric('postern_connections') === 0, { what: 'no connection' });
    // By the connection itself, not only because its tunnel ends.
    await eventually(() => orders.plane.access.some(({ flags, detail }) => flags === 'LR' && detail === 'revoked'), {
      what: 'the line',
    });
  });
});

describe('an application that', () => {
  test('is not there is a 503 with UF', async () => {
    const { orders } = await talking();
    const nowhere = await startOrders({ address: '127.0.0.1', port: 1 }, undo);
    expect((await ask(nowhere.entry, '/')).status).toBe(503);
    await eventually(() => nowhere.plane.access.some(({ flags }) => flags === 'UF'), { what: 'the line' });
    expect((await ask(orders.entry, '/')).status).toBe(200);
  });

  /** Answers the first request of each connection, and resets it at the second. */
  async function onceOnly(): Promise<App> {
    const app = await App.start((socket) => {
      let requests = 0;
      socket.on('data', () => {
        requests++;
        if (requests === 1) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
        else socket.resetAndDestroy();
      });
    });
    undo.push(() => app.close());
    return app;
  }

  test.each([
    ['GET', 200, 2],
    ['PUT', 200, 2],
    ['POST', 503, 1],
  ])('ends an idle connection just when %s comes: %i, after %i connections', async (method, status, connections) => {
    const app = await onceOnly();
    const orders = await startOrders(app, undo);
    expect((await ask(orders.entry, '/')).status).toBe(200);
    expect((await ask(orders.entry, '/', { method, headers: { 'content-length': 0 } })).status).toBe(status);
    expect(app.accepted).toBe(connections);
  });

  test('dies within a response lets the caller know that it is not whole', async () => {
    const app = await App.start((socket) => {
      socket.on('data', () => {
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome', () => socket.resetAndDestroy());
      });
    });
    undo.push(() => app.close());
    const orders = await startOrders(app, undo);
    const stream = await begin(orders, '/');
    expect(await stream.over).toBe('aborted');
    await eventually(() => orders.plane.access.some(({ flags }) => flags === 'UC'), { what: 'the line' });
  });
});

describe('limits', () => {
  test('a request beyond those that may wait is a 503 with UO', async () => {
    const { talker, orders } = await talking({ http: { maxConnectionsPerEndpoint: 1, maxPendingRequests: 1 } });
    const answers = [ask(orders.entry, '/wait')];
    await eventually(() => talker.responses.length === 1, { what: 'the first request' });
    answers.push(ask(orders.entry, '/second'));
    await eventually(() => orders.plane.metric('postern_http_pending_requests') === 1, { what: 'a request to wait' });
    expect((await ask(orders.entry, '/third')).status).toBe(503);
    await eventually(() => orders.plane.access.some(({ flags }) => flags === 'UO'), { what: 'the line' });
    talker.finish();
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200]);
  });

  test.each([
    ['of known length', {}],
    ['in chunks', { headers: { 'transfer-encoding': 'chunked' } }],
  ])('a request with a body %s that has to wait is sent whole', async (_, options) => {
    const { talker, orders } = await talking({ http: { maxConnectionsPerEndpoint: 1 } });
    const first = ask(orders.entry, '/wait');
    await eventually(() => talker.responses.length === 1, { what: 'the first request' });
    const second = ask(orders.entry, '/second', { method: 'POST', body: 'all of it', ...options });
    await eventually(() => orders.plane.metric('postern_http_pending_requests') === 1, { what: 'it to wait' });
    talker.finish();
    await first;
    expect(JSON.parse((await second).body.toString())).toMatchObject({ method: 'POST', body: 'all of it' });
  });

  test('a request whose caller goes away while it waits leaves nothing behind', async () => {
    const { talker, orders } = await talking({ http: { maxConnectionsPerEndpoint: 1 } });
    const first = ask(orders.entry, '/wait');
    await eventually(() => talker.responses.length === 1, { what: 'the first request' });
    const client = await Client.dial(orders.entry);
    client.write('GET /second HTTP/1.1\r\nHost: a\r\n\r\n');
    await eventually(() => orders.plane.metric('postern_http_pending_requests') === 1, { what: 'a request to wait' });
    client.socket.resetAndDestroy();
    await eventually(() => orders.plane.metric('postern_http_pending_requests') === 0, { what: 'it to be forgotten' });
    await eventually(() => inFlight(orders) === 1, { what: 'the first alone to be in flight' });
    talker.finish();
    expect((await first).status).toBe(200);
  });
});

describe('at the end of the sidecar', () => {
  test('requests under way are finished, and their connection takes no more', async () => {
    const { talker, orders } = await talking();
    const stream = await begin(orders);
    orders.plane.send({ type: 'drain', deadlineMs: 20_000 });
    await sleep(50);
    talker.finish();
    expect(await stream.over).toBe('whole');
    await eventually(() => orders.plane.messages.some(({ type }) => type === 'drained'), { what: 'the drain' });
    expect(orders.plane.messages.find(({ type }) => type === 'drained')).toMatchObject({ forced: 0 });
  });

  test('an idle connection does not hold it up', async () => {
    const { orders } = await talking();
    const client = await Client.dial(orders.entry);
    client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await client.read(12);
    await eventually(() => inFlight(orders) === 0, { what: 'the answer' });
    // Later than anybody waits.
    orders.plane.send({ type: 'drain', deadlineMs: 3_600_000 });
    await eventually(() => orders.plane.messages.some(({ type }) => type === 'drained'), {
      what: 'the drain',
    });
    client.destroy();
  });

  test('what is left at the deadline is cut', async () => {
    const { orders } = await talking();
    const stream = await begin(orders);
    orders.plane.send({ type: 'drain', deadlineMs: 100 });
    expect(await stream.over).toBe('aborted');
    await eventually(() => orders.plane.messages.some(({ type }) => type === 'drained'), { what: 'the drain' });
    expect(orders.plane.messages.find(({ type }) => type === 'drained')).toMatchObject({ forced: 1 });
  });
});

test('a port whose PeerAuthentication becomes STRICT keeps the requests of peers that showed who they are', async () => {
  const { talker, orders } = await talking();
  const stream = await begin(orders);
  await orders.plane.push(security('PeerAuthentication', 'strict', { mtls: { mode: 'STRICT' } }));
  talker.finish();
  expect(await stream.over).toBe('whole');
});
