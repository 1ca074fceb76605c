import { createServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Resource } from '../../../mesh/resources.ts';
import { eventually } from '../../support/eventually.ts';
import { FakeControlPlane } from './support/fake-control-plane.ts';
import { SidecarProcess, TOKEN } from './support/sidecar-process.ts';

/** Renewed after half of it; the other half is more than a slow machine takes for it. */
const SHORT_TTL_MS = 8_000;
const POLICY = (name: string): Resource => ({ kind: 'AuthorizationPolicy', name, object: {} });

let controlPlane: FakeControlPlane;
let sidecar: SidecarProcess | null = null;

beforeEach(async () => {
  controlPlane = new FakeControlPlane();
  controlPlane.tokens.add(TOKEN);
  await controlPlane.listen();
});

afterEach(async () => {
  await sidecar?.remove();
  sidecar = null;
  await controlPlane.close();
});

async function start(settings = {}, environment = {}): Promise<SidecarProcess> {
  sidecar = await SidecarProcess.start(controlPlane, settings, environment);
  return sidecar;
}

const bundle = (): Resource => ({ kind: 'TrustBundle', name: 'roots', roots: [controlPlane.ca.root] });

function greetWith(version: string, resources: () => readonly Resource[]): void {
  controlPlane.greeting = () => [{ type: 'delta', version, full: true, upserts: resources(), removes: [] }];
}

describe('a sidecar with a control plane', () => {
  it('joins, is ready once it has certificate, push and listeners, and drains on SIGTERM', async () => {
    const proxy = await start();
    await eventually(async () => (await proxy.text('health', '/healthz/ready')).includes('no full push'), {
      what: 'the full push to be what is missing',
    });
    expect((await proxy.get('health', '/healthz/ready')).status).toBe(503);
    expect((await proxy.get('health', '/healthz/live')).status).toBe(200);
    await eventually(() => controlPlane.open.length === 1, { what: 'the stream' });
    controlPlane.push('v1', [bundle(), POLICY('shop/a')], true);
    await proxy.becomesReady();
    expect(controlPlane.proofs).toEqual([TOKEN]);
    expect(controlPlane.streams[0]?.request).toMatchObject({
      workload: { name: 'orders-1', namespace: 'shop', serviceAccount: 'orders', addresses: [], tunnel: null },
      resume: null,
    });
    await eventually(() => controlPlane.acks.length === 1, { what: 'the acknowledgement' });
    expect(controlPlane.acks).toEqual([{ workload: 'orders-1', version: 'v1', rejected: [] }]);
    expect(proxy.sent().map(({ type }) => type)).toEqual(['identity', 'resources']);

    proxy.child.kill('SIGTERM');
    expect(await proxy.child.exited).toEqual({ code: 0, signal: null });
    // The end of a process and the end of its connection are told one by one.
    await eventually(() => controlPlane.open.length === 0, { what: 'the end of the stream' });
    expect(proxy.output()).toContain('{"access":"the last connection"}');
  });

  it('shows its state on the admin and metrics ports, and no secret anywhere', async () => {
    greetWith('v7', () => [bundle(), POLICY('shop/a'), POLICY('test/reject-me')]);
    const proxy = await start({ workers: 2 });
    await proxy.becomesReady();
    await eventually(() => controlPlane.acks.length === 1, { what: 'the acknowledgement' });
    expect(controlPlane.acks[0]?.rejected).toEqual([
      { key: 'AuthorizationPolicy/test/reject-me', reason: 'the test asked for it' },
    ]);

    const pages: Record<string, string> = {};
    for (const path of ['/config_dump?workers', '/certs', '/connections', '/stats', '/logging']) {
      pages[path] = await proxy.text('admin', path);
    }
    const dump = JSON.parse(pages['/config_dump?workers'] ?? '');
    expect(Object.keys(dump.resources.inForce)).toEqual(['TrustBundle', 'AuthorizationPolicy']);
    expect(dump.resources.inForce.AuthorizationPolicy).toHaveLength(1);
    expect(dump.resources.rejected).toHaveLength(1);
    expect(JSON.parse(pages['/certs'] ?? '')).toMatchObject({ spiffeId: 'spiffe://test.mesh/ns/shop/sa/orders' });
    expect(JSON.parse(pages['/connections'] ?? '')).toEqual([
      { worker: 0, data: [{ what: 'connections' }] },
      { worker: 1, data: [{ what: 'connections' }] },
    ]);

    const metrics = await proxy.metrics();
    expect(metrics.sum('postern_accept_paused_total')).toBe(2);
    expect(metrics.sum('postern_control_plane_connected')).toBe(1);
    expect(metrics.sum('postern_push_version_info', { version: 'v7' })).toBe(1);
    expect(metrics.sum('postern_rejected_resources')).toBe(1);
    expect(metrics.sum('postern_certificate_expiry_seconds')).toBeGreaterThan(Date.now() / 1000 + 3000);

    expect(await proxy.text('admin', '/logging?level=trace', { method: 'POST' })).toBe('level: trace\n');
    await eventually(() => proxy.sent().filter(({ type }) => type === 'log-level').length === 2, { what: 'the level' });
    expect((await proxy.get('admin', '/logging?level=loud', { method: 'POST' })).status).toBe(400);

    expect((await proxy.get('admin', '/quitquitquit')).status).toBe(405);
    await proxy.get('admin', '/quitquitquit', { method: 'POST' });
    expect((await proxy.child.exited).code).toBe(0);

    const keys = proxy.sent().flatMap((message) => (message.type === 'identity' ? [message.privateKey] : []));
    const secrets = [
      TOKEN,
      ...keys.flatMap((key) => key.split('\n').filter((line) => line.length >= 16 && !line.startsWith('-'))),
    ];
    expect(secrets.length).toBeGreaterThan(2);
    const shown = [...Object.values(pages), proxy.output()].join('\n');
    for (const secret of secrets) expect(shown.includes(secret)).toBe(false);
    expect(shown).not.toContain('PRIVATE KEY');
  });

  it('keeps everything while the control plane is lost, and resumes from what it holds', async () => {
    greetWith('v1', () => [bundle(), POLICY('shop/a')]);
    const proxy = await start();
    await proxy.becomesReady();
    const { port } = controlPlane;
    await controlPlane.close();
    await eventually(async () => (await proxy.metrics()).sum('postern_control_plane_connected') === 0, {
      what: 'the loss to show',
    });
    expect((await proxy.get('health', '/healthz/ready')).status).toBe(200);
    expect(JSON.parse(await proxy.text('admin', '/config_dump')).resources.version).toBe('v1');

    const { ca } = controlPlane;
    // The same authority, as after a restart with the same data directory.
    controlPlane = await FakeControlPlane.withAuthority(ca, port);
    await eventually(() => controlPlane.open.length === 1, { what: 'the stream again' });
    expect(controlPlane.open[0]?.request.resume).toEqual({ version: 'v1' });
    controlPlane.push('v2', [POLICY('shop/b')]);
    await eventually(() => controlPlane.acks.some(({ version }) => version === 'v2'), { what: 'the next version' });
    expect(JSON.parse(await proxy.text('admin', '/config_dump')).resources.inForce.AuthorizationPolicy).toHaveLength(2);
  });

  it('lives through short certificates: each from the one before, each stream moved to a new one in time', async () => {
    controlPlane.ttlMs = SHORT_TTL_MS;
    greetWith('v1', () => [bundle()]);
    const proxy = await start();
    await proxy.becomesReady();
    await eventually(() => new Set(controlPlane.streams.map(({ serial }) => serial)).size >= 3, {
      what: 'streams with three certificates',
    });
    expect(controlPlane.proofs.slice(0, 3)).toEqual([TOKEN, 'certificate', 'certificate']);
    expect(controlPlane.streams.slice(1).every(({ request }) => request.resume?.version === 'v1')).toBe(true);
    expect(
      new Set(proxy.sent().flatMap((m) => (m.type === 'identity' ? [m.privateKey] : []))).size,
    ).toBeGreaterThanOrEqual(3);
    expect(proxy.output()).not.toContain('"level":"warn"');
  });
});

describe('a sidecar whose worker crashes', () => {
  it('logs the cause, replaces it with what is in force, and refuses a push that no worker survives', async () => {
    greetWith('v1', () => [bundle(), POLICY('shop/a')]);
    const proxy = await start({ workers: 2 });
    await proxy.becomesReady();
    controlPlane.push('v2', [POLICY('test/crash')]);
    await eventually(() => controlPlane.acks.find(({ version }) => version === 'v2'), { what: 'the refusal' });
    expect(controlPlane.acks.at(-1)?.rejected).toMatchObject([{ key: 'AuthorizationPolicy/test/crash' }]);
    expect(proxy.output()).toContain('the test asked for a crash');
    await proxy.becomesReady();
    controlPlane.push('v3', [POLICY('shop/b')]);
    await eventually(() => controlPlane.acks.some(({ version }) => version === 'v3'), { what: 'the next push' });
    const sent = proxy.sent().flatMap((message) => (message.type === 'resources' ? [message] : []));
    const replays = sent.filter(({ version, full }) => full && version !== 'v3').slice(2);
    expect(replays.length).toBeGreaterThanOrEqual(2);
    for (const { upserts } of replays) expect(upserts.map(({ name }) => name)).toEqual(['roots', 'shop/a']);
    const metrics = await proxy.metrics();
    expect(metrics.sum('postern_worker_restarts_total')).toBeGreaterThanOrEqual(3);
    // What the workers that ended had counted is not taken back: v1 twice, and v3 at least once.
    expect(metrics.sum('postern_accept_paused_total')).toBeGreaterThanOrEqual(3);
  });
});

describe('a sidecar that cannot go on', () => {
  it('ends with 77 and what to do when its join token is refused', async () => {
    controlPlane.tokens.clear();
    const proxy = await start();
    expect((await proxy.child.exited).code).toBe(77);
    expect(proxy.output()).toContain('token-used');
    expect(proxy.output()).toContain('postern token create');
    expect(proxy.output()).not.toContain(TOKEN);
  });

  it('ends with 69 when somebody has its port, although workers would share it', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen({ port: 0, host: '127.0.0.1' }, resolve));
    const bound = other.address();
    const port = typeof bound === 'object' && bound !== null ? bound.port : 0;
    const proxy = await start({ inbound: { listen: `127.0.0.1:${port}` } });
    expect((await proxy.child.exited).code).toBe(69);
    expect(proxy.output()).toContain(`inbound.listen 127.0.0.1:${port} is in use`);
    other.close();
  });

  it('ends with what a worker says that cannot start', async () => {
    const proxy = await start({}, { FAKE_WORKER_FATAL: '1' });
    expect((await proxy.child.exited).code).toBe(69);
    expect(proxy.child.stderr.join()).toContain('inbound.listen is in use');
  });

  it('does not trust a server with another identity than the control plane', async () => {
    const impostor = await FakeControlPlane.withAuthority(controlPlane.ca, 0, 'ns/shop/sa/orders');
    const proxy = await start({
      controlPlane: { address: impostor.address, caFile: 'ca.pem', joinTokenFile: 'token' },
    });
    await eventually(
      () => proxy.output().includes('the server shows the identity spiffe://test.mesh/ns/shop/sa/orders'),
      {
        what: 'the refusal',
      },
    );
    expect(impostor.proofs).toEqual([]);
    await impostor.close();
  });

  it('ends at once with 143 on a second SIGTERM', async () => {
    greetWith('v1', () => [bundle()]);
    const proxy = await start({ drainTimeout: '1h' }, { FAKE_WORKER_NEVER_DRAINS: '1' });
    await proxy.becomesReady();
    proxy.child.kill('SIGTERM');
    await eventually(async () => (await proxy.text('health', '/healthz/ready')).includes('draining'), {
      what: 'the drain',
    });
    proxy.child.kill('SIGTERM');
    expect((await proxy.child.exited).code).toBe(143);
  });
});
