import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { App, Client } from '../../support/apps.ts';
import { eventually } from '../../support/eventually.ts';
import { ask, http1App } from '../../support/http-apps.ts';
import { type Limits, OutboundMesh, type ServiceShape, say } from './outbound-mesh.ts';

/** Longer than a slow machine takes from a connection to its first bytes. */
const NEVER_MS = 600_000;
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

describe('what a connection carries', () => {
  /** Greets, then sends back what it gets. */
  const greeter = (): Promise<App> =>
    started(
      App.start((socket) => {
        socket.write('220 hello\r\n');
        socket.pipe(socket);
      }),
    );

  test.each([
    ['declared', 'tcp'],
    ['undeclared', null],
  ])('a server that speaks first is heard on a port that is %s', async (_, protocol) => {
    const app = await greeter();
    const mesh = await meshOf({ protocol, endpoints: { a: app.port } });
    const client = await Client.dial(mesh.entry);
    undo.push(() => client.destroy());
    expect((await client.read(11)).toString()).toBe('220 hello\r\n');
    client.write('EHLO\r\n');
    expect((await client.read(6)).toString()).toBe('EHLO\r\n');
  });

  test.each([
    ['text that is not HTTP', 'HELLO world\r\n'],
    ['bytes', '\x16\x03\x01\x02\x00'],
    ['a request line of another protocol', 'GET / RTSP/1.0\r\n\r\n'],
  ])('undeclared, %s: as it is', async (_, bytes) => {
    const app = await started(App.start((socket) => socket.pipe(socket)));
    const mesh = await meshOf({ endpoints: { a: app.port } });
    const client = await Client.dial(mesh.entry);
    undo.push(() => client.destroy());
    client.write(Buffer.from(bytes, 'latin1'));
    expect((await client.read(bytes.length)).toString('latin1')).toBe(bytes);
    client.end();
    await client.readToEnd();
    await eventually(() => mesh.client.metric('istio_tcp_connections_closed_total') === 1, {
      what: 'a TCP connection',
    });
  });

  test('undeclared, HTTP: a record for each request', async () => {
    const app = await started(http1App(say('ok')));
    const mesh = await meshOf({ endpoints: { a: app.port } }, { http: { detectTimeoutMs: NEVER_MS } });
    expect((await ask(mesh.entry, '/sniffed')).status).toBe(200);
    expect((await mesh.requests(1))[0]).toMatchObject({ path: '/sniffed', status: 200 });
  });

  test('undeclared, a request line in pieces: HTTP', async () => {
    const app = await started(http1App(say('ok')));
    const mesh = await meshOf({ endpoints: { a: app.port } }, { http: { detectTimeoutMs: NEVER_MS } });
    const client = await Client.dial(mesh.entry);
    undo.push(() => client.destroy());
    for (const part of ['GE', 'T /pieces', ' HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n']) {
      client.write(part);
      await sleep(50);
    }
    expect((await client.readToEnd()).toString()).toMatch(/^HTTP\/1\.1 200 /);
    expect((await mesh.requests(1))[0]).toMatchObject({ path: '/pieces' });
  });

  test('HTTP on a port that is declared to be TCP: as it is', async () => {
    const app = await started(http1App(say('ok')));
    const mesh = await meshOf({ protocol: 'tcp', endpoints: { a: app.port } });
    expect((await ask(mesh.entry, '/', { agent: false })).status).toBe(200);
    await eventually(() => mesh.client.metric('istio_tcp_connections_closed_total') === 1, {
      what: 'a TCP connection',
    });
    expect(mesh.client.metric('istio_requests_total')).toBe(0);
  });

  test('HTTP on an opaque port: as it is', async () => {
    const app = await started(http1App(say('ok')));
    const mesh = await meshOf({ endpoints: { a: app.port } }, { opaquePorts: [80] });
    expect((await ask(mesh.entry, '/', { agent: false })).status).toBe(200);
    await eventually(() => mesh.client.metric('istio_tcp_connections_closed_total') === 1, {
      what: 'a TCP connection',
    });
    expect(mesh.client.metric('istio_requests_total')).toBe(0);
  });

  test('declared HTTP and is not: 400 and the end', async () => {
    const app = await started(http1App(say('ok')));
    const mesh = await meshOf({ protocol: 'http', endpoints: { a: app.port } });
    const client = await Client.dial(mesh.entry);
    undo.push(() => client.destroy());
    client.write('hello there\r\n\r\n');
    expect((await client.readToEnd()).toString()).toMatch(/^HTTP\/1\.1 400 /);
    expect(app.accepted).toBe(0);
    const rejected = (): number => mesh.client.metric('postern_http_rejected_requests_total', { status: '400' });
    await eventually(() => rejected() === 1, { what: 'the refusal to be counted' });
  });

  test('declared HTTP, a client that says nothing for longer than is sniffed for is waited for', async () => {
    const app = await started(http1App(say('ok')));
    const limits = { http: { detectTimeoutMs: 50, headersTimeoutMs: 100 } };
    const mesh = await meshOf({ protocol: 'http', endpoints: { a: app.port } }, limits);
    const client = await Client.dial(mesh.entry);
    undo.push(() => client.destroy());
    await sleep(400);
    client.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    expect((await client.readToEnd()).toString()).toMatch(/^HTTP\/1\.1 200 /);
  });
});
