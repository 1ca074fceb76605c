import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { issueLeaf, meshAuthority, WRONG_KINDS, wrongCertificates } from '../support/forge.ts';
import { InterceptedMesh } from '../support/intercepted-mesh.ts';
import { peerAuthenticationManifest, policyManifest } from '../support/mesh.ts';
import { networkNamespaceTests } from '../support/privileges.ts';

const VIRTUAL_IP = '10.96.0.10';
const ORDERS = JSON.stringify({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'orders', namespace: 'shop' },
  spec: { clusterIP: VIRTUAL_IP, selector: { app: 'orders' }, ports: [{ name: 'tcp', port: 80, targetPort: 8080 }] },
});
const mode = (value: string): string => peerAuthenticationManifest('orders', 'orders', value);

networkNamespaceTests('a mesh whose traffic is intercepted', () => {
  let mesh: InterceptedMesh;
  const ordersAt = (family: 'ipv4' | 'ipv6'): string => mesh.host('orders')[family];
  /** An edit has arrived when an outsider's plaintext is treated by it. */
  /** What outsiders get tells STRICT from the others, but not those from each other: so the way from one to another goes by STRICT. */
  async function setMode(value: string, outsiderAnswered: boolean): Promise<void> {
    if (outsiderAnswered) await setMode('STRICT', false);
    mesh.editManifest('mode.yaml', mode(value));
    await eventually(async () => (await mesh.answers('outside', ordersAt('ipv4'), 8080)) === outsiderAnswered, {
      what: `mode ${value} to be in force`,
      everyMs: 100,
    });
  }

  beforeAll(async () => {
    mesh = await InterceptedMesh.start('e2e', ['frontend', 'orders'], { 'orders.yaml': ORDERS });
    await mesh.serve('orders', 'echo', 8080);
    await mesh.serve('orders', 'banner', 8081);
    await mesh.serve('outside', 'echo', 9090);
    await eventually(() => mesh.answers('frontend', VIRTUAL_IP, 80), { what: 'the mesh to work', everyMs: 250 });
  });

  afterAll(async () => {
    await mesh?.stop();
  });

  describe('an application that knows nothing of it', () => {
    test.each<[string, () => string, number]>([
      ['a virtual IP', () => VIRTUAL_IP, 80],
      ['an IPv4 address of a workload', () => ordersAt('ipv4'), 8080],
      ['an IPv6 address of a workload', () => ordersAt('ipv6'), 8080],
    ])('reaches %s through a tunnel', async (_, address, port) => {
      const tunnelled = (): number => mesh.accessLog('orders').filter(({ transport }) => transport === 'hbone').length;
      const before = tunnelled();
      expect(await mesh.call('frontend', address(), port, 'hello')).toEqual({ answer: 'hello', error: null });
      await eventually(() => tunnelled() > before, { what: 'the line in the access log of orders' });
    });

    test('reaches what is not in the mesh directly', async () => {
      expect(await mesh.answers('frontend', mesh.host('outside').ipv4, 9090)).toBe(true);
      expect(await mesh.answers('frontend', mesh.host('outside').ipv6, 9090)).toBe(true);
    });

    test('reaches itself by its own address', async () => {
      expect(await mesh.answers('orders', ordersAt('ipv4'), 8080)).toBe(true);
    });

    test('is told that a port is closed by a closed connection', async () => {
      expect((await mesh.call('frontend', ordersAt('ipv4'), 9999)).answer).toBe('');
    });
  });

  describe('PeerAuthentication', () => {
    test('PERMISSIVE: plaintext is taken from outside, also where the server speaks first; the mesh uses its tunnel', async () => {
      await setMode('PERMISSIVE', true);
      expect(await mesh.answers('outside', ordersAt('ipv6'), 8080)).toBe(true);
      const banner = { answer: 'banner of the application\n', error: null };
      expect(await mesh.listen('outside', ordersAt('ipv4'), 8081)).toEqual(banner);
      expect(await mesh.listen('frontend', ordersAt('ipv4'), 8081)).toEqual(banner);
      expect(await mesh.answers('frontend', VIRTUAL_IP, 80)).toBe(true);
    });

    test('PERMISSIVE: a client that sends nothing but its end is answered all the same', async () => {
      await setMode('PERMISSIVE', true);
      const { answer } = await mesh.listen('outside', ordersAt('ipv4'), 8081, 'end');
      expect(answer).toBe('banner of the application\n');
    });

    test('STRICT: plaintext from outside is refused and says why; the mesh goes on; the change cuts a plaintext connection that is open', async () => {
      await setMode('PERMISSIVE', true);
      const open = await mesh.hold('outside', ordersAt('ipv4'), 8080);
      await setMode('STRICT', false);
      expect(await mesh.answers('outside', ordersAt('ipv6'), 8080)).toBe(false);
      expect(await mesh.answers('frontend', VIRTUAL_IP, 80)).toBe(true);
      await mesh.accessLogLine(
        'orders',
        (line) => line.verdict === 'denied' && /STRICT/.test(`${line.detail}`),
        'the refusal',
      );
      await open.exited;
    });

    test('DISABLE: the mesh calls in plaintext too', async () => {
      await setMode('DISABLE', true);
      const plain = (): number =>
        mesh.accessLog('frontend').filter((line) => line.transport === 'plaintext' && line.verdict === 'allowed')
          .length;
      const before = plain();
      await eventually(async () => (await mesh.answers('frontend', VIRTUAL_IP, 80)) && plain() > before, {
        what: 'a call in plaintext',
        everyMs: 250,
      });
    });
  });

  describe('TLS at a redirected port', () => {
    const istio = ['istio-peer-exchange', 'istio'];
    const byMutualTls = (principal: string): boolean =>
      mesh.accessLog('orders').some((line) => line.transport === 'mtls' && JSON.stringify(line).includes(principal));

    test('with an ALPN of Istio and a certificate of the mesh is ended here, under every mode', async () => {
      const uris = ['spiffe://cluster.local/ns/shop/sa/istio-peer'];
      const credentials = issueLeaf(meshAuthority(mesh.dataDir), { uris });
      for (const [value, plaintext] of [
        ['PERMISSIVE', true],
        ['STRICT', false],
      ] as const) {
        await setMode(value, plaintext);
        const { answer } = await mesh.callTls('outside', ordersAt('ipv4'), 8080, {
          ALPNProtocols: istio,
          ...credentials,
        });
        expect(answer, value).toBe('ping');
      }
      await eventually(() => byMutualTls('sa/istio-peer'), { what: 'the line in the access log' });
    });

    test.each(WRONG_KINDS)('with a certificate %s is refused', async (kind) => {
      await setMode('STRICT', false);
      const wrong = wrongCertificates(meshAuthority(mesh.dataDir), 'spiffe://cluster.local/ns/shop/sa/forged');
      const { answer } = await mesh.callTls('outside', ordersAt('ipv4'), 8080, {
        ALPNProtocols: istio,
        ...wrong[kind],
      });
      expect(answer).toBe('');
    });

    test('of the application itself is passed through where PERMISSIVE, with its SNI seen', async () => {
      await setMode('PERMISSIVE', true);
      // The echo gives the ClientHello back: no handshake, but the application had it.
      await mesh.callTls('outside', ordersAt('ipv4'), 8080, { ALPNProtocols: ['h2'], servername: 'orders.example' });
      await mesh.accessLogLine('orders', (line) => line.transport === 'tls-passthrough', 'TLS passed through');
    });
  });

  test('a policy holds for redirected plaintext: no identity, no principal', async () => {
    await setMode('PERMISSIVE', true);
    mesh.editManifest('allow.yaml', policyManifest({ name: 'allow-frontend', app: 'orders', from: ['frontend'] }));
    await eventually(async () => !(await mesh.answers('outside', ordersAt('ipv4'), 8080)), {
      what: 'the policy to be in force',
      everyMs: 100,
    });
    expect(await mesh.answers('frontend', VIRTUAL_IP, 80)).toBe(true);
    mesh.editManifest('allow.yaml', policyManifest({ name: 'allow-frontend', app: 'orders', from: ['nobody'] }));
    await eventually(async () => !(await mesh.answers('frontend', VIRTUAL_IP, 80)), {
      what: 'the next policy to be in force',
      everyMs: 100,
    });
    mesh.editManifest('allow.yaml', ORDERS.replaceAll('orders', 'other').replace(VIRTUAL_IP, '10.96.0.11'));
    await eventually(() => mesh.answers('outside', ordersAt('ipv4'), 8080), {
      what: 'the policy to be gone',
      everyMs: 100,
    });
  });

  test('REGISTRY_ONLY: what is not in the mesh is refused, and cut where it is open; what is goes on', async () => {
    const config = (value: string): string =>
      JSON.stringify({
        apiVersion: 'postern.dev/v1',
        kind: 'MeshConfig',
        metadata: { name: 'mesh', namespace: 'istio-system' },
        spec: { outboundTrafficPolicy: { mode: value } },
      });
    const outside = (): Promise<boolean> => mesh.answers('frontend', mesh.host('outside').ipv4, 9090);
    const open = await mesh.hold('frontend', mesh.host('outside').ipv4, 9090);
    mesh.editManifest('mesh.yaml', config('REGISTRY_ONLY'));
    await open.exited;
    await eventually(async () => !(await outside()), { what: 'REGISTRY_ONLY to be in force', everyMs: 100 });
    expect(await mesh.answers('frontend', VIRTUAL_IP, 80)).toBe(true);
    const entry = (port: number): string =>
      JSON.stringify({
        apiVersion: 'networking.istio.io/v1',
        kind: 'ServiceEntry',
        metadata: { name: 'outside', namespace: 'shop' },
        spec: {
          hosts: ['outside.example.com'],
          addresses: [`${mesh.host('outside').ipv4}/32`],
          ports: [{ number: port, name: 'tcp', protocol: 'TCP' }],
          resolution: 'NONE',
        },
      });
    mesh.editManifest('entry.yaml', entry(9090));
    await eventually(outside, { what: 'the ServiceEntry to let through', everyMs: 100 });
    mesh.editManifest('entry.yaml', entry(9091));
    await eventually(async () => !(await outside()), { what: 'another port not to be let through', everyMs: 100 });
    mesh.editManifest('mesh.yaml', config('ALLOW_ANY'));
    await eventually(outside, { what: 'ALLOW_ANY to be in force', everyMs: 100 });
  });
});
