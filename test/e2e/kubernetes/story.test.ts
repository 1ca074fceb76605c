import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import type { AppPod } from '../../support/kubelet/app-pod.ts';
import { clusterTests } from '../../support/kubelet/cluster-tests.ts';
import { APP_PORT, appPod, MeshCluster, SYSTEM } from '../../support/kubelet/mesh-cluster.ts';
import {
  CONFIG,
  identityOf,
  namespace,
  onlyClient,
  policy,
  revocation,
  SHOP,
  service,
  serviceAccount,
  strict,
} from '../../support/kubelet/shop.ts';
import { at, nameOf, objectsAt, textAt } from '../../support/kubernetes/objects.ts';

const SERVER = 'http://server.shop';
const POD = { apiVersion: 'v1', kind: 'Pod' };

clusterTests('a mesh in a cluster', () => {
  let mesh: MeshCluster;
  let client: AppPod;
  let other: AppPod;
  let outsider: AppPod;

  beforeAll(async () => {
    mesh = await MeshCluster.start({ name: 'kstory', replicas: 2 });
    await mesh.apply(namespace(SHOP, true), namespace('outside', false), service('server'));
    await mesh.apply(...['server', 'client', 'other'].map(serviceAccount));
    [, , client, other, outsider] = await Promise.all([
      mesh.app(SHOP, 'server-1', { serviceAccount: 'server' }),
      mesh.app(SHOP, 'server-2', { serviceAccount: 'server' }),
      mesh.app(SHOP, 'client-1', { serviceAccount: 'client' }),
      mesh.app(SHOP, 'other-1', { serviceAccount: 'other' }),
      mesh.app('outside', 'outsider-1'),
    ]);
  });

  afterAll(async () => {
    await mesh?.stop();
  });

  const objects = (apiVersion: string, kind: string, where?: string) =>
    mesh.cluster.direct.list({ apiVersion, kind }, where);
  const serverPod = (name: string) => mesh.kubelet.pod(SHOP, name);

  test('pods that were injected by the webhook call each other by mutual TLS, over all endpoints of a service', async () => {
    const seen = new Set<string>();
    await eventually(
      async () => {
        const { status, body } = await client.get(`${SERVER}/`);
        expect(status).toBe(200);
        const { pod, caller } = JSON.parse(body) as { pod: string; caller: string };
        expect(caller).toContain(`URI=${identityOf('client')}`);
        seen.add(pod);
        return seen.size === 2;
      },
      { what: 'answers of both pods' },
    );
    const names = objectsAt(mesh.cluster.direct.get(POD, SHOP, 'server-1') ?? undefined, 'spec', 'initContainers').map(
      (container) => textAt(container, 'name'),
    );
    expect(names).toEqual(['postern-init', 'postern-proxy']);
    const outside = mesh.cluster.direct.get(POD, 'outside', 'outsider-1');
    expect(objectsAt(outside ?? undefined, 'spec', 'initContainers')).toEqual([]);
  });

  test('a policy with a path and a principal is enforced within seconds of its creation, and no longer after its end', async () => {
    const [denied, allowed] = await Promise.all([other.get(`${SERVER}/private`), client.get(`${SERVER}/private`)]);
    expect([denied.status, allowed.status]).toEqual([200, 200]);
    await mesh.apply(onlyClient('private', '/private', { app: 'server' }));
    await other.until(`${SERVER}/private`, 403);
    expect((await client.get(`${SERVER}/private`)).status).toBe(200);
    expect((await other.get(`${SERVER}/public`)).status).toBe(200);
    await mesh.delete('AuthorizationPolicy', SHOP, 'private');
    await other.until(`${SERVER}/private`, 200);
  });

  test('acknowledgements reach the replica that serves the stream, whichever that is', () => {
    const astray = mesh.replicas.flatMap((name) =>
      mesh.kubelet
        .pod(SYSTEM, name)
        .container('control-plane')
        .output.filter((line) => line.includes('no-stream')),
    );
    expect(astray).toEqual([]);
  });

  test('a policy that is wrong is refused by the API, with its place', async () => {
    const wrong = policy('wrong', { action: 'DENY', rules: [{ from: [{ source: { principal: ['x'] } }] }] });
    await expect(mesh.apply(wrong)).rejects.toThrow(
      /policies\.postern\.dev.*denied.*spec\.rules\[0\]\.from\[0\]\.source/s,
    );
  });

  test('Events say that a policy is enforced, and by how many sidecars', async () => {
    await mesh.apply(onlyClient('told', '/told', { app: 'server' }));
    const event = await eventually(
      () => objects('events.k8s.io/v1', 'Event', SHOP).find((one) => textAt(one, 'regarding', 'name') === 'told'),
      { what: 'an Event on the policy' },
    );
    expect(textAt(event, 'reason')).toBe('PolicyEnforced');
    expect(textAt(event, 'note')).toBe('in force at all 2 sidecars that it selects');
    await mesh.delete('AuthorizationPolicy', SHOP, 'told');
  });

  test('under STRICT plaintext is refused, and the probes of the kubelet succeed', async () => {
    const { ipv4 } = serverPod('server-1').host;
    await outsider.until(`http://${ipv4}:${APP_PORT}/`, 200);
    await mesh.apply(strict());
    await outsider.until(`http://${ipv4}:${APP_PORT}/`, 0);
    expect((await client.get(`${SERVER}/`)).status).toBe(200);
    const probe = at(
      objectsAt(mesh.cluster.direct.get(POD, SHOP, 'server-1') ?? undefined, 'spec', 'containers')[0],
      'readinessProbe',
    );
    expect(textAt(probe, 'httpGet', 'path')).toBe('/app-health/app/readyz');
    // A pod that starts under STRICT becomes ready by the same probe.
    await mesh.app(SHOP, 'server-3', { serviceAccount: 'server' });
    expect(serverPod('server-1').isReady).toBe(true);
    await mesh.remove(SHOP, 'server-3');
    await mesh.delete('PeerAuthentication', SHOP, 'default');
    await outsider.until(`http://${ipv4}:${APP_PORT}/`, 200);
  });

  test('a change of labels of a pod that runs changes which policies select it', async () => {
    const { ipv4 } = serverPod('server-2').host;
    await mesh.apply(onlyClient('canary', '/canary', { stage: 'canary' }));
    await mesh.kubelet.settled();
    expect((await other.get(`http://${ipv4}:${APP_PORT}/canary`)).status).toBe(200);
    const label = (stage: string | null) =>
      mesh.api.call(
        'PATCH',
        `/api/v1/namespaces/${SHOP}/pods/server-2`,
        { metadata: { labels: { stage } } },
        {
          contentType: 'application/merge-patch+json',
        },
      );
    expect((await label('canary')).status).toBe(200);
    await other.until(`http://${ipv4}:${APP_PORT}/canary`, 403);
    expect((await label(null)).status).toBe(200);
    await other.until(`http://${ipv4}:${APP_PORT}/canary`, 200);
    await mesh.delete('AuthorizationPolicy', SHOP, 'canary');
  });

  test('a Revocation cuts an identity off, has a condition, and its end lets it in again', async () => {
    await mesh.apply(revocation('other', 'other'));
    await eventually(async () => (await other.get(`${SERVER}/`)).status !== 200, { what: 'other to be cut off' });
    expect((await client.get(`${SERVER}/`)).status).toBe(200);
    const condition = await eventually(
      () => objectsAt(objects('postern.dev/v1', 'Revocation')[0], 'status', 'conditions')[0],
      { what: 'the condition of the Revocation' },
    );
    expect([condition.type, condition.status]).toEqual(['Accepted', 'True']);
    await mesh.delete('Revocation', '', 'other');
    await other.until(`${SERVER}/`, 200);
  });

  test('a pod that runs to its end does end, with its sidecar', async () => {
    const { phase, sidecarExit, tail } = await mesh.job(SHOP, 'job-1', 'client', `${SERVER}/`);
    expect([phase, sidecarExit], tail).toEqual(['Succeeded', 0]);
  });

  test('pods are replaced without a failed request of their callers', async () => {
    const load = client.load(`${SERVER}/`);
    const plain = outsider.load(`${SERVER}/`);
    await mesh.app(SHOP, 'server-3', { serviceAccount: 'server' });
    await client.untilAnsweredBy(`${SERVER}/`, 'server-3');
    for (const name of ['server-1', 'server-2']) await mesh.remove(SHOP, name);
    const [meshed, unmeshed] = await Promise.all([load.stop(), plain.stop()]);
    expect([meshed.failures, unmeshed.failures]).toEqual([[], []]);
    expect(meshed.requests).toBeGreaterThan(50);
  });

  test('every replica tells of the sidecars of all of them', async () => {
    const told = async (replica: string) => {
      const { code, stdout } = await mesh.postern(replica, 'status', '--json', '--config', CONFIG);
      expect(code).toBe(0);
      const { sidecars, missingReplicas } = JSON.parse(stdout) as {
        sidecars: { workload: string }[];
        missingReplicas: string[];
      };
      expect(missingReplicas).toEqual([]);
      expect(sidecars.map(({ workload }) => workload).sort()).toEqual([
        'shop/client-1',
        'shop/other-1',
        'shop/server-3',
      ]);
      return true;
    };
    // A replica may hear of the end of a stream a moment after the kubelet has seen its pod go.
    for (const replica of mesh.replicas) await eventually(() => told(replica), { what: `the sidecars, by ${replica}` });
  });

  test('a rotation of the root fails no request', async () => {
    const bundle = () =>
      textAt(
        mesh.cluster.direct.get({ apiVersion: 'v1', kind: 'ConfigMap' }, SHOP, 'postern-ca-roots') ?? undefined,
        'data',
        'root-cert.pem',
      );
    const before = bundle();
    const load = client.load(`${SERVER}/`);
    const rotated = await mesh.postern(await mesh.leading(20_000), 'ca', 'rotate', '--config', CONFIG);
    expect([rotated.code, rotated.stderr]).toEqual([0, '']);
    await eventually(() => bundle().includes(before.trim()) && bundle().length > before.length * 1.5, {
      what: 'both roots in the trust bundle of the namespace',
    });
    // One that starts now knows the new root from its trust bundle alone.
    const late = await mesh.app(SHOP, 'client-2', { serviceAccount: 'client' });
    expect((await late.get(`${SERVER}/`)).status).toBe(200);
    const { failures, requests } = await load.stop();
    expect(failures).toEqual([]);
    expect(requests).toBeGreaterThan(50);
    await mesh.delete('Pod', SHOP, 'client-2');
    // The API server trusts the webhooks' certificates after the rotation as well.
    await mesh.create(appPod(SHOP, 'late-1', { serviceAccount: 'client' }));
    await mesh.delete('Pod', SHOP, 'late-1');
  });

  test('the control plane asked for nothing that it may not have', () => {
    const account = `system:serviceaccount:${SYSTEM}:postern-control-plane`;
    const refused = mesh.cluster.requests.filter(({ user, status }) => user === account && status === 403);
    expect(refused.map(({ method, ...one }) => `${method} ${JSON.stringify(one)}`)).toEqual([]);
    expect(mesh.cluster.requests.filter(({ user }) => user === account).length).toBeGreaterThan(10);
    expect(objects('v1', 'Pod', SYSTEM).map(nameOf)).toHaveLength(2);
  });
});
