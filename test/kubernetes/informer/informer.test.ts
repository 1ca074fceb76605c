import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { KubernetesError } from '../../../kubernetes/api/errors.ts';
import { TYPES } from '../../../kubernetes/api/resource-types.ts';
import { servedVersion } from '../../../kubernetes/api/served-version.ts';
import { Informer } from '../../../kubernetes/informer/informer.ts';
import type { InformerOptions } from '../../../kubernetes/informer/options.ts';
import type { ObjectChange } from '../../../kubernetes/informer/store.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { eventually } from '../../support/eventually.ts';
import { FakeCluster, gone, silentLog } from './support.ts';

type Kept = { readonly labels: JsonObject };

const TYPE = TYPES.Pod;
/** As in the server: times only matter where a test says so. */
const timings = {
  backoffMs: 1,
  backoffMaxMs: 5,
  staleMs: 60_000,
  absentConfirmMs: 10,
  absentMs: 5,
  absentSettleMs: 60_000,
  leastWatchMs: 1,
};

let cluster: FakeCluster;
let informer: Informer<Kept>;
let changes: (readonly ObjectChange<Kept>[])[];

const transform = (object: JsonObject): Kept | null => {
  const { labels } = object.metadata as { labels?: JsonObject };
  return labels?.hidden === 'true' ? null : { labels: labels ?? {} };
};

function make(options: Partial<InformerOptions<Kept>> = {}): Informer<Kept> {
  informer = new Informer<Kept>({
    api: cluster,
    type: TYPE,
    transform,
    equals: isDeepStrictEqual,
    onChange: (told) => changes.push(told),
    log: silentLog,
    ...options,
    timings: { ...timings, ...options.timings },
  });
  informer.start();
  return informer;
}

const put = (name: string, labels: JsonObject = {}) => cluster.put(TYPE, 'shop', name, { metadata: { labels } });
const names = (): string => [...informer.objects.keys()].sort().join(' ');
const told = (): string[] =>
  changes.map((batch) =>
    batch
      .map(({ key, before, after }) => `${before === null ? '+' : after === null ? '-' : '~'}${key}`)
      .sort()
      .join(' '),
  );
const becomes = (wanted: string) => eventually(() => names() === wanted, { what: `${wanted} instead of ${names()}` });
const watching = (count = 1) => eventually(() => cluster.watches === count, { what: `${count} watches` });

beforeEach(() => {
  cluster = new FakeCluster();
  changes = [];
});
afterEach(() => informer.stop());

describe('an informer', () => {
  test('has all objects once it is synced, and follows them from there', async () => {
    put('a');
    put('b');
    await make().whenSynced(60_000);
    expect(names()).toBe('shop/a shop/b');
    await watching();
    put('c');
    put('a', { app: 'x' });
    cluster.remove(TYPE, 'shop', 'b');
    expect(names()).toBe('shop/a shop/c');
    expect(informer.objects.get('shop/a')).toEqual({ labels: { app: 'x' } });
    expect(told()).toEqual(['+shop/a +shop/b', '+shop/c', '~shop/a', '-shop/b']);
  });

  test('tells nothing of a change that does not concern its reader, and keeps the object’s identity', async () => {
    put('a', { app: 'x' });
    await make().whenSynced(60_000);
    await watching();
    const before = informer.objects.get('shop/a');
    put('a', { app: 'x' });
    expect(informer.objects.get('shop/a')).toBe(before);
    expect(told()).toEqual(['+shop/a']);
  });

  test('forgets an object that is no longer of interest', async () => {
    put('a');
    put('b', { hidden: 'true' });
    await make().whenSynced(60_000);
    await watching();
    put('a', { hidden: 'true' });
    expect(told()).toEqual(['+shop/a', '-shop/a']);
  });

  test('goes on after the end of a watch from the last version that it heard of, bookmarks included', async () => {
    await make().whenSynced(60_000);
    await watching();
    put('a');
    cluster.version = 500;
    cluster.bookmark();
    cluster.endWatches();
    await watching();
    put('b');
    cluster.endWatches();
    await watching();
    expect(names()).toBe('shop/a shop/b');
    expect(cluster.lists).toBe(1);
    expect(cluster.watchedFrom).toEqual(['100', '500', '501']);
  });

  test('misses nothing that happens while it is not watching', async () => {
    await make().whenSynced(60_000);
    await watching();
    cluster.watchFailure = gone();
    cluster.endWatches(gone());
    put('a');
    put('b');
    cluster.remove(TYPE, 'shop', 'a');
    cluster.watchFailure = null;
    await becomes('shop/b');
    expect(cluster.lists).toBe(1);
  });

  test('lists anew where the server has forgotten its version, and tells all that differs in one step', async () => {
    put('a');
    put('b', { v: '1' });
    put('c');
    await make().whenSynced(60_000);
    await watching();
    const kept = informer.objects.get('shop/c');
    cluster.watchFailure = gone();
    cluster.endWatches(gone());
    cluster.remove(TYPE, 'shop', 'a');
    put('b', { v: '2' });
    put('d');
    cluster.compacted = cluster.version;
    cluster.watchFailure = null;
    await becomes('shop/b shop/c shop/d');
    expect(told().slice(1)).toEqual(['+shop/d -shop/a ~shop/b']);
    expect(informer.objects.get('shop/c')).toBe(kept);
    expect(informer.fault).toBeNull();
  });

  test('lists anew where an event says that the version is too old', async () => {
    await make().whenSynced(60_000);
    await watching();
    cluster.endWatches(new KubernetesError('Expired', 410, 'too old'));
    await watching();
    expect(cluster.lists).toBe(2);
  });

  test('lists anew where the server does not know its version at all, as after a restored backup', async () => {
    put('a');
    await make().whenSynced(60_000);
    await watching();
    cluster.watchFailure = new KubernetesError('Timeout', 504, 'Too large resource version');
    cluster.endWatches();
    await eventually(() => cluster.lists > 1, { what: 'a second list' });
    expect(names()).toBe('shop/a');
  });

  test('never shows a moment of emptiness while a list comes page by page, nor any of one that fails', async () => {
    cluster.pageSize = 1;
    for (const name of ['a', 'b', 'c']) put(name);
    await make().whenSynced(60_000);
    await watching();
    const seen = new Set<number>();
    const timer = setInterval(() => seen.add(informer.objects.size), 0);
    for (let i = 0; i < 5; i++) {
      const lists = cluster.lists;
      cluster.endWatches(new KubernetesError('Expired', 410, 'too old'));
      // The second page fails.
      setImmediate(() => {
        cluster.failure = i % 2 === 0 ? new KubernetesError('Expired', 410, 'the continue parameter is too old') : null;
      });
      await eventually(() => cluster.lists > lists, { what: 'another list' });
      cluster.failure = null;
      await watching();
    }
    clearInterval(timer);
    expect([...seen]).toEqual([3]);
    expect(told()).toEqual(['+shop/a +shop/b +shop/c']);
  });

  test('makes a watch anew that is silent for too long, without a fault', async () => {
    await make({ timings: { staleMs: 20 } }).whenSynced(60_000);
    await eventually(() => cluster.watchedFrom.length >= 3, { what: 'three watches' });
    expect(cluster.watches).toBeLessThanOrEqual(1);
    expect(informer.fault).toBeNull();
  });

  test('does not hurry where the server ends watches at once', async () => {
    cluster.endsAtOnce = true;
    const slow = { leastWatchMs: 100, backoffMs: 60_000, backoffMaxMs: 60_000 };
    await make({ timings: slow }).whenSynced(60_000);
    await sleep(300);
    expect(cluster.watchedFrom).toHaveLength(1);
  });

  test('goes on where its reader throws', async () => {
    const failing = (): void => {
      throw new Error('reader');
    };
    await make({ onChange: failing }).whenSynced(60_000);
    await watching();
    put('a');
    put('b');
    expect(names()).toBe('shop/a shop/b');
  });

  test('ends its watch when it is stopped', async () => {
    await make().whenSynced(60_000);
    await watching();
    await informer.stop();
    expect(cluster.watches).toBe(0);
  });
});

describe('a server that is away', () => {
  test('leaves what was heard in force, and is a fault until it answers', async () => {
    const faults: (string | null)[] = [];
    put('a');
    await make({ onFault: (fault) => faults.push(fault?.reason ?? null) }).whenSynced(60_000);
    await watching();
    cluster.failure = gone();
    cluster.endWatches(gone());
    await eventually(() => informer.fault !== null, { what: 'a fault' });
    expect(names()).toBe('shop/a');
    expect(informer.fault).toMatchObject({ reason: 'Unreachable' });
    cluster.failure = null;
    await eventually(() => informer.fault === null, { what: 'no fault' });
    expect(faults).toEqual(['Unreachable', null]);
  });

  test('that only drops connections is none', async () => {
    const faults: unknown[] = [];
    await make({ onFault: (fault) => faults.push(fault) }).whenSynced(60_000);
    for (let i = 0; i < 3; i++) {
      await watching();
      cluster.endWatches(gone());
    }
    await watching();
    expect(faults).toEqual([]);
  });

  test('at the start is waited for, and named when the time is over', async () => {
    cluster.failure = gone();
    make();
    await expect(informer.whenSynced(50)).rejects.toMatchObject({
      code: 'ERR_KUBERNETES_SYNC',
      message: expect.stringMatching(/Pod objects .* ECONNREFUSED/),
    });
    put('a');
    cluster.failure = null;
    await informer.whenSynced(60_000);
    expect(names()).toBe('shop/a');
  });

  test('that forbids says which rule is missing', async () => {
    cluster.failure = new KubernetesError('Forbidden', 403, 'pods is forbidden');
    make({ type: TYPES.AuthorizationPolicy });
    await eventually(() => informer.fault !== null, { what: 'a fault' });
    expect(informer.fault?.message).toMatch(
      /authorizationpolicies\.security\.istio\.io.*ClusterRole.*"security\.istio\.io".*"authorizationpolicies".*"list", "watch"/,
    );
  });

  test('that asks for a pause gets it', async () => {
    cluster.failure = new KubernetesError('TooManyRequests', 429, 'slow down', { retryAfterMs: 60_000 });
    make({ timings: { backoffMaxMs: 60_000 } });
    await eventually(() => informer.fault !== null, { what: 'a fault' });
    await sleep(50);
    expect(cluster.lists).toBe(1);
  });
});

describe('the time of the last contact', () => {
  test('is that of the sending of the list, then of the last event or bookmark', async () => {
    make();
    expect(informer.lastContact).toBeNull();
    const before = Date.now();
    await informer.whenSynced(60_000);
    const listed = informer.lastContact ?? 0;
    expect(listed).toBeGreaterThanOrEqual(before - 1);
    await watching();
    await sleep(5);
    cluster.bookmark();
    const marked = informer.lastContact ?? 0;
    expect(marked).toBeGreaterThan(listed);
    cluster.endWatches();
    await watching();
    // That a watch was opened says nothing about what has changed since.
    expect(informer.lastContact).toBe(marked);
  });
});

describe('a kind that the server does not have', () => {
  const versions = ['v1', 'v1beta1'];
  const type = TYPES.AuthorizationPolicy;
  const locate = (signal: AbortSignal) => servedVersion(cluster, type, versions, signal);
  const [v1, v1beta1] = versions.map((version) => `${type.group}/${version}/${type.plural}`);

  test('counts as empty, and is found when it comes', async () => {
    cluster.missing.add(v1 ?? '').add(v1beta1 ?? '');
    await make({ type, locate }).whenSynced(60_000);
    expect(informer).toMatchObject({ absent: true, fault: null });
    cluster.missing.clear();
    cluster.put(type, 'shop', 'a');
    await becomes('shop/a');
    expect(informer.absent).toBe(false);
  });

  test('at the start is not believed at once: with no policies everything would be allowed', async () => {
    cluster.missing.add(v1 ?? '').add(v1beta1 ?? '');
    cluster.put(type, 'shop', 'a');
    const synced = make({ type, locate, timings: { absentConfirmMs: 5_000, absentMs: 5 } }).whenSynced(20_000);
    await eventually(() => informer.absent, { what: 'the kind to be missed' });
    expect(informer.synced).toBe(false);
    cluster.missing.clear();
    await synced;
    expect(names()).toBe('shop/a');
  });

  test('in the best version is read in the next', async () => {
    cluster.missing.add(v1 ?? '');
    cluster.put(type, 'shop', 'a');
    await make({ type, locate }).whenSynced(60_000);
    expect(informer.type.version).toBe('v1beta1');
    expect(names()).toBe('shop/a');
  });

  test('any more keeps its objects until that has lasted, since a server that starts may not know its kinds yet', async () => {
    cluster.put(type, 'shop', 'a');
    await make({ type, locate, timings: { absentSettleMs: 500 } }).whenSynced(60_000);
    await watching();
    const since = performance.now();
    cluster.missing.add(v1 ?? '').add(v1beta1 ?? '');
    cluster.endWatches();
    await eventually(() => informer.absent, { what: 'the kind to be missed' });
    await eventually(() => informer.fault !== null, { what: 'a fault' });
    await becomes('');
    expect(performance.now() - since).toBeGreaterThan(490);
    expect(informer.fault).toBeNull();
  });
});
