import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { JsonObject } from '../../../policy/types.ts';
import { RawClient } from '../../support/kubernetes/client.ts';
import { StandInCluster } from '../../support/kubernetes/cluster.ts';
import { at, nameOf, textAt, uidOf, versionOf, withMeta } from '../../support/kubernetes/objects.ts';

let cluster: StandInCluster;
let client: RawClient;

beforeAll(async () => {
  cluster = await StandInCluster.start();
  client = new RawClient(cluster);
});

afterAll(async () => {
  await client.close();
  await cluster.stop();
});

const MAPS = '/api/v1/namespaces/default/configmaps';
const map = (name: string, more: JsonObject = {}): JsonObject => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name },
  data: { key: 'value' },
  ...more,
});

async function created(name: string, more: JsonObject = {}): Promise<JsonObject> {
  const { status, body } = await client.call('POST', MAPS, map(name, more));
  expect(status).toBe(201);
  return body;
}

describe('create', () => {
  test('gives the object what only the server writes', async () => {
    const body = await created('new');
    const { metadata } = body;
    expect(metadata).toMatchObject({ name: 'new', namespace: 'default', generation: 1 });
    expect(metadata).toMatchObject({
      uid: expect.stringMatching(/^[0-9a-f-]{36}$/),
      resourceVersion: expect.stringMatching(/^\d+$/),
    });
    expect(textAt(body, 'metadata', 'creationTimestamp')).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  });

  test('makes a name of generateName', async () => {
    const { body } = await client.call('POST', MAPS, map('', { metadata: { generateName: 'some-' } }));
    expect(nameOf(body)).toMatch(/^some-[a-z0-9]{5}$/);
  });

  test('that is a dry run leaves nothing behind', async () => {
    const { status } = await client.call('POST', `${MAPS}?dryRun=All`, map('dry'));
    expect([status, (await client.call('GET', `${MAPS}/dry`)).status]).toEqual([201, 404]);
  });

  test('notes who owns which field', async () => {
    const { body } = await client.call('POST', `${MAPS}?fieldManager=me`, map('owned'));
    expect(at(body, 'metadata', 'managedFields')).toMatchObject([
      { manager: 'me', operation: 'Update', apiVersion: 'v1', fieldsV1: { 'f:data': { 'f:key': {} } } },
    ]);
  });

  test.each<[string, string, JsonObject, number, string]>([
    ['an object that is there already', MAPS, map('taken'), 409, 'AlreadyExists'],
    ['a namespace that is not there', '/api/v1/namespaces/none/configmaps', map('x'), 404, 'NotFound'],
    [
      'another namespace than that of the path',
      MAPS,
      map('x', { metadata: { name: 'x', namespace: 'kube-system' } }),
      400,
      'BadRequest',
    ],
    ['a name that is none', MAPS, map('Not_A_Name'), 422, 'Invalid'],
    ['no name', MAPS, map('', { metadata: {} }), 422, 'Invalid'],
    ['a label that is none', MAPS, map('x', { metadata: { name: 'x', labels: { a: 'b c' } } }), 422, 'Invalid'],
    ['a resourceVersion', MAPS, map('x', { metadata: { name: 'x', resourceVersion: '1' } }), 400, 'BadRequest'],
    ['another kind', MAPS, map('x', { kind: 'Secret' }), 400, 'BadRequest'],
    ['a resource that is not served', '/api/v1/namespaces/default/things', map('x'), 404, 'NotFound'],
  ])('refuses %s', async (_what, path, object, status, reason) => {
    if (!cluster.direct.get({ apiVersion: 'v1', kind: 'ConfigMap' }, 'default', 'taken')) await created('taken');
    const answer = await client.call('POST', path, object);
    expect(answer).toMatchObject({ status, body: { kind: 'Status', status: 'Failure', reason, code: status } });
  });

  test.each<[string, string, JsonObject, number, RegExp]>([
    [
      'a Lease whose time has no microseconds',
      '/apis/coordination.k8s.io/v1/namespaces/default/leases',
      {
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        metadata: { name: 'a' },
        spec: { renewTime: '2026-01-01T00:00:00.123Z' },
      },
      400,
      /parsing time/,
    ],
    [
      'an Event that says too little',
      '/apis/events.k8s.io/v1/namespaces/default/events',
      {
        apiVersion: 'events.k8s.io/v1',
        kind: 'Event',
        metadata: { name: 'a' },
        type: 'Normal',
        regarding: { namespace: 'default' },
      },
      422,
      /eventTime: Required value.*reportingController.*action/,
    ],
    [
      'a Secret that is not base64',
      '/api/v1/namespaces/default/secrets',
      { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'a' }, data: { key: 'not base64!' } },
      400,
      /illegal base64/,
    ],
    [
      'a kubernetes.io/tls Secret without a key',
      '/api/v1/namespaces/default/secrets',
      { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'a' }, type: 'kubernetes.io/tls', data: { 'tls.crt': '' } },
      422,
      /data\[tls.key\]: Required value/,
    ],
    [
      'a pod that mounts a volume which it does not have',
      '/api/v1/namespaces/default/pods',
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'a' },
        spec: { containers: [{ name: 'a', volumeMounts: [{ name: 'v' }] }] },
      },
      422,
      /Not found: "v"/,
    ],
  ])('refuses %s', async (_what, path, object, status, message) => {
    const answer = await client.call('POST', path, object);
    expect(answer).toMatchObject({ status, body: { message: expect.stringMatching(message) } });
  });
});

describe('replace', () => {
  test('takes the present version, and refuses one that is out of date', async () => {
    const first = await created('versions');
    const second = await client.call('PUT', `${MAPS}/versions`, { ...first, data: { key: 'other' } });
    expect(second.status).toBe(200);
    expect(versionOf(second.body)).not.toBe(versionOf(first));
    const stale = await client.call('PUT', `${MAPS}/versions`, { ...first, data: { key: 'third' } });
    expect(stale).toMatchObject({
      status: 409,
      body: { reason: 'Conflict', details: { name: 'versions', kind: 'configmaps' } },
    });
  });

  test('that changes nothing makes no new version', async () => {
    const object = await created('same');
    const again = await client.call('PUT', `${MAPS}/same`, object);
    expect(versionOf(again.body)).toBe(versionOf(object));
  });

  test('counts generations by what is wanted, not by labels', async () => {
    const object = await created('generations');
    const labelled = await client.call('PUT', `${MAPS}/generations`, withMeta(object, { labels: { a: 'b' } }));
    const changed = await client.call('PUT', `${MAPS}/generations`, { ...labelled.body, data: {} });
    expect([labelled, changed].map(({ body }) => at(body, 'metadata', 'generation'))).toEqual([1, 2]);
  });

  test('of a Lease names its version', async () => {
    const path = '/apis/coordination.k8s.io/v1/namespaces/default/leases';
    const lease = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name: 'named' },
      spec: { holderIdentity: 'a' },
    };
    await client.call('POST', path, lease);
    expect((await client.call('PUT', `${path}/named`, lease)).status).toBe(422);
  });

  test('of one kind by another UID is refused', async () => {
    const object = await created('uids');
    const answer = await client.call('PUT', `${MAPS}/uids`, withMeta(object, { uid: 'other' }));
    expect(answer.status).toBe(409);
  });
});

describe('the status of an object', () => {
  const PODS = '/api/v1/namespaces/default/pods';
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p' },
    spec: { containers: [{ name: 'a', image: 'x' }] },
  };

  test('is written by its subresource alone, which writes nothing else', async () => {
    const { body } = await client.call('POST', PODS, pod);
    const changed = {
      ...body,
      status: { phase: 'Running' },
      metadata: { ...(body.metadata as JsonObject), labels: { a: 'b' } },
    };
    const main = await client.call('PUT', `${PODS}/p`, changed);
    expect([textAt(main.body, 'status', 'phase'), textAt(main.body, 'metadata', 'labels', 'a')]).toEqual([
      'Pending',
      'b',
    ]);
    const status = await client.call(
      'PATCH',
      `${PODS}/p/status`,
      { metadata: { labels: { a: 'c' } }, status: { phase: 'Running' } },
      { contentType: 'application/merge-patch+json' },
    );
    expect([textAt(status.body, 'status', 'phase'), textAt(status.body, 'metadata', 'labels', 'a')]).toEqual([
      'Running',
      'b',
    ]);
  });
});

describe('delete', () => {
  test('is refused where another object of that name is meant', async () => {
    const object = await created('gone');
    for (const preconditions of [{ uid: 'other' }, { resourceVersion: '1' }]) {
      const answer = await client.call('DELETE', `${MAPS}/gone`, {
        kind: 'DeleteOptions',
        apiVersion: 'v1',
        preconditions,
      });
      expect(answer.status).toBe(409);
    }
    const good = await client.call('DELETE', `${MAPS}/gone`, {
      preconditions: { uid: uidOf(object), resourceVersion: versionOf(object) },
    });
    expect(good).toMatchObject({ status: 200, body: { status: 'Success' } });
    expect((await client.call('DELETE', `${MAPS}/gone`)).status).toBe(404);
  });

  test('waits for finalizers', async () => {
    await created('held', { metadata: { name: 'held', finalizers: ['example.dev/hold'] } });
    await client.call('DELETE', `${MAPS}/held`);
    const held = await client.call('GET', `${MAPS}/held`);
    expect(at(held.body, 'metadata', 'deletionTimestamp')).toBeDefined();
    await client.call(
      'PATCH',
      `${MAPS}/held`,
      { metadata: { finalizers: null } },
      { contentType: 'application/merge-patch+json' },
    );
    expect((await client.call('GET', `${MAPS}/held`)).status).toBe(404);
  });

  test('of a pod on a node leaves it to the kubelet, that of another is done at once', async () => {
    const path = '/api/v1/namespaces/default/pods';
    const pod = (name: string, nodeName: string): JsonObject => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name },
      spec: { containers: [{ name: 'a' }], ...(nodeName === '' ? {} : { nodeName }) },
    });
    for (const [name, node] of [
      ['placed', 'n1'],
      ['unplaced', ''],
    ] as const) {
      await client.call('POST', path, pod(name, node));
      await client.call('DELETE', `${path}/${name}`);
    }
    const placed = await client.call('GET', `${path}/placed`);
    expect(at(placed.body, 'metadata', 'deletionGracePeriodSeconds')).toBe(30);
    expect((await client.call('GET', `${path}/unplaced`)).status).toBe(404);
    await client.call('DELETE', `${path}/placed`, { gracePeriodSeconds: 0 });
    expect((await client.call('GET', `${path}/placed`)).status).toBe(404);
  });

  test('of a collection goes by labels', async () => {
    for (const name of ['d1', 'd2']) await created(name, { metadata: { name, labels: { which: name } } });
    await client.call('DELETE', `${MAPS}?labelSelector=which%3Dd1`);
    const statuses = await Promise.all(
      ['d1', 'd2'].map(async (name) => (await client.call('GET', `${MAPS}/${name}`)).status),
    );
    expect(statuses).toEqual([404, 200]);
  });

  test('of a namespace takes along what is in it, and lets nothing new in meanwhile', async () => {
    await client.call('POST', '/api/v1/namespaces', {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: 'doomed' },
    });
    const path = '/api/v1/namespaces/doomed/configmaps';
    await client.call('POST', path, map('held', { metadata: { name: 'held', finalizers: ['example.dev/hold'] } }));
    await client.call('DELETE', '/api/v1/namespaces/doomed');
    const refused = await client.call('POST', path, map('late'));
    expect(refused).toMatchObject({ status: 403, body: { details: { causes: [{ reason: 'NamespaceTerminating' }] } } });
    await client.call('PATCH', `${path}/held`, [{ op: 'remove', path: '/metadata/finalizers' }], {
      contentType: 'application/json-patch+json',
    });
    expect((await client.call('GET', '/api/v1/namespaces/doomed')).status).toBe(404);
  });
});

test('a namespace is read, replaced, patched and applied by its name', async () => {
  const path = '/api/v1/namespaces/kube-public';
  const read = await client.call('GET', path);
  expect(read).toMatchObject({
    status: 200,
    body: { kind: 'Namespace', metadata: { name: 'kube-public' }, status: { phase: 'Active' } },
  });
  const replaced = await client.call('PUT', path, withMeta(read.body, { annotations: { a: '1' } }));
  const patch = { metadata: { annotations: { b: '2' } } };
  const patched = await client.call('PATCH', path, patch, { contentType: 'application/merge-patch+json' });
  const applied = await client.call(
    'PATCH',
    `${path}?fieldManager=x`,
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'kube-public', labels: { c: '3' } } },
    { contentType: 'application/apply-patch+yaml' },
  );
  expect([replaced.status, patched.status, applied.status]).toEqual([200, 200, 200]);
  expect(applied.body.metadata).toMatchObject({
    annotations: { a: '1', b: '2' },
    labels: { c: '3' },
    uid: uidOf(read.body),
  });
});

test.each<['GET' | 'POST', string]>([
  ['GET', '/api/v1/configmaps/x'],
  ['POST', '/api/v1/configmaps'],
  ['GET', '/api/v1/namespaces/default/nodes'],
  ['GET', '/api/v1/namespaces/default/configmaps/x/status'],
])('%s %s is no path of the API', async (method, path) => {
  const answer = await client.call(method, path, method === 'POST' ? map('x') : undefined);
  expect(answer).toMatchObject({ status: 404, body: { message: 'the server could not find the requested resource' } });
});

test.each(['/apis/none.example/v1/things', '/apis/none.example/v1', '/apis/none.example', '/nothing'])(
  '%s, which nobody serves, is answered in plain text',
  async (path) => {
    expect(await client.call('GET', path)).toMatchObject({ status: 404, body: { text: '404 page not found\n' } });
  },
);

test('an event is one object in both of its versions', async () => {
  const event = {
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    metadata: { name: 'e1' },
    eventTime: '2026-01-01T00:00:00.000000Z',
    reportingController: 'postern.dev/control-plane',
    reportingInstance: 'x',
    action: 'Accept',
    reason: 'Accepted',
    type: 'Normal',
    note: 'all is well',
    regarding: { kind: 'ConfigMap', namespace: 'default', name: 'm' },
  };
  await client.call('POST', '/apis/events.k8s.io/v1/namespaces/default/events', event);
  const core = await client.call('GET', '/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dm');
  expect(core.body.items).toMatchObject([{ apiVersion: 'v1', message: 'all is well', involvedObject: { name: 'm' } }]);
});
