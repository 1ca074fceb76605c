import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import type { AppPod } from '../../support/kubelet/app-pod.ts';
import { clusterTests } from '../../support/kubelet/cluster-tests.ts';
import { REPOSITORY } from '../../support/kubelet/container-plan.ts';
import type { Attempt, Outcome } from '../../support/kubelet/intruder.ts';
import { MeshCluster, SYSTEM } from '../../support/kubelet/mesh-cluster.ts';
import { CONFIG, namespace, onlyClient, SHOP, service, serviceAccount } from '../../support/kubelet/shop.ts';
import { textAt } from '../../support/kubernetes/objects.ts';

const SERVER = 'http://server.shop';
/** Certificates of the test live so long, and are renewed at about half of it. */
const TTL_MS = 15_000;
/** Of the lease of the leader, which nobody may take earlier. */
const LEASE_MS = 15_000;
/** What takes seconds, on a slow machine too: less than any of the time-outs and back-offs that would come to its rescue. */
const SOON_MS = 15_000;
const SECRET = { apiVersion: 'v1', kind: 'Secret' };

clusterTests('a mesh in a cluster in which something goes wrong', () => {
  let mesh: MeshCluster;
  let client: AppPod;
  let other: AppPod;

  beforeAll(async () => {
    const certificates = { ttl: `${TTL_MS / 1000}s`, minTtl: '1s' };
    mesh = await MeshCluster.start({ name: 'kfault', replicas: 3, settings: { certificates } });
    await mesh.apply(namespace(SHOP, true), service('server'));
    await mesh.apply(...['server', 'client', 'other'].map(serviceAccount));
    [, , client, other] = await Promise.all([
      mesh.app(SHOP, 'server-1', { serviceAccount: 'server' }),
      mesh.app(SHOP, 'server-2', { serviceAccount: 'server' }),
      mesh.app(SHOP, 'client-1', { serviceAccount: 'client' }),
      mesh.app(SHOP, 'other-1', { serviceAccount: 'other' }),
    ]);
    // Sidecars may hear of an endpoint a moment after the kubelet has.
    for (const caller of [client, other]) await caller.until(`${SERVER}/`, 200);
  });

  afterAll(async () => {
    await mesh?.stop();
  });

  /** Until a new policy is enforced, and until it no longer is; milliseconds. */
  async function converge(path: string): Promise<readonly number[]> {
    const name = path.slice(1);
    const started = Date.now();
    // The API server may ask a replica that was killed a moment ago, and refuses then; whoever writes tries again.
    await eventually(() => mesh.apply(onlyClient(name, path, { app: 'server' })).then(() => true), {
      what: 'to apply',
    });
    const applied = Date.now();
    await other.until(`${SERVER}${path}`, 403);
    const enforced = Date.now();
    await mesh.delete('AuthorizationPolicy', SHOP, name);
    await other.until(`${SERVER}${path}`, 200);
    return [applied - started, enforced - applied, Date.now() - enforced];
  }

  async function intrude(...attempts: readonly Attempt[]): Promise<readonly Outcome[]> {
    const { process: sidecar } = mesh.kubelet.pod(SHOP, 'other-1').container('postern-proxy');
    const script = join(REPOSITORY, 'test/support/kubelet/intruder.ts');
    const origin = 'https://postern-control-plane.postern-system.svc:15012';
    const words = [process.execPath, script, origin, ...attempts.map((attempt) => JSON.stringify(attempt))];
    const { stdout, stderr } = await sidecar.exec(words, 60_000);
    expect(stderr).toBe('');
    return stdout.split('\n').map((line) => JSON.parse(line) as Outcome);
  }

  const tokenOf = (pod: string, account: string, audience = 'postern', seconds = 600): string =>
    mesh.cluster.tokens.issue({ namespace: SHOP, serviceAccount: account, audiences: [audience], seconds, pod }).token;

  test('a pod that has been taken over gets no certificate but its own', async () => {
    const own = tokenOf('other-1', 'other');
    const [header = '', body = '', signature = ''] = own.split('.');
    const claims = {
      ...JSON.parse(Buffer.from(body, 'base64url').toString()),
      sub: `system:serviceaccount:${SHOP}:client`,
    };
    const forged = `${header}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.${signature}`;
    const unbound = mesh.cluster.tokens.issue({
      namespace: SHOP,
      serviceAccount: 'other',
      audiences: ['postern'],
      seconds: 600,
    });
    const outcomes = await intrude(
      ...[
        own,
        forged,
        tokenOf('client-1', 'client'),
        tokenOf('other-1', 'other', 'https://kubernetes.default.svc.cluster.local'),
        tokenOf('other-1', 'other', 'postern', -60),
        unbound.token,
        tokenOf('other-1', 'client'),
      ].map((token) => ({ try: 'certificate', token }) as const),
    );
    expect(outcomes.map(({ status }) => status)).toEqual([200, 401, 403, 401, 401, 401, 403]);
  });

  test('nor does it register as another pod, or with the address of another', async () => {
    const token = tokenOf('other-1', 'other');
    const { ipv4 } = mesh.kubelet.pod(SHOP, 'other-1').host;
    const foreign = mesh.kubelet.pod(SHOP, 'server-1').host.ipv4;
    const register = (name: string, ...addresses: string[]) => ({ try: 'register', token, name, addresses }) as const;
    const outcomes = await intrude(
      register('other-1', ipv4),
      register('server-1', ipv4),
      register('client-1', ipv4),
      register('nobody', ipv4),
      register('other-1', ipv4, foreign),
    );
    expect(outcomes.map(({ status }) => status)).toEqual([200, 403, 403, 403, 403]);
    expect((await client.get(`${SERVER}/`)).status).toBe(200);
  });

  test('watches that end every second delay no policy by more than a few', async () => {
    mesh.cluster.endWatchesEvery(1_000);
    try {
      for (const path of ['/w1', '/w2', '/w3']) {
        for (const ms of await converge(path)) expect(ms).toBeLessThan(SOON_MS);
      }
    } finally {
      mesh.cluster.endWatchesEvery(0);
    }
  });

  test('while the API server is away, traffic goes on and certificates are renewed', async () => {
    const load = client.load(`${SERVER}/`);
    const renewals = (): number =>
      mesh.kubelet
        .pod(SHOP, 'client-1')
        .container('postern-proxy')
        .output.filter((line) => line.includes('"new certificate"')).length;
    mesh.cluster.pause();
    try {
      const before = renewals();
      const twice = () => renewals() >= before + 2;
      await eventually(twice, { what: 'two renewals without an API server', timeoutMs: 5 * TTL_MS });
    } finally {
      mesh.cluster.resume();
    }
    const { failures, requests } = await load.stop();
    expect(failures).toEqual([]);
    expect(requests).toBeGreaterThan(200);
    for (const ms of await converge('/after-outage')) expect(ms).toBeLessThan(20_000);
  });

  test('a rotation of the root goes through although a replica is killed on the way', async () => {
    const leader = await mesh.leading(2 * LEASE_MS);
    const load = client.load(`${SERVER}/`);
    const rotation = mesh.postern(leader, 'ca', 'rotate', '--config', CONFIG);
    const victim = mesh.replicas.find((name) => name !== leader) ?? '';
    mesh.kubelet.pod(SYSTEM, victim).container('control-plane').kill('SIGKILL');
    const { code, stderr } = await rotation;
    expect([code, stderr]).toEqual([0, '']);
    expect((await load.stop()).failures).toEqual([]);
    await mesh.ready(`${SYSTEM}/${victim}`);
  });

  test('when the leader is killed for good, another leads within the time of the lease', async () => {
    const lost = await mesh.leading(2 * LEASE_MS);
    const load = client.load(`${SERVER}/`);
    const killed = Date.now();
    mesh.cluster.direct.delete({ apiVersion: 'v1', kind: 'Pod' }, SYSTEM, lost);
    expect(await mesh.leading(2 * LEASE_MS)).not.toBe(lost);
    expect(Date.now() - killed).toBeLessThan(LEASE_MS + SOON_MS);
    for (const ms of await converge('/new-leader')) expect(ms).toBeLessThan(SOON_MS);
    await mesh.ready(`${SYSTEM}/${mesh.addReplica()}`);
    expect((await load.stop()).failures).toEqual([]);
  });

  test('the Secret of the authority is put back when somebody deletes it', async () => {
    const secret = () => mesh.cluster.direct.get(SECRET, SYSTEM, 'postern-ca') ?? undefined;
    const before = textAt(secret(), 'data', 'authority.json') + JSON.stringify(secret()?.data);
    mesh.cluster.direct.delete(SECRET, SYSTEM, 'postern-ca');
    await eventually(() => secret() !== undefined, { what: 'the Secret' });
    expect(textAt(secret(), 'data', 'authority.json') + JSON.stringify(secret()?.data)).toBe(before);
    const late = await mesh.app(SHOP, 'client-2', { serviceAccount: 'client' });
    expect((await late.get(`${SERVER}/`)).status).toBe(200);
    await mesh.delete('Pod', SHOP, 'client-2');
  });

  test('any replica may be killed at any moment: no request fails, and policies go on within seconds', async () => {
    const load = client.load(`${SERVER}/`);
    for (const name of mesh.replicas) {
      mesh.kubelet.pod(SYSTEM, name).container('control-plane').kill('SIGKILL');
      for (const ms of await converge(`/without-${name}`)) expect(ms, `without ${name}`).toBeLessThan(SOON_MS);
      await mesh.ready(`${SYSTEM}/${name}`);
    }
    expect((await load.stop()).failures).toEqual([]);
  });
});
