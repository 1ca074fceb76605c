import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { ClusterAuthority } from '../../support/kubernetes/certificates.ts';
import { type Answer, RawClient } from '../../support/kubernetes/client.ts';
import { StandInCluster } from '../../support/kubernetes/cluster.ts';
import { at, textAt } from '../../support/kubernetes/objects.ts';

const authority = new ClusterAuthority();
let cluster: StandInCluster;
let client: RawClient;
let hook: Server;
let asked: JsonObject[] = [];
let respond: (request: JsonObject) => Promise<JsonValue> | JsonValue;

const allow = (request: JsonObject, more: JsonObject = {}): JsonObject => ({
  apiVersion: 'admission.k8s.io/v1',
  kind: 'AdmissionReview',
  response: { uid: textAt(request, 'uid'), allowed: true, ...more },
});
const deny = (request: JsonObject, status: JsonObject): JsonObject => allow(request, { allowed: false, status });

beforeAll(async () => {
  const { cert, key } = authority.server(['hook.default.svc']);
  hook = createServer({ cert, key }, async (incoming, outgoing) => {
    let text = '';
    for await (const chunk of incoming) text += String(chunk);
    const request = (JSON.parse(text) as { request: JsonObject }).request;
    asked.push({ ...request, path: incoming.url ?? '', host: incoming.headers.host ?? '' });
    outgoing.end(JSON.stringify(await respond(request)));
  });
  await new Promise<void>((resolve) => hook.listen(0, '127.0.0.1', resolve));
});

afterAll(() => {
  hook.closeAllConnections();
  hook.close();
});

beforeEach(async () => {
  const { port } = hook.address() as AddressInfo;
  cluster = await StandInCluster.start({ services: { 'default/hook': `127.0.0.1:${port}` } });
  client = new RawClient(cluster);
  asked = [];
  respond = (request) => allow(request);
});

afterEach(async () => {
  await client.close();
  await cluster.stop();
});

const caBundle = (ca: string): string => Buffer.from(ca).toString('base64');

function configure(kind: 'Mutating' | 'Validating', webhook: JsonObject = {}, clientConfig: JsonObject = {}): void {
  cluster.apply([
    {
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: `${kind}WebhookConfiguration`,
      metadata: { name: kind.toLowerCase() },
      webhooks: [
        {
          name: 'hook.example.dev',
          admissionReviewVersions: ['v1'],
          sideEffects: 'None',
          clientConfig: {
            caBundle: caBundle(authority.certificate),
            service: { namespace: 'default', name: 'hook', path: '/ask' },
            ...clientConfig,
          },
          rules: [
            { apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE', 'UPDATE'], resources: ['configmaps'] },
          ],
          ...webhook,
        },
      ],
    },
  ]);
}

const MAPS = '/api/v1/namespaces/default/configmaps';
const create = (labels: JsonObject = {}, query = ''): Promise<Answer> =>
  client.call('POST', `${MAPS}${query}`, {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { generateName: 'm-', labels },
    data: { a: '1' },
  });

describe('a mutating webhook', () => {
  test('is asked with a real AdmissionReview, and its patch is applied', async () => {
    configure('Mutating');
    const patch = JSON.stringify([{ op: 'add', path: '/data/b', value: '2' }]);
    respond = (request) =>
      allow(request, {
        patchType: 'JSONPatch',
        patch: Buffer.from(patch).toString('base64'),
        warnings: ['mind "this"'],
      });
    const answer = await create();
    expect([answer.status, answer.body.data]).toEqual([201, { a: '1', b: '2' }]);
    expect(answer.warnings).toEqual(['299 - "mind \\"this\\""']);
    expect(asked).toMatchObject([
      {
        path: '/ask?timeout=10s',
        host: 'hook.default.svc',
        uid: expect.any(String),
        kind: { group: '', version: 'v1', kind: 'ConfigMap' },
        resource: { group: '', version: 'v1', resource: 'configmaps' },
        namespace: 'default',
        operation: 'CREATE',
        userInfo: { username: 'stand-in-admin' },
        object: { apiVersion: 'v1', kind: 'ConfigMap', data: { a: '1' } },
        oldObject: null,
        dryRun: false,
        options: { kind: 'CreateOptions', apiVersion: 'meta.k8s.io/v1' },
      },
    ]);
  });

  test('is asked before the validating one, who sees the object as changed, and the old one', async () => {
    configure('Mutating');
    configure('Validating');
    const patch = JSON.stringify([{ op: 'add', path: '/data/b', value: '2' }]);
    const { body } = await create();
    asked = [];
    respond = (request) =>
      allow(
        request,
        asked.length === 1 ? { patchType: 'JSONPatch', patch: Buffer.from(patch).toString('base64') } : {},
      );
    await client.call('PUT', `${MAPS}/${textAt(body, 'metadata', 'name')}`, { ...body, data: { c: '3' } });
    expect(asked.map((request) => [at(request, 'object', 'data'), at(request, 'oldObject', 'data')])).toEqual([
      [{ c: '3' }, { a: '1' }],
      [{ b: '2', c: '3' }, { a: '1' }],
    ]);
  });
});

describe('a webhook that refuses', () => {
  test.each<[string, JsonObject, number, string]>([
    [
      'with a message',
      { message: 'no good', code: 403, reason: 'Forbidden' },
      403,
      'admission webhook "hook.example.dev" denied the request: no good',
    ],
    ['without a word', {}, 400, 'admission webhook "hook.example.dev" denied the request without explanation'],
  ])('%s ends the request with its words', async (_how, status, code, message) => {
    configure('Validating');
    respond = (request) => deny(request, status);
    expect(await create()).toMatchObject({ status: code, body: { message } });
    expect(cluster.direct.list({ apiVersion: 'v1', kind: 'ConfigMap' }, 'default')).toEqual([]);
  });
});

describe('a webhook that cannot be asked', () => {
  const failures: readonly [string, JsonObject, JsonObject, RegExp][] = [
    [
      'whose certificate another CA signed',
      {},
      { caBundle: caBundle(new ClusterAuthority().certificate) },
      /signature|verify|certificate/,
    ],
    ['whose service is not there', {}, { service: { namespace: 'default', name: 'none' } }, /service "none" not found/],
    [
      'of another name than its certificate',
      {},
      { service: { namespace: 'kube-system', name: 'hook' } },
      /not found|altnames/,
    ],
  ];
  test.each(failures)('%s fails the request, or is ignored', async (_what, webhook, clientConfig, message) => {
    cluster.services.set('kube-system/hook', cluster.services.get('default/hook') ?? '');
    configure('Validating', webhook, clientConfig);
    const failed = await create();
    expect(failed).toMatchObject({
      status: 500,
      body: { reason: 'InternalError', message: expect.stringMatching(/failed calling webhook "hook.example.dev"/) },
    });
    expect(textAt(failed.body, 'message')).toMatch(message);
    configure('Validating', { ...webhook, failurePolicy: 'Ignore' }, clientConfig);
    expect((await create()).status).toBe(201);
  });

  test('since it takes too long fails the request when its time is over', async () => {
    configure('Validating', { timeoutSeconds: 1 });
    respond = async (request) => {
      await sleep(3_000, undefined, { ref: false });
      return allow(request);
    };
    expect(await create()).toMatchObject({
      status: 500,
      body: { message: expect.stringContaining('context deadline exceeded') },
    });
  });

  test.each<[string, (request: JsonObject) => JsonValue]>([
    ['an answer to another request', (request) => allow({ ...request, uid: 'other' })],
    ['something else than a review', () => ({ hello: 'world' })],
  ])('since it gives %s fails the request', async (_what, answer) => {
    configure('Validating');
    respond = answer;
    expect(await create()).toMatchObject({
      status: 500,
      body: { message: expect.stringContaining('received invalid webhook response') },
    });
  });
});

describe('while webhooks are asked', () => {
  beforeEach(() => {
    configure('Validating', {
      rules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['UPDATE'], resources: ['*'] }],
    });
    respond = async (request) => {
      await sleep(50);
      return allow(request);
    };
  });

  test('of two replacements of one version one wins, the other is told of a conflict', async () => {
    const { body } = await create();
    const path = `${MAPS}/${textAt(body, 'metadata', 'name')}`;
    const answers = await Promise.all(['x', 'y'].map((a) => client.call('PUT', path, { ...body, data: { a } })));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409]);
  });

  test('patches at the same time are made anew on top of each other', async () => {
    const { body } = await create();
    const path = `${MAPS}/${textAt(body, 'metadata', 'name')}`;
    const options = { contentType: 'application/merge-patch+json' };
    const patches = ['x', 'y', 'z'].map((key) => client.call('PATCH', path, { data: { [key]: '1' } }, options));
    expect((await Promise.all(patches)).map(({ status }) => status)).toEqual([200, 200, 200]);
    expect((await client.call('GET', path)).body.data).toEqual({ a: '1', x: '1', y: '1', z: '1' });
  });
});

describe('a webhook is asked only for what it selects', () => {
  test.each<[string, JsonObject, number]>([
    [
      'operations',
      { rules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['DELETE'], resources: ['configmaps'] }] },
      0,
    ],
    [
      'resources',
      {
        rules: [
          { apiGroups: [''], apiVersions: ['v1'], operations: ['*'], resources: ['secrets', 'configmaps/status'] },
        ],
      },
      0,
    ],
    ['every resource', { rules: [{ apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: ['*/*'] }] }, 1],
    [
      'the scope',
      { rules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['*'], resources: ['*'], scope: 'Cluster' }] },
      0,
    ],
    [
      'the namespace',
      {
        namespaceSelector: {
          matchExpressions: [{ key: 'kubernetes.io/metadata.name', operator: 'NotIn', values: ['default'] }],
        },
      },
      0,
    ],
    [
      'the namespace that is meant',
      { namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'default' } } },
      1,
    ],
    ['labels of the object', { objectSelector: { matchLabels: { pick: 'me' } } }, 0],
    ['labels that the object has', { objectSelector: { matchExpressions: [{ key: 'app', operator: 'Exists' }] } }, 1],
  ])('by %s', async (_what, webhook, times) => {
    configure('Validating', webhook);
    await create({ app: 'a' });
    expect(asked).toHaveLength(times);
  });

  test('and never for webhook configurations', async () => {
    configure('Validating', { rules: [{ apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: ['*'] }] });
    respond = (request) => deny(request, {});
    const path = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/validating';
    expect((await client.call('DELETE', path)).status).toBe(200);
  });

  test('with a dry run where it says that this has no effects', async () => {
    configure('Validating');
    await create({}, '?dryRun=All');
    expect(asked).toMatchObject([{ dryRun: true }]);
    configure('Validating', { sideEffects: 'Unknown' });
    expect(await create({}, '?dryRun=All')).toMatchObject({
      status: 400,
      body: { message: expect.stringContaining('does not support dry run') },
    });
  });
});

test('a webhook with a URL of its own is asked there', async () => {
  const { cert, key } = authority.server(['127.0.0.1']);
  const other = createServer({ cert, key }, async (incoming, outgoing) => {
    let text = '';
    for await (const chunk of incoming) text += String(chunk);
    outgoing.end(JSON.stringify(deny((JSON.parse(text) as { request: JsonObject }).request, { message: 'by URL' })));
  });
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  const { port } = other.address() as AddressInfo;
  cluster.apply([
    {
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: 'ValidatingWebhookConfiguration',
      metadata: { name: 'url' },
      webhooks: [
        {
          name: 'hook.example.dev',
          clientConfig: { caBundle: caBundle(authority.certificate), url: `https://127.0.0.1:${port}/x` },
          rules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['configmaps'] }],
        },
      ],
    },
  ]);
  expect(textAt((await create()).body, 'message')).toContain('by URL');
  other.closeAllConnections();
  other.close();
});
