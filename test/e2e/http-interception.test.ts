import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { issueLeaf, meshAuthority } from '../support/forge.ts';
import type { Seen } from '../support/http-apps.ts';
import { InterceptedMesh, type TlsFacts } from '../support/intercepted-mesh.ts';
import { peerAuthenticationManifest } from '../support/mesh.ts';
import { networkNamespaceTests } from '../support/privileges.ts';

const TOOL = fileURLToPath(new URL('../support/http-tool.ts', import.meta.url));
const VISITOR = 'spiffe://cluster.local/ns/shop/sa/visitor';
/** Declared HTTP by the service. */
const DECLARED = 8080;
/** Of which no service says anything. */
const UNDECLARED = 8081;
/** The same of HTTP/2. */
const DECLARED2 = 8082;
const UNDECLARED2 = 8083;

const ORDERS = JSON.stringify({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'orders', namespace: 'shop' },
  spec: {
    clusterIP: 'None',
    selector: { app: 'orders' },
    ports: [
      { name: 'http', port: 80, targetPort: DECLARED },
      { name: 'http2', port: 82, targetPort: DECLARED2 },
    ],
  },
});

const POLICY = JSON.stringify({
  apiVersion: 'security.istio.io/v1',
  kind: 'AuthorizationPolicy',
  metadata: { name: 'orders', namespace: 'shop' },
  spec: {
    selector: { matchLabels: { app: 'orders' } },
    rules: [
      { to: [{ operation: { paths: ['/public*'] } }] },
      { from: [{ source: { principals: ['*'] } }], to: [{ operation: { paths: ['/members'] } }] },
    ],
  },
});

networkNamespaceTests('HTTP that comes to port 15006', () => {
  let mesh: InterceptedMesh;

  async function get(
    path: string,
    port: number,
    tls: TlsFacts | null = null,
    from = 'outside',
  ): Promise<{ status: number; body: string }> {
    const env = tls === null ? process.env : { ...process.env, HTTP_TOOL_TLS: JSON.stringify(tls) };
    const forged = JSON.stringify({ 'x-forwarded-client-cert': `URI=${VISITOR}` });
    const how = port === DECLARED2 || port === UNDECLARED2 ? 'get2' : 'get';
    const argv = [process.execPath, TOOL, how, mesh.host('orders').ipv4, String(port), path, forged];
    return JSON.parse(await mesh.output(from, argv, env)) as { status: number; body: string };
  }

  const visitor = (alpn = 'istio'): TlsFacts => ({
    ...issueLeaf(meshAuthority(mesh.dataDir), { uris: [VISITOR] }),
    ALPNProtocols: [alpn],
  });

  const seen = ({ body }: { body: string }): Seen => JSON.parse(body) as Seen;

  async function setMode(mode: string): Promise<void> {
    mesh.editManifest('mode.yaml', peerAuthenticationManifest('orders', 'orders', mode));
    // Plaintext comes in but where STRICT, mutual TLS is ended here but where DISABLE.
    const [plaintext, secure] = [mode === 'STRICT' ? 0 : 200, mode === 'DISABLE' ? 0 : 200];
    const inForce = async (): Promise<boolean> =>
      (await get('/public', DECLARED)).status === plaintext &&
      (await get('/public', DECLARED, visitor())).status === secure;
    await eventually(inForce, { what: mode, everyMs: 100 });
  }

  beforeAll(async () => {
    const manifests = { 'orders.yaml': ORDERS, 'policy.yaml': POLICY };
    // Nobody here waits for a server to speak first; what a slow client sends must not be taken for no HTTP because it comes late.
    mesh = await InterceptedMesh.start('e2eh', ['orders', 'frontend'], manifests, { http: { detectTimeout: '60s' } });
    for (const [port, how] of [
      [DECLARED, 'serve'],
      [UNDECLARED, 'serve'],
      [DECLARED2, 'serve2'],
      [UNDECLARED2, 'serve2'],
    ] as const) {
      const app = mesh.start('orders', process.execPath, TOOL, how, String(port));
      await eventually(() => app.stdout.includes('listening'), { what: `${app.name} to listen` });
    }
    await eventually(async () => (await get('/public', DECLARED)).status === 200, { what: 'the mesh', everyMs: 250 });
  });

  afterAll(async () => {
    await mesh?.stop();
  });

  test.each([
    ['PERMISSIVE', DECLARED],
    ['PERMISSIVE', UNDECLARED],
    ['PERMISSIVE', DECLARED2],
    ['PERMISSIVE', UNDECLARED2],
    ['DISABLE', DECLARED],
    ['DISABLE', UNDECLARED],
  ])('in plaintext is decided by request where the port is %s (%i), and its caller is nobody', async (mode, port) => {
    await setMode(mode);
    const answer = await get('/public/x', port);
    expect(answer.status).toBe(200);
    expect(seen(answer).headers['x-forwarded-client-cert']).toBeUndefined();
    expect(await get('/public/../private', port)).toEqual({ status: 403, body: 'RBAC: access denied' });
    expect((await get('/members', port)).status).toBe(403);
  });

  test.each([
    ['istio-http/1.1', DECLARED],
    ['istio', DECLARED],
    ['istio-h2', DECLARED2],
    ['istio', DECLARED2],
    ['istio-http/1.1', UNDECLARED],
    ['istio', UNDECLARED],
    ['istio-h2', UNDECLARED2],
    ['istio', UNDECLARED2],
  ])('over direct mutual TLS (%s) is decided by request with who calls (%i)', async (alpn, port) => {
    await setMode('STRICT');
    const tls = visitor(alpn);
    const answer = await get('/members', port, tls);
    expect(answer.status).toBe(200);
    expect(seen(answer).headers['x-forwarded-client-cert']).toMatch(
      new RegExp(`^By=spiffe://cluster.local/ns/shop/sa/orders;Hash=[0-9a-f]{64};Subject="";URI=${VISITOR}$`),
    );
    expect((await get('/private', port, tls)).status).toBe(403);
  });

  test.each([DECLARED, UNDECLARED, DECLARED2, UNDECLARED2])(
    'in plaintext is reset where the port is STRICT (%i), unanswered',
    async (port) => {
      await setMode('STRICT');
      const { status, body } = await get('/public', port);
      expect(status).toBe(0);
      expect(body).toMatch(/ECONNRESET|socket hang up|EPIPE/);
    },
  );

  test.each([DECLARED, UNDECLARED, DECLARED2, UNDECLARED2])(
    'from a workload whose own calls are redirected is decided by request with who calls (%i)',
    async (port) => {
      await setMode('STRICT');
      const answer = await get('/members', port, null, 'frontend');
      expect(answer.status).toBe(200);
      const frontend = 'spiffe://cluster.local/ns/shop/sa/frontend';
      expect(seen(answer).headers['x-forwarded-client-cert']).toMatch(new RegExp(`;URI=${frontend}$`));
      expect((await get('/private', port, null, 'frontend')).status).toBe(403);
    },
  );
});
