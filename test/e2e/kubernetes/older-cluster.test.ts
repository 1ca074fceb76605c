import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import type { AppPod } from '../../support/kubelet/app-pod.ts';
import { clusterTests } from '../../support/kubelet/cluster-tests.ts';
import { MeshCluster } from '../../support/kubelet/mesh-cluster.ts';
import { namespace, SHOP, service, serviceAccount } from '../../support/kubelet/shop.ts';
import { nameOf, objectsAt, textAt } from '../../support/kubernetes/objects.ts';

const SERVER = 'http://server.shop';
const POD = { apiVersion: 'v1', kind: 'Pod' };

clusterTests('a cluster that knows no native sidecars', () => {
  let mesh: MeshCluster;
  let client: AppPod;

  beforeAll(async () => {
    mesh = await MeshCluster.start({ name: 'kold', replicas: 1, standIn: { version: { major: 1, minor: 28 } } });
    await mesh.apply(namespace(SHOP, true), service('server'));
    await mesh.apply(...['server', 'client'].map(serviceAccount));
    [, client] = await Promise.all([
      mesh.app(SHOP, 'server-1', { serviceAccount: 'server' }),
      mesh.app(SHOP, 'client-1', { serviceAccount: 'client', preStopSeconds: 10 }),
    ]);
  });

  afterAll(async () => {
    await mesh?.stop();
  });

  test('the sidecar is the first of the ordinary containers, and ready before the application starts', async () => {
    const pod = mesh.cluster.direct.get(POD, SHOP, 'client-1') ?? undefined;
    expect(objectsAt(pod, 'spec', 'containers').map((one) => textAt(one, 'name'))).toEqual(['postern-proxy', 'app']);
    // Its sidecar may hear of the server's endpoint a moment after the kubelet has.
    const { body } = await client.until(`${SERVER}/`, 200);
    expect(body).toContain('sa/client');
  });

  test('a pod that runs to its end does end: its sidecar goes by itself', async () => {
    const { phase, sidecarExit, tail } = await mesh.job(SHOP, 'job-1', 'client', `${SERVER}/`);
    expect([phase, sidecarExit], tail).toEqual(['Succeeded', 0]);
  });

  test('an application that ends may call others until its end, and its callers notice nothing', async () => {
    const load = client.load(`${SERVER}/`);
    await mesh.app(SHOP, 'server-2', { serviceAccount: 'server' });
    await client.untilAnsweredBy(`${SERVER}/`, 'server-2');
    await mesh.remove(SHOP, 'server-1');
    expect((await load.stop()).failures).toEqual([]);
    // Its sidecar has been told to end while the application goes on for seconds.
    const last = client.load(`${SERVER}/`);
    await mesh.delete('Pod', SHOP, 'client-1');
    const sidecar = mesh.kubelet.pod(SHOP, 'client-1').container('postern-proxy');
    await eventually(() => sidecar.output.some((line) => line.includes('draining')), { what: 'the sidecar to drain' });
    await sleep(1_000);
    const { failures, requests } = await last.stop();
    expect(failures).toEqual([]);
    expect(requests).toBeGreaterThan(0);
    await mesh.gone(SHOP, 'client-1');
    expect(mesh.cluster.direct.list(POD, SHOP).map(nameOf).sort()).toEqual(['job-1', 'server-2']);
  });
});
