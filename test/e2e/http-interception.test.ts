import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { issueLeaf, meshAuthority } from '../support/forge.ts';
import type { Seen } from '../support/http-apps.ts';
import { InterceptedMesh, type TlsFacts } from '../support/intercepted-mesh.ts';
import { peerAuthenticationManifest } from '../support/mesh.ts';
import { networkNamespaceTests } from '../support/privileges.ts';

vi.setConfig({ testTimeout: 90_000, hookTimeout: 120_000 });

const TOOL = fileURLToPath(new URL('../support/http-tool.ts', import.meta.url));
const VISITOR = 'spiffe://cluster.local/ns/shop/sa/visitor';
/** Declared HTTP by the service. */
const DECLARED = 8080;
/** Of which no service says anything. */
const UNDECLARED = 8081;

const ORDERS = JSON.stringify({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'orders', namespace: 'shop' },
  spec: { clusterIP: 'None', selector: { app: 'orders' }, ports: [{ name: 'http', port: 80, targetPort: DECLARED }] },
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
  ): Promise<{ status: number; body: string }> {
    const env = tls === null ? process.env : { ...process.env, HTTP_TOOL_TLS: JSON.stringify(tls) };
    const forged = JSON.stringify({ 'x-forwarded-client-cert': `URI=${VISITOR}` });
    const argv = [process.execPath, TOOL, 'get', mesh.host('orders').ipv4, String(port), path, forged];
    return JSON.parse(await mesh.output('outside', argv, env)) as { status: number; body: string };
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
    mesh = await InterceptedMesh.start('e2eh', ['orders'], { 'orders.yaml': ORDERS, 'policy.yaml': POLICY });
    for (const port of [DECLARED, UNDECLARED]) {
      const app = mesh.start('orders', process.execPath, TOOL, 'serve', String(port));
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
    ['istio-http/1.1', UNDECLARED],
    ['istio', UNDECLARED],
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
});
