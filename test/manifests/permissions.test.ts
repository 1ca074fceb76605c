import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { fetchFacts } from '../../cli/check/fetch.ts';
import { runChecks } from '../../cli/check/run.ts';
import { renderInstallation } from '../../cli/install/manifests.ts';
import { parseControlPlaneConfig } from '../../control-plane/config.ts';
import { ControlPlane } from '../../control-plane/control-plane.ts';
import { ControlPlaneMetrics } from '../../control-plane/metrics.ts';
import { openPlatform } from '../../control-plane/open-platform.ts';
import type { Platform } from '../../control-plane/platform.ts';
import { KubernetesClient } from '../../kubernetes/api/client.ts';
import { identityOf } from '../../kubernetes/install/identity.ts';
import type { JsonObject } from '../../policy/types.ts';
import { eventually } from '../support/eventually.ts';
import { RawClient } from '../support/kubernetes/client.ts';
import { StandInCluster } from '../support/kubernetes/cluster.ts';
import type { LoggedRequest } from '../support/kubernetes/faults.ts';
import { objectsAt, textsAt } from '../support/kubernetes/objects.ts';

/**
 * A control plane with exactly the rights of the installation: whatever it is refused fails a test, and whatever it is granted and does not use fails
 * another.
 */

const SYSTEM = 'postern-system';
const ACCOUNT = `system:serviceaccount:${SYSTEM}:postern-control-plane`;
const INSTALLED = renderInstallation({ overlay: 'ha', components: [], settings: [] });

/** Used when watches are behind for a moment, or once in many hours. */
const RARE = [
  // A pod or a namespace that no watch has told of yet.
  'get pods',
  'get namespaces',
  // A Secret that is rotated.
  'update secrets',
  'update configmaps',
];

let cluster: StandInCluster;
let plane: ControlPlane;
let platform: Platform;
let admin: RawClient;
const directory = mkdtempSync(join(tmpdir(), 'postern-permissions-'));

const own = (): readonly LoggedRequest[] => cluster.requests.filter(({ user }) => user === ACCOUNT);
const nameOfRight = ({ verb, resource, subresource, group }: LoggedRequest): string =>
  `${verb} ${resource}${subresource === '' ? '' : `/${subresource}`}${group === '' ? '' : `.${group}`}`;

function granted(): ReadonlySet<string> {
  const roles = INSTALLED.filter((object) => ['Role', 'ClusterRole'].includes(identityOf(object).kind));
  return new Set(
    roles.flatMap((role) =>
      objectsAt(role, 'rules').flatMap((rule) =>
        textsAt(rule, 'apiGroups').flatMap((group) =>
          textsAt(rule, 'resources').flatMap((resource) =>
            textsAt(rule, 'verbs').map((verb) => `${verb} ${resource}${group === '' ? '' : `.${group}`}`),
          ),
        ),
      ),
    ),
  );
}

const mesh = { apiVersion: 'postern.dev/v1', kind: 'MeshConfig', metadata: { name: 'mesh' }, spec: {} };
const denial = {
  apiVersion: 'security.istio.io/v1',
  kind: 'AuthorizationPolicy',
  metadata: { name: 'wrong', namespace: 'default' },
  spec: { rulse: [] },
};
const machine = {
  apiVersion: 'networking.istio.io/v1',
  kind: 'WorkloadEntry',
  metadata: { name: 'vm', namespace: 'default', labels: { 'networking.istio.io/tunnel': 'http' } },
  spec: { address: '192.0.2.1', serviceAccount: 'vm' },
};

beforeAll(async () => {
  cluster = await StandInCluster.start();
  admin = new RawClient(cluster);
  const early = ['CustomResourceDefinition', 'Namespace'];
  const isEarly = (object: JsonObject): boolean => early.includes(identityOf(object).kind);
  cluster.apply(INSTALLED.filter(isEarly));
  cluster.apply(INSTALLED.filter((object) => !isEarly(object)));
  const kubeconfig = join(directory, 'kubeconfig');
  cluster.kubeconfig(kubeconfig, { token: cluster.addUser(ACCOUNT) });
  const text = `
listen: 127.0.0.1:0
adminListen: 127.0.0.1:0
dataDir: ${join(directory, 'data')}
kubernetes:
  kubeconfig: ${kubeconfig}
  namespace: ${SYSTEM}
  podName: control-plane-1
  webhookListen: 127.0.0.1:0
  injection: { image: example/postern:1 }
`;
  const config = parseControlPlaneConfig(text, join(directory, 'control-plane.yaml'));
  const log = pino({ level: 'silent' });
  const metrics = new ControlPlaneMetrics();
  platform = await openPlatform(config, log, metrics);
  plane = await ControlPlane.start({ config, platform, log, metrics });
  cluster.services.set(`${SYSTEM}/postern-control-plane`, platform.describe().webhooks ?? '');
});

afterAll(async () => {
  await plane?.stop();
  await admin?.close();
  await cluster?.stop();
  rmSync(directory, { recursive: true });
});

describe('the rights of the control plane', () => {
  test('are all that it needs, and no more', async () => {
    cluster.apply([mesh, denial]);
    // Its own webhook answers for it, as soon as the leader has written caBundle.
    await eventually(() => platform.revocations.add('0123456789ABCDEF'), { what: 'the revocation to be stored' });
    await eventually(() => platform.revocations.isRevoked({ spiffeId: null, serial: '123456789ABCDEF' }), {
      what: 'the revocation to be in force',
    });
    const circumstances = { publicKeyHash: '', peerAddress: '10.0.0.1', peer: null };
    const who = { namespace: SYSTEM, serviceAccount: 'postern-control-plane', audiences: ['postern'], seconds: 600 };
    const { token } = cluster.tokens.issue(who);
    // Of no pod: the API server says so.
    await expect((async () => platform.tokens.redeem(token, circumstances))()).rejects.toThrow();
    cluster.apply([machine]);
    const joining = await platform.joinTokens.create({ namespace: 'default', serviceAccount: 'vm' });
    await eventually(
      async () => platform.tokens.redeem(joining.token, { ...circumstances, peerAddress: '192.0.2.1' }),
      {
        what: 'the machine to be known',
      },
    );
    const missing = (): readonly string[] => {
      // An apply that creates is allowed as both.
      const created = own().filter(({ verb, status }) => verb === 'patch' && status === 201);
      const used = new Set([...own(), ...created.map((one) => ({ ...one, verb: 'create' }))].map(nameOfRight));
      return [...granted()].filter((right) => !used.has(right) && !RARE.includes(right));
    };
    // The policy is told of by an Event, the CA's roots are remembered; each in its own time.
    await eventually(() => missing().filter((right) => right !== 'delete revocations.postern.dev').length === 0, {
      what: 'every right to be used',
    }).catch(() => undefined);
    expect(await platform.revocations.remove('0123456789ABCDEF')).toBe(true);
    expect(missing().join('; ')).toBe('');
    const refused = own().filter(({ status }) => status === 403);
    expect(refused.map((request) => `${nameOfRight(request)} ${request.path}`)).toEqual([]);
  });

  test('suffice for what postern check looks for', async () => {
    const tls = { ca: cluster.ca, serverName: null, client: null };
    const access = async () => ({ tls, token: cluster.adminToken });
    const api = new KubernetesClient({ server: cluster.url, namespace: null, access, refused: () => {} });
    onTestFinished(() => api.close());
    const found = runChecks(await fetchFacts(api, { before: false }), { before: false });
    const levels = Object.groupBy(found, ({ level }) => level);
    expect(levels.ok?.map(({ check }) => check)).toEqual(
      expect.arrayContaining(['definitions', 'settings', 'leader', 'authority', 'trust-bundles']),
    );
    // Of the webhooks only this is wrong: that no pod of a Deployment answers.
    const webhooks = (levels.error ?? []).filter(({ check }) => check.startsWith('webhook'));
    expect(webhooks.map(({ message }) => message)).toEqual([
      expect.stringContaining('no ready endpoint'),
      expect.stringContaining('no ready endpoint'),
    ]);
    expect(levels.error?.map(({ message }) => message)).toContainEqual(
      expect.stringContaining('default/wrong: spec.rulse'),
    );
  });

  test.each([
    ['get', '', 'secrets', SYSTEM, 'postern-ca', true],
    ['get', '', 'secrets', SYSTEM, 'another', false],
    ['list', '', 'secrets', SYSTEM, '', false],
    ['delete', '', 'secrets', SYSTEM, 'postern-join-token-5f', true],
    ['delete', '', 'secrets', SYSTEM, 'postern-ca', false],
    ['get', '', 'secrets', 'shop', 'postern-ca', false],
    ['create', '', 'configmaps', 'shop', 'postern-ca-roots', true],
    ['create', '', 'configmaps', 'shop', 'another', false],
    ['patch', '', 'configmaps', SYSTEM, 'postern-control-plane', false],
    ['delete', '', 'configmaps', 'shop', 'postern-ca-roots', false],
    ['create', 'security.istio.io', 'authorizationpolicies', 'shop', '', false],
    ['update', 'security.istio.io', 'authorizationpolicies', 'shop', 'deny', false],
    ['patch', 'admissionregistration.k8s.io', 'mutatingwebhookconfigurations', '', 'another', false],
    ['create', 'rbac.authorization.k8s.io', 'clusterrolebindings', '', '', false],
    ['update', 'coordination.k8s.io', 'leases', 'kube-system', 'postern-control-plane', false],
    ['create', '', 'pods', 'shop', '', false],
    ['create', '', 'serviceaccounts/token', 'shop', 'orders', false],
  ])('%s %s %s in %j, %j: %j', async (verb, group, plural, namespace, name, allowed) => {
    const [resource, subresource = ''] = plural.split('/');
    const resourceAttributes = { verb, group, resource, subresource, namespace, name };
    const review = await admin.call('POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews', {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SubjectAccessReview',
      spec: { user: ACCOUNT, resourceAttributes },
    });
    expect(review.body.status).toMatchObject({ allowed });
  });
});
