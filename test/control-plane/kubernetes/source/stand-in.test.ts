import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { KubernetesSource } from '../../../../control-plane/kubernetes/source/kubernetes-source.ts';
import type { SourceChange } from '../../../../control-plane/source/manifest-source.ts';
import { KubernetesClient } from '../../../../kubernetes/api/client.ts';
import { inCluster } from '../../../../kubernetes/api/in-cluster.ts';
import { LeaderElection } from '../../../../kubernetes/lease/leader-election.ts';
import type { JsonObject } from '../../../../policy/types.ts';
import { silentLog } from '../../../kubernetes/informer/support.ts';
import { ROOT } from '../../../repository/source-tree.ts';
import { eventually } from '../../../support/eventually.ts';
import { StandInCluster } from '../../../support/kubernetes/cluster.ts';

/** With the definitions and the permissions that an installation has: what they lack fails here. */
const MANIFESTS = join(ROOT, 'manifests', 'kubernetes');
const read = (...path: string[]): string => readFileSync(join(MANIFESTS, ...path), 'utf8');
const definitions = (folder: string): string =>
  readdirSync(join(MANIFESTS, folder))
    .filter((name) => name !== 'kustomization.yaml')
    .map((name) => read(folder, name))
    .join('\n---\n');
const NAMESPACE = 'postern-system';
const POD = { apiVersion: 'v1', kind: 'Pod' };

let cluster: StandInCluster;
let directory: string;
let client: KubernetesClient;
let source: KubernetesSource;
let changes: SourceChange[];

const policy = (name: string, spec: JsonObject): JsonObject => ({
  apiVersion: 'security.istio.io/v1',
  kind: 'AuthorizationPolicy',
  metadata: { name, namespace: 'shop' },
  spec,
});
const GOOD = { rules: [{ from: [{ source: { namespaces: ['web'] } }] }] };
const pod = (name: string, ip: string): JsonObject => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'shop', labels: { app: 'orders' } },
  spec: { containers: [{ name: 'app', image: 'x', ports: [{ name: 'http', containerPort: 8080 }] }] },
  status: { phase: 'Running', podIPs: [{ ip }], conditions: [{ type: 'Ready', status: 'True' }] },
});
const service: JsonObject = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'orders', namespace: 'shop' },
  spec: { selector: { app: 'orders' }, ports: [{ name: 'http', port: 80, targetPort: 'http' }] },
};
const ours = (): string[] =>
  source.manifests
    .filter(({ namespace, kind }) => namespace === 'shop' || kind === 'MeshConfig' || kind === 'Revocation')
    .map(({ kind, name }) => (kind === 'EndpointSlice' ? kind : `${kind} ${name}`))
    .sort();

/** As a pod of the control plane does. */
function connect(): KubernetesClient {
  const issued = cluster.tokens.issue({
    namespace: NAMESPACE,
    serviceAccount: 'postern-control-plane',
    audiences: [],
    seconds: 3600,
  });
  for (const [name, text] of Object.entries({ token: issued.token, 'ca.crt': cluster.ca, namespace: NAMESPACE })) {
    writeFileSync(join(directory, name), text);
  }
  const environment = { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: String(cluster.port) };
  return new KubernetesClient(inCluster({ environment, directory }));
}

beforeEach(async () => {
  cluster = await StandInCluster.start({ bookmarkMs: 100 });
  directory = mkdtempSync(join(tmpdir(), 'postern-source-'));
  cluster.apply(read('base', 'namespace.yaml'));
  cluster.apply(read('base', 'rbac.yaml'));
  cluster.apply([{ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } }]);
  client = connect();
  changes = [];
  const timings = { backoffMs: 10, backoffMaxMs: 100, absentMs: 50 };
  source = new KubernetesSource({ api: client, log: silentLog, timings, syncTimeoutMs: 20_000 });
});
afterEach(async () => {
  await source.stop();
  await client.close();
  await cluster.stop();
  rmSync(directory, { recursive: true, force: true });
});

const install = (): void => {
  cluster.apply(definitions('crds'));
  cluster.apply(definitions('istio-crds'));
};
const start = (): Promise<void> => source.start((change) => changes.push(change));

describe('with what an installation may do, the source', () => {
  test('reads every kind, and what the API server has made of it is admissible', async () => {
    install();
    cluster.apply([
      service,
      pod('orders-1', '10.1.0.1'),
      policy('allow-web', GOOD),
      { ...policy('strict', { mtls: { mode: 'STRICT' } }), kind: 'PeerAuthentication' },
      { apiVersion: 'postern.dev/v1', kind: 'MeshConfig', metadata: { name: 'mesh' }, spec: { defaultAction: 'DENY' } },
    ]);
    await start();
    expect(ours()).toEqual([
      'AuthorizationPolicy allow-web',
      'EndpointSlice',
      'MeshConfig mesh',
      'PeerAuthentication strict',
      'Pod orders-1',
      'Service orders',
    ]);
    expect(source.problems).toEqual([]);
    expect(source.pod('shop', 'orders-1')?.object.status).toEqual({
      phase: 'Running',
      podIPs: [{ ip: '10.1.0.1' }],
      ready: true,
      ended: false,
    });
    expect(cluster.requests.filter(({ status }) => status === 403)).toEqual([]);
  });

  test('starts before the definitions are there, and finds them when they come', async () => {
    cluster.apply([service]);
    await start();
    expect(ours()).toEqual(['EndpointSlice', 'Service orders']);
    install();
    cluster.apply([policy('allow-web', GOOD)]);
    await eventually(() => ours().includes('AuthorizationPolicy allow-web'), { what: 'the policy' });
  });

  test('follows pods as they come, go and become unready, through ends of watches, compaction and an outage', async () => {
    install();
    cluster.apply([service, policy('allow-web', GOOD)]);
    await start();
    cluster.endWatchesEvery(100);
    for (let i = 0; i < 60; i++) {
      cluster.apply([pod(`orders-${i % 12}`, `10.1.0.${i + 1}`)]);
      if (i % 4 === 3) cluster.direct.delete(POD, 'shop', `orders-${(i * 5) % 12}`);
      if (i === 20) cluster.compact({ openWatches: true });
      if (i === 30) cluster.endWatchesEvery(0);
      if (i === 40) await cluster.stop();
      if (i === 50) await cluster.start();
      await sleep(10);
    }
    const stored = (): string =>
      cluster.direct
        .list(POD, 'shop')
        .map((one) => JSON.stringify([(one.metadata as JsonObject).name, (one.status as JsonObject).podIPs]))
        .sort()
        .join(' ');
    const known = (): string =>
      source.manifests
        .filter(({ kind }) => kind === 'Pod')
        .map(({ name, object }) => JSON.stringify([name, (object.status as JsonObject).podIPs]))
        .sort()
        .join(' ');
    await eventually(() => known() === stored(), { what: 'the pods of the cluster' });
    await eventually(() => source.fault === null, { what: 'no fault' });
    expect(ours()).toContain('AuthorizationPolicy allow-web');
  });

  test('keeps the last admissible version of a policy that was broken while the server was away', async () => {
    install();
    cluster.apply([policy('a', GOOD)]);
    await start();
    await cluster.stop();
    await eventually(() => source.fault !== null, { what: 'a fault' });
    cluster.apply([policy('a', { ...GOOD, action: 'DNEY' }), policy('b', { action: 'DNEY' })]);
    await cluster.start();
    await eventually(() => ours().includes('AuthorizationPolicy b'), { what: 'the other policy' });
    const spec = (name: string) => source.manifests.find((one) => one.name === name)?.object.spec;
    await eventually(() => source.errorOf('AuthorizationPolicy', 'shop', 'a') !== null, { what: 'a complaint' });
    expect(spec('a')).toEqual(GOOD);
    expect(spec('b')).toEqual({ action: 'DENY', rules: [{}] });
  });
});

describe('with what an installation may do, an election', () => {
  test('elects one of two replicas, and the other when that one stops', async () => {
    const candidate = (identity: string): LeaderElection => {
      const election = new LeaderElection({
        api: client,
        lease: { namespace: NAMESPACE, name: 'postern-control-plane' },
        identity,
        lead: (term) =>
          new Promise((resolve) => term.signal.addEventListener('abort', () => resolve(), { once: true })),
        log: silentLog,
        timings: { leaseMs: 60_000, renewDeadlineMs: 30_000, retryMs: 50, settleMs: 1_000 },
      });
      election.start();
      return election;
    };
    const replicas = [candidate('a'), candidate('b')];
    const leader = () => replicas.find(({ isLeader }) => isLeader);
    const first = await eventually(leader, { what: 'a leader' });
    await sleep(300);
    expect(replicas.filter(({ isLeader }) => isLeader)).toEqual([first]);
    await first.stop();
    const second = await eventually(leader, { what: 'another leader' });
    expect(second).not.toBe(first);
    await second.stop();
    expect(cluster.requests.filter(({ status }) => status === 403)).toEqual([]);
    expect(
      cluster.direct.get({ apiVersion: 'coordination.k8s.io/v1', kind: 'Lease' }, NAMESPACE, 'postern-control-plane')
        ?.spec,
    ).toMatchObject({
      holderIdentity: '',
      leaseTransitions: 1,
    });
  });
});
