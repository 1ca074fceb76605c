import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { JsonObject, JsonValue } from '../../../../policy/types.ts';
import { applyPatch } from '../../../kubernetes/injection/apply-patch.ts';
import { injected, podOf } from '../../../kubernetes/injection/support.ts';
import { ClusterAuthority } from '../../../support/kubernetes/certificates.ts';
import { POLICY_KIND, patchOf, policy, reviewOf, TestWebhooks } from './support.ts';

let webhooks: TestWebhooks;
beforeAll(async () => {
  webhooks = await TestWebhooks.start();
});
afterAll(() => webhooks.stop());
beforeEach(() => {
  webhooks.reviews.length = 0;
  webhooks.errors.length = 0;
  webhooks.fault = null;
  webhooks.behind.clear();
  webhooks.meshConfigs = [];
});

describe('/inject', () => {
  test('answers with the patch that makes the injected pod', async () => {
    const object = podOf();
    const response = await webhooks.review('/inject', { object });
    expect(response).toMatchObject({
      uid: '705ab4f5-6393-11e8-b7cc-42010a800002',
      allowed: true,
      patchType: 'JSONPatch',
    });
    expect(applyPatch(object, patchOf(response))).toEqual(injected(object));
    expect(webhooks.reviews).toEqual([{ webhook: 'inject', outcome: 'injected', seconds: expect.any(Number) }]);
  });

  test('leaves an injected pod alone', async () => {
    const response = await webhooks.review('/inject', { object: injected(podOf()) });
    expect(response.allowed).toBe(true);
    expect(response.patch).toBeUndefined();
  });

  test('leaves pods of other namespaces alone', async () => {
    const response = await webhooks.review('/inject', { object: podOf(), namespace: 'plain' });
    expect(response).toEqual({ uid: expect.any(String), allowed: true });
    expect(webhooks.reviews.map(({ outcome }) => outcome)).toEqual(['skipped']);
  });

  test('injects a pod of a namespace that was enabled a moment ago, whatever was known of it', async () => {
    webhooks.behind.set('shop', {});
    const response = await webhooks.review('/inject', { object: podOf() });
    expect(response.patch).toBeDefined();
    expect(webhooks.reviews.map(({ outcome }) => outcome)).toEqual(['injected']);
  });

  test('refuses a pod that cannot have a sidecar, saying where and why', async () => {
    const object = podOf({ metadata: { annotations: { 'postern.dev/workers': 'many' } } });
    const response = await webhooks.review('/inject', { object });
    expect(response.allowed).toBe(false);
    expect(response.patch).toBeUndefined();
    expect(response.status).toMatchObject({
      code: 422,
      reason: 'Invalid',
      message: expect.stringContaining(
        'annotation postern.dev/workers: must be a whole number from 1 to 64, not "many"',
      ),
      details: { causes: [{ reason: 'FieldValueInvalid', field: 'metadata.annotations.postern.dev/workers' }] },
    });
  });

  test('hands warnings on', async () => {
    const object = podOf({ metadata: { annotations: { 'postern.dev/wokers': '2' } } });
    const response = await webhooks.review('/inject', { object });
    expect(response.warnings).toEqual([expect.stringContaining('did you mean postern.dev/workers?')]);
  });

  test.each<[string, JsonObject]>([
    ['updates', { operation: 'UPDATE', object: podOf(), oldObject: podOf() }],
    ['deletions', { operation: 'DELETE', oldObject: podOf() }],
    ['subresources', { subResource: 'ephemeralcontainers', object: podOf() }],
    ['other kinds', { kind: { group: 'apps', version: 'v1', kind: 'Deployment' }, object: {} }],
  ])('lets %s pass', async (_, asked) => {
    expect(await webhooks.review('/inject', asked)).toEqual({ uid: expect.any(String), allowed: true });
  });

  test('gives no answer where the namespace is not known, so that the failure policy decides', async () => {
    const { status, text } = await webhooks.send(
      '/inject',
      JSON.stringify(reviewOf({ object: podOf(), namespace: 'new' })),
    );
    expect([status, JSON.parse(text).code]).toEqual([503, 'namespace-unknown']);
    expect(webhooks.reviews.map(({ outcome }) => outcome)).toEqual(['error']);
  });

  test('tells nothing of an error of ours but that there was one', async () => {
    webhooks.fault = new Error('secret of the inside');
    const { status, text } = await webhooks.send('/inject', JSON.stringify(reviewOf({ object: podOf() })));
    expect(status).toBe(500);
    expect(text).not.toContain('secret');
    expect(webhooks.errors).toEqual([webhooks.fault]);
  });
});

describe('/validate', () => {
  const GOOD = { action: 'ALLOW', rules: [{ from: [{ source: { namespaces: ['a'] } }] }] };
  const BAD = { rules: [{ from: [{ source: { pricipals: ['a'] } }] }] };

  test('lets an admissible policy pass', async () => {
    const response = await webhooks.review('/validate', { kind: POLICY_KIND, object: policy(GOOD) });
    expect(response).toEqual({ uid: expect.any(String), allowed: true });
  });

  test('refuses in the words of `postern validate`, with the path within the object', async () => {
    const response = await webhooks.review('/validate', { kind: POLICY_KIND, object: policy(BAD) });
    expect(response.allowed).toBe(false);
    expect(response.status).toMatchObject({
      message: 'spec.rules[0].from[0].source.pricipals: unknown field "pricipals"; did you mean principals?',
      details: { causes: [{ field: 'spec.rules[0].from[0].source.pricipals' }] },
    });
  });

  test('an update of an object that was wrong before may leave it wrong, with a warning', async () => {
    const oldObject = policy(BAD, { finalizers: ['x'] });
    const response = await webhooks.review('/validate', {
      kind: POLICY_KIND,
      operation: 'UPDATE',
      oldObject,
      object: policy(BAD),
    });
    expect(response.allowed).toBe(true);
    expect(response.warnings).toEqual([expect.stringContaining('did you mean principals?')]);
  });

  test('an update may not make it worse', async () => {
    const worse = policy({ ...BAD, action: 'PERMIT' });
    const response = await webhooks.review('/validate', {
      kind: POLICY_KIND,
      operation: 'UPDATE',
      oldObject: policy(BAD),
      object: worse,
    });
    expect(response).toMatchObject({ allowed: false, status: { message: expect.stringContaining('spec.action: ') } });
  });

  test.each<[string, JsonObject]>([
    ['deletions', { kind: POLICY_KIND, operation: 'DELETE', oldObject: policy(BAD) }],
    ['status', { kind: POLICY_KIND, operation: 'UPDATE', subResource: 'status', object: policy(BAD) }],
    ["Kubernetes' own kinds", { kind: { group: '', version: 'v1', kind: 'Service' }, object: { kind: 'Service' } }],
    ["others' kinds", { kind: { group: 'networking.istio.io', version: 'v1', kind: 'Gateway' }, object: {} }],
    ['kinds of the same name', { kind: { group: 'other.example', version: 'v1', kind: 'MeshConfig' }, object: {} }],
  ])('has no opinion on %s', async (_, asked) => {
    expect((await webhooks.review('/validate', asked)).allowed).toBe(true);
  });

  test.each([
    [[], true],
    [['mesh'], true],
    [['other'], false],
  ])('a MeshConfig where there are %j: %s', async (meshConfigs, allowed) => {
    webhooks.meshConfigs = meshConfigs;
    const object = { apiVersion: 'postern.dev/v1', kind: 'MeshConfig', metadata: { name: 'mesh' }, spec: {} };
    const kind = { group: 'postern.dev', version: 'v1', kind: 'MeshConfig' };
    const response = await webhooks.review('/validate', { kind, namespace: '', name: 'mesh', object });
    expect(response.allowed).toBe(allowed);
  });
});

describe('the server', () => {
  test('is healthy', async () => {
    expect(await webhooks.health()).toBe(200);
  });

  test('speaks TLS 1.2 to API servers that know no newer', async () => {
    const agent = webhooks.agent(webhooks.authority, { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' });
    expect((await webhooks.send('/inject', JSON.stringify(reviewOf({ object: podOf() })), agent)).status).toBe(200);
    await agent.destroy();
  });

  test('shows renewed credentials to new connections', async () => {
    const other = await TestWebhooks.start();
    const authority = new ClusterAuthority();
    const agent = other.agent(authority);
    try {
      await expect(other.send('/inject', '{}', agent)).rejects.toThrow();
      other.server.renew(other.credentials(authority));
      expect((await other.send('/inject', '{}', agent)).status).toBe(400);
    } finally {
      await agent.destroy();
      await other.stop();
    }
  });

  test.each<[string, string, string, number]>([
    ['other paths', '/', '{}', 404],
    ['paths below', '/inject/x', '{}', 404],
    ['what is not JSON', '/inject', '{', 400],
    ['what is not UTF-8', '/inject', '\xff', 400],
    ['nothing', '/inject', '', 400],
    [
      'older reviews',
      '/inject',
      JSON.stringify({ ...reviewOf({ object: podOf() }), apiVersion: 'admission.k8s.io/v1beta1' }),
      400,
    ],
    ['a review without a request', '/inject', '{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}', 400],
    ['a review without a UID', '/inject', JSON.stringify(reviewOf({ uid: '' })), 400],
    ['an unknown operation', '/validate', JSON.stringify(reviewOf({ operation: 'PATCH' })), 400],
    ['a creation of nothing', '/inject', JSON.stringify(reviewOf({ object: null })), 400],
    ['an object that is a list', '/inject', JSON.stringify(reviewOf({ object: [] })), 400],
  ])('refuses %s', async (_, path, body, status) => {
    const sent = Buffer.from(body, body === '\xff' ? 'latin1' : 'utf8');
    expect((await webhooks.send(path, sent)).status).toBe(status);
    expect(webhooks.errors).toEqual([]);
  });

  test('refuses a body beyond its bound with an answer', async () => {
    const { status } = await webhooks.send('/inject', `"${'x'.repeat(6 * 1024 * 1024)}"`);
    expect(status).toBe(413);
  });

  test('drops whoever speaks no TLS', async () => {
    const socket = connect(webhooks.server.port, '127.0.0.1');
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => undefined);
    socket.write('POST /inject HTTP/1.1\r\n\r\n');
    await closed;
  });

  test('takes at most 128 connections of one address', async () => {
    const other = await TestWebhooks.start();
    const sockets = Array.from({ length: 140 }, () =>
      connectTls({ port: other.server.port, host: '127.0.0.1', rejectUnauthorized: false }),
    );
    try {
      const outcomes = await Promise.all(
        sockets.map(
          (socket) =>
            new Promise<boolean>((resolve) => {
              socket.once('secureConnect', () => resolve(true));
              socket.once('error', () => resolve(false));
              socket.once('close', () => resolve(false));
            }),
        ),
      );
      expect(outcomes.filter(Boolean)).toHaveLength(128);
    } finally {
      for (const socket of sockets) socket.destroy();
      await other.stop();
    }
  });

  test('whatever a review holds, it is answered or refused, and nothing goes wrong inside', async () => {
    const value = fc.letrec<{ value: JsonValue }>((tie) => ({
      value: fc.oneof(
        { maxDepth: 5 },
        fc.constantFrom<JsonValue>(null, true, 7, '', 'x', 'CREATE', 'Pod', {}, []),
        fc.array(tie('value'), { maxLength: 3 }),
        fc.dictionary(
          fc.constantFrom('metadata', 'spec', 'kind', 'name', 'group', 'rules', 'containers', '__proto__'),
          tie('value'),
        ),
      ),
    })).value;
    const asked = fc.record(
      {
        uid: fc.oneof(value, fc.constant('u')),
        kind: fc.oneof(value, fc.constantFrom<JsonValue>(POLICY_KIND, { group: '', version: 'v1', kind: 'Pod' })),
        operation: fc.oneof(value, fc.constantFrom('CREATE', 'UPDATE')),
        namespace: fc.constantFrom<JsonValue>('shop', 'plain', 7),
        object: value,
        oldObject: value,
      },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(asked, fc.constantFrom('/inject', '/validate'), async (request, path) => {
        const { status } = await webhooks.send(path, JSON.stringify(reviewOf(request as JsonObject)));
        expect([200, 400]).toContain(status);
        expect(webhooks.errors).toEqual([]);
      }),
      { numRuns: 500 },
    );
  });
});
