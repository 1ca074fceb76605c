import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import type { AppPod } from '../../support/kubelet/app-pod.ts';
import { clusterTests } from '../../support/kubelet/cluster-tests.ts';
import { MeshCluster, SYSTEM } from '../../support/kubelet/mesh-cluster.ts';
import { namespace, SHOP, service, serviceAccount } from '../../support/kubelet/shop.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const SERVER = 'http://server.shop';
const HOUR = 3_600_000;

/** Tokens are issued and judged by the API server's clock, and renewed by the node's. */
clusterTests('a cluster whose API server has another clock than its nodes', () => {
  let mesh: MeshCluster;
  let client: AppPod;

  beforeAll(async () => {
    mesh = await MeshCluster.start({
      name: 'kclock',
      replicas: 1,
      settings: { certificates: { ttl: '20s', minTtl: '1s' } },
      standIn: { skewMs: HOUR },
    });
    await mesh.apply(namespace(SHOP, true), service('server'));
    await mesh.apply(...['server', 'client'].map(serviceAccount));
    [, client] = await Promise.all([
      mesh.app(SHOP, 'server-1', { serviceAccount: 'server' }),
      mesh.app(SHOP, 'client-1', { serviceAccount: 'client' }),
    ]);
    // Sidecars may hear of an endpoint a moment after the kubelet has.
    await client.until(`${SERVER}/`, 200);
  });

  afterAll(async () => {
    await mesh?.stop();
  });

  const sidecarLog = (pod: string): readonly string[] => mesh.kubelet.pod(SHOP, pod).container('postern-proxy').output;
  const renewals = (pod: string): number => sidecarLog(pod).filter((line) => line.includes('"new certificate"')).length;
  const complaints = (pod: string): readonly string[] =>
    sidecarLog(pod).filter((line) => line.includes('no new certificate'));

  /** Until both sidecars have got another certificate, with requests under way. */
  async function renewed(): Promise<void> {
    const load = client.load(`${SERVER}/`);
    const before = ['server-1', 'client-1'].map((pod) => [pod, renewals(pod)] as const);
    const more = (): boolean => before.every(([pod, count]) => renewals(pod) > count);
    await eventually(more, { what: 'new certificates', timeoutMs: 60_000, everyMs: 100 });
    const { failures, requests } = await load.stop();
    expect(failures).toEqual([]);
    expect(requests).toBeGreaterThan(20);
  }

  async function starts(name: string): Promise<void> {
    const late = await mesh.app(SHOP, name, { serviceAccount: 'client' });
    expect((await late.get(`${SERVER}/`)).status).toBe(200);
    await mesh.delete('Pod', SHOP, name);
  }

  /** As kubelets do, sooner or later. */
  function renewTokens(): void {
    for (const name of mesh.replicas) mesh.kubelet.pod(SYSTEM, name).renewTokens();
    for (const name of ['server-1', 'client-1']) mesh.kubelet.pod(SHOP, name).renewTokens();
  }

  test('an hour ahead all the time: pods start and certificates are renewed', async () => {
    expect((await client.get(`${SERVER}/`)).status).toBe(200);
    await renewed();
  });

  test('set back by two hours: no token is valid yet, and certificates are renewed by those that are in use', async () => {
    mesh.cluster.skewClock(-HOUR);
    const [replica = ''] = mesh.replicas;
    const told = (line: string): boolean => line.includes("takes the control plane's own service account token for");
    await eventually(() => mesh.kubelet.pod(SYSTEM, replica).container('control-plane').output.some(told), {
      what: 'a line that names the clock',
      timeoutMs: 60_000,
    });
    await renewed();
  });

  test('an hour behind all the time: pods start as soon as the kubelet has made the tokens anew', async () => {
    renewTokens();
    await starts('client-2');
    await renewed();
  });

  test('set ahead by two hours: the tokens that are there are still good', async () => {
    mesh.cluster.skewClock(HOUR);
    await starts('client-3');
    await renewed();
  });

  test('a token that the kubelet replaces before the old one expires is the one that is shown next', async () => {
    const before = complaints('client-1').length;
    mesh.cluster.skewClock(12.5 * HOUR);
    renewTokens();
    mesh.cluster.skewClock(14 * HOUR);
    await renewed();
    expect(complaints('client-1').slice(before)).toEqual([]);
  });

  test('without a token the certificate stays, the log says what to look at, and the next token ends it', async () => {
    const { length } = complaints('client-1');
    const said = (what: RegExp): Promise<unknown> =>
      eventually(
        () =>
          complaints('client-1')
            .slice(length)
            .some((line) => what.test(line)),
        {
          what: String(what),
          timeoutMs: 40_000,
        },
      );
    const pod = mesh.kubelet.pod(SHOP, 'client-1');
    pod.spoilTokens('empty');
    await said(/\/var\/run\/secrets\/postern\/token .*does not hold.*kubelet.*the present one stays in use/);
    expect((await client.get(`${SERVER}/`)).status).toBe(200);
    pod.spoilTokens('missing');
    await said(/cannot read \/var\/run\/secrets\/postern\/token.*projected.*the present one stays in use/);
    pod.spoilTokens(null);
    await renewed();
  });
});
