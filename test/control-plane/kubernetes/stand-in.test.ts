import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { watchObject } from '../../../control-plane/kubernetes/ca/object-watch.ts';
import { SecretAuthority } from '../../../control-plane/kubernetes/ca/secret-authority.ts';
import { PodAdmission } from '../../../control-plane/kubernetes/identity/pod-admission.ts';
import { PodLookup } from '../../../control-plane/kubernetes/identity/pod-lookup.ts';
import { ServiceAccountTokens } from '../../../control-plane/kubernetes/identity/service-account-tokens.ts';
import { MachineAdmission } from '../../../control-plane/kubernetes/joining/machine-admission.ts';
import { slimPod } from '../../../control-plane/kubernetes/source/slim.ts';
import { KubernetesClient } from '../../../kubernetes/api/client.ts';
import { TYPES } from '../../../kubernetes/api/resource-types.ts';
import { spiffeId } from '../../../mesh/spiffe-id.ts';
import { connectionTo } from '../../kubernetes/api/support.ts';
import { eventually } from '../../support/eventually.ts';
import { StandInCluster } from '../../support/kubernetes/cluster.ts';
import { newCsr, ORDERS } from '../ca/support.ts';
import { machinesOf } from './joining/support.ts';
import { memoryLog } from './support.ts';

/** The identity and CA of a control plane against the API as it is spoken, with the rights of the installation. */
let cluster: StandInCluster;
let client: KubernetesClient;

const OBJECTS = `
apiVersion: v1
kind: Namespace
metadata: { name: postern-system }
---
apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: orders, namespace: shop }
---
apiVersion: v1
kind: Pod
metadata: { name: orders-1, namespace: shop, labels: { app: orders } }
spec: { serviceAccountName: orders, containers: [ { name: app, image: app } ] }
status: { phase: Running, podIP: 10.0.0.7, podIPs: [ { ip: 10.0.0.7 } ] }
`;

beforeAll(async () => {
  cluster = await StandInCluster.start();
  cluster.apply(OBJECTS);
  // With the rights that the installation gives, and no others.
  cluster.apply(readFileSync('manifests/kubernetes/base/rbac.yaml', 'utf8'));
  const user = cluster.addUser('system:serviceaccount:postern-system:postern-control-plane');
  client = new KubernetesClient(connectionTo(cluster, [user]));
});
afterAll(async () => {
  await client.close();
  await cluster.stop();
});

const tokenFor = (audience: string, pod?: string, seconds = 3600): string =>
  cluster.tokens.issue({
    namespace: 'shop',
    serviceAccount: 'orders',
    audiences: [audience],
    seconds,
    ...(pod === undefined ? {} : { pod }),
  }).token;

function newIdentity() {
  const pods = new PodLookup({
    api: client,
    pods: (namespace, name) => {
      const pod = cluster.direct.get({ apiVersion: 'v1', kind: 'Pod' }, namespace, name);
      return pod === null ? null : slimPod(pod);
    },
  });
  const tokens = new ServiceAccountTokens({ api: client, pods, audience: 'postern', log: memoryLog() });
  return { tokens, admission: new PodAdmission({ pods, machines: new MachineAdmission(machinesOf(() => [])) }) };
}

const circumstances = { publicKeyHash: 'hash', peerAddress: '10.0.0.7', peer: null };

describe('tokens that the API server issues', () => {
  it('prove the pod that they are bound to, which may then register', async () => {
    const { tokens, admission } = newIdentity();
    const proven = await tokens.redeem(tokenFor('postern', 'orders-1'), circumstances);
    expect(proven).toEqual({ ...ORDERS, labels: {} });
    const workload = {
      ...ORDERS,
      name: 'orders-1',
      labels: {},
      addresses: [],
      tunnel: null,
      ports: {},
    };
    const identity = spiffeId('cluster.local', ORDERS.namespace, ORDERS.serviceAccount);
    const registered = await admission.admit(workload, { identity, peerAddress: '10.0.0.7' });
    expect(registered.workload).toMatchObject({ labels: { app: 'orders' }, addresses: ['10.0.0.7'] });
  });

  it.each<[string, () => string, object]>([
    ['of another audience', () => tokenFor('vault', 'orders-1'), {}],
    ['of no pod', () => tokenFor('postern'), {}],
    ['that are over', () => tokenFor('postern', 'orders-1', -60), {}],
    ['that were changed', () => `${tokenFor('postern', 'orders-1').slice(0, -4)}AAAA`, {}],
    ['shown from elsewhere', () => tokenFor('postern', 'orders-1'), { peerAddress: '10.0.0.8' }],
  ])('prove nothing: those %s', async (_, token, change) => {
    const { tokens } = newIdentity();
    await expect(tokens.redeem(token(), { ...circumstances, ...change })).rejects.toMatchObject({
      reason: expect.stringMatching(/^(token-refused|pod-mismatch)$/),
    });
  });

  it('are unverified while the API server is away', async () => {
    const { tokens } = newIdentity();
    await cluster.stop();
    onTestFinished(() => cluster.start());
    await expect(tokens.redeem(tokenFor('postern', 'orders-1'), circumstances)).rejects.toMatchObject({
      reason: 'token-unverified',
    });
  });
});

describe('a CA in a Secret of the API server', () => {
  const where = { namespace: 'postern-system', name: 'postern-ca' };

  async function openReplica(leads: boolean) {
    const log = memoryLog();
    const term = leads ? new AbortController().signal : null;
    const authority = await SecretAuthority.open({
      api: client,
      namespace: where.namespace,
      secret: where.name,
      trustDomain: 'cluster.local',
      clock: () => Date.now(),
      term: () => term,
      watches: [watchObject({ api: client, type: TYPES.Secret, ...where, log })],
      log,
      // By the watch alone.
      pollMs: 3_600_000,
    });
    onTestFinished(() => authority.close());
    return { authority, log };
  }

  it('is one for all replicas, rotates in all of them, and comes back when it is deleted', async () => {
    const [leader, follower] = [await openReplica(true), await openReplica(false)];
    expect(follower.authority.roots).toEqual(leader.authority.roots);
    expect(follower.authority.issueWorkload({ csr: newCsr(), ...ORDERS }).chain).toContain('BEGIN');
    await eventually(
      () => cluster.direct.get({ apiVersion: 'v1', kind: 'ConfigMap' }, where.namespace, 'postern-ca-state'),
      { what: 'the state is written' },
    );
    await leader.authority.beginRotation();
    await eventually(() => follower.authority.rotationPhase === 'begun', { what: 'the follower trusts the new root' });
    await leader.authority.activateRotation();
    await eventually(() => follower.authority.rotationPhase === 'activated', { what: 'the follower issues from it' });
    expect(follower.authority.roots).toEqual(leader.authority.roots);
    const admin = new KubernetesClient(connectionTo(cluster, [cluster.adminToken]));
    onTestFinished(() => admin.close());
    await admin.delete(TYPES.Secret, where);
    await eventually(() => cluster.direct.get({ apiVersion: 'v1', kind: 'Secret' }, where.namespace, where.name), {
      what: 'the leader puts it back',
    });
    expect((await openReplica(false)).authority.roots).toEqual(leader.authority.roots);
    expect(leader.log.lines.filter(({ level }) => level === 'error')).toHaveLength(1);
  });
});
