import { pino } from 'pino';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { ControlPlaneMetrics } from '../../../control-plane/metrics.ts';
import { Pusher } from '../../../control-plane/push/pusher.ts';
import { SidecarStream, type StreamSink } from '../../../control-plane/push/sidecar-stream.ts';
import { buildSnapshot, type Snapshot } from '../../../control-plane/registry/snapshot.ts';
import type { ServerMessage, WorkloadRegistration } from '../../../mesh/push.ts';
import type { Manifest } from '../../../policy/types.ts';
import { manifestsOf, objectOf, podOf, SETTINGS } from '../registry/support.ts';

/** A second, as vitest has it, is less than a slow machine may take. */
const PATIENT = { timeout: 60_000 };

/** A peer that reads only when told to. */
class FakeSink implements StreamSink {
  readonly lines: ServerMessage[] = [];
  full = false;
  destroyed = false;
  ended = false;
  #waiters: (() => void)[] = [];

  write(line: string): boolean {
    this.lines.push(JSON.parse(line));
    return !this.full;
  }

  drained(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  drain(): void {
    this.full = false;
    for (const resolve of this.#waiters.splice(0)) resolve();
  }

  end(line: string): void {
    this.lines.push(JSON.parse(line));
    this.ended = true;
  }

  destroy(): void {
    this.destroyed = true;
    this.drain();
  }
}

let before: Snapshot | null = null;
function snapshotOf(...policies: string[]): Snapshot {
  const text = policies
    .map(
      (name) =>
        `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: ${name}, namespace: shop }\nspec: { rules: [ {} ] }`,
    )
    .join('\n---\n');
  before = buildSnapshot({ ...SETTINGS, manifests: manifestsOf(text) }, before);
  return before;
}

const closed: string[] = [];
const metrics = new ControlPlaneMetrics();
let pusher: Pusher;
const makePusher = (heartbeatMs = 60_000, streamAgeMs = 3_600_000) => {
  closed.length = 0;
  pusher = new Pusher({
    epoch: 'e',
    metrics,
    log: pino({ level: 'silent' }),
    onClosed: (_stream, reason) => closed.push(reason),
    heartbeatMs,
    streamAgeMs,
  });
  return pusher;
};
afterEach(() => pusher.stop());

function streamOf(
  sink: StreamSink,
  options: {
    readonly stallMs?: number;
    readonly notAfter?: number;
    readonly name?: string;
    readonly labels?: WorkloadRegistration['labels'];
    readonly podUid?: string;
    /** A machine outside of the cluster. */
    readonly isMachine?: boolean;
  } = {},
): SidecarStream {
  const name = options.name ?? 'a';
  const workload = {
    name,
    namespace: 'shop',
    serviceAccount: 'a',
    labels: options.labels ?? {},
    addresses: ['10.0.0.1'],
    tunnel: null,
    ports: {},
  };
  return new SidecarStream({
    registered: {
      workload,
      identity: 'spiffe://cluster.local/ns/shop/sa/a',
      ...(options.podUid === undefined ? {} : { isDeclared: true, podUid: options.podUid }),
      ...(options.isMachine === true ? { isDeclared: true } : {}),
    },
    lease: { name: `shop/${name}`, changed: false },
    certificate: { serial: '1', notAfter: options.notAfter ?? Date.now() + 3_600_000, chain: [] },
    proxyVersion: 'test',
    peerAddress: '10.0.0.1',
    sink,
    resume: null,
    stallMs: options.stallMs ?? 30_000,
  });
}

const policiesIn = (message: ServerMessage | undefined) =>
  message?.type === 'delta'
    ? message.upserts.filter(({ kind }) => kind === 'AuthorizationPolicy').map(({ name }) => name)
    : null;

describe('a slow sidecar', () => {
  it('has one push in memory, and gets all later changes as one delta once it reads again', async () => {
    makePusher().publish(snapshotOf('one'), 0);
    const sink = new FakeSink();
    sink.full = true;
    pusher.open(streamOf(sink), false);
    await vi.waitFor(() => expect(sink.lines).toHaveLength(1), PATIENT);
    pusher.publish(snapshotOf('one', 'two'), 0);
    pusher.publish(snapshotOf('one', 'two', 'three'), 0);
    pusher.publish(snapshotOf('two', 'three'), 0);
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(sink.lines).toHaveLength(1);
    sink.drain();
    await vi.waitFor(() => expect(sink.lines).toHaveLength(2), PATIENT);
    expect(policiesIn(sink.lines[1])).toEqual(['shop/two', 'shop/three']);
    expect(sink.lines[1]).toMatchObject({ full: false, removes: ['AuthorizationPolicy/shop/one'] });
  });

  it('does not hold up the others', async () => {
    makePusher().publish(snapshotOf('one'), 0);
    const slow = Array.from({ length: 20 }, (_, index) => {
      const sink = new FakeSink();
      sink.full = true;
      pusher.open(streamOf(sink, { name: `slow-${index}` }), false);
      return sink;
    });
    const quick = new FakeSink();
    pusher.open(streamOf(quick, { name: 'quick' }), false);
    await vi.waitFor(() => expect(quick.lines).toHaveLength(1), PATIENT);
    for (const sink of slow) sink.drain();
  });

  it('that takes nothing until the deadline is disconnected', async () => {
    makePusher().publish(snapshotOf('one'), 0);
    const sink = new FakeSink();
    sink.full = true;
    pusher.open(streamOf(sink, { stallMs: 30 }), false);
    await vi.waitFor(() => expect(sink.destroyed).toBe(true), PATIENT);
    expect(closed).toEqual(['stalled']);
    expect(pusher.streams).toEqual([]);
  });
});

it('changes that cancel each other are not pushed', async () => {
  makePusher().publish(snapshotOf('one'), 0);
  const sink = new FakeSink();
  sink.full = true;
  pusher.open(streamOf(sink), false);
  await vi.waitFor(() => expect(sink.lines).toHaveLength(1), PATIENT);
  pusher.publish(snapshotOf('one', 'two'), 0);
  pusher.publish(snapshotOf('one'), 0);
  sink.drain();
  await new Promise((resolve) => setTimeout(resolve, 30));
  expect(sink.lines).toHaveLength(1);
});

it('heartbeats are sent in between', async () => {
  makePusher(10).publish(snapshotOf('one'), 0);
  const sink = new FakeSink();
  pusher.open(streamOf(sink), false);
  await vi.waitFor(() => expect(sink.lines.some(({ type }) => type === 'heartbeat')).toBe(true), PATIENT);
});

it('a stream whose certificate has expired ends with a goodbye', async () => {
  makePusher().publish(snapshotOf('one'), 0);
  const sink = new FakeSink();
  pusher.open(streamOf(sink, { notAfter: Date.now() + 20 }), false);
  await vi.waitFor(() => expect(sink.ended).toBe(true), PATIENT);
  expect(sink.lines.at(-1)).toMatchObject({ type: 'goodbye', renew: true });
  expect(closed).toEqual(['expired']);
});

it('waiting for trust names those that have not acknowledged the roots', async () => {
  makePusher().publish(snapshotOf('one'), 0);
  const stream = streamOf(new FakeSink());
  pusher.open(stream, false);
  await vi.waitFor(() => expect(stream.version).not.toBeNull(), PATIENT);
  expect(await pusher.awaitTrust(['root'], AbortSignal.timeout(20))).toEqual({ connected: 1, missing: ['shop/a'] });
  pusher.acknowledge('shop/a', stream.identity, { workload: 'a', version: stream.version ?? '', rejected: [] });
  expect(await pusher.awaitTrust(['root'], AbortSignal.timeout(5_000))).toEqual({ connected: 1, missing: [] });
  expect(await pusher.awaitTrust(['another'], AbortSignal.timeout(20))).toEqual({ connected: 1, missing: ['shop/a'] });
});

it('a stream that has become old ends with a goodbye that asks for no certificate, well before its certificate does', async () => {
  makePusher(60_000, 20).publish(snapshotOf('one'), 0);
  const sink = new FakeSink();
  pusher.open(streamOf(sink), false);
  await vi.waitFor(() => expect(sink.ended).toBe(true), PATIENT);
  expect(sink.lines.at(-1)).toMatchObject({ type: 'goodbye', renew: false });
  expect(closed).toEqual(['aged']);
});

describe('what a pod’s sidecar is told', () => {
  const policies = manifestsOf(
    ['red', 'blue']
      .map(
        (colour) =>
          `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: ${colour}, namespace: shop }\nspec: { selector: { matchLabels: { colour: ${colour} } } }`,
      )
      .join('\n---\n'),
  );
  const publish = (...pods: readonly Manifest[]) => {
    before = buildSnapshot({ ...SETTINGS, manifests: [...policies, ...pods] }, before);
    pusher.publish(before, 0);
  };
  const pod = (colour: string, ended = false) => podOf('a', ['10.0.0.1'], { labels: { colour }, status: { ended } });
  const upserts = (message: ServerMessage | undefined) => (message?.type === 'delta' ? message.upserts : []);
  const selfIn = (message: ServerMessage | undefined) => upserts(message).find(({ kind }) => kind === 'Self');

  it('follows its pod: the labels, the policies that they select, and the end of the application', async () => {
    makePusher();
    publish(pod('red'));
    const sink = new FakeSink();
    const stream = streamOf(sink);
    pusher.open(stream, false);
    await vi.waitFor(() => expect(sink.lines).toHaveLength(1), PATIENT);
    expect([policiesIn(sink.lines[0]), selfIn(sink.lines[0])]).toMatchObject([
      ['shop/red'],
      { labels: { colour: 'red' }, ended: false },
    ]);
    publish(pod('blue'));
    await vi.waitFor(() => expect(sink.lines).toHaveLength(2), PATIENT);
    expect(sink.lines[1]).toMatchObject({ full: false, removes: ['AuthorizationPolicy/shop/red'] });
    expect([policiesIn(sink.lines[1]), selfIn(sink.lines[1])]).toMatchObject([
      ['shop/blue'],
      { labels: { colour: 'blue' } },
    ]);
    publish(pod('blue', true));
    await vi.waitFor(() => expect(sink.lines).toHaveLength(3), PATIENT);
    expect(upserts(sink.lines[2])).toEqual([{ kind: 'Self', name: 'self', labels: { colour: 'blue' }, ended: true }]);
    expect(pusher.streams).toEqual([stream]);
  });

  it('is not what an earlier pod of its name was told, of which the end has not been heard yet', async () => {
    const of = (uid: string, colour: string, ended: boolean) =>
      podOf('a', ['10.0.0.1'], { labels: { colour }, metadata: { uid }, status: { ended } });
    makePusher();
    publish(of('earlier', 'red', true));
    const sink = new FakeSink();
    pusher.open(streamOf(sink, { podUid: 'later', labels: { colour: 'blue' } }), false);
    await vi.waitFor(() => expect(sink.lines).toHaveLength(1), PATIENT);
    expect([policiesIn(sink.lines[0]), selfIn(sink.lines[0])]).toMatchObject([
      ['shop/blue'],
      { labels: { colour: 'blue' }, ended: false },
    ]);
    publish(of('later', 'blue', true));
    await vi.waitFor(() => expect(sink.lines).toHaveLength(2), PATIENT);
    expect(selfIn(sink.lines[1])).toMatchObject({ ended: true });
  });

  it('follows the entry of its machine, and no pod of that name', async () => {
    makePusher();
    const entry = (colour: string) =>
      objectOf('networking.istio.io/v1', 'WorkloadEntry', 'shop', 'a', {
        spec: { address: '192.0.2.1', labels: { colour } },
      });
    publish(entry('red'));
    const sink = new FakeSink();
    pusher.open(streamOf(sink, { isMachine: true }), false);
    await vi.waitFor(() => expect(sink.lines).toHaveLength(1));
    expect([policiesIn(sink.lines[0]), selfIn(sink.lines[0])]).toMatchObject([
      ['shop/red'],
      { labels: { colour: 'red' } },
    ]);
    publish(entry('blue'));
    await vi.waitFor(() => expect(sink.lines).toHaveLength(2));
    expect(policiesIn(sink.lines[1])).toEqual(['shop/blue']);
    publish(pod('red'));
    await vi.waitFor(() => expect(sink.lines).toHaveLength(3));
    expect([policiesIn(sink.lines[2]), selfIn(sink.lines[2])]).toEqual([[], undefined]);
  });

  it('stays as it was when the pod is gone, for its sidecar drains', async () => {
    makePusher();
    publish(pod('red'));
    const sink = new FakeSink();
    pusher.open(streamOf(sink), false);
    await vi.waitFor(() => expect(sink.lines).toHaveLength(1), PATIENT);
    publish();
    await vi.waitFor(() => expect(sink.lines).toHaveLength(2), PATIENT);
    expect(sink.lines[1]).toMatchObject({ upserts: [], removes: ['Workload/shop/a'] });
    expect(closed).toEqual([]);
  });

  it('counts in how far policies are enforced', async () => {
    makePusher();
    publish(pod('red'));
    const stream = streamOf(new FakeSink());
    expect(pusher.enforcement().get('AuthorizationPolicy/shop/red')).toMatchObject({ wanted: 0 });
    pusher.open(stream, false);
    await vi.waitFor(() => expect(stream.version).not.toBeNull(), PATIENT);
    expect(pusher.enforcement().get('AuthorizationPolicy/shop/red')).toMatchObject({ wanted: 1, inForce: 0 });
    pusher.acknowledge('shop/a', stream.identity, { workload: 'a', version: stream.version ?? '', rejected: [] });
    expect(pusher.enforcement().get('AuthorizationPolicy/shop/red')).toMatchObject({ wanted: 1, inForce: 1 });
    expect(pusher.enforcement().get('AuthorizationPolicy/shop/blue')).toMatchObject({ wanted: 0, inForce: 0 });
    const key = 'AuthorizationPolicy/shop/red';
    publish(
      pod('red'),
      ...manifestsOf(
        'apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: odd, namespace: shop }\nspec: { rules: [ {} ] }',
      ),
    );
    await vi.waitFor(() => expect(stream.version).not.toBe(stream.acknowledged?.version), PATIENT);
    const rejected = [{ key: 'AuthorizationPolicy/shop/odd', reason: 'odd' }] as const;
    pusher.acknowledge('shop/a', stream.identity, { workload: 'a', version: stream.version ?? '', rejected });
    expect(pusher.enforcement().get(key)).toMatchObject({ wanted: 1, inForce: 1 });
    expect(pusher.enforcement().get('AuthorizationPolicy/shop/odd')).toEqual({
      wanted: 1,
      inForce: 0,
      rejected: 1,
      reason: 'odd',
    });
  });
});

it('changes that cancel each other are not pushed to a slow sidecar, whatever others were told meanwhile', async () => {
  makePusher().publish(snapshotOf('one'), 0);
  const [slow, quick] = [new FakeSink(), new FakeSink()];
  slow.full = true;
  pusher.open(streamOf(slow, { name: 'slow' }), false);
  pusher.open(streamOf(quick, { name: 'quick', labels: { app: 'quick' } }), false);
  await vi.waitFor(() => expect([slow, quick].map(({ lines }) => lines.length)).toEqual([1, 1]), PATIENT);
  for (const [index, policies] of [['one', 'two'], ['one']].entries()) {
    pusher.publish(snapshotOf(...policies), 0);
    await vi.waitFor(() => expect(quick.lines).toHaveLength(index + 2), PATIENT);
  }
  slow.drain();
  pusher.publish(snapshotOf('one', 'three'), 0);
  await vi.waitFor(() => expect(slow.lines).toHaveLength(2), PATIENT);
  expect(slow.lines[1]).toMatchObject({ upserts: [{ name: 'shop/three' }], removes: [] });
});
