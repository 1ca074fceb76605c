import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { JsonObject } from '../../../policy/types.ts';
import { RawClient } from '../../support/kubernetes/client.ts';
import { StandInCluster } from '../../support/kubernetes/cluster.ts';
import { at, textAt, uidOf } from '../../support/kubernetes/objects.ts';

let cluster: StandInCluster;
let admin: RawClient;
const clients: RawClient[] = [];

function as(token: string | null): RawClient {
  const client = new RawClient(cluster, token);
  clients.push(client);
  return client;
}

const RBAC = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: reader }
rules:
- { apiGroups: [""], resources: [pods], verbs: [list, watch] }
- { apiGroups: [""], resources: [pods/status], verbs: [patch] }
- { apiGroups: [authentication.k8s.io], resources: [tokenreviews], verbs: [create] }
- { nonResourceURLs: [/metrics/*], verbs: [get] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: reader }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader }
subjects: [{ kind: ServiceAccount, name: worker, namespace: default }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: one-secret, namespace: default }
rules:
- { apiGroups: [""], resources: [secrets], resourceNames: [mine], verbs: [get, list, watch, update] }
- { apiGroups: [""], resources: [configmaps], verbs: [patch] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: one-secret, namespace: default }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: one-secret }
subjects: [{ kind: ServiceAccount, name: worker }]
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: worker, namespace: default }
---
apiVersion: v1
kind: Pod
metadata: { name: pod-1, namespace: default }
spec: { serviceAccountName: worker, nodeName: node-1, containers: [{ name: a }] }
---
apiVersion: v1
kind: Secret
metadata: { name: mine, namespace: default }
`;

beforeAll(async () => {
  cluster = await StandInCluster.start();
  cluster.apply(RBAC);
  admin = as(cluster.adminToken);
});

afterAll(async () => {
  for (const client of clients) await client.close();
  await cluster.stop();
});

const WORKER = { namespace: 'default', serviceAccount: 'worker' } as const;
const workerToken = (): string => cluster.tokens.issue({ ...WORKER, audiences: [], seconds: 3600 }).token;
const NS = '/api/v1/namespaces/default';

describe('RBAC', () => {
  test.each<['GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE', string, number]>([
    ['GET', '/api/v1/pods', 200],
    ['GET', `${NS}/pods`, 200],
    ['GET', `${NS}/pods/pod-1`, 403],
    ['PATCH', `${NS}/pods/pod-1/status`, 200],
    ['PATCH', `${NS}/pods/pod-1`, 403],
    ['DELETE', `${NS}/pods`, 403],
    ['GET', `${NS}/secrets/mine`, 200],
    ['GET', `${NS}/secrets/other`, 403],
    ['GET', `${NS}/secrets`, 403],
    ['GET', `${NS}/secrets?fieldSelector=metadata.name%3Dmine`, 200],
    ['GET', `${NS}/secrets?fieldSelector=metadata.name%3Dother`, 403],
    ['GET', '/api/v1/secrets?fieldSelector=metadata.name%3Dmine', 403],
    ['GET', '/api/v1/namespaces/kube-system/secrets/mine', 403],
    ['POST', `${NS}/secrets`, 403],
    ['GET', '/api', 200],
    ['GET', '/version', 200],
    ['GET', '/metrics/x', 404],
    ['GET', '/logs', 403],
    ['GET', '/apis/apps/v1/deployments', 403],
  ])('%s %s of one with these rules is answered with %i', async (method, path, status) => {
    const body = method === 'PATCH' ? { status: {} } : method === 'POST' ? {} : undefined;
    const answer = await as(workerToken()).call(
      method,
      path,
      body,
      method === 'PATCH' ? { contentType: 'application/merge-patch+json' } : {},
    );
    expect(answer.status).toBe(status);
  });

  test.each([
    [
      `${NS}/pods/x`,
      'pods "x" is forbidden: User "system:serviceaccount:default:worker" cannot get resource "pods" in API group "" in the namespace "default"',
    ],
    [
      '/apis/apps/v1/deployments',
      'deployments.apps is forbidden: User "system:serviceaccount:default:worker" cannot list resource "deployments" in API group "apps" at the cluster scope',
    ],
    ['/logs', 'forbidden: User "system:serviceaccount:default:worker" cannot get path "/logs"'],
  ])('a refusal of %s says who may not do what', async (path, message) => {
    const { body } = await as(workerToken()).call('GET', path);
    expect(body).toMatchObject({ message, reason: 'Forbidden', code: 403 });
  });

  test('an apply that creates must be allowed to create', async () => {
    const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'new' } };
    const answer = await as(workerToken()).call('PATCH', `${NS}/configmaps/new?fieldManager=x`, body, {
      contentType: 'application/apply-patch+yaml',
    });
    expect(answer).toMatchObject({
      status: 403,
      body: { message: expect.stringContaining('cannot create resource "configmaps"') },
    });
  });

  test.each<[JsonObject, boolean]>([
    [{ verb: 'list', resource: 'pods' }, true],
    [{ verb: 'get', resource: 'pods' }, false],
    [{ verb: 'patch', resource: 'pods', subresource: 'status' }, true],
    [{ verb: 'get', resource: 'secrets', namespace: 'default', name: 'mine' }, true],
    [{ verb: 'get', resource: 'secrets', namespace: 'default' }, false],
  ])('a SelfSubjectAccessReview of %j says %s', async (resourceAttributes, allowed) => {
    const review = {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SelfSubjectAccessReview',
      spec: { resourceAttributes },
    };
    const answer = await as(workerToken()).call(
      'POST',
      '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
      review,
    );
    expect(answer).toMatchObject({ status: 201, body: { status: { allowed } } });
  });

  test('the requests are logged with their user, verb and resource', async () => {
    cluster.requests.length = 0;
    await as(workerToken()).call('GET', `${NS}/secrets/mine`);
    expect(cluster.requests).toMatchObject([
      {
        verb: 'get',
        resource: 'secrets',
        name: 'mine',
        namespace: 'default',
        user: 'system:serviceaccount:default:worker',
        status: 200,
      },
    ]);
  });
});

describe('authentication', () => {
  test.each([
    ['a token that nobody issued', () => 'nonsense'],
    [
      'a token for another audience',
      () => cluster.tokens.issue({ ...WORKER, audiences: ['postern'], seconds: 600 }).token,
    ],
    ['a token that is over', () => cluster.tokens.issue({ ...WORKER, audiences: [], seconds: -1 }).token],
    [
      'a token whose claims were changed',
      () => workerToken().replace(/\.(.)/, (_all, first) => (first === 'e' ? '.f' : '.e')),
    ],
  ])('refuses %s', async (_what, token) => {
    expect(await as(token()).call('GET', '/api')).toMatchObject({
      status: 401,
      body: { reason: 'Unauthorized', message: 'Unauthorized' },
    });
  });

  test('without a token is anonymous, and sees that the server is well', async () => {
    const nobody = as(null);
    expect((await nobody.call('GET', '/readyz')).body).toEqual({ text: 'ok' });
    expect(await nobody.call('GET', '/api')).toMatchObject({
      status: 403,
      body: { message: expect.stringContaining('"system:anonymous"') },
    });
  });

  test('knows clients by certificate', async () => {
    const client = new RawClient(cluster, null, cluster.clientCertificate('carol', ['system:masters']));
    clients.push(client);
    const review = { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' };
    const { body } = await client.call('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', review);
    expect(at(body, 'status', 'userInfo')).toEqual({
      username: 'carol',
      groups: ['system:masters', 'system:authenticated'],
    });
  });

  test('lets one who may stand for another', async () => {
    const answer = await admin.call('GET', `${NS}/pods`, undefined, { headers: { 'impersonate-user': 'dave' } });
    expect(answer).toMatchObject({ status: 403, body: { message: expect.stringContaining('"dave"') } });
    const refused = await as(workerToken()).call('GET', '/api', undefined, { headers: { 'impersonate-user': 'dave' } });
    expect(refused).toMatchObject({
      status: 403,
      body: { message: expect.stringContaining('cannot impersonate resource "users"') },
    });
  });
});

describe('tokens', () => {
  const TOKEN = `${NS}/serviceaccounts/worker/token`;
  const review = async (token: string, audiences?: readonly string[]): Promise<JsonObject> => {
    const spec = { token, ...(audiences === undefined ? {} : { audiences }) };
    const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec };
    const answer = await as(workerToken()).call('POST', '/apis/authentication.k8s.io/v1/tokenreviews', body);
    expect(answer.status).toBe(201);
    return answer.body.status as JsonObject;
  };
  const request = (spec: JsonObject): JsonObject => ({
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenRequest',
    spec,
  });

  test('of a pod are issued by the API, and tell the pod when they are reviewed', async () => {
    const pod = cluster.direct.get({ apiVersion: 'v1', kind: 'Pod' }, 'default', 'pod-1') ?? {};
    const boundObjectRef = { apiVersion: 'v1', kind: 'Pod', name: 'pod-1', uid: uidOf(pod) };
    const { status, body } = await admin.call(
      'POST',
      TOKEN,
      request({ audiences: ['postern'], expirationSeconds: 600, boundObjectRef }),
    );
    expect(status).toBe(201);
    expect(await review(textAt(body, 'status', 'token'), ['postern'])).toEqual({
      authenticated: true,
      audiences: ['postern'],
      user: {
        username: 'system:serviceaccount:default:worker',
        uid: expect.any(String),
        groups: ['system:serviceaccounts', 'system:serviceaccounts:default', 'system:authenticated'],
        extra: {
          'authentication.kubernetes.io/credential-id': [expect.stringMatching(/^JTI=/)],
          'authentication.kubernetes.io/node-name': ['node-1'],
          'authentication.kubernetes.io/pod-name': ['pod-1'],
          'authentication.kubernetes.io/pod-uid': [uidOf(pod)],
        },
      },
    });
  });

  test.each<[string, JsonObject, number]>([
    ['for less than ten minutes', { expirationSeconds: 60 }, 422],
    ['for a pod that is not there', { boundObjectRef: { kind: 'Pod', name: 'none' } }, 404],
    ['for a pod that was another then', { boundObjectRef: { kind: 'Pod', name: 'pod-1', uid: 'old' } }, 409],
  ])('%s are refused', async (_what, spec, status) => {
    expect((await admin.call('POST', TOKEN, request(spec))).status).toBe(status);
  });

  test.each<[string, () => string, readonly string[] | undefined, RegExp]>([
    [
      'for another audience',
      () => cluster.tokens.issue({ ...WORKER, audiences: ['vault'], seconds: 600 }).token,
      ['postern'],
      /audiences/,
    ],
    [
      'that are over',
      () => cluster.tokens.issue({ ...WORKER, audiences: ['postern'], seconds: -5 }).token,
      ['postern'],
      /expired/,
    ],
    ['that nobody issued', () => 'a.b.c', undefined, /invalid bearer token/],
  ])('%s are not authenticated', async (_what, token, audiences, error) => {
    const status = await review(token(), audiences);
    expect(status).toEqual({ user: {}, error: expect.stringMatching(error) });
  });

  test('of a pod are over with the pod, also when another of its name comes', async () => {
    const pod: JsonObject = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'short' },
      spec: { serviceAccountName: 'worker', containers: [] },
    };
    cluster.apply([pod]);
    const { token } = cluster.tokens.issue({ ...WORKER, audiences: ['postern'], seconds: 600, pod: 'short' });
    expect((await review(token, ['postern'])).authenticated).toBe(true);
    cluster.direct.delete({ apiVersion: 'v1', kind: 'Pod' }, 'default', 'short');
    expect((await review(token, ['postern'])).authenticated).toBeUndefined();
    cluster.apply([pod]);
    expect((await review(token, ['postern'])).authenticated).toBeUndefined();
  });

  test('of an account are over with the account', async () => {
    cluster.apply([{ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'brief' } }]);
    const { token } = cluster.tokens.issue({
      namespace: 'default',
      serviceAccount: 'brief',
      audiences: ['postern'],
      seconds: 600,
    });
    cluster.direct.delete({ apiVersion: 'v1', kind: 'ServiceAccount' }, 'default', 'brief');
    expect((await review(token, ['postern'])).authenticated).toBeUndefined();
  });

  test('are over earlier by a clock that is ahead', async () => {
    const { token } = cluster.tokens.issue({ ...WORKER, audiences: [], seconds: 600 });
    cluster.skewClock(601_000);
    const status = (await as(token).call('GET', '/api')).status;
    cluster.skewClock(0);
    expect([status, (await as(token).call('GET', '/api')).status]).toEqual([401, 200]);
  });
});
