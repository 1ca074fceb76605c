import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KubernetesClient } from '../../../kubernetes/api/client.ts';
import { fromKubeconfig } from '../../../kubernetes/api/kubeconfig-connection.ts';
import { TYPES } from '../../../kubernetes/api/resource-types.ts';
import { asObject, asString, field } from '../../../policy/json.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { StandInCluster } from '../../support/kubernetes/cluster.ts';

let cluster: StandInCluster;
let directory: string;
const clients: KubernetesClient[] = [];
const path = (name: string): string => join(directory, name);

function connect(
  name = 'admin',
  write: (file: string) => void = (file) => void cluster.kubeconfig(file),
): KubernetesClient {
  write(path(name));
  const client = new KubernetesClient(fromKubeconfig({ path: path(name) }));
  clients.push(client);
  return client;
}

const NAME = { namespace: 'default', name: 'roots' };
const configMap = (data: JsonObject): JsonObject => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name: NAME.name },
  data,
});
const versionOf = (object: JsonObject): string =>
  asString(field(asObject(object.metadata ?? null), 'resourceVersion')) ?? '';

beforeAll(async () => {
  cluster = await StandInCluster.start();
  directory = mkdtempSync(join(tmpdir(), 'postern-client-'));
});
afterAll(async () => {
  for (const client of clients) await client.close();
  await cluster.stop();
  rmSync(directory, { recursive: true, force: true });
});

describe('against an API server, the client', () => {
  test('creates, reads, replaces, patches and deletes, and loses nobody’s changes', async () => {
    const client = connect();
    const created = await client.create(TYPES.ConfigMap, 'default', configMap({ a: '1' }));
    await expect(client.create(TYPES.ConfigMap, 'default', configMap({}))).rejects.toMatchObject({
      reason: 'AlreadyExists',
    });
    const replaced = await client.replace(TYPES.ConfigMap, NAME, { ...created, data: { a: '2' } });
    await expect(client.replace(TYPES.ConfigMap, NAME, created)).rejects.toMatchObject({
      reason: 'Conflict',
      status: 409,
    });
    await client.patch(TYPES.ConfigMap, NAME, { type: 'merge', body: { data: { b: '1' } } });
    const json = [{ op: 'replace', path: '/data/a', value: '3' }];
    await client.patch(TYPES.ConfigMap, NAME, { type: 'json', body: json });
    const applied = configMap({ c: '1' });
    await client.patch(TYPES.ConfigMap, NAME, { type: 'apply', body: applied }, { fieldManager: 'other', force: true });
    const read = await client.get(TYPES.ConfigMap, NAME);
    expect(read).toMatchObject({ kind: 'ConfigMap', data: { a: '3', b: '1', c: '1' } });
    await client.patch(TYPES.ConfigMap, NAME, { type: 'merge', body: { data: { d: '1' } } }, { dryRun: true });
    expect(await client.get(TYPES.ConfigMap, NAME)).toEqual(read);
    await expect(client.delete(TYPES.ConfigMap, NAME, { resourceVersion: versionOf(replaced) })).rejects.toMatchObject({
      reason: 'Conflict',
    });
    expect(await client.delete(TYPES.ConfigMap, NAME, { resourceVersion: versionOf(read) })).toBe(true);
    expect(await client.delete(TYPES.ConfigMap, NAME)).toBe(false);
    await expect(client.get(TYPES.ConfigMap, NAME)).rejects.toMatchObject({ reason: 'NotFound' });
  });

  test('finds out what the server is and serves', async () => {
    const client = connect();
    expect(await client.version()).toMatchObject({ major: 1, minor: 32 });
    for (const type of [TYPES.Pod, TYPES.EndpointSlice, TYPES.Lease, TYPES.TokenReview]) {
      const served = await client.discover(type.group === '' ? type.version : `${type.group}/${type.version}`);
      expect(served).toContainEqual(type);
    }
    expect(await client.discover('security.istio.io/v1')).toBeNull();
  });

  test('asks what a token is worth', async () => {
    cluster.apply([{ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'orders', namespace: 'default' } }]);
    const issue = { namespace: 'default', serviceAccount: 'orders', audiences: ['postern'], seconds: 600 };
    const { token } = cluster.tokens.issue(issue);
    const review = {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenReview',
      spec: { token, audiences: ['postern'] },
    };
    const { status } = await connect().create(TYPES.TokenReview, '', review);
    expect(status).toMatchObject({ authenticated: true, user: { username: 'system:serviceaccount:default:orders' } });
  });

  test('is who its client certificate says', async () => {
    const certificate = cluster.clientCertificate('jane', []);
    const client = connect('jane', (file) => void cluster.kubeconfig(file, certificate));
    await expect(client.get(TYPES.ConfigMap, NAME)).rejects.toThrow(/"jane" cannot get/);
    const admin = cluster.clientCertificate('root', ['system:masters']);
    expect((await connect('root', (file) => void cluster.kubeconfig(file, admin)).list(TYPES.Pod, {})).items).toEqual(
      [],
    );
  });

  test('has its token from a credential plugin', async () => {
    writeFileSync(path('plugin-token'), cluster.addUser('plugin', ['system:masters']));
    const apiVersion = 'client.authentication.k8s.io/v1';
    const print = `printf '{"apiVersion":"${apiVersion}","kind":"ExecCredential","status":{"token":"%s"}}' "$(cat plugin-token)"`;
    writeFileSync(path('plugin.sh'), `cd '${directory}'\n${print}`);
    const exec = { apiVersion, command: 'sh', args: [path('plugin.sh')] };
    const config = cluster.kubeconfig(null).replace(/user:\n\s+token: .*/, `user: ${JSON.stringify({ exec })}`);
    expect(config).toContain('plugin.sh');
    const client = connect('plugin', (file) => writeFileSync(file, config));
    expect((await client.list(TYPES.Pod, {})).items).toEqual([]);
  });
});
