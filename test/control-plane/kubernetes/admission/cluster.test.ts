import { readFileSync } from 'node:fs';
import { Agent, request } from 'undici';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { asObject } from '../../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../../policy/types.ts';
import { at, container, podOf } from '../../../kubernetes/injection/support.ts';
import { StandInCluster } from '../../../support/kubernetes/cluster.ts';
import { TestWebhooks } from './support.ts';

const manifest = (path: string): string =>
  readFileSync(new URL(`../../../../manifests/kubernetes/${path}`, import.meta.url), 'utf8');

/** The webhook configurations that we install, with a CA that vouches for the server. */
function configurations(ca: string): readonly JsonObject[] {
  const caBundle = Buffer.from(ca).toString('base64');
  return parseAllDocuments(manifest('base/webhooks.yaml')).map((document) => {
    const object = asObject(document.toJS() as JsonValue) ?? {};
    const webhooks = (object.webhooks as readonly JsonObject[]).map((webhook) => ({
      ...webhook,
      clientConfig: { ...asObject(webhook.clientConfig), caBundle },
    }));
    return { ...object, webhooks };
  });
}

let cluster: StandInCluster;
let webhooks: TestWebhooks;
let agent: Agent;

beforeAll(async () => {
  webhooks = await TestWebhooks.start();
  cluster = await StandInCluster.start({
    services: { 'postern-system/postern-control-plane': `127.0.0.1:${webhooks.server.port}` },
  });
  agent = new Agent({ connect: { ca: cluster.ca } });
  for (const [name, labels] of webhooks.namespaces) {
    cluster.apply([{ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } }]);
  }
  cluster.apply(manifest('istio-crds/authorizationpolicies.yaml'));
  cluster.apply(configurations(webhooks.authority.certificate));
});
afterAll(async () => {
  await agent.destroy();
  await cluster.stop();
  await webhooks.stop();
});

async function post(path: string, object: JsonObject) {
  const { statusCode, headers, body } = await request(`${cluster.url}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${cluster.adminToken}`, 'content-type': 'application/json' },
    body: JSON.stringify(object),
    dispatcher: agent,
  });
  return { status: statusCode, body: (await body.json()) as JsonObject, warnings: [headers.warning ?? []].flat() };
}

const create = (namespace: string, object: JsonObject) =>
  post(`/api/v1/namespaces/${namespace}/pods`, { ...object, metadata: { ...asObject(object.metadata), namespace } });
const pod = (name: string, labels: { readonly [key: string]: string } = {}, annotations = {}): JsonObject =>
  podOf({ metadata: { name, labels: { app: 'orders', ...labels }, annotations } });

describe('a cluster with our webhook configurations', () => {
  test('stores pods of enabled namespaces with a sidecar', async () => {
    const { status, body } = await create('shop', pod('a'));
    expect(status).toBe(201);
    expect(at(container(body, 'postern-proxy'), 'restartPolicy')).toBe('Always');
  });

  test('stores pods of other namespaces as they are, and those that ask for a sidecar with one', async () => {
    const plain = await create('plain', pod('b'));
    expect(() => container(plain.body, 'postern-proxy')).toThrow();
    const asking = await create('plain', pod('c', { 'postern.dev/inject': 'enabled' }));
    expect(container(asking.body, 'postern-proxy')).toBeDefined();
  });

  test('stores pods that want none as they are, whether by label or by annotation', async () => {
    for (const object of [
      pod('d', { 'postern.dev/inject': 'disabled' }),
      pod('e', {}, { 'postern.dev/inject': 'disabled' }),
    ]) {
      const { status, body } = await create('shop', object);
      expect(status).toBe(201);
      expect(() => container(body, 'postern-proxy')).toThrow();
    }
  });

  test('refuses pods with a bad annotation in our words', async () => {
    const { status, body } = await create('shop', pod('f', {}, { 'postern.dev/workers': 'many' }));
    expect(status).toBeGreaterThanOrEqual(400);
    expect(body.message).toContain('annotation postern.dev/workers: must be a whole number from 1 to 64, not "many"');
  });

  test('hands our warnings on', async () => {
    const { warnings } = await create('shop', pod('g', {}, { 'postern.dev/wokers': '2' }));
    expect(warnings.join()).toContain('did you mean postern.dev/workers?');
  });

  test('refuses policies that `postern validate` refuses', async () => {
    const path = '/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies';
    const policy = (spec: JsonValue): JsonObject => ({
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: 'p', namespace: 'shop' },
      spec,
    });
    const bad = await post(path, policy({ action: 'ALLOW', ruels: [] }));
    expect(bad.status).toBeGreaterThanOrEqual(400);
    expect(bad.body.message).toContain('spec.ruels: unknown field "ruels"; did you mean rules?');
    expect((await post(path, policy({ action: 'ALLOW', rules: [{}] }))).status).toBe(201);
  });

  test('refuses pods while the webhook has no answer', async () => {
    webhooks.namespaces.delete('shop');
    const { status, body } = await create('shop', pod('h'));
    expect(status).toBeGreaterThanOrEqual(400);
    expect(body.message).toContain('failed to call webhook');
  });
});
