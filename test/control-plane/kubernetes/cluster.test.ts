import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseControlPlaneConfig } from '../../../control-plane/config.ts';
import { ControlPlane } from '../../../control-plane/control-plane.ts';
import { ControlPlaneMetrics } from '../../../control-plane/metrics.ts';
import { openPlatform } from '../../../control-plane/open-platform.ts';
import { renderKustomizations } from '../../../kubernetes/install/kustomization.ts';
import { eventually } from '../../support/eventually.ts';
import { StandInCluster } from '../../support/kubernetes/cluster.ts';
import { objectsAt, textAt } from '../../support/kubernetes/objects.ts';

/** The whole control plane as one installs it, against the API as it is spoken, with the rights of the installation and no others. */
const NAMESPACE = 'postern-system';
const ACCOUNT = 'postern-control-plane';
const MANIFESTS = fileURLToPath(new URL('../../../manifests/kubernetes', import.meta.url));

let cluster: StandInCluster;
let directory: string;
const planes = new Map<string, ControlPlane>();

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'postern-cluster-'));
  cluster = await StandInCluster.start();
  cluster.apply(renderKustomizations([join(MANIFESTS, 'istio-crds'), join(MANIFESTS, 'overlays/single')]));
  for (const name of ['cp-1', 'cp-2']) cluster.apply([podOf(name)]);
});

afterAll(async () => {
  await Promise.all([...planes.values()].map((plane) => plane.stop()));
  await cluster.stop();
  rmSync(directory, { recursive: true });
});

const podOf = (name: string) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: NAMESPACE, labels: { 'app.kubernetes.io/name': ACCOUNT } },
  spec: { serviceAccountName: ACCOUNT, containers: [{ name: 'control-plane', image: 'postern' }] },
});

async function startPlane(pod: string): Promise<void> {
  const { token } = cluster.tokens.issue({
    namespace: NAMESPACE,
    serviceAccount: ACCOUNT,
    audiences: [],
    seconds: 3600,
  });
  cluster.kubeconfig(join(directory, `${pod}.kubeconfig`), { token });
  const settings = {
    listen: '127.0.0.1:0',
    adminListen: '127.0.0.1:0',
    dataDir: join(directory, pod),
    kubernetes: {
      kubeconfig: join(directory, `${pod}.kubeconfig`),
      namespace: NAMESPACE,
      podName: pod,
      webhookListen: '127.0.0.1:0',
      injection: { image: 'postern:test' },
    },
  };
  const config = parseControlPlaneConfig(JSON.stringify(settings), join(directory, `${pod}.yaml`));
  const log = pino({ level: 'silent' });
  const metrics = new ControlPlaneMetrics();
  const platform = await openPlatform(config, log, metrics);
  planes.set(pod, await ControlPlane.start({ config, platform, log, metrics }));
}

const roots = (namespace: string): string =>
  textAt(
    cluster.direct.get({ apiVersion: 'v1', kind: 'ConfigMap' }, namespace, 'postern-ca-roots') ?? undefined,
    'data',
    'root-cert.pem',
  );

const holder = (): string =>
  textAt(
    cluster.direct.get({ apiVersion: 'coordination.k8s.io/v1', kind: 'Lease' }, NAMESPACE, ACCOUNT) ?? undefined,
    'spec',
    'holderIdentity',
  ).replace(/_.*/, '');

describe('a control plane in a cluster', () => {
  test('makes its authority, leads, and publishes its roots in every namespace and for the webhooks', async () => {
    await startPlane('cp-1');
    await eventually(() => roots('default').includes('BEGIN CERTIFICATE'), { what: 'the roots in a namespace' });
    expect(holder()).toBe('cp-1');
    cluster.apply('{ apiVersion: v1, kind: Namespace, metadata: { name: later } }');
    await eventually(() => roots('later') === roots('default'), { what: 'the roots in a namespace that is new' });
    for (const kind of ['MutatingWebhookConfiguration', 'ValidatingWebhookConfiguration']) {
      const bundles = () =>
        objectsAt(
          cluster.direct.get({ apiVersion: 'admissionregistration.k8s.io/v1', kind }, '', 'postern') ?? undefined,
          'webhooks',
        ).map((webhook) => Buffer.from(textAt(webhook, 'clientConfig', 'caBundle'), 'base64').toString());
      expect(bundles().length).toBeGreaterThan(0);
      const expected = bundles().map(() => roots('default'));
      await eventually(() => JSON.stringify(bundles()) === JSON.stringify(expected), { what: `the bundle of ${kind}` });
    }
  });

  test('puts back what somebody else writes into the roots that it publishes', async () => {
    const before = roots('later');
    cluster.direct.update({ apiVersion: 'v1', kind: 'ConfigMap' }, 'later', 'postern-ca-roots', (object) => ({
      ...object,
      data: { 'root-cert.pem': 'nobody' },
    }));
    await eventually(() => roots('later') === before, { what: 'the roots as they were' });
    cluster.direct.delete({ apiVersion: 'v1', kind: 'ConfigMap' }, 'later', 'postern-ca-roots');
    await eventually(() => roots('later') === before, { what: 'the roots again' });
  });

  test('of two replicas one leads, with one authority, and the other takes over when that one stops', async () => {
    const before = roots('default');
    await startPlane('cp-2');
    expect(holder()).toBe('cp-1');
    await planes.get('cp-1')?.stop();
    planes.delete('cp-1');
    await eventually(() => holder() === 'cp-2', { what: 'the other to lead' });
    cluster.apply('{ apiVersion: v1, kind: Namespace, metadata: { name: latest } }');
    await eventually(() => roots('latest') === before, { what: 'the same roots, by the new leader' });
  });

  test('asks for nothing that it may not have', () => {
    const user = `system:serviceaccount:${NAMESPACE}:${ACCOUNT}`;
    const own = cluster.requests.filter((request) => request.user === user);
    expect(own.length).toBeGreaterThan(20);
    expect(own.filter(({ status }) => status === 403)).toEqual([]);
  });
});
