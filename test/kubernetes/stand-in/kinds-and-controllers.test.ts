import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { eventually } from '../../support/eventually.ts';
import { type Answer, RawClient } from '../../support/kubernetes/client.ts';
import { StandInCluster } from '../../support/kubernetes/cluster.ts';
import { jsonPath } from '../../support/kubernetes/json-path.ts';
import { at, listAt, objectsAt, textAt } from '../../support/kubernetes/objects.ts';

let cluster: StandInCluster;
let client: RawClient;

beforeEach(async () => {
  cluster = await StandInCluster.start();
  client = new RawClient(cluster);
});

afterEach(async () => {
  await client.close();
  await cluster.stop();
});

const definition = (openAPIV3Schema: JsonObject, more: JsonObject = {}): JsonObject => ({
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'things.example.dev' },
  spec: {
    group: 'example.dev',
    names: { kind: 'Thing', plural: 'things', singular: 'thing', shortNames: ['th'] },
    scope: 'Namespaced',
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        subresources: { status: {} },
        schema: { openAPIV3Schema },
        additionalPrinterColumns: [
          { name: 'Size', type: 'integer', jsonPath: '.spec.size' },
          { name: 'Ready', type: 'string', jsonPath: '.status.conditions[?(@.type=="Ready")].status', priority: 1 },
        ],
      },
      { name: 'v1alpha1', served: false, storage: false, schema: { openAPIV3Schema } },
    ],
    ...more,
  },
});

const SCHEMA: JsonObject = {
  type: 'object',
  properties: {
    spec: {
      type: 'object',
      required: ['size'],
      properties: {
        size: { type: 'integer', minimum: 1 },
        color: { type: 'string', enum: ['red', 'blue'], default: 'red' },
        word: { type: 'string', pattern: '^[a-z]+$', maxLength: 5 },
        port: { 'x-kubernetes-int-or-string': true },
        labels: { type: 'object', additionalProperties: { type: 'string' } },
        list: { type: 'array', maxItems: 2, items: { type: 'object', properties: { a: { type: 'integer' } } } },
        free: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
        one: {
          type: 'object',
          properties: { x: { type: 'string' }, y: { type: 'string' } },
          oneOf: [{ required: ['x'] }, { required: ['y'] }],
        },
        maybe: { type: 'string', nullable: true },
      },
    },
    status: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
  },
};

const THINGS = '/apis/example.dev/v1/namespaces/default/things';
const define = (): Promise<Answer> =>
  client.call('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', definition(SCHEMA));
const create = (spec: JsonObject, query = ''): Promise<Answer> =>
  client.call('POST', `${THINGS}${query}`, {
    apiVersion: 'example.dev/v1',
    kind: 'Thing',
    metadata: { generateName: 't-' },
    spec,
    status: { lost: true },
  });

describe('a CustomResourceDefinition', () => {
  test('brings a kind, in the versions that are served, until it is deleted', async () => {
    await define();
    const found = await client.call('GET', '/apis/example.dev/v1');
    expect(objectsAt(found.body, 'resources')).toMatchObject([
      { name: 'things', kind: 'Thing', namespaced: true, shortNames: ['th'] },
      { name: 'things/status' },
    ]);
    expect((await client.call('GET', '/apis/example.dev/v1alpha1')).status).toBe(404);
    const conditions = await client.call(
      'GET',
      '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.dev',
    );
    expect(objectsAt(conditions.body, 'status', 'conditions').map(({ type }) => type)).toContain('Established');
    await create({ size: 1 });
    await client.call('DELETE', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.dev');
    expect((await client.call('GET', THINGS)).status).toBe(404);
    await define();
    expect(listAt((await client.call('GET', THINGS)).body, 'items')).toEqual([]);
  });

  test('is seen by watches first as added, then as established', async () => {
    const watch = await client.watch(
      `/apis/apiextensions.k8s.io/v1/customresourcedefinitions?watch=1&resourceVersion=${cluster.resourceVersion}`,
    );
    await define();
    const events = await watch.seen(2);
    expect(events.map(({ type }) => type)).toEqual(['ADDED', 'MODIFIED']);
    const [first, second] = events.map(({ object }) => Number(textAt(object, 'metadata', 'resourceVersion')));
    expect(second).toBeGreaterThan(first ?? Number.NaN);
    watch.close();
  });

  test.each<[string, JsonObject]>([
    ['without a schema', definition({}, { versions: [{ name: 'v1', served: true, storage: true }] })],
    ['whose schema leaves types out', definition({ type: 'object', properties: { spec: {} } })],
    ['of another name', { ...definition(SCHEMA), metadata: { name: 'other.example.dev' } }],
    [
      'without a version that is stored',
      definition(SCHEMA, {
        versions: [{ name: 'v1', served: true, storage: false, schema: { openAPIV3Schema: SCHEMA } }],
      }),
    ],
  ])('%s is refused', async (_what, object) => {
    expect((await client.call('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', object)).status).toBe(
      422,
    );
  });

  test('shows its columns in a table', async () => {
    await define();
    await create({ size: 7 });
    const { body } = await client.call('GET', THINGS, undefined, {
      accept: 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json',
    });
    expect(body).toMatchObject({
      kind: 'Table',
      columnDefinitions: [{ name: 'Name' }, { name: 'Size', priority: 0 }, { name: 'Ready', priority: 1 }],
    });
    expect(listAt(objectsAt(body, 'rows')[0], 'cells').slice(1)).toEqual([7, null]);
  });
});

describe('an object of a custom kind', () => {
  test.each<[string, JsonObject, JsonObject]>([
    [
      'loses what the schema does not know, at any depth',
      { size: 1, other: 1, list: [{ a: 1, b: 2 }] },
      { size: 1, color: 'red', list: [{ a: 1 }] },
    ],
    [
      'keeps what is to be preserved',
      { size: 1, free: { a: { b: 1 } } },
      { size: 1, color: 'red', free: { a: { b: 1 } } },
    ],
    ['keeps what may have any name', { size: 1, labels: { a: 'b' } }, { size: 1, color: 'red', labels: { a: 'b' } }],
    ['may have a port of either form', { size: 1, port: 'http' }, { size: 1, color: 'red', port: 'http' }],
    ['may have null where that is said', { size: 1, maybe: null }, { size: 1, color: 'red', maybe: null }],
  ])('%s', async (_what, spec, result) => {
    await define();
    const { status, body } = await create(spec);
    expect([status, body.spec, body.status]).toEqual([201, result, undefined]);
  });

  test.each<[JsonObject, RegExp]>([
    [{}, /spec.size: Required value/],
    [{ size: 'x' }, /spec.size.*must be of type integer/],
    [{ size: 0 }, /greater than or equal to 1/],
    [{ size: 1, color: 'green' }, /spec.color: Unsupported value: "green": supported values: "red", "blue"/],
    [{ size: 1, word: 'A' }, /should match/],
    [{ size: 1, word: 'abcdef' }, /Too long/],
    [{ size: 1, list: [{}, {}, {}] }, /Too many/],
    [{ size: 1, list: [{ a: 'x' }] }, /spec.list\[0\].a/],
    [{ size: 1, labels: { a: 1 } }, /spec.labels.a/],
    [{ size: 1, port: [] }, /integer or string/],
    [{ size: 1, one: { x: 'a', y: 'b' } }, /one and only one schema/],
  ])('with %j is refused', async (spec, message) => {
    await define();
    const answer = await create(spec);
    expect(answer).toMatchObject({ status: 422, body: { reason: 'Invalid', message: expect.stringMatching(message) } });
  });

  test('with an unknown field is refused where validation is strict, and warned of where it is not', async () => {
    await define();
    const strict = await create({ size: 1, other: 1 }, '?fieldValidation=Strict');
    expect(strict).toMatchObject({
      status: 400,
      body: { message: expect.stringContaining('strict decoding error: unknown field "spec.other"') },
    });
    expect((await create({ size: 1, other: 1 })).warnings).toEqual(['299 - "unknown field \\"spec.other\\""']);
    expect((await create({ size: 1, other: 1 }, '?fieldValidation=Ignore')).warnings).toEqual([]);
  });
});

test.each<[string, readonly JsonValue[]]>([
  ['.a.b', [1]],
  ['.list[0].n', ['x']],
  ['.list[*].n', ['x', 'y']],
  ['.list[?(@.t=="B")].n', ['y']],
  [".a['with.dot']", [2]],
  ['.a.with\\.dot', [2]],
  ['.none.at.all', []],
])('the JSON path %s finds %j', (path, found) => {
  const object = {
    a: { b: 1, 'with.dot': 2 },
    list: [
      { n: 'x', t: 'A' },
      { n: 'y', t: 'B' },
    ],
  };
  expect(jsonPath(object, path)).toEqual(found);
});

describe('services', () => {
  const service = (spec: JsonObject): JsonObject => ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 's' },
    spec,
  });
  const SERVICES = '/api/v1/namespaces/default/services';

  test.each<[string, JsonObject, readonly RegExp[]]>([
    ['of one family', { ports: [{ port: 80 }] }, [/^10\.96\./]],
    ['of two', { ports: [{ port: 80 }], ipFamilyPolicy: 'RequireDualStack' }, [/^10\.96\./, /^fd00:/]],
    ['of IPv6', { ports: [{ port: 80 }], ipFamilies: ['IPv6'] }, [/^fd00:/]],
    ['without an address', { ports: [{ port: 80 }], clusterIP: 'None' }, [/^None$/]],
    ['with one of their own', { ports: [{ port: 80 }], clusterIP: '10.96.7.7' }, [/^10\.96\.7\.7$/]],
  ])('%s get cluster addresses, and keep them', async (_what, spec, expected) => {
    const { body } = await client.call('POST', SERVICES, service(spec));
    const addresses = listAt(body, 'spec', 'clusterIPs');
    expect(addresses).toEqual(expected.map((one) => expect.stringMatching(one)));
    const patched = await client.call(
      'PATCH',
      `${SERVICES}/s`,
      { spec: { selector: { a: 'b' } } },
      { contentType: 'application/merge-patch+json' },
    );
    expect(listAt(patched.body, 'spec', 'clusterIPs')).toEqual(addresses);
  });
});

describe('endpoint slices', () => {
  const SLICE = { apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice' } as const;
  const POD = { apiVersion: 'v1', kind: 'Pod' } as const;
  const READY = { conditions: [{ type: 'Ready', status: 'True' }] };
  const pod = (name: string, ips: readonly string[], status: JsonObject = READY, port = 8080): JsonObject => ({
    ...POD,
    metadata: { name, labels: { app: 'web' } },
    spec: { nodeName: 'n1', containers: [{ name: 'a', ports: [{ name: 'http', containerPort: port }] }] },
    status: { phase: 'Running', podIPs: ips.map((ip) => ({ ip })), ...status },
  });
  const service = (spec: JsonObject = {}): JsonObject => ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web' },
    spec: { selector: { app: 'web' }, ports: [{ name: 'web', port: 80, targetPort: 'http' }], ...spec },
  });
  const settled = (check: (slices: readonly JsonObject[]) => boolean): Promise<readonly JsonObject[]> =>
    eventually(
      () => {
        const slices = cluster.direct.list(SLICE, 'default');
        return check(slices) && slices;
      },
      { what: 'the slices' },
    );
  const endpointsOf = (slices: readonly JsonObject[]): readonly JsonObject[] =>
    slices.flatMap((slice) => objectsAt(slice, 'endpoints'));

  test('hold the pods that a selector finds, with readiness and named ports', async () => {
    cluster.apply([service(), pod('p1', ['10.1.0.1']), pod('p2', ['10.1.0.2'], {})]);
    const [slice] = await settled((slices) => endpointsOf(slices).length === 2);
    expect(slice).toMatchObject({
      addressType: 'IPv4',
      metadata: { labels: { 'kubernetes.io/service-name': 'web' } },
      ports: [{ name: 'web', port: 8080, protocol: 'TCP' }],
      endpoints: [
        {
          addresses: ['10.1.0.1'],
          conditions: { ready: true, serving: true, terminating: false },
          targetRef: { kind: 'Pod', name: 'p1' },
          nodeName: 'n1',
        },
        { addresses: ['10.1.0.2'], conditions: { ready: false, serving: false, terminating: false } },
      ],
    });
  });

  test('show a pod that terminates as serving, but not as ready', async () => {
    cluster.apply([service(), pod('p1', ['10.1.0.1'])]);
    await client.call('DELETE', '/api/v1/namespaces/default/pods/p1');
    const slices = await settled((all) => endpointsOf(all)[0]?.conditions !== undefined);
    expect(endpointsOf(slices)[0]?.conditions).toEqual({ ready: false, serving: true, terminating: true });
  });

  test('show all as ready where the service publishes what is not', async () => {
    cluster.apply([service({ publishNotReadyAddresses: true }), pod('p1', ['10.1.0.1'], {})]);
    const slices = await settled((all) => endpointsOf(all).length === 1);
    expect(at(endpointsOf(slices)[0], 'conditions', 'ready')).toBe(true);
  });

  test('are of both families where the service is', async () => {
    cluster.apply([service({ ipFamilyPolicy: 'PreferDualStack' }), pod('p1', ['10.1.0.1', 'fd00::1'])]);
    const slices = await settled((all) => endpointsOf(all).length === 2);
    expect(
      slices.map((slice) => [textAt(slice, 'addressType'), at(objectsAt(slice, 'endpoints')[0], 'addresses')]),
    ).toEqual([
      ['IPv4', ['10.1.0.1']],
      ['IPv6', ['fd00::1']],
    ]);
  });

  test('are apart where a named port has another number', async () => {
    cluster.apply([service(), pod('p1', ['10.1.0.1']), pod('p2', ['10.1.0.2'], READY, 9090)]);
    const slices = await settled((all) => all.length === 2);
    expect(slices.map((slice) => at(objectsAt(slice, 'ports')[0], 'port'))).toEqual([8080, 9090]);
    cluster.direct.delete(POD, 'default', 'p1');
    const left = await settled((all) => all.length === 1);
    expect(left.map((slice) => at(objectsAt(slice, 'ports')[0], 'port'))).toEqual([9090]);
  });

  test('lose pods that go, end, or are selected no more, and go with the service', async () => {
    cluster.apply([service(), pod('p1', ['10.1.0.1']), pod('p2', ['10.1.0.2']), pod('p3', ['10.1.0.3'])]);
    await settled((all) => endpointsOf(all).length === 3);
    cluster.direct.delete(POD, 'default', 'p1');
    cluster.direct.setStatus(POD, 'default', 'p2', { phase: 'Succeeded' });
    cluster.apply([{ ...pod('p3', ['10.1.0.3']), metadata: { name: 'p3', labels: {} } }]);
    await settled((all) => all.length === 1 && endpointsOf(all).length === 0);
    cluster.direct.delete({ apiVersion: 'v1', kind: 'Service' }, 'default', 'web');
    await settled((all) => all.length === 0);
  });
});

test('what a deleted object owned goes with it', async () => {
  const [owner] = cluster.apply([{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'owner' } }]);
  const reference = { apiVersion: 'v1', kind: 'ConfigMap', name: 'owner', uid: textAt(owner, 'metadata', 'uid') };
  cluster.apply([{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'owned', ownerReferences: [reference] } }]);
  await client.call('DELETE', '/api/v1/namespaces/default/configmaps/owner');
  expect(cluster.direct.list({ apiVersion: 'v1', kind: 'ConfigMap' }, 'default')).toEqual([]);
});
