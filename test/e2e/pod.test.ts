import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { finish } from '../support/child.ts';
import { eventually } from '../support/eventually.ts';
import { InterceptedMesh } from '../support/intercepted-mesh.ts';
import { peerAuthenticationManifest, serviceManifest } from '../support/mesh.ts';
import { isolations } from '../support/privileges.ts';

const HTTP_TOOL = fileURLToPath(new URL('../support/http-tool.ts', import.meta.url));
const POSTERN = fileURLToPath(new URL('../../bin/postern', import.meta.url));
const PORT = 8080;
const PROBES = [
  { path: '/app-health/web/readyz', timeout: '5s', http: { port: PORT, path: '/healthz' } },
  { path: '/app-health/web/livez', timeout: '5s', tcp: { port: PORT } },
  { path: '/app-health/web/startupz', timeout: '5s', tcp: { port: PORT + 1 } },
];
/** The least of each loop, and after how many closed connections it may end: the drain comes when it comes. */
const [REQUESTS, CLOSES] = [300, 20];

/** Keep-alive requests of somebody without a sidecar; prints what became of them. */
const CLIENT = `
const http = require('node:http');
const [host, port] = process.argv.slice(1);
const agent = new http.Agent({ keepAlive: true });
const failures = [];
let closes = 0, connections = 0;
const one = () => new Promise((resolve) => {
  const failed = (error) => { failures.push(String(error)); resolve(); };
  const request = http.get({ host, port, agent, path: '/', headers: { host: 'orders.shop' } }, (response) => {
    if (response.statusCode !== 200) failures.push(response.statusCode);
    if (response.headers.connection === 'close') closes++;
    if (!request.reusedSocket) connections++;
    response.resume().on('end', resolve).on('error', failed);
  });
  request.on('error', failed);
});
const loop = async () => {
  for (let i = 0; i < ${REQUESTS} || (closes < ${CLOSES} && failures.length === 0); i++) {
    await one();
    if (i === 20) console.log('begun');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};
Promise.all([loop(), loop()]).then(() => { console.log(JSON.stringify({ failures, closes, connections })); agent.destroy(); });
`;

// Another user and a root that cannot be written are not to be had in a user namespace.
((isolations as readonly string[]).includes('root') ? describe : describe.skip)(
  'a sidecar as the kubelet starts it',
  () => {
    let mesh: InterceptedMesh;

    async function get(port: number, path: string): Promise<{ status: number; body: string }> {
      const argv = [process.execPath, HTTP_TOOL, 'get', mesh.host('orders').ipv4, String(port), path];
      return JSON.parse(await mesh.output('outside', argv, process.env)) as { status: number; body: string };
    }

    async function setMode(mode: 'STRICT' | 'PERMISSIVE'): Promise<void> {
      mesh.editManifest('mode.yaml', peerAuthenticationManifest('orders', 'orders', mode));
      const expected = mode === 'STRICT' ? 0 : 200;
      await eventually(async () => (await get(PORT, '/')).status === expected, { what: mode, everyMs: 100 });
    }

    beforeAll(async () => {
      const manifests = { 'orders.yaml': serviceManifest('orders', 80, PORT, 'http') };
      mesh = await InterceptedMesh.start('e2ep', ['orders'], manifests, { pods: { probes: PROBES } });
      const app = mesh.start('orders', process.execPath, HTTP_TOOL, 'serve', String(PORT));
      await eventually(() => app.stdout.includes('listening'), { what: 'the application to listen' });
    });

    afterAll(async () => {
      await mesh?.stop();
    });

    test('runs without privilege, without a place to write to, and without its settings in its environment', () => {
      const about = (file: string): string => readFileSync(`/proc/${mesh.sidecar('orders').pid}/${file}`, 'utf8');
      const status = about('status');
      expect(/^Uid:\s+(\d+)/m.exec(status)?.[1]).toBe('1337');
      expect(/^CapEff:\s+(\w+)/m.exec(status)?.[1]).toBe('0000000000000000');
      expect(/^CapBnd:\s+(\w+)/m.exec(status)?.[1]).toBe('0000000000000000');
      const variables = about('environ').split('\0');
      expect(variables.filter((variable) => /^(?:POSTERN_CONFIG|HOME)=/.test(variable))).toEqual([]);
      const mounts = about('mountinfo')
        .split('\n')
        .map((line) => line.split(' '));
      const root = mounts.filter(([, , , , at]) => at === '/');
      expect(root.at(-1)?.[5]).toMatch(/^ro(,|$)/);
    });

    test('answers probes of an application that takes mutual TLS alone', async () => {
      await setMode('STRICT');
      const health = 15021;
      const answer = await get(health, '/app-health/web/readyz');
      expect(answer).toEqual({ status: 200, body: 'status 200\n' });
      expect((await get(health, '/app-health/web/livez')).status).toBe(200);
      const refused = await get(health, '/app-health/web/startupz');
      expect(refused.status).toBe(503);
      expect(refused.body).toContain('ECONNREFUSED');
      expect((await get(health, '/healthz')).status).toBe(404);
    });

    test('drains inbound without a failed request of callers without a sidecar', async () => {
      await setMode('PERMISSIVE');
      const { ipv4 } = mesh.host('orders');
      const client = mesh.start('outside', process.execPath, '-e', CLIENT, ipv4, String(PORT));
      await eventually(() => client.stdout.includes('begun'), { what: 'traffic' });
      const drained = await finish(mesh.start('orders', POSTERN, 'drain', '--inbound'), 30_000);
      expect([drained.code, drained.stderr]).toEqual([0, '']);
      expect((await get(15021, '/healthz/ready')).status).toBe(503);
      const { stdout } = await finish(client, 120_000);
      const { failures, closes, connections } = JSON.parse(stdout.split('\n').at(-1) ?? '') as {
        failures: unknown[];
        closes: number;
        connections: number;
      };
      expect(failures).toEqual([]);
      expect(closes).toBeGreaterThanOrEqual(CLOSES);
      // The last one of each loop is not followed by another.
      expect(connections).toBeGreaterThanOrEqual(closes);
      mesh.sidecar('orders').kill('SIGTERM');
      expect(await mesh.sidecar('orders').exited).toEqual({ code: 0, signal: null });
    });
  },
);
