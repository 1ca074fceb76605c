import type { IncomingMessage } from 'node:http';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { ServerMessage, StreamRequest } from '../../../mesh/push.ts';
import { ControlPlaneRefusal } from '../../../proxy/control/control-plane-request.ts';
import { PushStream } from '../../../proxy/control/push-stream.ts';
import type { Delta } from '../../../proxy/control/server-message.ts';
import type { Svid } from '../../../proxy/control/svid.ts';
import { FakeClock, settle } from './support/fake-clock.ts';
import { type RecordedLog, recordedLog } from './support/quiet-log.ts';

const HOUR = 3_600_000;

let clock: FakeClock;
let recorded: RecordedLog;
let opened: { request: StreamRequest; svid: Svid; body: PassThrough }[];
let renewals: string[];
let states: boolean[];
let deltas: Delta[];
let refusal: Error | null;
let held: string | null;
let applying: Promise<void>;
let stream: PushStream;
let ended: Promise<void>;

const svid = (serial: string): Svid => ({
  spiffeId: 'spiffe://test.mesh/ns/shop/sa/orders',
  chain: '',
  privateKey: '',
  serial,
  notBefore: clock.now(),
  notAfter: clock.now() + HOUR,
  receivedAt: clock.now(),
});

beforeEach(() => {
  clock = new FakeClock();
  recorded = recordedLog();
  opened = [];
  renewals = [];
  states = [];
  deltas = [];
  refusal = null;
  held = null;
  applying = Promise.resolve();
  stream = new PushStream({
    client: {
      openStream: async (request, used, signal) => {
        if (refusal !== null) throw refusal;
        const body = new PassThrough();
        signal.addEventListener('abort', () => body.destroy(new Error('aborted')));
        opened.push({ request, svid: used, body });
        // Read as bytes only.
        return body as unknown as IncomingMessage;
      },
    },
    registration: {
      name: 'orders-1',
      namespace: 'shop',
      serviceAccount: 'orders',
      labels: {},
      addresses: [],
      tunnel: null,
      ports: {},
    },
    proxyVersion: '1',
    clock,
    log: recorded.log,
    held: () => held,
    apply: async (delta) => {
      deltas.push(delta);
      await applying;
      held = delta.version;
    },
    onConnected: (connected) => states.push(connected),
    onRenewalWanted: (why) => renewals.push(why),
    heartbeatMs: 10_000,
  });
  ended = stream.run();
});

afterEach(async () => {
  stream.close();
  await ended;
});

async function send(message: ServerMessage): Promise<void> {
  opened.at(-1)?.body.write(`${JSON.stringify(message)}\n`);
  await settle();
}

async function join(): Promise<void> {
  stream.useSvid(svid('first'));
  await settle();
}

/** Time passes while the control plane is heard. */
async function beating(ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 10_000) {
    await send({ type: 'heartbeat' });
    await clock.advance(Math.min(10_000, ms - passed));
  }
}

const push = (version: string): ServerMessage => ({ type: 'delta', version, full: true, upserts: [], removes: [] });

it('waits for the first certificate', async () => {
  await clock.advance(60_000);
  expect(opened).toHaveLength(0);
  await join();
  expect(opened).toHaveLength(1);
  expect(states).toEqual([true]);
});

it('resumes from what it holds after the stream broke', async () => {
  await join();
  expect(opened[0]?.request.resume).toBeNull();
  await send(push('v1'));
  opened[0]?.body.end();
  await clock.advance(100);
  expect(opened[1]?.request.resume).toEqual({ version: 'v1' });
  expect(states).toEqual([true, false, true]);
});

it.each([
  ['broke', () => opened[0]?.body.end()],
  ['was ended with a goodbye', () => send({ type: 'goodbye', reason: 'restarting', renew: false })],
])('opens a stream that worked and %s again at a random moment within a second', async (_, lose) => {
  clock.luck = 0.9;
  await join();
  await send({ type: 'heartbeat' });
  await lose();
  await clock.advance(899);
  expect(opened).toHaveLength(1);
  await clock.advance(1);
  expect(opened).toHaveLength(2);
});

it('gives a silent control plane up after three heartbeats, and only then', async () => {
  await join();
  await clock.advance(29_000);
  await send({ type: 'heartbeat' });
  await clock.advance(29_000);
  expect(opened).toHaveLength(1);
  await clock.advance(1100);
  expect(opened).toHaveLength(2);
  expect(recorded.lines.join()).toContain('nothing heard for 30000 ms');
});

it('does not read on, nor count the silence, while a push is being applied', async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  applying = promise;
  await join();
  await send(push('v1'));
  await send(push('v2'));
  await clock.advance(120_000);
  expect(deltas.map(({ version }) => version)).toEqual(['v1']);
  expect(opened).toHaveLength(1);
  resolve();
  await settle();
  expect(deltas.map(({ version }) => version)).toEqual(['v1', 'v2']);
});

it('moves to a renewed certificate before the old one expires, without a pause', async () => {
  await join();
  await send(push('v1'));
  await beating(HOUR / 2);
  stream.useSvid(svid('second'));
  await beating(HOUR * 0.05 - 1);
  expect(opened).toHaveLength(1);
  await clock.advance(1);
  expect(opened[1]).toMatchObject({ svid: { serial: 'second' }, request: { resume: { version: 'v1' } } });
});

it('asks for a new certificate where a goodbye or a refusal says so', async () => {
  await join();
  await send({ type: 'goodbye', reason: 'certificate expired', renew: true });
  expect(renewals).toHaveLength(1);
  refusal = new ControlPlaneRefusal(401, 'unauthenticated', 'no');
  await clock.advance(100);
  expect(renewals).toHaveLength(2);
});

it('tries ever more slowly, at most every 15 s, and at once with a new certificate', async () => {
  refusal = new Error('connection refused');
  await join();
  await clock.advance(120_000);
  const attempts = recorded.lines.filter((line) => line.includes('no stream')).length;
  expect(attempts).toBeGreaterThan(10);
  expect(attempts).toBeLessThan(30);
  refusal = null;
  stream.useSvid(svid('second'));
  await settle();
  expect(opened).toHaveLength(1);
});

it('leaves a control plane that it does not understand, and keeps what it has', async () => {
  await join();
  await send(push('v1'));
  opened[0]?.body.write('<html>\n');
  await settle();
  expect(opened[0]?.body.destroyed).toBe(true);
  expect(held).toBe('v1');
  expect(recorded.lines.join()).toContain('ERR_PUSH_PROTOCOL');
});

it('passes over messages of a later version', async () => {
  await join();
  opened[0]?.body.write('{"type":"later"}\n');
  await send(push('v1'));
  expect(held).toBe('v1');
});
