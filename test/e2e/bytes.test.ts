import { createHash, randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { App, Client, echoApp, isAllowed, ping, type TcpAddress } from '../support/apps.ts';
import { eventually } from '../support/eventually.ts';
import { Mesh, serviceManifest } from '../support/mesh.ts';

const MIB = 1024 * 1024;
const CHUNK = randomBytes(64 * 1024);
const TRANSFER = 64 * MIB;
const chunks = TRANSFER / CHUNK.length;

function digestOfTransfer(): string {
  const hash = createHash('sha256');
  for (let i = 0; i < chunks; i++) hash.update(CHUNK);
  return hash.digest('hex');
}

/** Writes the transfer as fast as the socket takes it, then FIN. */
async function sendTransfer(socket: Socket): Promise<void> {
  for (let i = 0; i < chunks; i++) {
    if (!socket.write(CHUNK)) await new Promise<void>((resolve) => socket.once('drain', () => resolve()));
  }
  socket.end();
}

/** The application under each port of the workload. */
const PORTS = { echo: 8001, digest: 8002, source: 8003, banner: 8004, flood: 8005, deaf: 8006, reply: 8007 } as const;
type Service = keyof typeof PORTS;
const apps = new Map<Service, App>();
let mesh: Mesh;

const at = (service: Service): TcpAddress => mesh.workload('client').upstream(`server.shop:${PORTS[service]}`);
const appOf = (service: Service): App => {
  const app = apps.get(service);
  if (app === undefined) throw new Error(`no application ${service}`);
  return app;
};

const residentBytes = (pid: number): number =>
  Number(/^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0) * 1024;
const sidecarPids = (): number[] => ['client', 'server'].map((name) => mesh.workload(name).process.pid);

beforeAll(async () => {
  apps.set('echo', await echoApp());
  apps.set(
    'digest',
    await App.start((socket) => {
      const hash = createHash('sha256');
      socket.on('data', (data) => hash.update(data));
      socket.on('end', () => socket.end(hash.digest('hex')));
    }),
  );
  apps.set('source', await App.start((socket) => void sendTransfer(socket)));
  apps.set(
    'banner',
    await App.start((socket) => {
      socket.write('220 ready\r\n');
      socket.resume().on('end', () => socket.end());
    }),
  );
  // Endless: it writes whenever the socket takes more.
  apps.set(
    'flood',
    await App.start((socket) => {
      const more = (): void => {
        while (!socket.destroyed && socket.write(CHUNK));
      };
      socket.on('drain', more);
      more();
    }),
  );
  apps.set('deaf', await App.start((socket) => socket.pause()));
  apps.set(
    'reply',
    await App.start((socket) => {
      socket.on('data', () => socket.end('goodbye'));
    }),
  );
  const ports = Object.entries(PORTS).map(([name, port]) => ({ name: `tcp-${name}`, port }));
  const service = JSON.parse(serviceManifest('server', 1)) as { spec: { ports: unknown } };
  service.spec.ports = ports;
  mesh = await Mesh.start({
    manifests: { 'server.yaml': JSON.stringify(service) },
    workloads: [
      { name: 'server', expose: [...apps].map(([name, application]) => ({ port: PORTS[name], application })) },
      { name: 'client', upstreams: ports.map(({ port }) => `server.shop:${port}`) },
    ],
  });
  await eventually(() => isAllowed(at('echo')), { what: 'the endpoints to reach the client' });
});

afterAll(async () => {
  await mesh?.stop();
  for (const app of apps.values()) await app.close();
});

describe('the end of one direction', () => {
  test('of the client is carried to the application, which still answers', async () => {
    const client = await Client.dial(at('digest'));
    client.write('abc');
    client.end();
    expect((await client.readToEnd()).toString()).toBe(createHash('sha256').update('abc').digest('hex'));
  });

  test('of the application is carried to the client, which may still send', async () => {
    const client = await Client.dial(at('reply'));
    client.write('x');
    expect((await client.readToEnd()).toString()).toBe('goodbye');
    const [socket] = appOf('reply').sockets;
    if (socket === undefined) throw new Error('the application lost its connection');
    const heard = new Promise<string>((resolve) => socket.once('data', (data) => resolve(data.toString())));
    client.write('after your end');
    expect(await heard).toBe('after your end');
    client.end();
    await eventually(() => appOf('reply').sockets.size === 0, { what: 'the connection to end on both sides' });
  });

  test('by reset is carried to the application as an abort', async () => {
    const before = appOf('echo').sockets.size;
    const client = await Client.dial(at('echo'));
    client.write('x');
    await client.read(1);
    expect(appOf('echo').sockets.size).toBe(before + 1);
    client.socket.resetAndDestroy();
    await eventually(() => appOf('echo').sockets.size === before, { what: 'the application to see the reset' });
  });
});

describe('bytes', () => {
  test('of a large transfer arrive whole and in order at the application', async () => {
    const client = await Client.dial(at('digest'));
    await sendTransfer(client.socket);
    expect((await client.readToEnd(150_000)).toString()).toBe(digestOfTransfer());
  });

  test('of a large transfer arrive whole and in order at the client', async () => {
    const client = await Client.dial(at('source'));
    const received = await client.readToEnd(150_000);
    expect(received.length).toBe(TRANSFER);
    expect(createHash('sha256').update(received).digest('hex')).toBe(digestOfTransfer());
    client.destroy();
  });

  test('of eight large transfers at once arrive whole', async () => {
    const digests = await Promise.all(
      Array.from({ length: 8 }, async () => {
        const client = await Client.dial(at('digest'));
        for (let i = 0; i < 128; i++) {
          if (!client.socket.write(CHUNK))
            await new Promise<void>((resolve) => client.socket.once('drain', () => resolve()));
        }
        client.end();
        return (await client.readToEnd(150_000)).toString();
      }),
    );
    const expected = createHash('sha256');
    for (let i = 0; i < 128; i++) expected.update(CHUNK);
    expect(new Set(digests)).toEqual(new Set([expected.digest('hex')]));
  });

  test('of a server that speaks first reach a client that says nothing', async () => {
    const client = await Client.dial(at('banner'));
    expect((await client.read(11)).toString()).toBe('220 ready\r\n');
    client.destroy();
  });

  test('of many tiny messages, one at a time, come back', async () => {
    const client = await Client.dial(at('echo'));
    for (let i = 0; i < 2_000; i++) {
      client.write('.');
      await client.read(1);
    }
    client.destroy();
  });

  test('of two hundred connections at once come back', async () => {
    await Promise.all(Array.from({ length: 200 }, (_, i) => ping(at('echo'), `message ${i}`)));
  });
});

describe('a reader that does not read', () => {
  /** Waits until nothing moves any more: less progress than that comes of a busy machine only makes the bound easier to hold. */
  async function settled(progress: () => number): Promise<number> {
    for (let last = -1; ; ) {
      const now = progress();
      if (now === last && now > 0) return now;
      last = now;
      await sleep(1_000);
    }
  }

  test('as a client holds a bounded number of bytes in the sidecars, and others go on', async () => {
    const before = sidecarPids().map(residentBytes);
    const client = await Client.dial(at('flood'));
    client.socket.pause();
    const socket = await eventually(() => [...appOf('flood').sockets][0], { what: 'the application to be connected' });
    const sent = await settled(() => socket.bytesWritten - socket.writableLength);
    expect(sent).toBeLessThan(64 * MIB);
    for (const [index, pid] of sidecarPids().entries()) {
      expect(residentBytes(pid) - (before[index] ?? 0)).toBeLessThan(32 * MIB);
    }
    await ping(at('echo'));
    client.destroy();
    await eventually(() => appOf('flood').sockets.size === 0, { what: 'the flood to end' });
  });

  test('as an application holds a bounded number of bytes in the sidecars, and others go on', async () => {
    const before = sidecarPids().map(residentBytes);
    const client = await Client.dial(at('deaf'));
    const more = (): void => {
      while (!client.socket.destroyed && client.socket.write(CHUNK));
    };
    client.socket.on('drain', more);
    more();
    const sent = await settled(() => client.socket.bytesWritten - client.socket.writableLength);
    expect(sent).toBeLessThan(64 * MIB);
    for (const [index, pid] of sidecarPids().entries()) {
      expect(residentBytes(pid) - (before[index] ?? 0)).toBeLessThan(32 * MIB);
    }
    await ping(at('echo'));
    client.destroy();
    for (const deaf of appOf('deaf').sockets) deaf.destroy();
  });
});

/** Descriptors of a sidecar without those of its tunnels, of which a burst may leave some more for a while. */
async function descriptorsInUse(name: string): Promise<number> {
  const tunnels = (await mesh.workload(name).metrics()).sum('postern_tunnels');
  return readdirSync(`/proc/${mesh.workload(name).process.pid}/fd`).length - tunnels;
}

test('connections that die at any moment leave no descriptor and no live connection behind', async () => {
  await ping(at('echo'));
  const before = { client: await descriptorsInUse('client'), server: await descriptorsInUse('server') };
  const services: Service[] = ['echo', 'source', 'banner', 'flood'];
  for (let round = 0; round < 10; round++) {
    const clients = await Promise.all(
      Array.from({ length: 30 }, (_, i) => Client.dial(at(services[i % services.length] ?? 'echo'))),
    );
    for (const [i, client] of clients.entries()) {
      client.write('x'.repeat(i * 100));
      if (i % 3 === 0) await sleep(1);
      if (i % 2 === 0) client.socket.resetAndDestroy();
      else client.destroy();
    }
  }
  for (const name of ['client', 'server'] as const) {
    // One more or less is the scrape's own.
    await eventually(async () => (await descriptorsInUse(name)) <= before[name] + 2, {
      what: `the descriptors of ${name} to be closed`,
    });
    await eventually(async () => (await mesh.workload(name).metrics()).sum('postern_connections') === 0, {
      what: `no live connection of ${name}`,
    });
  }
  for (const service of services) {
    await eventually(() => appOf(service).sockets.size === 0, { what: `${service} to be let go` });
  }
});

test('a caller that dies before the application is joined is no end of input to the application, but a reset', async () => {
  for (let i = 0; i < 100; i++) (await Client.dial(at('reply'))).socket.resetAndDestroy();
  // It waits for a request, and would take an end for a client that may still listen.
  await eventually(() => appOf('reply').sockets.size === 0, { what: 'the application to be let go' });
});
