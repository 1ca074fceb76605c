import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { type Answer, RawClient } from '../../support/kubernetes/client.ts';
import { StandInCluster } from '../../support/kubernetes/cluster.ts';
import { at, objectsAt, textAt } from '../../support/kubernetes/objects.ts';
import { jsonPatch, mergePatch } from '../../support/kubernetes/patch.ts';
import { strategicMerge } from '../../support/kubernetes/strategic-merge.ts';

describe('a merge patch', () => {
  // RFC 7386, appendix A.
  test.each<[JsonValue, JsonValue, JsonValue]>([
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [['a'], ['c'], ['c']],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ])('of %j by %j is %j', (target, patch, result) => {
    expect(mergePatch(target, patch)).toEqual(result);
  });
});

describe('a JSON patch', () => {
  test.each<[JsonObject, readonly JsonObject[], JsonObject]>([
    [{ a: 1 }, [{ op: 'add', path: '/b', value: 2 }], { a: 1, b: 2 }],
    [{ a: [1, 3] }, [{ op: 'add', path: '/a/1', value: 2 }], { a: [1, 2, 3] }],
    [{ a: [1] }, [{ op: 'add', path: '/a/-', value: 2 }], { a: [1, 2] }],
    [{ a: [1, 2] }, [{ op: 'remove', path: '/a/0' }], { a: [2] }],
    [{ a: [1, 2] }, [{ op: 'replace', path: '/a/1', value: 9 }], { a: [1, 9] }],
    [
      { a: { 'b/c': 1, 'd~e': 2 } },
      [
        { op: 'remove', path: '/a/b~1c' },
        { op: 'remove', path: '/a/d~0e' },
      ],
      { a: {} },
    ],
    [{ a: 1 }, [{ op: 'move', from: '/a', path: '/b' }], { b: 1 }],
    [
      { a: 1 },
      [
        { op: 'copy', from: '/a', path: '/b' },
        { op: 'test', path: '/b', value: 1 },
      ],
      { a: 1, b: 1 },
    ],
    [{ a: 1 }, [{ op: 'replace', path: '', value: { c: 3 } }], { c: 3 }],
  ])('of %j by %j is %j', (target, patch, result) => {
    expect(jsonPatch(target, patch)).toEqual(result);
  });

  test.each<readonly JsonObject[]>([
    [{ op: 'test', path: '/a', value: 2 }],
    [{ op: 'remove', path: '/none' }],
    [{ op: 'replace', path: '/none', value: 1 }],
    [{ op: 'add', path: '/none/deeper', value: 1 }],
    [{ op: 'add', path: '/list/7', value: 1 }],
    [{ op: 'add', path: '/list/01', value: 1 }],
    [{ op: 'other', path: '/a' }],
    [{ op: 'add', path: 'a', value: 1 }],
  ])('%j does not fit', (operation) => {
    expect(() => jsonPatch({ a: 1, list: [] }, [operation])).toThrow();
  });
});

describe('a strategic merge patch', () => {
  const two = {
    containers: [
      { name: 'a', image: 'x' },
      { name: 'b', image: 'y' },
    ],
  };

  test.each<[string, JsonObject, JsonObject, JsonObject]>([
    [
      'changes one container',
      two,
      { containers: [{ name: 'b', image: 'z' }] },
      {
        containers: [
          { name: 'a', image: 'x' },
          { name: 'b', image: 'z' },
        ],
      },
    ],
    ['adds one', two, { containers: [{ name: 'c' }] }, { containers: [...two.containers, { name: 'c' }] }],
    [
      'takes one away',
      two,
      { containers: [{ name: 'a', $patch: 'delete' }] },
      { containers: [{ name: 'b', image: 'y' }] },
    ],
    ['replaces all', two, { containers: [{ name: 'c' }, { $patch: 'replace' }] }, { containers: [{ name: 'c' }] }],
    [
      'orders them',
      two,
      { '$setElementOrder/containers': [{ name: 'b' }, { name: 'a' }] },
      { containers: [two.containers[1] ?? {}, two.containers[0] ?? {}] },
    ],
    ['takes away a map', { a: { b: 1 }, c: 1 }, { a: { $patch: 'delete' } }, { c: 1 }],
    ['replaces a map', { a: { b: 1 } }, { a: { $patch: 'replace', c: 2 } }, { a: { c: 2 } }],
    [
      'retains named keys',
      { strategy: { type: 'A', rolling: {} } },
      { strategy: { $retainKeys: ['type'], type: 'B' } },
      { strategy: { type: 'B' } },
    ],
    [
      'merges ports of a service by number',
      { ports: [{ port: 80, targetPort: 1 }] },
      { ports: [{ port: 80, targetPort: 2 }] },
      { ports: [{ port: 80, targetPort: 2 }] },
    ],
    [
      'takes finalizers away',
      { finalizers: ['a', 'b'] },
      { '$deleteFromPrimitiveList/finalizers': ['a'] },
      { finalizers: ['b'] },
    ],
    ['replaces lists that nothing tells apart', { args: ['a', 'b'] }, { args: ['c'] }, { args: ['c'] }],
  ])('%s', (_what, target, patch, result) => {
    expect(strategicMerge(target, patch)).toEqual(result);
  });
});

describe('over HTTP', () => {
  let cluster: StandInCluster;
  let client: RawClient;
  const MAPS = '/api/v1/namespaces/default/configmaps';

  beforeAll(async () => {
    cluster = await StandInCluster.start();
    client = new RawClient(cluster);
  });

  afterAll(async () => {
    await client.close();
    await cluster.stop();
  });

  const apply = (name: string, manager: string, data: JsonObject, query = ''): Promise<Answer> =>
    client.call(
      'PATCH',
      `${MAPS}/${name}?fieldManager=${manager}${query}`,
      { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data },
      { contentType: 'application/apply-patch+yaml' },
    );

  test('an apply creates, changes nothing when repeated, and gives up what it no longer names', async () => {
    const first = await apply('m', 'one', { a: '1', b: '2' });
    const again = await apply('m', 'one', { a: '1', b: '2' });
    const less = await apply('m', 'one', { a: '1' });
    expect([first.status, again.status, again.body]).toEqual([201, 200, first.body]);
    expect(less.body.data).toEqual({ a: '1' });
  });

  test('two managers share a field that they agree on, and it stays until both give it up', async () => {
    await apply('shared', 'one', { a: '1' });
    await apply('shared', 'two', { a: '1', b: '2' });
    expect((await apply('shared', 'one', {})).body.data).toEqual({ a: '1', b: '2' });
    expect((await apply('shared', 'two', { b: '2' })).body.data).toEqual({ b: '2' });
  });

  test('what another owns with another value is a conflict, unless it is forced', async () => {
    await apply('contested', 'one', { a: '1', c: '3' });
    const refused = await apply('contested', 'two', { a: '2' });
    expect(refused).toMatchObject({
      status: 409,
      body: {
        reason: 'Conflict',
        details: {
          causes: [{ reason: 'FieldManagerConflict', field: '.data.a', message: 'conflict with "one" using v1' }],
        },
      },
    });
    const forced = await apply('contested', 'two', { a: '2' }, '&force=true');
    expect(forced.body.data).toEqual({ a: '2', c: '3' });
    const owners = objectsAt(forced.body, 'metadata', 'managedFields').map((entry) => [
      textAt(entry, 'manager'),
      at(entry, 'fieldsV1', 'f:data'),
    ]);
    expect(owners).toEqual([
      ['one', { 'f:c': {} }],
      ['two', { 'f:a': {} }],
    ]);
  });

  test('an ordinary update takes a field from who applied it', async () => {
    await apply('taken', 'one', { a: '1' });
    await client.call(
      'PATCH',
      `${MAPS}/taken?fieldManager=hand`,
      { data: { a: '9' } },
      { contentType: 'application/merge-patch+json' },
    );
    const { body } = await client.call('GET', `${MAPS}/taken`);
    const owners = objectsAt(body, 'metadata', 'managedFields').filter(
      (entry) => at(entry, 'fieldsV1', 'f:data', 'f:a') !== undefined,
    );
    expect(owners.map((entry) => textAt(entry, 'manager'))).toEqual(['hand']);
    expect(await apply('taken', 'one', { a: '1' })).toMatchObject({
      status: 409,
      body: { message: expect.stringContaining('"hand"') },
    });
  });

  test('an apply merges containers by name', async () => {
    const path = '/apis/apps/v1/namespaces/default/deployments/d';
    const deployment = (image: string, name: string): JsonObject => ({
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'd' },
      spec: {
        selector: { matchLabels: { app: 'd' } },
        template: { metadata: { labels: { app: 'd' } }, spec: { containers: [{ name, image }] } },
      },
    });
    const options = { contentType: 'application/apply-patch+yaml' };
    await client.call('PATCH', `${path}?fieldManager=one`, deployment('x', 'a'), options);
    const both = await client.call('PATCH', `${path}?fieldManager=two`, deployment('y', 'b'), options);
    expect(objectsAt(both.body, 'spec', 'template', 'spec', 'containers')).toEqual([
      { name: 'a', image: 'x' },
      { name: 'b', image: 'y' },
    ]);
    const gone = await client.call(
      'PATCH',
      `${path}?fieldManager=one`,
      { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'd' } },
      options,
    );
    expect(objectsAt(gone.body, 'spec', 'template', 'spec', 'containers')).toEqual([{ name: 'b', image: 'y' }]);
  });

  test.each([
    ['an apply without a manager', 'application/apply-patch+yaml', '', 400],
    ['an ordinary patch that is forced', 'application/merge-patch+json', '?force=true', 400],
    ['a patch of an unknown kind', 'text/plain', '', 415],
    ['a JSON patch whose test fails', 'application/json-patch+json', '', 422],
  ])('%s is refused', async (_what, contentType, query, status) => {
    await apply('refusals', 'one', { a: '1' });
    const body =
      contentType === 'application/json-patch+json'
        ? [{ op: 'test', path: '/data/a', value: '2' }]
        : { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'refusals' } };
    expect((await client.call('PATCH', `${MAPS}/refusals${query}`, body, { contentType })).status).toBe(status);
  });

  test('a patch that names a version other than the present one is a conflict', async () => {
    await apply('versioned', 'one', { a: '1' });
    const patch = { metadata: { resourceVersion: '1' }, data: { a: '2' } };
    const answer = await client.call('PATCH', `${MAPS}/versioned`, patch, {
      contentType: 'application/merge-patch+json',
    });
    expect(answer).toMatchObject({ status: 409, body: { reason: 'Conflict' } });
  });

  test('patches at the same time do not lose each other', async () => {
    await apply('crowded', 'one', { start: '0' });
    const indices = Array.from({ length: 20 }, (_, index) => `k${index}`);
    await Promise.all(
      indices.map((key) =>
        client.call(
          'PATCH',
          `${MAPS}/crowded`,
          { data: { [key]: 'x' } },
          { contentType: 'application/merge-patch+json' },
        ),
      ),
    );
    const { body } = await client.call('GET', `${MAPS}/crowded`);
    expect(Object.keys(body.data as JsonObject).sort()).toEqual([...indices, 'start'].sort());
  });
});
