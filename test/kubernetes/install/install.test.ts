import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { everythingInstallable, renderInstallation } from '../../../cli/install/manifests.ts';
import { CLUSTER_TRUST_BUNDLE, TRUST_BUNDLE_LABELS } from '../../../control-plane/kubernetes/leader/trust-bundles.ts';
import { KubernetesClient } from '../../../kubernetes/api/client.ts';
import { install } from '../../../kubernetes/install/install.ts';
import { uninstall } from '../../../kubernetes/install/uninstall.ts';
import { asObject, field } from '../../../policy/json.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { eventually } from '../../support/eventually.ts';
import { StandInCluster, type StandInOptions } from '../../support/kubernetes/cluster.ts';
import { nameOf, objectsAt } from '../../support/kubernetes/objects.ts';

const SYSTEM = 'postern-system';
const DEPLOYMENT = { apiVersion: 'apps/v1', kind: 'Deployment' };
const DEFINITION = { apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition' };
const WEBHOOKS = ['MutatingWebhookConfiguration', 'ValidatingWebhookConfiguration'].map((kind) => ({
  apiVersion: 'admissionregistration.k8s.io/v1',
  kind,
}));

let cluster: StandInCluster;
let api: KubernetesClient;
let lines: string[];

async function start(options: StandInOptions = {}): Promise<void> {
  cluster = await StandInCluster.start(options);
  const tls = { ca: cluster.ca, serverName: null, client: null };
  const access = async () => ({ tls, token: cluster.adminToken });
  api = new KubernetesClient({ server: cluster.url, namespace: null, access, refused: () => {} });
  lines = [];
}

beforeEach(() => start());
afterEach(async () => {
  await api.close();
  await cluster.stop();
});

const base64 = (text: string): string => Buffer.from(text).toString('base64');
const report = (line: string): void => void lines.push(line);
const chosen = (overlay = 'single', settings: readonly string[] = []) =>
  renderInstallation({ overlay, components: [], settings });
const run = (options: Partial<Parameters<typeof install>[0]> = {}) =>
  install({ api, objects: chosen(), force: false, waitMs: null, report, pollMs: 10, ...options });
const remove = (options: Partial<Parameters<typeof uninstall>[0]> = {}) =>
  uninstall({
    api,
    objects: everythingInstallable(),
    published: { labels: TRUST_BUNDLE_LABELS, configMap: 'postern-ca-roots', clusterTrustBundle: CLUSTER_TRUST_BUNDLE },
    definitions: false,
    force: false,
    report,
    pollMs: 10,
    ...options,
  });

/** What controllers and the leading control plane would do. */
function comeUp(): void {
  const deployment = cluster.direct.get(DEPLOYMENT, SYSTEM, 'postern-control-plane') ?? {};
  const generation = Number(field(asObject(field(deployment, 'metadata')), 'generation') ?? 1);
  // The stand-in's back door counts what it writes as a change.
  const status = { observedGeneration: generation + 1, updatedReplicas: 1, availableReplicas: 1 };
  cluster.direct.put({ ...deployment, status });
}

function writeBundles(): void {
  for (const type of WEBHOOKS) {
    const configuration = cluster.direct.get(type, '', 'postern') ?? {};
    const webhooks = objectsAt(configuration, 'webhooks').map((webhook) => ({
      ...webhook,
      clientConfig: { ...asObject(field(webhook, 'clientConfig')), caBundle: base64(cluster.ca) },
    }));
    cluster.direct.put({ ...configuration, webhooks });
  }
}

const written = (): readonly string[] =>
  cluster.requests.flatMap(({ method, resource, status }) =>
    ['POST', 'PATCH', 'DELETE'].includes(method) && status < 300 ? [`${method} ${resource}`] : [],
  );

describe('an installation', () => {
  test('defines the kinds first and registers webhooks last', async () => {
    await run();
    const order = written();
    expect(order.slice(0, 8).map((one) => one.split(' ')[1])).toEqual([
      ...Array.from({ length: 7 }, () => 'customresourcedefinitions'),
      'namespaces',
    ]);
    const webhooks = ['PATCH mutatingwebhookconfigurations', 'PATCH validatingwebhookconfigurations'];
    expect(order.slice(-3)).toEqual(['PATCH deployments', ...webhooks]);
  });

  test('changes nothing when it is repeated, and takes nothing back that the control plane has written', async () => {
    await run();
    writeBundles();
    lines = [];
    await run();
    expect(lines.filter((line) => !line.endsWith(' unchanged'))).toEqual([]);
    const [webhook] = objectsAt(cluster.direct.get(WEBHOOKS[0] ?? DEFINITION, '', 'postern') ?? {}, 'webhooks');
    expect(webhook?.clientConfig).toMatchObject({ caBundle: base64(cluster.ca) });
  });

  test('with another setting starts other pods, with the same one it does not', async () => {
    const template = (): unknown =>
      asObject(field(cluster.direct.get(DEPLOYMENT, SYSTEM, 'postern-control-plane') ?? null, 'spec'))?.template;
    await run();
    const before = template();
    await run({ objects: chosen('single', ['logLevel=debug']) });
    expect(template()).not.toEqual(before);
    await run();
    expect(template()).toEqual(before);
  });

  test("keeps the cluster's own definitions of Istio's kinds", async () => {
    const [foreign] = chosen().filter((object) => nameOf(object) === 'authorizationpolicies.security.istio.io');
    const own = { ...foreign, metadata: { name: 'authorizationpolicies.security.istio.io', labels: { app: 'istio' } } };
    cluster.apply([own]);
    await run();
    expect(lines).toContain(
      "CustomResourceDefinition authorizationpolicies.security.istio.io kept: it is the cluster's own",
    );
    const stored = cluster.direct.get(DEFINITION, '', 'authorizationpolicies.security.istio.io');
    expect(field(asObject(field(stored, 'metadata')), 'labels')).toEqual({ app: 'istio' });
    await remove({ definitions: true });
    const left = cluster.direct.list(DEFINITION).map(nameOf);
    expect(left).toEqual(['authorizationpolicies.security.istio.io']);
  });

  test('does not take over what somebody else has changed, unless it is told to', async () => {
    await run();
    const patch = { type: 'merge', body: { spec: { replicas: 5 } } } as const;
    const type = { group: 'apps', version: 'v1', kind: 'Deployment', plural: 'deployments', namespaced: true };
    await api.patch(type, { namespace: SYSTEM, name: 'postern-control-plane' }, patch, { fieldManager: 'somebody' });
    await expect(run()).rejects.toMatchObject({ code: 'ERR_INSTALL_CONFLICT', message: /somebody/ });
    const replicas = () => cluster.direct.get(DEPLOYMENT, SYSTEM, 'postern-control-plane')?.spec;
    expect(replicas()).toMatchObject({ replicas: 5 });
    await run({ force: true });
    expect(replicas()).toMatchObject({ replicas: 1 });
  });

  test('registers no webhook before the control plane is ready, and waits until it can be called', async () => {
    let done = false;
    const installing = run({ waitMs: 20_000 }).then(() => {
      done = true;
    });
    await eventually(() => lines.some((line) => line.includes('0 of 1 replicas')), {
      what: 'the wait for the rollout',
    });
    expect(cluster.direct.get(WEBHOOKS[0] ?? DEFINITION, '', 'postern')).toBeNull();
    comeUp();
    await eventually(() => lines.some((line) => line.includes('has not written its caBundle')), {
      what: 'the second wait',
    });
    expect(done).toBe(false);
    writeBundles();
    await installing;
  });

  test('that does not come up in time says what its pods wait for, and leaves no webhook', async () => {
    const labels = { 'app.kubernetes.io/name': 'postern-control-plane' };
    const waiting = { reason: 'ErrImagePull', message: 'no such image' };
    cluster.apply([
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: SYSTEM } },
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'cp', namespace: SYSTEM, labels },
        spec: { containers: [{ name: 'control-plane', image: 'x' }] },
        status: { containerStatuses: [{ name: 'control-plane', ready: false, state: { waiting } }] },
      },
    ]);
    await expect(run({ waitMs: 50 })).rejects.toMatchObject({
      code: 'ERR_INSTALL_TIMEOUT',
      message: /0 of 1 replicas are ready \(container control-plane: ErrImagePull: no such image\)/,
    });
    expect(cluster.direct.get(WEBHOOKS[0] ?? DEFINITION, '', 'postern')).toBeNull();
  });
});

describe('a cluster that will not do', () => {
  test('is told its version before anything is written', async () => {
    await api.close();
    await cluster.stop();
    await start({ version: { major: 1, minor: 26 } });
    await expect(run()).rejects.toMatchObject({ code: 'ERR_CLUSTER_TOO_OLD' });
    expect(written()).toEqual([]);
  });

  test('is told which kind it lacks, and what to do', async () => {
    const objects = renderInstallation({ overlay: 'single', components: ['prometheus-operator'], settings: [] });
    await expect(run({ objects })).rejects.toMatchObject({ code: 'ERR_NOT_SERVED', message: /Prometheus operator/ });
  });
});

describe('an uninstallation', () => {
  const bundle = (namespace: string, labels: JsonObject): JsonObject => ({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'postern-ca-roots', namespace, labels },
  });

  test('takes the webhooks first, then all else, and keeps kinds and policies', async () => {
    await run({ objects: chosen('ha') });
    cluster.apply([
      bundle('default', TRUST_BUNDLE_LABELS),
      bundle('kube-public', { somebody: 'else' }),
      {
        apiVersion: 'security.istio.io/v1',
        kind: 'AuthorizationPolicy',
        metadata: { name: 'deny', namespace: 'default' },
        spec: {},
      },
    ]);
    cluster.requests.length = 0;
    await remove();
    const webhooks = ['DELETE mutatingwebhookconfigurations', 'DELETE validatingwebhookconfigurations'];
    expect(written().slice(0, 3)).toEqual([...webhooks, 'DELETE deployments']);
    expect(written().at(-1)).toBe('DELETE namespaces');
    const left = cluster.direct.list({ apiVersion: 'v1', kind: 'ConfigMap' });
    expect(left.map(({ metadata }) => metadata)).toMatchObject([{ namespace: 'kube-public' }]);
    expect(cluster.direct.list({ apiVersion: 'security.istio.io/v1', kind: 'AuthorizationPolicy' })).toHaveLength(1);
    expect(cluster.direct.list(DEFINITION)).toHaveLength(7);
    const roles = cluster.direct.list({ apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'ClusterRole' });
    expect(roles.map(nameOf)).not.toContain('postern-control-plane');
  });

  test('takes the kinds as well where that is asked for, and is done when there is nothing left', async () => {
    await run();
    await remove({ definitions: true });
    expect(cluster.direct.list(DEFINITION)).toEqual([]);
    cluster.requests.length = 0;
    await remove({ definitions: true });
    expect(written()).toEqual([]);
  });

  test('waits for pods with sidecars to go, unless it is forced', async () => {
    await run();
    const annotations = { 'postern.dev/status': '{}' };
    const pod = (name: string, phase: string): JsonObject => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace: 'default', annotations },
      spec: { containers: [{ name: 'a', image: 'a' }] },
      status: { phase },
    });
    cluster.apply([pod('done', 'Succeeded'), pod('runs', 'Running')]);
    cluster.requests.length = 0;
    await expect(remove()).rejects.toMatchObject({ code: 'ERR_SIDECARS_LEFT', message: /default \(1\)/ });
    expect(written()).toEqual([]);
    await remove({ force: true });
    expect(written()).toContain('DELETE namespaces');
  });

  test('leaves alone what has the same name and is not of an installation', async () => {
    const foreign = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: SYSTEM } };
    cluster.apply([foreign]);
    await remove();
    expect(written()).toEqual([]);
    expect(lines).toContain('Namespace postern-system kept: it is not of this installation');
  });
});
