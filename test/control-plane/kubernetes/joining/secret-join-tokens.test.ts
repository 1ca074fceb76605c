import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { SecretJoinTokens } from '../../../../control-plane/kubernetes/joining/secret-join-tokens.ts';
import { SECRET_NAMES } from '../../../../control-plane/kubernetes/joining/token-secret.ts';
import { KubernetesClient } from '../../../../kubernetes/api/client.ts';
import { KubernetesError } from '../../../../kubernetes/api/errors.ts';
import type { JsonObject, Manifest } from '../../../../policy/types.ts';
import { connectionTo } from '../../../kubernetes/api/support.ts';
import { StandInCluster } from '../../../support/kubernetes/cluster.ts';
import { nameOf, textAt } from '../../../support/kubernetes/objects.ts';
import { memoryLog } from '../support.ts';
import { ADDRESS, entryOf, machinesOf, SYSTEM } from './support.ts';

const SECRET = { apiVersion: 'v1', kind: 'Secret' };
const REQUEST = { namespace: 'shop', serviceAccount: 'legacy' };

let cluster: StandInCluster;
let client: KubernetesClient;
let manifests: readonly Manifest[];
let now: number;

beforeAll(async () => {
  cluster = await StandInCluster.start();
  cluster.apply(`{ apiVersion: v1, kind: Namespace, metadata: { name: ${SYSTEM} } }`);
  // With the rights that the installation gives, and no others.
  cluster.apply(readFileSync('manifests/kubernetes/base/rbac.yaml', 'utf8'));
  const user = cluster.addUser(`system:serviceaccount:${SYSTEM}:postern-control-plane`);
  client = new KubernetesClient(connectionTo(cluster, [user]));
});
afterAll(async () => {
  await client.close();
  await cluster.stop();
});
beforeEach(() => {
  manifests = [entryOf()];
  now = Date.now();
  for (const secret of secrets()) cluster.direct.delete(SECRET, SYSTEM, nameOf(secret));
});

const secrets = (): readonly JsonObject[] => cluster.direct.list(SECRET, SYSTEM);

/** As each replica has its own. */
function replica(api: ConstructorParameters<typeof SecretJoinTokens>[0]['api'] = client) {
  const log = memoryLog();
  const machines = machinesOf(() => manifests);
  const tokens = new SecretJoinTokens({ api, namespace: SYSTEM, machines, clock: () => now, log });
  const redeem = (token: string, publicKeyHash = 'key', peerAddress = ADDRESS) =>
    tokens.redeem(token, { publicKeyHash, peerAddress, peer: null });
  return { tokens, redeem, log };
}

const refusal = (status: number, reason: string) => expect.objectContaining({ status, reason });
const UNKNOWN = 'postern-join-'.padEnd(56, 'A');

describe('a join token in a cluster', () => {
  it('is good once, at any replica', async () => {
    const [one, other] = [replica(), replica()];
    const { token, id } = await one.tokens.create(REQUEST);
    expect(await other.redeem(token)).toEqual({ ...REQUEST, labels: {} });
    expect(secrets()).toEqual([]);
    await expect(one.redeem(token)).rejects.toEqual(refusal(401, 'token-unknown'));
    await expect(other.redeem(token, 'another key')).rejects.toEqual(refusal(401, 'token-used'));
    expect(other.log.lines).toEqual([{ level: 'info', text: 'a join token has been used' }]);
    expect(id).toMatch(/^[0-9a-f]{12}$/);
  });

  it('is used by one of many who try at once at several replicas', async () => {
    const replicas = Array.from({ length: 4 }, () => replica());
    const { token } = await replica().tokens.create(REQUEST);
    const attempts = replicas.flatMap(({ redeem }, index) =>
      ['a', 'b', 'c'].map((key) => redeem(token, `${index}${key}`)),
    );
    const results = await Promise.allSettled(attempts);
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const result of results) {
      if (result.status === 'rejected') expect(['token-used', 'token-unknown']).toContain(result.reason.reason);
    }
  });

  it.each([
    ['is gone', []],
    ['is kept by something', ['example.com/keep']],
  ])('is used by one of those who have all read it, also where its Secret %s then', async (_what, finalizers) => {
    const { token } = await replica().tokens.create(REQUEST);
    const name = keepBy(finalizers);
    const together = meeting(3);
    const api = { ...fake(), delete: client.delete.bind(client), get: together(client.get.bind(client)) };
    const attempts = ['a', 'b', 'c'].map((key) => replica(api).redeem(token, key));
    const results = await Promise.allSettled(attempts);
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const result of results) {
      if (result.status === 'rejected') expect(result.reason).toEqual(refusal(401, 'token-used'));
    }
    if (finalizers.length > 0) keepBy([], name);
  });

  it('is not used by deleting another that has come to its place', async () => {
    const { token } = await replica().tokens.create(REQUEST);
    const [secret] = secrets();
    const get: typeof client.get = async (...words) => {
      const read = await client.get(...words);
      // Meanwhile it is used elsewhere, and the next one takes the name.
      cluster.direct.delete(SECRET, SYSTEM, nameOf(secret ?? {}));
      cluster.direct.put({ ...secret, metadata: { name: nameOf(secret ?? {}), namespace: SYSTEM } });
      return read;
    };
    const api = { ...fake(), delete: client.delete.bind(client), get };
    await expect(replica(api).redeem(token)).rejects.toEqual(refusal(401, 'token-used'));
    expect(secrets()).toHaveLength(1);
  });

  it('is asked for again with the same key, where the answer was lost, for a minute', async () => {
    const { tokens, redeem } = replica();
    const { token } = await tokens.create(REQUEST);
    expect(await Promise.all([redeem(token), redeem(token)])).toHaveLength(2);
    await expect(redeem(token, 'key', '192.0.2.9')).rejects.toEqual(refusal(503, 'entry-unknown'));
    now += 60_000;
    await redeem(token);
    now += 1;
    await expect(redeem(token)).rejects.toEqual(refusal(401, 'token-used'));
  });

  it('is in the cluster by its digest alone, in a Secret that nobody can change', async () => {
    const { token } = await replica().tokens.create({ ...REQUEST, labels: { app: 'legacy' } });
    const [secret] = secrets();
    expect(secret).toMatchObject({ type: 'postern.dev/join-token', immutable: true });
    const text = JSON.stringify(secret) + Buffer.from(textAt(secret, 'data', 'record.json'), 'base64').toString();
    expect(text).not.toContain(token);
    expect(text).not.toContain(token.slice('postern-join-'.length));
  });

  it('is not used up where it proves nothing: without an entry, with other labels, from elsewhere', async () => {
    const { tokens, redeem } = replica();
    const { token } = await tokens.create({ ...REQUEST, labels: { app: 'legacy' } });
    await expect(redeem(token, 'key', '192.0.2.9')).rejects.toEqual(refusal(503, 'entry-unknown'));
    manifests = [];
    await expect(redeem(token)).rejects.toEqual(refusal(503, 'entry-unknown'));
    manifests = [entryOf({ labels: { app: 'other', 'networking.istio.io/tunnel': 'http' } })];
    await expect(redeem(token)).rejects.toEqual(refusal(503, 'entry-unknown'));
    manifests = [entryOf()];
    expect(await redeem(token)).toMatchObject(REQUEST);
  });

  it('expires, and is deleted by the leader then', async () => {
    const { tokens, redeem } = replica();
    const { token, expiresAt } = await tokens.create({ ...REQUEST, ttlSeconds: 60 });
    await tokens.create({ ...REQUEST, ttlSeconds: 86_400 });
    now = expiresAt - 1;
    await tokens.prune(AbortSignal.timeout(60_000));
    expect(secrets()).toHaveLength(2);
    now = expiresAt;
    await expect(redeem(token)).rejects.toEqual(refusal(401, 'token-expired'));
    await tokens.prune(AbortSignal.timeout(60_000));
    expect(secrets()).toHaveLength(1);
    await expect(redeem(token)).rejects.toEqual(refusal(401, 'token-unknown'));
  });

  it('is not used twice where something keeps its Secret, nor is another kind of Secret one', async () => {
    const { tokens, redeem } = replica();
    const { token } = await tokens.create(REQUEST);
    const name = keepBy(['example.com/keep']);
    await redeem(token);
    expect(secrets()).toHaveLength(1);
    await expect(replica().redeem(token)).rejects.toEqual(refusal(401, 'token-used'));
    const forged = await tokens.create(REQUEST);
    const other = secrets().find((secret) => nameOf(secret) !== name);
    cluster.direct.put({ ...other, type: 'Opaque' });
    await expect(redeem(forged.token)).rejects.toEqual(refusal(401, 'token-unknown'));
    keepBy([], name);
  });

  it('is not the token that was in its Secret before', async () => {
    const { tokens, redeem } = replica();
    const { token } = await tokens.create(REQUEST);
    const [secret] = secrets();
    const digest = Buffer.from('0'.repeat(64)).toString('base64');
    cluster.direct.put({ ...secret, data: { ...(secret?.data as JsonObject), digest } });
    await expect(redeem(token)).rejects.toEqual(refusal(401, 'token-unknown'));
    expect(secrets()).toHaveLength(1);
  });

  it('is not made for identities that only pods have, nor beyond the limit', async () => {
    const { tokens } = replica();
    for (const namespace of [SYSTEM, 'kube-system']) {
      await expect(tokens.create({ namespace, serviceAccount: 'x' })).rejects.toMatchObject({
        code: 'ERR_TOKEN_REQUEST',
      });
    }
    expect(secrets()).toEqual([]);
    const made = await Promise.all(Array.from({ length: 4 }, () => manyOf(tokens, 64)));
    expect(new Set(made.flat()).size).toBe(256);
    expect(secrets().map(nameOf).sort()).toEqual(SECRET_NAMES);
    await expect(tokens.create(REQUEST)).rejects.toMatchObject({ code: 'ERR_TOKEN_LIMIT' });
    now += 600_000;
    await tokens.prune(AbortSignal.timeout(60_000));
    expect(secrets()).toEqual([]);
  });

  it('proves nothing while the API server is away, and that is said once', async () => {
    const { redeem, log } = replica(fake());
    await expect(redeem(UNKNOWN)).rejects.toEqual(refusal(503, 'token-unverified'));
    await expect(redeem(UNKNOWN)).rejects.toEqual(refusal(503, 'token-unverified'));
    expect(log.lines).toEqual([{ level: 'error', text: expect.stringContaining('no answer') }]);
  });

  it('cannot be guessed without end', async () => {
    const { redeem } = replica();
    const guesses = Array.from({ length: 30 }, (_, index) => UNKNOWN.slice(0, -2) + String(index).padStart(2, '0'));
    const attempts = await Promise.allSettled(guesses.map((guess) => redeem(guess)));
    const reasons = attempts.map((one) => one.status === 'rejected' && one.reason.reason);
    expect(reasons.filter((reason) => reason === 'token-unknown').length).toBeLessThanOrEqual(22);
    expect(reasons).toContain('token-unverified');
  });

  it('needs no right that the installation does not give', () => {
    expect(cluster.requests.filter(({ status }) => status === 403)).toEqual([]);
  });
});

/** Finalizers of a Secret, by default of the only one there is; its name. */
function keepBy(finalizers: readonly string[], name = nameOf(secrets()[0] ?? {})): string {
  cluster.direct.update(SECRET, SYSTEM, name, (object) => ({
    ...object,
    metadata: { ...(object.metadata as JsonObject), finalizers: [...finalizers] },
  }));
  return name;
}

/** Answers of `work` are held back until so many have come. */
function meeting(count: number) {
  const { promise: all, resolve } = Promise.withResolvers<void>();
  let come = 0;
  return <A extends unknown[], R>(work: (...words: A) => Promise<R>) =>
    async (...words: A): Promise<R> => {
      const answer = await work(...words);
      come += 1;
      if (come === count) resolve();
      await all;
      return answer;
    };
}

async function manyOf(tokens: SecretJoinTokens, count: number): Promise<readonly string[]> {
  const made: string[] = [];
  while (made.length < count) made.push((await tokens.create(REQUEST)).token);
  return made;
}

/** An API server that is away. */
function fake() {
  const away = (): Promise<never> => Promise.reject(new KubernetesError('Unreachable', 0, 'no answer'));
  return { get: away, create: away, delete: away };
}
