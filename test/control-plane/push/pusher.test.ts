import { pino } from 'pino';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { ControlPlaneMetrics } from '../../../control-plane/metrics.ts';
import { Pusher } from '../../../control-plane/push/pusher.ts';
import { SidecarStream, type StreamSink } from '../../../control-plane/push/sidecar-stream.ts';
import { buildSnapshot, type Snapshot } from '../../../control-plane/registry/snapshot.ts';
import type { ServerMessage } from '../../../mesh/push.ts';
import { manifestsOf, SETTINGS } from '../registry/support.ts';

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
const makePusher = (heartbeatMs = 60_000) => {
  closed.length = 0;
  pusher = new Pusher({
    epoch: 'e',
    metrics,
    log: pino({ level: 'silent' }),
    onClosed: (_stream, reason) => closed.push(reason),
    heartbeatMs,
  });
  return pusher;
};
afterEach(() => pusher.stop());

function streamOf(
  sink: StreamSink,
  options: { readonly stallMs?: number; readonly notAfter?: number; readonly name?: string } = {},
): SidecarStream {
  const name = options.name ?? 'a';
  const workload = {
    name,
    namespace: 'shop',
    serviceAccount: 'a',
    labels: {},
    addresses: ['10.0.0.1'],
    tunnel: null,
    ports: {},
  };
  return new SidecarStream({
    registered: { workload, identity: 'spiffe://cluster.local/ns/shop/sa/a' },
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
    await vi.waitFor(() => expect(sink.lines).toHaveLength(1));
    pusher.publish(snapshotOf('one', 'two'), 0);
    pusher.publish(snapshotOf('one', 'two', 'three'), 0);
    pusher.publish(snapshotOf('two', 'three'), 0);
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(sink.lines).toHaveLength(1);
    sink.drain();
    await vi.waitFor(() => expect(sink.lines).toHaveLength(2));
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
    await vi.waitFor(() => expect(quick.lines).toHaveLength(1), { timeout: 5_000 });
    for (const sink of slow) sink.drain();
  });

  it('that takes nothing until the deadline is disconnected', async () => {
    makePusher().publish(snapshotOf('one'), 0);
    const sink = new FakeSink();
    sink.full = true;
    pusher.open(streamOf(sink, { stallMs: 30 }), false);
    await vi.waitFor(() => expect(sink.destroyed).toBe(true));
    expect(closed).toEqual(['stalled']);
    expect(pusher.streams).toEqual([]);
  });
});

it('changes that cancel each other are not pushed', async () => {
  makePusher().publish(snapshotOf('one'), 0);
  const sink = new FakeSink();
  sink.full = true;
  pusher.open(streamOf(sink), false);
  await vi.waitFor(() => expect(sink.lines).toHaveLength(1));
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
  await vi.waitFor(() => expect(sink.lines.some(({ type }) => type === 'heartbeat')).toBe(true));
});

it('a stream whose certificate has expired ends with a goodbye', async () => {
  makePusher().publish(snapshotOf('one'), 0);
  const sink = new FakeSink();
  pusher.open(streamOf(sink, { notAfter: Date.now() + 20 }), false);
  await vi.waitFor(() => expect(sink.ended).toBe(true));
  expect(sink.lines.at(-1)).toMatchObject({ type: 'goodbye', renew: true });
  expect(closed).toEqual(['expired']);
});

it('waiting for trust names those that have not acknowledged the roots', async () => {
  makePusher().publish(snapshotOf('one'), 0);
  const stream = streamOf(new FakeSink());
  pusher.open(stream, false);
  await vi.waitFor(() => expect(stream.version).not.toBeNull());
  expect(await pusher.awaitTrust(['root'], AbortSignal.timeout(20))).toEqual({ connected: 1, missing: ['shop/a'] });
  pusher.acknowledge('shop/a', stream.identity, { workload: 'a', version: stream.version ?? '', rejected: [] });
  expect(await pusher.awaitTrust(['root'], AbortSignal.timeout(5_000))).toEqual({ connected: 1, missing: [] });
  expect(await pusher.awaitTrust(['another'], AbortSignal.timeout(20))).toEqual({ connected: 1, missing: ['shop/a'] });
});
