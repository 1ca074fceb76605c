import * as http from 'node:http';
import { afterEach, describe, expect, test } from 'vitest';
import { Client } from '../../support/apps.ts';
import { eventually } from '../../support/eventually.ts';
import { ask, type HttpApp, http1App } from '../../support/http-apps.ts';
import { type Limits, OutboundMesh, type ServiceShape } from './outbound-mesh.ts';

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

describe('bounds', () => {
  /** Answers when told to. */
  async function holding(): Promise<HttpApp & { release(): void }> {
    const held: http.ServerResponse[] = [];
    const app = await started(http1App((_, response) => held.push(response)));
    const release = (): void => {
      for (const response of held.splice(0)) response.end('held');
    };
    return Object.assign(app, { release });
  }

  test('a request that finds all connections in use waits for one', async () => {
    const app = await holding();
    const mesh = await meshOf(
      { protocol: 'http', endpoints: { a: app.port } },
      { http: { maxConnectionsPerEndpoint: 1 } },
    );
    // Which of them comes first is not said.
    const answers = Promise.all([ask(mesh.entry, '/1'), ask(mesh.entry, '/2')]);
    await eventually(() => mesh.client.metric('postern_http_pending_requests') === 1, { what: 'one that waits' });
    await eventually(() => app.requests === 1, { what: 'the one that does not' });
    app.release();
    await eventually(() => app.requests === 2, { what: 'the other' });
    app.release();
    expect((await answers).map(({ status }) => status)).toEqual([200, 200]);
    expect(app.accepted).toBe(1);
  });

  test('more than may wait are answered 503 with UO', async () => {
    const app = await holding();
    const limits = { http: { maxConnectionsPerEndpoint: 1, maxPendingRequests: 1 } };
    const mesh = await meshOf({ protocol: 'http', endpoints: { a: app.port } }, limits);
    const first = ask(mesh.entry, '/1');
    await eventually(() => app.requests === 1, { what: 'the first' });
    const second = ask(mesh.entry, '/2');
    await eventually(() => mesh.client.metric('postern_http_pending_requests') === 1, { what: 'one that waits' });
    const { status, body } = await ask(mesh.entry, '/');
    expect(status).toBe(503);
    expect(body.toString()).toContain('overflow');
    expect((await mesh.requests(1))[0]).toMatchObject({ flags: 'UO' });
    app.release();
    await first;
    await eventually(() => app.requests === 2, { what: 'the second' });
    app.release();
    await second;
  });

  test('a client that goes away while it waits is forgotten', async () => {
    const app = await holding();
    const mesh = await meshOf(
      { protocol: 'http', endpoints: { a: app.port } },
      { http: { maxConnectionsPerEndpoint: 1 } },
    );
    const first = ask(mesh.entry, '/1');
    await eventually(() => app.requests === 1, { what: 'the first' });
    const waits = await Client.dial(mesh.entry);
    waits.write('GET /2 HTTP/1.1\r\nHost: a\r\n\r\n');
    await eventually(() => mesh.client.metric('postern_http_pending_requests') === 1, { what: 'one that waits' });
    waits.socket.resetAndDestroy();
    await eventually(() => mesh.client.metric('postern_http_pending_requests') === 0, { what: 'none that waits' });
    app.release();
    await first;
    expect((await mesh.requests(1))[0]).toMatchObject({ flags: 'DC', status: 0 });
    expect(app.requests).toBe(1);
  });
});

describe('the end', () => {
  test('a drain lets the request under way end, and ends connections without one', async () => {
    const app = await started(
      http1App((_, response) => {
        response.write('begun ');
        setTimeout(() => response.end('ended'), 300);
      }),
    );
    const mesh = await meshOf({ protocol: 'http', endpoints: { a: app.port } });
    const silent = await Client.dial(mesh.entry);
    undo.push(() => silent.destroy());
    const underWay = ask(mesh.entry, '/', { agent: new http.Agent({ keepAlive: true }) });
    await eventually(() => app.requests === 1, { what: 'the request' });
    mesh.client.send({ type: 'drain', deadlineMs: 20_000 });
    expect((await underWay).body.toString()).toBe('begun ended');
    await silent.over();
    const drained = await eventually(() => mesh.client.messages.find(({ type }) => type === 'drained'), {
      what: 'the end of the drain',
    });
    expect(drained).toMatchObject({ forced: 0 });
  });

  test('what is left at the deadline is cut, and told of as cut by us', async () => {
    const app = await started(http1App((_, response) => response.write('begun ')));
    const mesh = await meshOf({ protocol: 'http', endpoints: { a: app.port } });
    const client = await Client.dial(mesh.entry);
    client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    // Before that it would be answered by 503.
    expect(await client.answered()).toBe(true);
    mesh.client.send({ type: 'drain', deadlineMs: 100 });
    expect(await client.closed).toBe('ECONNRESET');
    expect((await mesh.requests(1))[0]).toMatchObject({ flags: 'LR' });
  });
});
