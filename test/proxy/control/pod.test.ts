import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Resource } from '../../../mesh/resources.ts';
import { Child, type Finished, run } from '../../support/child.ts';
import { eventually } from '../../support/eventually.ts';
import { type HttpApp, http1App } from '../../support/http-apps.ts';
import { FakeControlPlane } from './support/fake-control-plane.ts';
import { SidecarProcess, TOKEN } from './support/sidecar-process.ts';

const CLI = fileURLToPath(new URL('../../../cli/main.ts', import.meta.url));

let controlPlane: FakeControlPlane;
let sidecar: SidecarProcess | null = null;
let app: HttpApp | null = null;

beforeEach(async () => {
  controlPlane = new FakeControlPlane();
  controlPlane.tokens.add(TOKEN);
  controlPlane.tokensLast = true;
  controlPlane.greeting = () => [{ type: 'delta', version: 'v1', full: true, upserts: [bundle()], removes: [] }];
  await controlPlane.listen();
});

afterEach(async () => {
  await sidecar?.remove();
  await app?.close();
  sidecar = null;
  app = null;
  await controlPlane.close();
});

const bundle = (): Resource => ({ kind: 'TrustBundle', name: 'roots', roots: [controlPlane.ca.root] });
const self = (ended: boolean): Resource => ({ kind: 'Self', name: 'self', labels: { app: 'orders' }, ended });

async function start(
  settings: Record<string, unknown> = {},
  environment: Record<string, string> = {},
  command?: readonly string[],
): Promise<SidecarProcess> {
  sidecar = await SidecarProcess.start(controlPlane, settings, environment, command);
  return sidecar;
}

const postern = (...args: readonly string[]): Promise<Finished> => run(process.execPath, [CLI, ...args]);

describe('a sidecar with settings in its environment', () => {
  it('runs by them, and has them in its environment no more', async () => {
    const proxy = await start({}, {}, [CLI, 'proxy', '--config', 'env:POSTERN_CONFIG']);
    await eventually(() => controlPlane.open.length === 1, { what: 'the stream' });
    expect(readFileSync(`/proc/${proxy.child.pid}/cmdline`, 'utf8')).toContain('entry.ts');
    expect(readFileSync(`/proc/${proxy.child.pid}/environ`, 'utf8')).not.toContain('POSTERN_CONFIG=');
    const { config } = JSON.parse(await proxy.text('admin', '/config_dump')) as { config: { file: string } };
    expect(config.file).toBe('env:POSTERN_CONFIG');
  });

  it('ends with 78 where they are too long to be handed on', async () => {
    const labels = Object.fromEntries(Array.from({ length: 2_000 }, (_, index) => [`label-${index}`, 'x'.repeat(60)]));
    const workload = { name: 'orders-1', namespace: 'shop', serviceAccount: 'orders', labels };
    const proxy = await start({ workload }, {}, [CLI, 'proxy', '--config']);
    expect((await proxy.child.exited).code).toBe(78);
    expect(proxy.output()).toMatch(/proxy\.yaml: the settings take [0-9]+ bytes/);
  });
});

describe('a sidecar with a service account token', () => {
  const controlPlaneWith = (proof: object) => ({ address: controlPlane.address, caFile: 'ca.pem', ...proof });

  it('proves every certificate by it, and shows the last one beside it', async () => {
    // Renewed after half of it; the other half is more than a slow machine takes for it.
    controlPlane.ttlMs = 8_000;
    const proxy = await start({ controlPlane: controlPlaneWith({ serviceAccountTokenFile: 'token' }) });
    await eventually(() => controlPlane.proofs.length >= 3, { what: 'two renewals' });
    expect(new Set(controlPlane.proofs)).toEqual(new Set([TOKEN]));
    expect(controlPlane.certified.slice(0, 3)).toEqual([false, true, true]);
    expect(proxy.output()).not.toContain(TOKEN);
  });

  it('waits, and says on the health port why it is not ready, while it is refused', async () => {
    controlPlane.tokens.clear();
    const proxy = await start({ controlPlane: controlPlaneWith({ serviceAccountTokenFile: 'token' }) });
    await eventually(async () => (await proxy.text('health', '/healthz/ready')).includes('no such token'), {
      what: 'the refusal to show',
    });
    controlPlane.tokens.add(TOKEN);
    await proxy.becomesReady();
  });
});

describe('a control plane that has a name', () => {
  it('is found by it', async () => {
    const address = `https://localhost:${controlPlane.port}`;
    const proxy = await start({ controlPlane: { address, caFile: 'ca.pem', joinTokenFile: 'token' } });
    await proxy.becomesReady();
  });

  it('is waited for while its name does not resolve', async () => {
    const address = 'https://postern-control-plane.invalid:15012';
    const proxy = await start({ controlPlane: { address, caFile: 'ca.pem', joinTokenFile: 'token' } });
    await eventually(
      async () =>
        /no valid certificate yet: .*postern-control-plane\.invalid/.test(await proxy.text('health', '/healthz/ready')),
      { what: 'the reason to show' },
    );
    expect(proxy.child.alive).toBe(true);
  });
});

/** `-e` of a process that becomes the sidecar, where /etc/hosts is the file of the first argument. */
const WITH_HOSTS = `
const [hosts, program, settings] = process.argv.slice(1);
const script = 'mount --bind "$1" /etc/hosts && exec "$2" "$3" "$4"';
const argv = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script, 'sh', hosts, process.execPath, program, settings];
process.execve('/usr/bin/unshare', argv, process.env);
`;

// A file is mounted over /etc/hosts.
describe.skipIf(process.getuid?.() !== 0)('a control plane whose name resolves late', () => {
  it('is found then, and the data plane is told where it is', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'postern-hosts-'));
    try {
      const hosts = join(directory, 'hosts');
      writeFileSync(hosts, '');
      const address = `https://postern-control-plane.invalid:${controlPlane.port}`;
      const controlled = { address, caFile: 'ca.pem', joinTokenFile: 'token' };
      const command = [
        '-e',
        WITH_HOSTS,
        '--',
        hosts,
        fileURLToPath(new URL('./support/run-sidecar.ts', import.meta.url)),
      ];
      const proxy = await start({ controlPlane: controlled }, {}, command);
      await eventually(async () => (await proxy.text('health', '/healthz/ready')).includes('ENOTFOUND'), {
        what: 'the name not to be found',
      });
      // In place: the mount is of the file, not of its name.
      writeFileSync(hosts, '127.0.0.1 postern-control-plane.invalid\n');
      await proxy.becomesReady();
      expect(proxy.sent().filter(({ type }) => type === 'control-plane')).toEqual([
        { worker: 0, type: 'control-plane', addresses: [{ address: '127.0.0.1', port: controlPlane.port }] },
      ]);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

describe('probes of the application', () => {
  it('are answered on the health port', async () => {
    let healthy = false;
    app = await http1App((_, response) => response.writeHead(healthy ? 200 : 500).end());
    const path = '/app-health/web/readyz';
    const headers = [{ name: 'authorization', value: 'Basic a-password' }];
    const proxy = await start({ probes: [{ path, http: { port: app.port, headers } }] });
    await proxy.becomesReady();
    expect((await proxy.get('health', path)).status).toBe(503);
    healthy = true;
    expect((await proxy.get('health', path)).status).toBe(200);
    expect((await proxy.get('health', '/app-health/web/livez')).status).toBe(404);
    const dump = await proxy.text('admin', '/config_dump');
    expect(dump).toContain('authorization');
    expect(dump + proxy.output()).not.toContain('a-password');
  });
});

describe('postern wait', () => {
  it('ends with 75 and what is missing where the sidecar is not ready in time', async () => {
    controlPlane.greeting = () => [];
    const proxy = await start();
    const health = `127.0.0.1:${proxy.ports.health}`;
    await eventually(() => controlPlane.open.length === 1, { what: 'the stream' });
    const { code, stderr } = await postern('wait', '--health', health, '--timeout', '300ms');
    expect(code).toBe(75);
    expect(stderr).toContain(`the sidecar on ${health} is not ready after 300ms: not ready: no full push`);
  });

  it('ends with 0 once the sidecar is ready', async () => {
    controlPlane.greeting = () => [];
    const proxy = await start();
    const waiting = Child.start('wait', process.execPath, [CLI, 'wait', '--health', `127.0.0.1:${proxy.ports.health}`]);
    await eventually(() => controlPlane.open.length === 1, { what: 'the stream' });
    expect(waiting.alive).toBe(true);
    controlPlane.push('v1', [bundle()], true);
    expect(await waiting.exited).toEqual({ code: 0, signal: null });
  });

  it.each([
    [['--timeout', '1'], 64],
    [['--health', 'nowhere'], 64],
    [['--health', '127.0.0.1:1', '--timeout', '0s'], 75],
  ])('%j ends with %i', async (args, code) => expect((await postern('wait', ...args)).code).toBe(code));
});

describe('postern drain --inbound', () => {
  it('drains inbound alone: the sidecar is not ready, and goes on', async () => {
    const proxy = await start();
    await proxy.becomesReady();
    const admin = `127.0.0.1:${proxy.ports.admin}`;
    for (let time = 0; time < 2; time += 1) {
      const { code, stdout } = await postern('drain', '--inbound', '--admin', admin, '--timeout', '5s');
      expect([code, stdout]).toEqual([0, 'draining inbound: 0 connections left']);
    }
    expect(proxy.sent().filter(({ type }) => type.startsWith('drain'))).toEqual([{ worker: 0, type: 'drain-inbound' }]);
    expect(await proxy.text('health', '/healthz/ready')).toBe('not ready: the sidecar is draining what comes in\n');
    expect((await proxy.get('health', '/healthz/live')).status).toBe(200);
    expect(controlPlane.open).toHaveLength(1);
    proxy.child.kill('SIGTERM');
    expect(await proxy.child.exited).toEqual({ code: 0, signal: null });
  });

  it('drains what a worker takes that comes later', async () => {
    const proxy = await start();
    await proxy.becomesReady();
    await proxy.get('admin', '/drain?direction=inbound', { method: 'POST' });
    controlPlane.push('v2', [{ kind: 'AuthorizationPolicy', name: 'test/crash', object: {} }]);
    const asked = (): number => proxy.sent().filter(({ type }) => type === 'drain-inbound').length;
    await eventually(() => asked() === 2, { what: 'the worker that took its place to be asked' });
  });

  it('is asked for in words that are understood', async () => {
    const proxy = await start();
    await proxy.becomesReady();
    expect((await proxy.get('admin', '/drain', { method: 'POST' })).status).toBe(400);
    expect((await proxy.get('admin', '/drain?direction=outbound', { method: 'POST' })).status).toBe(400);
    expect((await proxy.get('admin', '/drain?direction=inbound')).status).toBe(405);
    expect((await postern('drain', '--timeout', '1s')).code).toBe(64);
    expect((await postern('drain', '--inbound', '--admin', '127.0.0.1:1')).code).toBe(69);
    expect((await proxy.get('health', '/healthz/ready')).status).toBe(200);
  });
});

describe('the end of the application', () => {
  it.each([
    ['that is none', undefined],
    ['that is real', [CLI, 'proxy', '--config']],
  ])('ends the sidecar (with a data plane %s) with 0', async (_, command) => {
    const proxy = await start({}, {}, command);
    await proxy.becomesReady();
    controlPlane.push('v2', [self(false)]);
    await eventually(() => controlPlane.acks.length === 2, { what: 'the acknowledgement' });
    expect(proxy.child.alive).toBe(true);
    controlPlane.push('v3', [self(true)]);
    expect(await proxy.child.exited).toEqual({ code: 0, signal: null });
    expect(proxy.output()).toContain('the application has ended, and the sidecar ends with it');
  });

  it('is waited for after SIGTERM where outbound is kept, as long as connections are open', async () => {
    const proxy = await start({ drain: { keepOutbound: true }, drainTimeout: '1m' }, { FAKE_WORKER_OPEN: '1' });
    await proxy.becomesReady();
    proxy.child.kill('SIGTERM');
    await eventually(() => proxy.sent().some(({ type }) => type === 'drain-inbound'), { what: 'inbound to drain' });
    expect((await proxy.get('health', '/healthz/ready')).status).toBe(503);
    expect(controlPlane.open).toHaveLength(1);
    controlPlane.push('v2', [self(true)]);
    expect(await proxy.child.exited).toEqual({ code: 0, signal: null });
  });

  it('is not waited for where nothing is open', async () => {
    const proxy = await start({ drain: { keepOutbound: true }, drainTimeout: '1m' });
    await proxy.becomesReady();
    proxy.child.kill('SIGTERM');
    expect(await proxy.child.exited).toEqual({ code: 0, signal: null });
    expect(proxy.output()).toContain('nothing uses the sidecar any more');
  });
});
