import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { JsonObject } from '../../../policy/types.ts';
import { eventually } from '../../support/eventually.ts';
import type { AppPod } from '../../support/kubelet/app-pod.ts';
import { clusterTests } from '../../support/kubelet/cluster-tests.ts';
import { REPOSITORY } from '../../support/kubelet/container-plan.ts';
import { type Machine, outcomesOf } from '../../support/kubelet/machine.ts';
import { MeshCluster, SYSTEM } from '../../support/kubelet/mesh-cluster.ts';
import {
  CONFIG,
  identityOf,
  namespace,
  onlyClient,
  policy,
  SHOP,
  service,
  serviceAccount,
} from '../../support/kubelet/shop.ts';
import { nameOf, textAt } from '../../support/kubernetes/objects.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

/** Of certificates; they are renewed at about half of it. */
const TTL_MS = 20_000;
const MACHINE = { namespace: SHOP, name: 'legacy-1', serviceAccount: 'legacy', port: 8080, upstream: 'server.shop:80' };
const CREATE = ['--namespace', SHOP, '--service-account', 'legacy', '--config', CONFIG];

clusterTests('a machine outside of the cluster', () => {
  let mesh: MeshCluster;
  let machine: Machine;
  let client: AppPod;
  let other: AppPod;
  let joined: string;

  beforeAll(async () => {
    const certificates = { ttl: `${TTL_MS / 1000}s`, minTtl: '1s' };
    mesh = await MeshCluster.start({ name: 'kvm', replicas: 2, settings: { certificates } });
    await mesh.apply(namespace(SHOP, true), service('server'), service('legacy'));
    await mesh.apply(...['server', 'client', 'other', 'legacy'].map(serviceAccount));
    machine = await mesh.machine(MACHINE);
    [, client, other, joined] = await Promise.all([
      mesh.app(SHOP, 'server-1', { serviceAccount: 'server' }),
      mesh.app(SHOP, 'client-1', { serviceAccount: 'client' }),
      mesh.app(SHOP, 'other-1', { serviceAccount: 'other' }),
      token(),
    ]);
    machine.join(serviceOrigin(), roots(), joined);
    // It may be started before it is declared: its token waits.
    await eventually(() => machine.logged('there is none in the namespace').length > 0, {
      what: 'the machine to wait for its entry',
    });
    await mesh.apply(entry());
    await machine.ready();
  });

  afterAll(async () => {
    await mesh?.stop();
  });

  const entry = (): JsonObject => ({
    apiVersion: 'networking.istio.io/v1',
    kind: 'WorkloadEntry',
    metadata: { name: MACHINE.name, namespace: SHOP },
    spec: {
      address: machine.host.ipv4,
      serviceAccount: MACHINE.serviceAccount,
      labels: { app: 'legacy', 'networking.istio.io/tunnel': 'http' },
      ports: { http: MACHINE.port },
    },
  });

  const roots = (): string => {
    const bundle = mesh.cluster.direct.get({ apiVersion: 'v1', kind: 'ConfigMap' }, SHOP, 'postern-ca-roots');
    return textAt(bundle ?? undefined, 'data', 'root-cert.pem');
  };

  const serviceOrigin = (): string => {
    const found = mesh.cluster.direct.get({ apiVersion: 'v1', kind: 'Service' }, SYSTEM, 'postern-control-plane');
    return `https://${textAt(found ?? undefined, 'spec', 'clusterIP')}:15012`;
  };

  const origins = (): readonly string[] =>
    mesh.replicas.map((name) => `https://${mesh.kubelet.pod(SYSTEM, name).host.ipv4}:15012`);

  const token = async (replica = mesh.replicas[0] ?? '', ...more: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await mesh.postern(replica, 'token', 'create', ...CREATE, ...more);
    expect([code, stderr]).toEqual([0, '']);
    return stdout.trim();
  };

  const tokenSecrets = (): readonly string[] =>
    mesh.cluster.direct
      .list({ apiVersion: 'v1', kind: 'Secret' }, SYSTEM)
      .map(nameOf)
      .filter((name) => name.startsWith('postern-join-token-'));

  const callerOf = (body: string): string => (JSON.parse(body) as { caller: string }).caller;

  test('calls a pod by mutual TLS, with its own identity', async () => {
    const { status, body } = await machine.get('/');
    expect([status, callerOf(body)]).toEqual([200, expect.stringContaining(`URI=${identityOf('legacy')}`)]);
  });

  test('is called by pods, whichever replica they and it are connected to', async () => {
    await Promise.all([client.until('http://legacy.shop/', 200), other.until('http://legacy.shop/', 200)]);
    const { body } = await client.get('http://legacy.shop/');
    expect(JSON.parse(body)).toMatchObject({ pod: MACHINE.name });
    expect(callerOf(body)).toContain(`URI=${identityOf('client')}`);
  });

  test('is what policies call by its principal, and select by the labels of its entry', async () => {
    const principals = [`cluster.local/ns/${SHOP}/sa/legacy`];
    const rules = [{ from: [{ source: { principals } }], to: [{ operation: { paths: ['/closed'] } }] }];
    await mesh.apply(
      policy('not-legacy', { selector: { matchLabels: { app: 'server' } }, action: 'DENY', rules }),
      onlyClient('machine', '/private', { app: 'legacy' }),
    );
    await machine.until('/closed', 403);
    await other.until('http://legacy.shop/private', 403);
    const answers = await Promise.all([
      machine.get('/open'),
      client.get('http://server.shop/closed'),
      client.get('http://legacy.shop/private'),
      other.get('http://legacy.shop/public'),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  });

  test('has used its token for good, at every replica', async () => {
    for (const origin of origins()) {
      const [outcome] = await machine.intrude(origin, { try: 'certificate', token: joined });
      expect(outcome?.status).toBe(401);
    }
    expect(tokenSecrets()).toEqual([]);
  });

  test('gets one certificate for one token, however many replicas are asked at once', async () => {
    const fresh = await token(mesh.replicas[1]);
    const asked = [...origins(), ...origins()].map((origin) =>
      machine.intrude(origin, { try: 'certificate', token: fresh }),
    );
    const statuses = (await Promise.all(asked)).flatMap((outcomes) => outcomes.map(({ status }) => status));
    expect(statuses.sort()).toEqual([200, 401, 401, 401]);
  });

  test('is nobody in a pod: a token that was stolen is worth nothing there, and is not used up', async () => {
    const stolen = await token();
    const { process: sidecar } = mesh.kubelet.pod(SHOP, 'other-1').container('postern-proxy');
    const script = join(REPOSITORY, 'test/support/kubelet/intruder.ts');
    const attempt = JSON.stringify({ try: 'certificate', token: stolen });
    const origin = 'https://postern-control-plane.postern-system.svc:15012';
    const outcomes = outcomesOf(await sidecar.exec([process.execPath, script, origin, attempt], 60_000));
    expect(outcomes).toEqual([{ status: 403, code: 'address-not-allowed' }]);
    const [own] = await machine.intrude(origins()[0] ?? '', { try: 'certificate', token: stolen });
    expect(own?.status).toBe(200);
  });

  test.each([
    ['kube-system', 'legacy'],
    [SYSTEM, 'control-plane'],
    [SYSTEM, 'postern-control-plane'],
  ])('is never given an identity of %s', async (where, account) => {
    const words = ['token', 'create', '--namespace', where, '--service-account', account, '--config', CONFIG];
    const { code, stdout, stderr } = await mesh.postern(mesh.replicas[0] ?? '', ...words);
    expect([code, stdout]).toEqual([64, '']);
    expect(stderr).toContain('no join token can be made');
  });

  test('renews its certificate by the one that it has', async () => {
    const renewals = (): number => machine.logged('"new certificate"').length;
    const before = renewals();
    await eventually(() => renewals() >= before + 2, { what: 'two renewals', timeoutMs: 5 * TTL_MS });
    expect((await machine.get('/')).status).toBe(200);
  });

  test('is called no more without its entry, gets no further certificate, and joins again with another token', async () => {
    await mesh.delete('WorkloadEntry', SHOP, MACHINE.name);
    await client.until('http://legacy.shop/', 503);
    await eventually(async () => !(await machine.isReady()), { what: 'the certificate to end', timeoutMs: 5 * TTL_MS });
    expect(machine.logged('show a token beside it')).not.toEqual([]);
    await mesh.apply(entry());
    machine.useToken(await token());
    await machine.ready();
    expect(tokenSecrets()).toEqual([]);
    await client.until('http://legacy.shop/', 200);
    await machine.until('/', 200);
  });

  test('makes the control plane ask for nothing that it may not have', () => {
    const account = `system:serviceaccount:${SYSTEM}:postern-control-plane`;
    const refused = mesh.cluster.requests.filter(({ user, status }) => user === account && status === 403);
    expect(refused).toEqual([]);
  });
});
