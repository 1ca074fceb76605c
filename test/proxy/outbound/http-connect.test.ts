import { afterEach, describe, expect, test } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { ask, http1App } from '../../support/http-apps.ts';
import { OutboundMesh, orders, plainWorkload } from './outbound-mesh.ts';
import { TunnelPeer } from './tunnel-peer.ts';

const undo: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

/** Endpoints whose sidecars answer CONNECT so, and `plain` more that have none and work. */
async function meshOf(statuses: readonly (number | null)[], plain = 0) {
  const mesh = await OutboundMesh.start({ endpoints: {} }, { limits: { connectTimeoutMs: 300 } });
  undo.push(() => mesh.stop());
  const peers = await Promise.all(statuses.map((status, i) => TunnelPeer.start(mesh.signer, `t${i}`, status)));
  for (const peer of peers) undo.push(() => peer.close());
  const endpoints: Record<string, number> = Object.fromEntries(peers.map(({ name }) => [name, 8080]));
  const workloads = peers.map(({ workload }) => workload);
  for (let i = 0; i < plain; i++) {
    const app = await http1App((request, response) => {
      request.resume();
      response.end('plain');
    });
    undo.push(() => app.close());
    workloads.push(plainWorkload(`p${i}`));
    endpoints[`p${i}`] = app.port;
  }
  await mesh.push(...workloads, orders({ protocol: 'http', endpoints }));
  return { mesh, peers };
}

describe('a sidecar that does not take the connection', () => {
  test.each([
    [503, 503],
    [504, 503],
    [403, 403],
    [null, 503],
  ])('and answers CONNECT with %s: %i for the request', async (status, expected) => {
    const { mesh, peers } = await meshOf([status]);
    expect((await ask(mesh.entry, '/')).status).toBe(expected);
    expect(peers[0]?.asked).toBe(1);
    const [line] = await mesh.requests(1);
    expect(line).toMatchObject(expected === 403 ? { flags: '-', verdict: 'denied' } : { flags: 'UF' });
    expect(line?.detail).toContain(status === null ? 'not answered in time' : 'as told');
    await eventually(() => mesh.client.metric('postern_http_pool_connections') === 0, { what: 'no connection' });
  });

  test.each([
    [503, 'POST'],
    // Perhaps it has taken it: only what may be done twice is asked of another.
    [null, 'GET'],
  ])('and answers CONNECT with %s: another is asked (%s)', async (status, method) => {
    const { mesh, peers } = await meshOf([status], 1);
    const headers = method === 'POST' ? { 'content-length': '0' } : {};
    for (let i = 0; i < 10; i++) {
      expect((await ask(mesh.entry, '/', { method, headers })).body.toString()).toBe('plain');
    }
    expect(peers[0]?.asked).toBeGreaterThan(0);
  });

  test('and never answers CONNECT: a POST is not sent again', async () => {
    const { mesh, peers } = await meshOf([null, null]);
    expect((await ask(mesh.entry, '/', { method: 'POST', headers: { 'content-length': '0' } })).status).toBe(503);
    expect((peers[0]?.asked ?? 0) + (peers[1]?.asked ?? 0)).toBe(1);
  });

  test('a request whose body is on its way is not sent again', async () => {
    const { mesh, peers } = await meshOf([503, 503]);
    expect((await ask(mesh.entry, '/', { method: 'POST', body: 'x' })).status).toBe(503);
    expect((peers[0]?.asked ?? 0) + (peers[1]?.asked ?? 0)).toBe(1);
    expect((await mesh.requests(1))[0]).toMatchObject({ flags: 'UF', attempts: 1 });
  });
});
