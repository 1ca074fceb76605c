import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import type { AppPod } from '../../support/kubelet/app-pod.ts';
import { clusterTests } from '../../support/kubelet/cluster-tests.ts';
import { appPod, MeshCluster } from '../../support/kubelet/mesh-cluster.ts';
import { namespace, SHOP, service, serviceAccount } from '../../support/kubelet/shop.ts';
import { nameOf, objectsAt, textAt } from '../../support/kubernetes/objects.ts';

vi.setConfig({ testTimeout: 90_000, hookTimeout: 120_000 });

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
    const { status, body } = await client.get(`${SERVER}/`);
    expect(status).toBe(200);
    expect(body).toContain('sa/client');
  });

  test('a pod that runs to its end does end: its sidecar goes by itself', async () => {
    const args = ['job', `${SERVER}/`, '5'];
    const options = { serviceAccount: 'client', args, restartPolicy: 'Never', readinessProbe: null } as const;
    await mesh.create(appPod(SHOP, 'job-1', options));
    const phase = () => textAt(mesh.cluster.direct.get(POD, SHOP, 'job-1') ?? undefined, 'status', 'phase');
    await eventually(() => ['Succeeded', 'Failed'].includes(phase()), {
      what: 'the end of the job',
      timeoutMs: 60_000,
    });
    const job = mesh.kubelet.pod(SHOP, 'job-1');
    expect([phase(), job.container('postern-proxy').exitCode], job.tail()).toEqual(['Succeeded', 0]);
  });

  test('an application that ends may call others until its end, and its callers notice nothing', async () => {
    const load = client.load(`${SERVER}/`);
    await mesh.app(SHOP, 'server-2', { serviceAccount: 'server' });
    await mesh.delete('Pod', SHOP, 'server-1');
    await eventually(() => !mesh.kubelet.has(SHOP, 'server-1'), { what: 'server-1 to be gone', timeoutMs: 60_000 });
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
    await eventually(() => !mesh.kubelet.has(SHOP, 'client-1'), { what: 'client-1 to be gone', timeoutMs: 60_000 });
    expect(mesh.cluster.direct.list(POD, SHOP).map(nameOf).sort()).toEqual(['job-1', 'server-2']);
  });
});
