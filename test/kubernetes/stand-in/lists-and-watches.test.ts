import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { JsonObject } from '../../../policy/types.ts';
import { eventually } from '../../support/eventually.ts';
import { RawClient } from '../../support/kubernetes/client.ts';
import { StandInCluster } from '../../support/kubernetes/cluster.ts';
import { at, nameOf, objectsAt, textAt, versionOf } from '../../support/kubernetes/objects.ts';

const PODS = '/api/v1/namespaces/default/pods';
const POD = { apiVersion: 'v1', kind: 'Pod' } as const;

let cluster: StandInCluster;
let client: RawClient;

beforeEach(async () => {
  cluster = await StandInCluster.start({ bookmarkMs: 50 });
  client = new RawClient(cluster);
});

afterEach(async () => {
  await client.close();
  await cluster.stop();
});

const pod = (name: string, labels: JsonObject = {}, more: JsonObject = {}): JsonObject => ({
  ...POD,
  metadata: { name, labels },
  spec: { containers: [{ name: 'a' }], ...more },
});

const names = (body: JsonObject): readonly string[] => objectsAt(body, 'items').map(nameOf);
const shown = (events: readonly { readonly type: string; readonly object: JsonObject }[]): readonly string[] =>
  events.map(({ type, object }) => `${type} ${nameOf(object)}`);

describe('lists', () => {
  test.each([
    ['labelSelector', 'app=a', ['a1', 'a2']],
    ['labelSelector', 'app==a,tier', ['a2']],
    ['labelSelector', 'app!=a', ['b1', 'c1']],
    ['labelSelector', 'app in (a, b),!tier', ['a1', 'b1']],
    ['labelSelector', 'app notin (a,b)', ['c1']],
    ['fieldSelector', 'metadata.name=a1', ['a1']],
    ['fieldSelector', 'spec.nodeName=n1', ['b1']],
    ['fieldSelector', 'spec.nodeName!=n1,metadata.name!=c1', ['a1', 'a2']],
    ['fieldSelector', 'status.phase=Pending,metadata.namespace=default', ['a1', 'a2', 'b1', 'c1']],
  ])('select by %s %s', async (kind, selector, expected) => {
    cluster.apply([
      pod('a1', { app: 'a' }),
      pod('a2', { app: 'a', tier: 'x' }),
      pod('b1', { app: 'b' }, { nodeName: 'n1' }),
      pod('c1'),
    ]);
    const { body } = await client.call('GET', `${PODS}?${kind}=${encodeURIComponent(selector)}`);
    expect(names(body)).toEqual(expected);
  });

  test.each(['fieldSelector=spec.image%3Dx', 'labelSelector=a%20b', 'resourceVersion=abc'])(
    'refuse %s',
    async (query) => {
      expect((await client.call('GET', `${PODS}?${query}`)).status).toBe(400);
    },
  );

  test('come by pages that are all of one moment', async () => {
    cluster.apply(['p1', 'p2', 'p3'].map((name) => pod(name)));
    const first = await client.call('GET', `${PODS}?limit=2`);
    expect([names(first.body), at(first.body, 'metadata', 'remainingItemCount')]).toEqual([['p1', 'p2'], 1]);
    cluster.apply([pod('p4')]);
    const rest = await client.call('GET', `${PODS}?limit=2&continue=${textAt(first.body, 'metadata', 'continue')}`);
    expect([names(rest.body), textAt(rest.body, 'metadata', 'continue')]).toEqual([['p3'], '']);
    expect(versionOf(rest.body)).toBe(versionOf(first.body));
  });

  test('come whole, whatever the limit, where any version is good enough', async () => {
    cluster.apply(['p1', 'p2'].map((name) => pod(name)));
    expect(names((await client.call('GET', `${PODS}?limit=1&resourceVersion=0`)).body)).toEqual(['p1', 'p2']);
  });

  test('that are half read when history is compacted are expired', async () => {
    cluster.apply(['p1', 'p2'].map((name) => pod(name)));
    const first = await client.call('GET', `${PODS}?limit=1`);
    cluster.compact();
    const rest = await client.call('GET', `${PODS}?limit=1&continue=${textAt(first.body, 'metadata', 'continue')}`);
    expect(rest).toMatchObject({ status: 410, body: { reason: 'Expired' } });
  });

  test('of all namespaces hold each of them, in order', async () => {
    cluster.apply([{ ...pod('x'), metadata: { name: 'x', namespace: 'kube-system' } }, pod('y')]);
    const { body } = await client.call('GET', '/api/v1/pods?resourceVersion=0');
    expect(objectsAt(body, 'items').map((one) => `${textAt(one, 'metadata', 'namespace')}/${nameOf(one)}`)).toEqual([
      'default/y',
      'kube-system/x',
    ]);
  });

  test('of a future that has not come are asked for again', async () => {
    expect(await client.call('GET', `${PODS}?resourceVersion=99999`)).toMatchObject({
      status: 504,
      body: { reason: 'Timeout' },
    });
  });
});

describe('watches', () => {
  test('tell what changed since the list', async () => {
    cluster.apply([pod('old')]);
    const list = await client.call('GET', PODS);
    cluster.apply([pod('between')]);
    const watch = await client.watch(`${PODS}?watch=1&resourceVersion=${versionOf(list.body)}`);
    cluster.apply([pod('old', { changed: 'yes' })]);
    cluster.direct.delete(POD, 'default', 'between');
    const events = await watch.seen(3);
    expect(shown(events)).toEqual(['ADDED between', 'MODIFIED old', 'DELETED between']);
    expect(Number(versionOf(events[2]?.object ?? {}))).toBeGreaterThan(Number(versionOf(events[0]?.object ?? {})));
  });

  test('tell of an object that enters or leaves the selection as ADDED or DELETED', async () => {
    cluster.apply([pod('p', { app: 'no' }), pod('q', { app: 'yes' })]);
    const watch = await client.watch(
      `${PODS}?watch=true&labelSelector=app%3Dyes&resourceVersion=${cluster.resourceVersion}`,
    );
    cluster.apply([pod('p', { app: 'yes' }), pod('p', { app: 'yes', more: 'x' }), pod('q', { app: 'no' })]);
    expect(shown(await watch.seen(3))).toEqual(['ADDED p', 'MODIFIED p', 'DELETED q']);
  });

  test('begin with what there is where they name no version', async () => {
    cluster.apply([pod('a'), pod('b')]);
    const watch = await client.watch(`${PODS}?watch=1`);
    expect(shown(await watch.seen(2))).toEqual(['ADDED a', 'ADDED b']);
  });

  test('begin with what there is where that is asked for, and say when it is over', async () => {
    cluster.apply([pod('a')]);
    const watch = await client.watch(
      `${PODS}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan`,
    );
    await eventually(() => watch.events.length >= 2, { what: 'the end of the initial events' });
    expect(watch.events.slice(0, 2)).toMatchObject([
      { type: 'ADDED' },
      { type: 'BOOKMARK', object: { metadata: { annotations: { 'k8s.io/initial-events-end': 'true' } } } },
    ]);
  });

  test('send bookmarks to those who ask, with the version of all kinds', async () => {
    const from = cluster.resourceVersion;
    const [asked, silent] = await Promise.all([
      client.watch(`${PODS}?watch=1&allowWatchBookmarks=true&resourceVersion=${from}`),
      client.watch(`${PODS}?watch=1&resourceVersion=${from}`),
    ]);
    cluster.apply([{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'other' } }]);
    const current = cluster.resourceVersion;
    await eventually(
      () => asked.events.some(({ type, object }) => type === 'BOOKMARK' && versionOf(object) === current),
      { what: 'a bookmark' },
    );
    expect(silent.events).toEqual([]);
  });

  test.each([
    ['as an event', 'event', 200],
    ['as a status', 'status', 410],
  ] as const)('of a version that is forgotten are answered with 410 %s', async (_how, goneAs, status) => {
    const from = cluster.resourceVersion;
    cluster.apply([pod('a')]);
    cluster.compact({ goneAs });
    const { body, status: answered } = await client.call('GET', `${PODS}?watch=1&resourceVersion=${from}`);
    expect(answered).toBe(status);
    const error = goneAs === 'status' ? body : (at(body, 'object') as JsonObject);
    expect(error).toMatchObject({
      kind: 'Status',
      code: 410,
      reason: 'Expired',
      message: expect.stringContaining('too old resource version'),
    });
  });

  test('from the present version outlive a compaction', async () => {
    cluster.apply([pod('a')]);
    cluster.compact();
    const watch = await client.watch(`${PODS}?watch=1&resourceVersion=${cluster.resourceVersion}`);
    cluster.apply([pod('b')]);
    expect(shown(await watch.seen(1))).toEqual(['ADDED b']);
  });

  test('end when their time is over, after a last bookmark', async () => {
    const watch = await client.watch(
      `${PODS}?watch=1&allowWatchBookmarks=1&timeoutSeconds=1&resourceVersion=${cluster.resourceVersion}`,
    );
    await eventually(watch.ended, { what: 'the end of the watch' });
    expect(watch.events.at(-1)?.type).toBe('BOOKMARK');
    await eventually(() => cluster.watches === 0, { what: 'no watch to be left' });
  });

  test('of one name are of that object alone', async () => {
    const watch = await client.watch(
      `${PODS}?watch=1&fieldSelector=metadata.name%3Dmine&resourceVersion=${cluster.resourceVersion}`,
    );
    cluster.apply([pod('other'), pod('mine')]);
    expect(shown(await watch.seen(1))).toEqual(['ADDED mine']);
  });

  test('of a custom kind tell it in the version that was asked for', async () => {
    cluster.apply([definition]);
    cluster.apply([{ apiVersion: 'example.dev/v1', kind: 'Thing', metadata: { name: 't' } }]);
    const watch = await client.watch('/apis/example.dev/v1beta1/things?watch=1');
    expect((await watch.seen(1))[0]?.object.apiVersion).toBe('example.dev/v1beta1');
  });
});

const versionNamed = (name: string, storage: boolean): JsonObject => ({
  name,
  served: true,
  storage,
  schema: { openAPIV3Schema: { type: 'object' } },
});
const definition: JsonObject = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'things.example.dev' },
  spec: {
    group: 'example.dev',
    names: { kind: 'Thing', plural: 'things' },
    scope: 'Namespaced',
    versions: [versionNamed('v1', true), versionNamed('v1beta1', false)],
  },
};

test('5,000 pods and 1,000 services load in seconds, and ten watches follow 500 changes', async () => {
  const services = Array.from({ length: 1000 }, (_, index) => ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: `s${index}`, namespace: 'default' },
    spec: { selector: { app: `s${index}` }, ports: [{ port: 80 }] },
  }));
  const pods = Array.from({ length: 5000 }, (_, index) => ({
    ...pod(`p${index}`, { app: `s${index % 1000}` }),
    status: { podIPs: [{ ip: `10.1.${index >> 8}.${index & 255}` }] },
  }));
  cluster.apply([...services, ...pods]);
  const list = await client.call('GET', PODS);
  expect(names(list.body)).toHaveLength(5000);
  const watches = await Promise.all(
    Array.from({ length: 10 }, () => client.watch(`${PODS}?watch=1&resourceVersion=${versionOf(list.body)}`)),
  );
  for (let index = 0; index < 500; index++) cluster.direct.setStatus(POD, 'default', `p${index}`, { phase: 'Running' });
  for (const watch of watches) expect(await watch.seen(500)).toHaveLength(500);
});
