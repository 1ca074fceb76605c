import { beforeEach, expect, it } from 'vitest';
import type { Resource } from '../../../mesh/resources.ts';
import { Rollout, type RolloutTarget } from '../../../proxy/control/rollout.ts';
import type { Delta } from '../../../proxy/control/server-message.ts';
import { ResourceStore } from '../../../proxy/control/store.ts';
import type { ToWorker } from '../../../proxy/worker/messages.ts';
import { FakeClock, settle } from './support/fake-clock.ts';
import { recordedLog } from './support/quiet-log.ts';

class FakeTarget implements RolloutTarget {
  readonly index: number;
  readonly sent: ToWorker[] = [];
  gaveUp: string | null = null;

  constructor(index: number) {
    this.index = index;
  }

  send(message: ToWorker): void {
    this.sent.push(message);
  }

  giveUp(why: string): void {
    this.gaveUp = why;
  }

  get versions(): string[] {
    return this.sent.map((message) =>
      message.type === 'resources' ? `${message.version}${message.full ? ' full' : ''}` : '?',
    );
  }
}

const policy = (name: string, mark = 0): Resource => ({ kind: 'AuthorizationPolicy', name, object: { mark } });
const delta = (version: string, upserts: readonly Resource[], more: Partial<Delta> = {}): Delta => ({
  version,
  full: false,
  upserts,
  removes: [],
  unreadable: [],
  ...more,
});

let store: ResourceStore;
let clock: FakeClock;
let rollout: Rollout;
let a: FakeTarget;
let b: FakeTarget;

beforeEach(() => {
  clock = new FakeClock();
  store = new ResourceStore();
  rollout = new Rollout({ store, clock, log: recordedLog().log });
  a = new FakeTarget(0);
  b = new FakeTarget(1);
});

const inForce = (): unknown[] =>
  [...store.resources()].map((resource) =>
    resource.kind === 'AuthorizationPolicy' ? [resource.name, resource.object.mark] : resource.kind,
  );

async function applied(...args: Parameters<Rollout['apply']>): Promise<boolean> {
  return await Promise.race([rollout.apply(...args).then(() => true), settle().then(() => false)]);
}

it('lands once every worker has it', async () => {
  rollout.workerStarted(a);
  rollout.workerStarted(b);
  const landed = rollout.apply(delta('v1', [policy('shop/a')], { full: true }));
  rollout.workerApplied(a, 'v1', []);
  expect(store.version).toBeNull();
  rollout.workerApplied(b, 'v1', []);
  await landed;
  expect(store.version).toBe('v1');
  expect(a.versions).toEqual(['v1 full']);
});

it('waits for a worker where there is none, and gives a late one what is in force before what is in flight', async () => {
  const landed = rollout.apply(delta('v1', [policy('shop/a')], { full: true }));
  rollout.workerStarted(a);
  rollout.workerApplied(a, 'v1', []);
  await landed;
  expect(await applied(delta('v2', [policy('shop/b')]))).toBe(false);
  rollout.workerStarted(b);
  expect(b.versions).toEqual(['v1 full', 'v2']);
  rollout.workerApplied(b, 'v1', []);
  rollout.workerApplied(b, 'v2', []);
  expect(store.version).toBe('v1');
  rollout.workerApplied(a, 'v2', []);
  expect(store.version).toBe('v2');
});

it('leaves the last good resource in force where any worker rejects the next', async () => {
  rollout.workerStarted(a);
  rollout.workerStarted(b);
  void rollout.apply(delta('v1', [policy('shop/a', 1)], { full: true }));
  rollout.workerApplied(a, 'v1', []);
  rollout.workerApplied(b, 'v1', []);
  void rollout.apply(delta('v2', [policy('shop/a', 2), policy('shop/b', 2)]));
  rollout.workerApplied(a, 'v2', []);
  rollout.workerApplied(b, 'v2', [{ key: 'AuthorizationPolicy/shop/a', reason: 'bad' }]);
  expect(inForce()).toEqual([
    ['shop/a', 1],
    ['shop/b', 2],
  ]);
  expect(store.rejected()).toEqual([{ key: 'AuthorizationPolicy/shop/a', reason: 'bad' }]);
  void rollout.apply(delta('v3', [policy('shop/a', 3)]));
  rollout.workerApplied(a, 'v3', []);
  rollout.workerApplied(b, 'v3', []);
  expect(store.rejected()).toEqual([]);
});

it('keeps a rejected resource of a full delta at its last good one, and drops what the delta leaves out', async () => {
  rollout.workerStarted(a);
  void rollout.apply(delta('v1', [policy('shop/a', 1), policy('shop/b', 1)], { full: true }));
  rollout.workerApplied(a, 'v1', []);
  void rollout.apply(
    delta('v2', [policy('shop/c', 2)], {
      full: true,
      unreadable: [{ key: 'AuthorizationPolicy/shop/a', reason: 'malformed' }],
    }),
  );
  rollout.workerApplied(a, 'v2', []);
  expect(inForce()).toEqual([
    ['shop/a', 1],
    ['shop/c', 2],
  ]);
});

it('does not wait for a worker that ends', async () => {
  rollout.workerStarted(a);
  rollout.workerStarted(b);
  const landed = rollout.apply(delta('v1', [], { full: true }));
  rollout.workerApplied(a, 'v1', []);
  rollout.workerEnded(b);
  await landed;
  expect(store.version).toBe('v1');
});

it('gives up on a worker that does not answer within 30 s', async () => {
  rollout.workerStarted(a);
  void rollout.apply(delta('v1', [], { full: true }));
  await clock.advance(29_999);
  expect(a.gaveUp).toBeNull();
  await clock.advance(1);
  expect(a.gaveUp).toContain('version v1');
});

it('refuses a delta that three workers died of, but never the first of all', async () => {
  void rollout.apply(delta('v1', [policy('shop/a', 1)], { full: true }));
  for (let crash = 0; crash < 5; crash += 1) {
    rollout.workerStarted(a);
    rollout.workerEnded(a);
  }
  expect(store.version).toBeNull();
  rollout.workerStarted(a);
  rollout.workerApplied(a, 'v1', []);
  const landed = rollout.apply(delta('v2', [policy('shop/a', 2)], { removes: ['AuthorizationPolicy/shop/z'] }));
  for (let crash = 0; crash < 3; crash += 1) {
    rollout.workerEnded(a);
    rollout.workerStarted(a);
  }
  await landed;
  expect(store.version).toBe('v2');
  expect(inForce()).toEqual([['shop/a', 1]]);
  expect(store.rejected().map(({ key }) => key)).toEqual(['AuthorizationPolicy/shop/a', 'AuthorizationPolicy/shop/z']);
});
