import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { AppPod } from '../../support/kubelet/app-pod.ts';
import { clusterTests } from '../../support/kubelet/cluster-tests.ts';
import { APP_PORT, MeshCluster } from '../../support/kubelet/mesh-cluster.ts';
import { identityOf, namespace, policy, SHOP, service, serviceAccount, strict } from '../../support/kubelet/shop.ts';
import { textsAt } from '../../support/kubernetes/objects.ts';

vi.setConfig({ testTimeout: 90_000, hookTimeout: 120_000 });

clusterTests('a cluster of two address families', () => {
  let mesh: MeshCluster;
  let client: AppPod;
  let outsider: AppPod;
  /** By family, in the order IPv4, IPv6. */
  let servicePlaces: readonly string[];
  let podPlaces: readonly string[];

  beforeAll(async () => {
    mesh = await MeshCluster.start({ name: 'kdual', replicas: 1 });
    const dual = {
      ...service('server'),
      spec: { ...(service('server').spec as object), ipFamilyPolicy: 'RequireDualStack' },
    };
    await mesh.apply(namespace(SHOP, true), namespace('outside', false), dual);
    await mesh.apply(...['server', 'client'].map(serviceAccount));
    [, client, outsider] = await Promise.all([
      mesh.app(SHOP, 'server-1', { serviceAccount: 'server' }),
      mesh.app(SHOP, 'client-1', { serviceAccount: 'client' }),
      mesh.app('outside', 'outsider-1'),
    ]);
    const stored = mesh.cluster.direct.get({ apiVersion: 'v1', kind: 'Service' }, SHOP, 'server') ?? undefined;
    const [ip4 = '', ip6 = ''] = textsAt(stored, 'spec', 'clusterIPs');
    servicePlaces = [`http://${ip4}`, `http://[${ip6}]`];
    const { ipv4, ipv6 } = mesh.kubelet.pod(SHOP, 'server-1').host;
    podPlaces = [`http://${ipv4}:${APP_PORT}`, `http://[${ipv6}]:${APP_PORT}`];
    // Sidecars may hear of an endpoint a moment after the kubelet has.
    for (const caller of [client, outsider]) {
      for (const place of servicePlaces) await caller.until(`${place}/`, 200);
    }
  });

  afterAll(async () => {
    await mesh?.stop();
  });

  /** What is denied on this path to callers from these addresses. */
  const fromAddresses = (name: string, source: object) =>
    policy(name, {
      selector: { matchLabels: { app: 'server' } },
      action: 'DENY',
      rules: [{ from: [{ source: { ...source } }], to: [{ operation: { paths: [`/${name}`] } }] }],
    });

  const statusOf = (from: AppPod, path: string, places: readonly string[]): Promise<readonly number[]> =>
    Promise.all(places.map(async (place) => (await from.get(`${place}${path}`)).status));

  test('a service and a pod are called by either family, by mutual TLS', async () => {
    for (const place of [...servicePlaces, ...podPlaces]) {
      const { status, body, error } = await client.get(`${place}/`);
      expect([place, status, error]).toEqual([place, 200, null]);
      expect(body).toContain(`URI=${identityOf('client')}`);
    }
  });

  test('plaintext of either family reaches a PERMISSIVE pod and no STRICT one', async () => {
    const all = [...servicePlaces, ...podPlaces];
    expect(await statusOf(outsider, '/', all)).toEqual([200, 200, 200, 200]);
    await mesh.apply(strict());
    for (const place of all) await outsider.until(`${place}/`, 0);
    expect(await statusOf(client, '/', all)).toEqual([200, 200, 200, 200]);
    await mesh.delete('PeerAuthentication', SHOP, 'default');
    for (const place of all) await outsider.until(`${place}/`, 200);
  });

  test('ipBlocks see the address by which the caller has come: outside of the mesh that of the call, between sidecars the first of the pod', async () => {
    const { ipv4, ipv6 } = mesh.kubelet.pod(SHOP, 'client-1').host;
    const { ipv4: out4, ipv6: out6 } = mesh.kubelet.pod('outside', 'outsider-1').host;
    await mesh.apply(
      fromAddresses('four', { ipBlocks: [ipv4] }),
      fromAddresses('six', { ipBlocks: [`${ipv6}/128`] }),
      fromAddresses('out4', { remoteIpBlocks: [`${out4}/32`] }),
      fromAddresses('out6', { ipBlocks: [out6] }),
    );
    const places = [...servicePlaces, ...podPlaces];
    const [place4 = '', place6 = ''] = servicePlaces;
    await client.until(`${place4}/four`, 403);
    await outsider.until(`${place4}/out4`, 403);
    await outsider.until(`${place6}/out6`, 403);
    expect(await statusOf(client, '/four', places)).toEqual([403, 403, 403, 403]);
    expect(await statusOf(client, '/six', places)).toEqual([200, 200, 200, 200]);
    expect(await statusOf(outsider, '/out4', places)).toEqual([403, 200, 403, 200]);
    expect(await statusOf(outsider, '/out6', places)).toEqual([200, 403, 200, 403]);
    expect(await statusOf(outsider, '/four', places)).toEqual([200, 200, 200, 200]);
    expect(await statusOf(client, '/out6', places)).toEqual([200, 200, 200, 200]);
  });
});
