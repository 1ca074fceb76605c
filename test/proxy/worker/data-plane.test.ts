import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import type { Resource, SelfResource } from '../../../mesh/resources.ts';
import { App, Client, echoApp, ping } from '../../support/apps.ts';
import { eventually, within } from '../../support/eventually.ts';
import { foreignAuthority, type Signer } from '../../support/forge.ts';
import { LoopbackBlock } from '../../support/loopback.ts';
import { type DataPlaneOptions, DataPlaneThread, meshConfig, serviceOf, trustBundle } from '../support/data-plane.ts';

const undo: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

interface Pair {
  readonly client: DataPlaneThread;
  readonly servers: readonly DataPlaneThread[];
  readonly server: DataPlaneThread;
  readonly signer: Signer;
}

type Limits = NonNullable<DataPlaneOptions['limits']>;

/** A client's sidecar and those of one service's endpoints, one for each application. */
async function mesh(
  apps: readonly { port: number }[],
  limits: { client?: Limits; server?: Limits } = {},
): Promise<Pair> {
  const signer = foreignAuthority();
  const block = await LoopbackBlock.take();
  undo.push(() => block.release());
  const start = async (options: DataPlaneOptions): Promise<DataPlaneThread> => {
    const thread = await DataPlaneThread.start(options);
    undo.push(() => thread.stop());
    return thread;
  };
  const servers = await Promise.all(
    apps.map(({ port }, i) =>
      start({
        name: `orders-${i}`,
        address: block.address(),
        expose: [{ port: 8080, application: { address: '127.0.0.1', port } }],
        limits: limits.server ?? {},
      }),
    ),
  );
  const client = await start({
    name: 'frontend',
    address: block.address(),
    upstreams: [{ service: 'shop/orders', port: 80 }],
    limits: limits.client ?? {},
  });
  const workloads = [...servers, client].map(({ workload }) => workload);
  for (const one of [...servers, client]) {
    one.identify(signer);
    const service = serviceOf(
      'orders',
      8080,
      servers.map(({ workload }) => workload),
    );
    await one.push(meshConfig(), trustBundle(signer), ...workloads, service);
  }
  const [server] = servers;
  if (server === undefined) throw new Error('no server');
  return { client, servers, server, signer };
}

async function echo(): Promise<App> {
  const app = await echoApp();
  undo.push(() => app.close());
  return app;
}

async function dial(pair: Pair): Promise<Client> {
  const client = await Client.dial(pair.client.upstream);
  undo.push(() => client.destroy());
  return client;
}

/** A connection that the sidecar will end: that may be before node has told of it. */
async function refused(pair: Pair): Promise<void> {
  const { address, port } = pair.client.upstream;
  const socket = connect(port, address).on('error', () => undefined);
  await within(new Promise<void>((resolve) => socket.once('close', () => resolve())), 60_000, 'the end');
}

/** Connected to the application: a byte has come back. */
async function live(pair: Pair): Promise<Client> {
  const client = await dial(pair);
  client.write('x');
  await client.read(1);
  return client;
}

const connections = (plane: DataPlaneThread): number => plane.metric('postern_connections');

describe('every connection', () => {
  test('is told of once on each side, with its bytes, and counted down again', async () => {
    const app = await echo();
    const pair = await mesh([app]);
    await Promise.all(Array.from({ length: 30 }, (_, i) => ping(pair.client.upstream, 'y'.repeat(i + 1))));
    const aborted = await live(pair);
    aborted.socket.resetAndDestroy();
    for (const plane of [pair.client, pair.server]) {
      await eventually(() => connections(plane) === 0 && plane.access.length === 31, { what: 'the ends' });
      expect(plane.metric('istio_tcp_connections_opened_total')).toBe(31);
      expect(plane.metric('istio_tcp_connections_closed_total')).toBe(31);
      expect(plane.metric('istio_tcp_received_bytes_total')).toBe((30 * 31) / 2 + 1);
      expect(plane.metric('istio_tcp_sent_bytes_total')).toBe((30 * 31) / 2 + 1);
    }
    expect(pair.client.metric('postern_tunnels')).toBe(1);
  });

  test('that nobody answers ends, too', async () => {
    const pair = await mesh([{ port: 1 }]);
    for (let i = 0; i < 5; i++) await refused(pair);
    for (const plane of [pair.client, pair.server]) {
      await eventually(() => connections(plane) === 0, { what: 'no live connection' });
    }
    await eventually(() => pair.client.access.length === 5, { what: 'the access log' });
    expect(new Set(pair.client.access.map(({ flags }) => flags))).toEqual(new Set(['CONNECT']));
  });
});

describe('an endpoint whose application refuses', () => {
  test('costs no connection and no byte: another is tried with what was said', async () => {
    const app = await echo();
    const pair = await mesh([{ port: 1 }, app]);
    for (let i = 0; i < 20; i++) await ping(pair.client.upstream, `message number ${i}`);
    await eventually(() => pair.client.access.length === 20, { what: 'the access log' });
    // The dead one was asked at least once, or half of this test has not happened.
    expect(pair.servers[0]?.metric('istio_tcp_connections_opened_total')).toBeGreaterThan(0);
    const lines = pair.client.access;
    expect(Math.max(...lines.map(({ attempts }) => attempts ?? 0))).toBe(2);
    for (const { bytesReceived, bytesSent } of lines) expect(bytesReceived).toBe(bytesSent);
    expect(connections(pair.client)).toBe(0);
  });
});

describe('limits', () => {
  test('of connections hold for the streams of a tunnel that is open already', async () => {
    const pair = await mesh([await echo()], { server: { maxConnections: 3 } });
    const kept = [await live(pair), await live(pair), await live(pair)];
    await refused(pair);
    // The name of a series comes by a message of its own.
    const refusals = (): number => pair.server.metric('postern_connection_failures_total', { flags: 'LIMIT' });
    await eventually(() => refusals() > 0, { what: 'the refusal to be counted' });
    kept[0]?.end();
    await kept[0]?.readToEnd();
    await eventually(() => connections(pair.server) === 2, { what: 'room' });
    await eventually(() => live(pair).then(() => true), { what: 'a connection again' });
  });
});

describe('a drain', () => {
  test('ends a worker at once that has tunnels but no connection', async () => {
    const pair = await mesh([await echo()]);
    await ping(pair.client.upstream);
    expect(pair.server.metric('postern_tunnels')).toBe(1);
    for (const plane of [pair.server, pair.client]) {
      plane.send({ type: 'drain', deadlineMs: 60_000 });
      await within(plane.ended, 60_000, `${plane.name} to end`);
      expect(plane.messages.find(({ type }) => type === 'drained')).toEqual({ type: 'drained', forced: 0 });
    }
  });

  test('waits for a connection that lives, and lets it have all its bytes', async () => {
    const total = 8_000_000;
    const app = await App.start((socket) => socket.once('data', () => socket.end(Buffer.alloc(total, 'd'))));
    undo.push(() => app.close());
    const pair = await mesh([app]);
    const client = await dial(pair);
    client.socket.pause();
    client.write('go');
    client.end();
    await eventually(() => connections(pair.server) === 1, { what: 'the connection' });
    pair.server.send({ type: 'drain', deadlineMs: 60_000 });
    await sleep(300);
    client.socket.resume();
    expect((await client.readToEnd()).length).toBe(total);
    await within(pair.server.ended, 60_000, 'the worker to end');
    expect(pair.server.messages.find(({ type }) => type === 'drained')).toEqual({ type: 'drained', forced: 0 });
  });

  test('closes what is left at its deadline', async () => {
    const pair = await mesh([await echo()]);
    const client = await live(pair);
    pair.server.send({ type: 'drain', deadlineMs: 200 });
    await client.over();
    await within(pair.server.ended, 60_000, 'the worker to end');
    expect(pair.server.messages.find(({ type }) => type === 'drained')).toEqual({ type: 'drained', forced: 1 });
    await eventually(() => pair.server.access.some(({ flags }) => flags === 'DRAIN'), { what: 'the access log' });
  });
});

describe('session tickets', () => {
  const resumed = (plane: DataPlaneThread): (boolean | undefined)[] => plane.access.map(({ tls }) => tls?.resumed);

  test('die with the certificate that they were got with', async () => {
    const pair = await mesh([await echo()]);
    const old = await live(pair);
    pair.client.identify(pair.signer);
    await pair.client.query('connections'); // taken in order: the certificate is in force now
    await ping(pair.client.upstream);
    old.end();
    await old.readToEnd();
    await ping(pair.client.upstream);
    await eventually(() => pair.client.access.length === 3, { what: 'the access log' });
    expect(resumed(pair.client)).toEqual([false, false, false]);
  });

  test('bring nobody in whose root has left the trust bundle, nor keep him', async () => {
    const pair = await mesh([await echo()], { client: { tunnelIdleTimeoutMs: 10, maxStreamsPerTunnel: 1 } });
    const tunnels = (): number => pair.client.metric('postern_tunnels');
    const first = await live(pair);
    await ping(pair.client.upstream);
    // The second tunnel leaves its ticket to the group that the first keeps alive.
    await eventually(() => tunnels() === 1, { what: 'the idle tunnel to end' });
    const second = await live(pair);
    const listed = (await pair.server.query('connections')) as { connections: { tls: { resumed: boolean } }[] };
    expect(listed.connections.map(({ tls }) => tls.resumed).sort()).toEqual([false, true]);
    await pair.server.push(trustBundle(foreignAuthority()));
    for (const client of [first, second]) await client.over();
    await eventually(() => connections(pair.server) === 0 && pair.server.access.length === 3, { what: 'the cuts' });
    expect(pair.server.access.map(({ flags }) => flags)).toEqual(['-', 'IDENTITY_ERROR', 'IDENTITY_ERROR']);
  });
});

test('a certificate that cannot be used leaves the one before in force, and later messages are heard', async () => {
  const pair = await mesh([await echo()]);
  await ping(pair.client.upstream);
  const errors = pair.client.errors.length;
  pair.client.send({
    type: 'identity',
    spiffeId: pair.client.identity,
    chain: 'none',
    privateKey: 'none',
    notAfter: 0,
  });
  expect(await pair.client.query('connections')).toMatchObject({ total: 0 });
  await ping(pair.client.upstream);
  await eventually(() => pair.client.errors.length > errors, { what: 'the error to be told' });
  pair.client.errors.length = 0;
});

test('labels that change are like policies that change: live connections are decided again', async () => {
  const pair = await mesh([await echo()]);
  const self = (labels: SelfResource['labels']): Resource => ({ kind: 'Self', name: 'self', labels, ended: false });
  const locked: Resource = {
    kind: 'AuthorizationPolicy',
    name: 'shop/locked',
    object: {
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: 'locked', namespace: 'shop' },
      spec: { action: 'DENY', rules: [{}], selector: { matchLabels: { tier: 'locked' } } },
    },
  };
  await pair.server.push(locked);
  const client = await live(pair);
  await pair.server.push(self({ tier: 'open' }));
  client.write('y');
  expect((await client.read(1)).toString()).toBe('y');
  await pair.server.push(self({ tier: 'locked' }));
  await client.over();
  await refused(pair);
  await eventually(() => pair.server.access.length > 0, { what: 'the access log' });
  expect(pair.server.access[0]?.detail).toContain('shop/locked');
  await pair.server.push(self({}));
  await live(pair);
});
