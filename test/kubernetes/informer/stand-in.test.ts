import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ClientOptions, KubernetesClient } from '../../../kubernetes/api/client.ts';
import type { Connection } from '../../../kubernetes/api/connection.ts';
import { REREAD_MS } from '../../../kubernetes/api/credential-file.ts';
import { inCluster } from '../../../kubernetes/api/in-cluster.ts';
import { fromKubeconfig } from '../../../kubernetes/api/kubeconfig-connection.ts';
import { TYPES } from '../../../kubernetes/api/resource-types.ts';
import { Informer } from '../../../kubernetes/informer/informer.ts';
import type { InformerTimings } from '../../../kubernetes/informer/options.ts';
import { asObject, field } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { eventually } from '../../support/eventually.ts';
import { StandInCluster } from '../../support/kubernetes/cluster.ts';
import { silentLog } from './support.ts';

/** Of a config map, `data` stands for all that is of interest. */
type Kept = JsonValue;
const TYPE = TYPES.ConfigMap;
const STORED = { apiVersion: 'v1', kind: 'ConfigMap' };

let cluster: StandInCluster;
let directory: string;
let client: KubernetesClient | null;
let informer: Informer<Kept> | null;
let sizes: Set<number>;

const configMap = (name: string, data: JsonObject = {}): JsonObject => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace: 'default' },
  data,
});
const put = (name: string, value = ''): void => void cluster.apply([configMap(name, { value })]);
const remove = (name: string): boolean => cluster.direct.delete(STORED, 'default', name);
const stored = (): Map<string, Kept> =>
  new Map(
    cluster.direct.list(STORED).map((object) => {
      const metadata = asObject(field(object, 'metadata'));
      return [`${field(metadata, 'namespace')}/${field(metadata, 'name')}`, field(object, 'data') ?? null];
    }),
  );
const agrees = (): boolean => isDeepStrictEqual(new Map(informer?.objects), stored());
const converges = () => eventually(agrees, { what: 'the copy to be like the store' });
const asked = (verb: string): number =>
  cluster.requests.filter((one) => one.verb === verb && one.resource === TYPE.plural).length;
const watching = () => eventually(() => cluster.watches === 1, { what: 'a watch' });

function follow(
  connection: Connection = fromKubeconfig({ path: join(directory, 'config') }),
  {
    timings,
    ...options
  }: { readonly timings?: Partial<InformerTimings> } & Pick<ClientOptions, 'limits'> & {
      readonly requestMs?: number;
    } = {},
): Informer<Kept> {
  client = new KubernetesClient(connection, { timings: { requestMs: options.requestMs ?? 10_000 } });
  informer = new Informer<Kept>({
    api: client,
    type: TYPE,
    transform: (object) => field(object, 'data') ?? null,
    equals: isDeepStrictEqual,
    onChange: () => sizes.add(informer?.objects.size ?? -1),
    log: silentLog,
    timings: { backoffMs: 10, backoffMaxMs: 100, absentMs: 50, ...timings },
  });
  informer.start();
  return informer;
}

beforeEach(async () => {
  cluster = await StandInCluster.start({ bookmarkMs: 100 });
  directory = mkdtempSync(join(tmpdir(), 'postern-informer-'));
  cluster.kubeconfig(join(directory, 'config'));
  sizes = new Set();
});
afterEach(async () => {
  await informer?.stop();
  await client?.close();
  await cluster.stop();
  informer = null;
  client = null;
  rmSync(directory, { recursive: true, force: true });
});

/** Changes of all kinds, some of which take themselves back. */
async function churn(rounds: number): Promise<void> {
  for (let i = 0; i < rounds; i++) {
    put(`c${i % 17}`, `${i}`);
    if (i % 5 === 0) remove(`c${(i * 7) % 17}`);
    if (i % 20 === 0) await sleep(15);
  }
}

describe('against an API server, an informer', () => {
  test('is synced with what is there, and follows every change', async () => {
    put('a');
    await follow().whenSynced(60_000);
    expect(agrees()).toBe(true);
    await churn(100);
    await converges();
    expect(asked('list')).toBe(1);
  });

  test('misses nothing where watches end all the time, and does not list again', async () => {
    await follow(undefined, { timings: { leastWatchMs: 20 } }).whenSynced(60_000);
    await watching();
    cluster.endWatchesEvery(60);
    await churn(400);
    await converges();
    expect(asked('watch')).toBeGreaterThan(3);
    expect(asked('list')).toBe(1);
  });

  test.each(['status', 'event'] as const)('lists again where history was compacted, told so as %s', async (goneAs) => {
    put('kept');
    await follow().whenSynced(60_000);
    await watching();
    await churn(40);
    cluster.compact({ goneAs, openWatches: true });
    await churn(40);
    await converges();
    expect(asked('list')).toBeGreaterThan(1);
    expect(sizes).not.toContain(0);
    expect(informer?.fault).toBeNull();
  });

  test('begins a list anew whose pages expire while it reads them', async () => {
    cluster.apply(Array.from({ length: 1_200 }, (_, i) => configMap(`many-${i}`)));
    let pages = 0;
    const off = cluster.onRequest(({ verb, resource }) => {
      // Between the first page and the second, once.
      if (verb === 'list' && resource === TYPE.plural && ++pages === 2) cluster.compact();
    });
    await follow().whenSynced(60_000);
    off();
    expect(pages).toBeGreaterThanOrEqual(5);
    expect(informer?.objects.size).toBe(stored().size);
    expect([...sizes]).toEqual([stored().size]);
  });

  test('keeps what it has while the server is away, and hears what it missed when it is back', async () => {
    for (const name of ['a', 'b', 'c']) put(name);
    await follow().whenSynced(60_000);
    await watching();
    const before = new Map(informer?.objects);
    await cluster.stop();
    await eventually(() => informer?.fault?.reason === 'Unreachable', { what: 'a fault' });
    expect(new Map(informer?.objects)).toEqual(before);
    remove('a');
    put('b', 'changed');
    put('d');
    await cluster.start();
    await converges();
    expect(informer?.fault).toBeNull();
    expect(sizes).not.toContain(0);
  });

  test('notices a server that hangs with its connections open, and one that comes back to life', async () => {
    put('a');
    await follow(undefined, { timings: { staleMs: 300 }, requestMs: 200 }).whenSynced(60_000);
    await watching();
    cluster.pause();
    put('b');
    await eventually(() => informer?.fault?.reason === 'Unreachable', { what: 'a fault' });
    const contact = informer?.lastContact ?? 0;
    cluster.resume();
    await converges();
    // Its deadlines are so short that a slow machine may miss one now and then.
    const isWell = (): boolean => informer?.fault === null && (informer.lastContact ?? 0) > contact;
    await eventually(isWell, { what: 'contact without a fault' });
  });

  test('bears a slow server', async () => {
    cluster.delay(150);
    put('a');
    await follow().whenSynced(60_000);
    await churn(40);
    await converges();
    expect(informer?.fault).toBeNull();
  });

  test('bears a server that fails now and then', async () => {
    const mine = ({ resource }: { readonly resource: string }): boolean => resource === TYPE.plural;
    for (const status of [500, 429, 503, 0, 504, 410]) cluster.failNext(mine, status, 2);
    put('a');
    await follow().whenSynced(60_000);
    cluster.endWatchesEvery(40);
    for (const status of [500, 0, 429, 410, 504]) {
      cluster.failNext(mine, status, 1);
      await churn(20);
    }
    await converges();
  });

  test('knows by bookmarks that what it has is up to date', async () => {
    await follow().whenSynced(60_000);
    const synced = informer?.lastContact ?? 0;
    await eventually(() => (informer?.lastContact ?? 0) > synced, { what: 'a bookmark' });
  });
});

describe('with a service account, an informer', () => {
  let time = 0;
  const account = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'reader', namespace: 'default' } };
  const issue = (seconds: number): void => {
    const { token } = cluster.tokens.issue({ namespace: 'default', serviceAccount: 'reader', audiences: [], seconds });
    writeFileSync(join(directory, 'token'), token);
  };
  const allow = (): void => {
    const roleRef = { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'reader' };
    const subjects = [{ kind: 'ServiceAccount', name: 'reader', namespace: 'default' }];
    const rules = [{ apiGroups: [''], resources: ['configmaps'], verbs: ['get', 'list', 'watch'] }];
    const apiVersion = 'rbac.authorization.k8s.io/v1';
    cluster.apply([
      { apiVersion, kind: 'ClusterRole', metadata: { name: 'reader' }, rules },
      { apiVersion, kind: 'ClusterRoleBinding', metadata: { name: 'reader' }, roleRef, subjects },
    ]);
  };
  const connect = (): Connection => {
    writeFileSync(join(directory, 'ca.crt'), cluster.ca);
    writeFileSync(join(directory, 'namespace'), 'default');
    const environment = { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: String(cluster.port) };
    return inCluster({ environment, directory, now: () => time });
  };

  beforeEach(() => {
    time = 0;
    cluster.apply([account]);
  });

  test('goes on over a change of its token, whenever it comes', async () => {
    allow();
    issue(600);
    await follow(connect()).whenSynced(60_000);
    await watching();
    // The old one is over, and the new one lies there: one answer 401 has it read.
    cluster.skewClock(700_000);
    issue(600);
    cluster.endWatchesEvery(50);
    await churn(40);
    await converges();
    expect(informer?.fault).toBeNull();
    // Here the file has been replaced in time.
    issue(3600);
    time = REREAD_MS;
    await churn(40);
    await converges();
    expect(cluster.requests.filter(({ status }) => status === 401).length).toBeLessThanOrEqual(1);
  });

  test('says so when its token is over, and goes on with the next', async () => {
    allow();
    issue(600);
    await follow(connect()).whenSynced(60_000);
    await watching();
    cluster.skewClock(700_000);
    cluster.endWatchesEvery(50);
    await eventually(() => informer?.fault?.reason === 'Unauthorized', { what: 'a fault' });
    put('a');
    issue(600);
    await converges();
    expect(informer?.fault).toBeNull();
  });

  test('without the right to list names the rule that it needs, and goes on once it has it', async () => {
    issue(600);
    follow(connect());
    await eventually(() => informer?.fault?.reason === 'Forbidden', { what: 'a fault' });
    expect(informer?.fault?.message).toMatch(/may not list and watch configmaps.*ClusterRole.*"configmaps".*reader/);
    put('a');
    allow();
    await informer?.whenSynced(60_000);
    await converges();
  });
});
