import type { ServerResponse } from 'node:http';
import { describe, expect, test } from 'vitest';
import { KubernetesError } from '../../../kubernetes/api/errors.ts';
import { TYPES } from '../../../kubernetes/api/resource-types.ts';
import { ClusterAuthority } from '../../support/kubernetes/certificates.ts';
import { type Asked, clientOf, json, scriptedServer, status } from './support.ts';

const SHOP = { namespace: 'shop', name: 'orders' };

async function failureOf(work: Promise<unknown>): Promise<KubernetesError> {
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof KubernetesError)) throw new Error(`not a KubernetesError: ${String(error)}`);
  return error;
}

describe('a reading', () => {
  test('asks for the object below its group, with the token', async () => {
    await using server = await scriptedServer((_asked, response) => json(response, 200, { kind: 'Pod' }));
    await using client = clientOf(server);
    await client.get(TYPES.Pod, SHOP);
    await client.get(TYPES.AuthorizationPolicy, SHOP);
    await client.get(TYPES.MeshConfig, { namespace: '', name: 'mesh' });
    expect(server.asked.map(({ path }) => path)).toEqual([
      '/api/v1/namespaces/shop/pods/orders',
      '/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies/orders',
      '/apis/postern.dev/v1/meshconfigs/mesh',
    ]);
    expect(server.asked[0]?.headers.authorization).toBe('Bearer first-token');
  });

  test.each([
    ['..', 'orders'],
    ['shop', '.'],
    ['shop', '../../secrets/x'],
    ['shop', '%2e%2e'],
    ['shop', 'a?watch=true'],
    ['shop', ''],
    ['', 'orders'],
  ])('of the name %j/%j is refused without asking', async (namespace, name) => {
    await using server = await scriptedServer((_asked, response) => json(response, 200, {}));
    await using client = clientOf(server);
    expect(await failureOf(client.get(TYPES.Pod, { namespace, name }))).toMatchObject({ reason: 'BadRequest' });
    expect(server.asked).toEqual([]);
  });

  test('of a list follows the pages, and says of each item what it is', async () => {
    await using server = await scriptedServer(({ query }, response) => {
      const token = query.get('continue') ?? '0';
      const next = Number(token) + 1;
      const metadata = { resourceVersion: String(70 + next), ...(next < 3 ? { continue: String(next) } : {}) };
      json(response, 200, { metadata, items: [{ metadata: { name: `p${token}` } }] });
    });
    await using client = clientOf(server);
    const selection = { namespace: 'shop', labelSelector: 'app=orders' };
    const { items, resourceVersion } = await client.list(TYPES.Pod, selection);
    expect(items).toEqual(['p0', 'p1', 'p2'].map((name) => ({ apiVersion: 'v1', kind: 'Pod', metadata: { name } })));
    // Of the moment of the first page: a later one would skip what happened in between.
    expect(resourceVersion).toBe('71');
    expect(server.asked.map(({ query }) => `${query}`)).toEqual([
      'labelSelector=app%3Dorders&limit=500',
      'labelSelector=app%3Dorders&limit=500&continue=1',
      'labelSelector=app%3Dorders&limit=500&continue=2',
    ]);
    const pages: number[] = [];
    expect((await client.list(TYPES.Pod, {}, undefined, (page) => pages.push(page.length))).items).toEqual([]);
    expect(pages).toEqual([1, 1, 1]);
  });

  test('of a list whose pages expire says so', async () => {
    await using server = await scriptedServer(({ query }, response) => {
      if (query.has('continue')) json(response, 410, status(410, 'Expired', 'the continue parameter is too old'));
      else json(response, 200, { metadata: { resourceVersion: '1', continue: 'x' }, items: [] });
    });
    await using client = clientOf(server);
    expect(await failureOf(client.list(TYPES.Pod, {}))).toMatchObject({ reason: 'Expired', status: 410 });
  });

  test('of the version takes numbers of any spelling', async () => {
    await using server = await scriptedServer((_asked, response) =>
      json(response, 200, { major: '1', minor: '29+', gitVersion: 'v1.29.3-eks' }),
    );
    await using client = clientOf(server);
    expect(await client.version()).toEqual({ major: 1, minor: 29, gitVersion: 'v1.29.3-eks' });
  });

  test('of what is served leaves subresources out, and is null where nothing is', async () => {
    await using server = await scriptedServer(({ path }, response) => {
      if (path !== '/apis/security.istio.io/v1beta1') return json(response, 404, status(404, 'NotFound', ''));
      const name = 'authorizationpolicies';
      const resources = [
        { name, kind: 'AuthorizationPolicy', namespaced: true },
        { name: `${name}/status`, kind: 'AuthorizationPolicy', namespaced: true },
      ];
      json(response, 200, { kind: 'APIResourceList', resources });
    });
    await using client = clientOf(server);
    expect(await client.discover('security.istio.io/v1')).toBeNull();
    expect(await client.discover('security.istio.io/v1beta1')).toEqual([
      { ...TYPES.AuthorizationPolicy, version: 'v1beta1' },
    ]);
  });
});

describe('a refusal', () => {
  const answers: readonly [string, number, unknown, Record<string, string>, object][] = [
    ['with a Status', 409, status(409, 'AlreadyExists', 'it exists'), {}, { reason: 'AlreadyExists', status: 409 }],
    ['without one', 404, 'page not found', {}, { reason: 'NotFound', status: 404 }],
    ['of an unknown kind', 418, {}, {}, { reason: 'Unknown', status: 418 }],
    ['with Retry-After', 429, {}, { 'retry-after': '7' }, { reason: 'TooManyRequests', retryAfterMs: 7000 }],
    ['with a date in Retry-After', 503, {}, { 'retry-after': 'tomorrow' }, { retryAfterMs: null }],
    ['with a huge Retry-After', 503, {}, { 'retry-after': '999999' }, { retryAfterMs: 300_000 }],
    ['with retryAfterSeconds', 500, status(500, '', '', { retryAfterSeconds: 2 }), {}, { retryAfterMs: 2000 }],
    ['that is not allowed', 403, status(403, 'Forbidden', 'no'), {}, { reason: 'Forbidden', exitCode: 77 }],
    ['by a redirect', 302, '', { location: 'https://elsewhere.example' }, { status: 302 }],
  ];

  test.each(answers)('%s becomes an error that says so', async (_name, code, body, headers, wanted) => {
    await using server = await scriptedServer((_asked, response) => json(response, code, body, headers));
    await using client = clientOf(server);
    expect(await failureOf(client.get(TYPES.Pod, SHOP))).toMatchObject(wanted);
    expect(server.asked).toHaveLength(1);
  });

  test('of an object with secrets quotes nothing of it', async () => {
    await using server = await scriptedServer(({ body }, response) =>
      json(response, 422, status(422, 'Invalid', `invalid value: ${body}`)),
    );
    await using client = clientOf(server);
    const secret = { metadata: { name: 'x', resourceVersion: '1' }, data: { key: 'c2VjcmV0' } };
    const failure = await failureOf(client.replace(TYPES.Secret, SHOP, secret));
    expect(failure.message).toContain('Invalid');
    expect(failure.message).not.toContain('c2VjcmV0');
    expect((await failureOf(client.replace(TYPES.Pod, SHOP, secret))).message).toContain('c2VjcmV0');
  });

  test('of the token asks again with another, once', async () => {
    await using server = await scriptedServer(({ headers }, response) => {
      if (headers.authorization === 'Bearer new') json(response, 200, {});
      else json(response, 401, status(401, 'Unauthorized', 'Unauthorized'));
    });
    await using client = clientOf(server, { tokens: ['old', 'new'] });
    await client.get(TYPES.Pod, SHOP);
    expect(server.asked.map(({ headers }) => headers.authorization)).toEqual(['Bearer old', 'Bearer new']);
  });

  test('of the only token is an error after one attempt', async () => {
    await using server = await scriptedServer((_asked, response) => json(response, 401, {}));
    await using client = clientOf(server);
    expect(await failureOf(client.get(TYPES.Pod, SHOP))).toMatchObject({ reason: 'Unauthorized', status: 401 });
    expect(server.asked).toHaveLength(1);
  });
});

describe('a server', () => {
  test('that does not answer is given up at the deadline', async () => {
    await using server = await scriptedServer(() => {});
    await using client = clientOf(server, { timings: { requestMs: 100 } });
    const failure = await failureOf(client.get(TYPES.Pod, SHOP));
    expect(failure).toMatchObject({ reason: 'Unreachable', status: 0 });
    expect(failure.message).toContain('no answer within 100 ms');
  });

  test('that begins to answer and stops is given up at the deadline', async () => {
    await using server = await scriptedServer((_asked, response) => void response.write('{"kind":'));
    await using client = clientOf(server, { timings: { requestMs: 100 } });
    expect(await failureOf(client.get(TYPES.Pod, SHOP))).toMatchObject({ reason: 'Unreachable' });
  });

  test('that answers without end is cut off', async () => {
    await using server = await scriptedServer((_asked, response) => flood(response));
    await using client = clientOf(server);
    expect(await failureOf(client.get(TYPES.Pod, SHOP))).toMatchObject({ reason: 'Malformed' });
  });

  test('whose certificate is of another CA never hears the token', async () => {
    await using server = await scriptedServer((_asked, response) => json(response, 200, {}));
    await using client = clientOf({ ...server, ca: new ClusterAuthority().certificate });
    const failure = await failureOf(client.get(TYPES.Pod, SHOP));
    expect(failure).toMatchObject({ reason: 'Unreachable' });
    expect(failure.message).toContain('not from the CA');
    expect(server.asked).toEqual([]);
  });

  test('of another name than the address is not believed', async () => {
    await using server = await scriptedServer((_asked, response) => json(response, 200, {}));
    await using client = clientOf({ ...server, url: server.url.replace('127.0.0.1', '127.0.0.2') });
    expect(await failureOf(client.get(TYPES.Pod, SHOP))).toMatchObject({ reason: 'Unreachable' });
  });

  test('behind another address is believed by the name that was given for it, and by no other', async () => {
    await using server = await scriptedServer((_asked, response) => json(response, 200, {}), ['api.cluster.example']);
    await using right = clientOf(server, { serverName: 'api.cluster.example' });
    await right.get(TYPES.Pod, SHOP);
    await using wrong = clientOf(server, { serverName: 'api.other.example' });
    expect(await failureOf(wrong.get(TYPES.Pod, SHOP))).toMatchObject({ reason: 'Unreachable' });
    expect(server.asked).toHaveLength(1);
  });

  test('that is gone is named in the error', async () => {
    const server = await scriptedServer(() => {});
    await server[Symbol.asyncDispose]();
    await using client = clientOf(server);
    const failure = await failureOf(client.get(TYPES.Pod, SHOP));
    expect(failure.message).toContain(server.url);
    expect(failure.message).toContain('ECONNREFUSED');
  });

  test('is not waited for once the caller gives up', async () => {
    await using server = await scriptedServer(() => {});
    await using client = clientOf(server);
    const given = AbortSignal.timeout(50);
    expect(await failureOf(client.get(TYPES.Pod, SHOP, given))).toMatchObject({ reason: 'Aborted' });
  });
});

describe('a write', () => {
  const object = { metadata: { name: 'orders', resourceVersion: '7' } };
  const name = { namespace: '', name: 'mesh' };

  test('names its way of writing, its manager and what it is for', async () => {
    await using server = await scriptedServer((_asked, response) => json(response, 200, {}));
    await using client = clientOf(server);
    await client.create(TYPES.ConfigMap, 'shop', object);
    await client.create(TYPES.TokenReview, '', object, { fieldManager: 'x', dryRun: true });
    await client.replace(TYPES.Lease, SHOP, object);
    await client.patch(
      TYPES.MeshConfig,
      name,
      { type: 'merge', body: { a: 1 } },
      { subresource: 'status', force: true },
    );
    await client.patch(TYPES.MeshConfig, name, { type: 'json', body: [] });
    await client.patch(TYPES.MeshConfig, name, { type: 'apply', body: {} }, { force: true });
    const told = ({ method, path, query, headers }: Asked): string =>
      `${method} ${path}?${query} ${headers['content-type']}`;
    expect(server.asked.map(told)).toEqual([
      'POST /api/v1/namespaces/shop/configmaps?fieldManager=postern application/json',
      'POST /apis/authentication.k8s.io/v1/tokenreviews?fieldManager=x&dryRun=All application/json',
      'PUT /apis/coordination.k8s.io/v1/namespaces/shop/leases/orders?fieldManager=postern application/json',
      'PATCH /apis/postern.dev/v1/meshconfigs/mesh/status?fieldManager=postern application/merge-patch+json',
      'PATCH /apis/postern.dev/v1/meshconfigs/mesh?fieldManager=postern application/json-patch+json',
      'PATCH /apis/postern.dev/v1/meshconfigs/mesh?fieldManager=postern&force=true application/apply-patch+yaml',
    ]);
    expect(server.asked[3]?.body).toBe('{"a":1}');
  });

  test('that replaces without a resourceVersion is refused: it would take back what others wrote', async () => {
    await using server = await scriptedServer((_asked, response) => json(response, 200, {}));
    await using client = clientOf(server);
    const failure = await failureOf(client.replace(TYPES.Lease, SHOP, { metadata: { name: 'orders' } }));
    expect(failure).toMatchObject({ reason: 'BadRequest' });
    expect(server.asked).toEqual([]);
  });

  test('that deletes says whether there was anything, and of which version', async () => {
    await using server = await scriptedServer((_asked, response) =>
      json(response, server.asked.length > 1 ? 404 : 200, {}),
    );
    await using client = clientOf(server);
    expect(await client.delete(TYPES.Pod, SHOP, { uid: 'u', resourceVersion: '7' })).toBe(true);
    expect(await client.delete(TYPES.Pod, SHOP)).toBe(false);
    expect(JSON.parse(server.asked[0]?.body ?? '')).toMatchObject({
      preconditions: { uid: 'u', resourceVersion: '7' },
    });
  });
});

function flood(response: ServerResponse): void {
  const chunk = Buffer.alloc(1024 * 1024, 0x20);
  const more = (): void => {
    while (response.write(chunk));
  };
  response.on('drain', more);
  more();
}
