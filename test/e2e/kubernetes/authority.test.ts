import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import type { AppPod, LoadResult } from '../../support/kubelet/app-pod.ts';
import { clusterTests } from '../../support/kubelet/cluster-tests.ts';
import { ExternalCa, externalRoot, fingerprintOf } from '../../support/kubelet/external-ca.ts';
import { MeshCluster, SYSTEM } from '../../support/kubelet/mesh-cluster.ts';
import { CONFIG, namespace, SHOP, service, serviceAccount } from '../../support/kubelet/shop.ts';
import { at, textAt } from '../../support/kubernetes/objects.ts';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 });

const SERVER = 'http://server.shop';
const PODS = ['server-1', 'server-2', 'client-1'];
const SECRET = { apiVersion: 'v1', kind: 'Secret' };
const LEASE = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease' };

/** From a CA of its own, through the deaths of its leaders, to an external one: every step with requests under way. */
clusterTests('the authority of a mesh in a cluster', () => {
  let mesh: MeshCluster;
  let client: AppPod;
  let external: ExternalCa;
  const [first, second] = [externalRoot(), externalRoot()];
  /** Fingerprint of the one that is in the Secret. */
  let intermediate = '';
  let load: { stop(): Promise<LoadResult> } | null = null;

  beforeAll(async () => {
    // Certificates so short that each step is seen in the next ones.
    mesh = await MeshCluster.start({
      name: 'kauth',
      replicas: 2,
      settings: { certificates: { ttl: '15s', minTtl: '1s' } },
    });
    external = new ExternalCa(mesh.cluster);
    await mesh.apply(namespace(SHOP, true), service('server'));
    await mesh.apply(...['server', 'client'].map(serviceAccount));
    await Promise.all(PODS.map((name) => mesh.app(SHOP, name, { serviceAccount: name.replace(/-\d/, '') })));
    client = mesh.appPod(SHOP, 'client-1');
    // Sidecars may hear of an endpoint a moment after the kubelet has.
    await client.until(`${SERVER}/`, 200);
    load = client.load(`${SERVER}/`);
  });

  afterAll(async () => {
    await mesh?.stop();
  });

  /** So far, and from now on anew. */
  async function noneFailed(): Promise<void> {
    const result = await load?.stop();
    expect(result?.failures).toEqual([]);
    expect(result?.requests).toBeGreaterThan(20);
    load = client.load(`${SERVER}/`);
  }

  /** Fingerprints of a sidecar's certificates: leaf first, and of the roots that it trusts. */
  async function certificatesOf(pod: string): Promise<{ readonly chain: string[]; readonly roots: string[] }> {
    const script = `process.stdout.write(await (await fetch('http://127.0.0.1:15000/certs')).text())`;
    const { process: sidecar } = mesh.kubelet.pod(SHOP, pod).container('postern-proxy');
    const { stdout } = await sidecar.exec([process.execPath, '--input-type=module', '-e', script], 30_000);
    const fingerprints = (list: unknown): string[] =>
      (list as { fingerprint256: string }[]).map(({ fingerprint256 }) => fingerprint256);
    const { chain, roots } = JSON.parse(stdout) as { chain: unknown; roots: unknown };
    return { chain: fingerprints(chain), roots: fingerprints(roots) };
  }

  /** Until the certificate of every sidecar has been issued by this intermediate. */
  async function issuedBy(intermediate: string, timeoutMs = 60_000): Promise<void> {
    const all = async (): Promise<boolean> => {
      const found = await Promise.all(PODS.map(certificatesOf));
      return found.every(({ chain }) => chain[1] === intermediate);
    };
    await eventually(all, { what: `certificates by ${intermediate}`, timeoutMs, everyMs: 250 });
  }

  interface Shown {
    readonly rotation: string;
    readonly roots: readonly {
      readonly role: string;
      readonly fingerprint: string;
      readonly intermediate: { readonly fingerprint: string };
    }[];
  }

  async function shownBy(replica: string): Promise<Shown> {
    const { stdout, stderr } = await mesh.postern(replica, 'ca', 'show', '--json', '--config', CONFIG);
    expect(stderr).toBe('');
    return JSON.parse(stdout) as Shown;
  }

  /** What all replicas say of the CA: the same, or they diverge for longer than they may. */
  async function agreed(): Promise<readonly string[]> {
    const same = async (): Promise<readonly string[]> => {
      const all = await Promise.all(mesh.replicas.map(shownBy));
      const texts = all.map(({ roots }) => roots.map(({ role, fingerprint }) => `${role} ${fingerprint}`));
      expect(new Set(texts.map(String)).size).toBe(1);
      return texts[0] ?? [];
    };
    return await eventually(same, { what: 'all replicas to agree on the roots', timeoutMs: 30_000, everyMs: 250 });
  }

  const secretState = (): { readonly rotation: string; readonly generations: readonly unknown[] } => {
    const secret = mesh.cluster.direct.get(SECRET, SYSTEM, 'postern-ca') ?? undefined;
    return JSON.parse(Buffer.from(textAt(secret, 'data', 'state.json'), 'base64').toString());
  };

  const issuingByState = (): unknown => {
    const state = mesh.cluster.direct.get({ apiVersion: 'v1', kind: 'ConfigMap' }, SYSTEM, 'postern-ca-state');
    return at(JSON.parse(textAt(state ?? undefined, 'data', 'state.json')), 'issuing');
  };

  const logOf = (replica: string): string =>
    mesh.kubelet.pod(SYSTEM, replica).container('control-plane').output.join('\n');

  /** Runs a rotation in the pod that leads, and kills that when the Secret says that it has come so far. */
  async function killLeaderWhen(phase: string): Promise<void> {
    const leader = await mesh.leading(40_000);
    const rotation = mesh.postern(leader, 'ca', 'rotate', '--config', CONFIG);
    const reached = eventually(() => secretState().rotation === phase, { what: phase, timeoutMs: 90_000, everyMs: 5 });
    await Promise.race([
      reached,
      rotation.then(({ code, stderr }) => {
        if (code !== 0) throw new Error(`the rotation ended with ${code}: ${stderr}`);
      }),
    ]);
    await reached;
    mesh.kubelet.pod(SYSTEM, leader).container('control-plane').kill('SIGKILL');
    await rotation;
    await eventually(() => mesh.kubelet.pod(SYSTEM, leader).container('control-plane').restarts > 0, {
      what: 'the end of the leader',
    });
    // It is dead, and nobody has to wait for its lease: that time is tried elsewhere.
    mesh.cluster.direct.update(LEASE, SYSTEM, 'postern-control-plane', (lease) => ({
      ...lease,
      spec: { ...(at(lease, 'spec') as object), holderIdentity: '' },
    }));
    await mesh.ready(`${SYSTEM}/${leader}`);
    await mesh.leading(40_000);
  }

  test('the leader is killed when a rotation has begun: the old root goes on issuing, and nothing diverges', async () => {
    const [before] = await agreed();
    await killLeaderWhen('begun');
    const roots = await agreed();
    expect(roots).toHaveLength(2);
    expect(roots[0]).toBe(before);
    expect(roots[1]).toMatch(/^next /);
    await noneFailed();
  });

  test('the next leader goes on with it; killed as the new root takes over, it leaves a rotation that is whole', async () => {
    const [old = '', next = ''] = await agreed();
    await killLeaderWhen('activated');
    const roots = await agreed();
    expect(roots).toEqual([next.replace('next', 'issuing'), old.replace('issuing', 'retiring')]);
    const { roots: shown } = await shownBy(mesh.replicas[0] ?? '');
    await issuedBy(shown[0]?.intermediate.fingerprint ?? '');
    await noneFailed();
  });

  test('the mesh moves to an external CA while its replicas are replaced: the own root issues until all trust the other', async () => {
    const own = (await agreed()).map((root) => root.split(' ')[1] ?? '');
    const before = (await certificatesOf('client-1')).chain[1];
    // The new leader has written down for all what the dead one has done.
    await eventually(() => own[0] === issuingByState(), { what: 'the state of the CA' });
    external.fill(first);
    external.install();
    for (const name of mesh.replicas) {
      await mesh.ready(`${SYSTEM}/${mesh.addReplica()}`);
      await mesh.remove(SYSTEM, name);
    }
    const trusted = fingerprintOf(first.pem);
    const known = async (): Promise<boolean> =>
      (await Promise.all(PODS.map(certificatesOf))).every(({ roots }) => roots.includes(trusted));
    await eventually(known, { what: 'the external root at all sidecars', timeoutMs: 60_000, everyMs: 250 });
    expect((await certificatesOf('client-1')).chain[1]).toBe(before);
    // Meanwhile: what is broken changes nothing, and what comes in its place counts.
    external.breakIt(first);
    for (const replica of mesh.replicas) {
      const told = /postern-external-ca, tls\.key, is not the key of the first certificate.*What was read before stays/;
      await eventually(() => told.test(logOf(replica)), { what: `${replica} to complain`, timeoutMs: 30_000 });
    }
    intermediate = external.fill(first);
    await issuedBy(intermediate, 120_000);
    const roots = await agreed();
    expect(roots[0]).toBe(`issuing ${trusted}`);
    expect(roots.slice(1).map((root) => root.split(' ')[1])).toEqual(expect.arrayContaining(own));
    await noneFailed();
  });

  test('a pod that starts now gets its certificate from there, and is let in', async () => {
    const late = await mesh.app(SHOP, 'client-2', { serviceAccount: 'client' });
    expect((await late.get(`${SERVER}/`)).status).toBe(200);
    expect((await certificatesOf('client-2')).chain[1]).toBe(intermediate);
    await mesh.delete('Pod', SHOP, 'client-2');
  });

  test('a new intermediate of the same root issues at once, one of another root when all trust that', async () => {
    await issuedBy(external.fill(first), 40_000);
    intermediate = external.fill(second);
    const trusted = [fingerprintOf(first.pem), fingerprintOf(second.pem)];
    const bundle = (): string =>
      textAt(
        mesh.cluster.direct.get({ apiVersion: 'v1', kind: 'ConfigMap' }, SHOP, 'postern-ca-roots') ?? undefined,
        'data',
        'root-cert.pem',
      );
    await eventually(() => bundle().includes(second.pem.trim()), { what: 'the other root in the bundle' });
    const { chain } = await certificatesOf('client-1');
    expect(chain[1]).not.toBe(intermediate);
    await issuedBy(intermediate, 120_000);
    expect((await agreed()).slice(0, 2)).toEqual([`issuing ${trusted[1]}`, expect.stringMatching(/^retiring /)]);
    expect((await certificatesOf('server-1')).roots).toEqual(expect.arrayContaining(trusted));
    await noneFailed();
  });
});
