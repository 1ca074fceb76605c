import { afterEach, describe, expect, test } from 'vitest';
import { Http2RequestHead } from '../../../../proxy/http/http2/heads.ts';
import { TYPE } from '../../../support/http2-raw.ts';
import type { FakeLoop } from './support/fake-loop.ts';
import type { RawPeer } from './support/raw-peer.ts';
import { type SeenRequest, SeenResponse } from './support/recorders.ts';
import { asked, served } from './support/served.ts';

/** How often a session looks, by the limits of these tests. */
const CHECK_MS = 2_500;
const PIECE = 16_384;
const STREAM_WINDOW = 128 * 1024;
const MOST_HELD = 4 * 1024 * 1024;
const DEFAULT_WINDOW = 65_535;
const [SLOW, SMALL, NOTHING] = [70, 1, 1];

const loops: FakeLoop[] = [];
afterEach(() => {
  for (const loop of loops.splice(0)) expect(loop.faults).toEqual([]);
});

/** A message on its way, whose reader may rest. */
interface Message {
  readonly id: number;
  readonly gone: () => string;
  readonly bytes: () => number;
  rest(): void;
  go(): void;
}

interface World {
  readonly loop: FakeLoop;
  readonly peer: RawPeer;
  readonly messages: readonly Message[];
}

const count = (parts: readonly Buffer[]): number => parts.reduce((sum, { length }) => sum + length, 0);

function responses(): World {
  const { session, peer, loop } = asked();
  const head = { method: 'GET', target: '/', authority: 'a', scheme: 'http', contentLength: null, receivedBytes: 0 };
  const messages = Array.from({ length: SLOW + SMALL + NOTHING }, (_, index) => {
    const response = new SeenResponse();
    const exchange = session.begin(new Http2RequestHead({ ...head, scheme: 'http' }, []), true, response);
    return {
      id: 2 * index + 1,
      gone: () => response.failure?.kind ?? '',
      bytes: () => count(response.body),
      rest: () => exchange.pause(),
      go: () => exchange.resume(),
    };
  });
  peer.read();
  for (const { id } of messages) peer.headers(id, [[':status', '200']], false);
  return { loop, peer, messages };
}

function requests(): World {
  const { peer, requests: seen, loop } = served();
  const messages: Message[] = [];
  seen.on = (request: SeenRequest) => {
    messages.push({
      id: 2 * messages.length + 1,
      gone: () => request.fault,
      bytes: () => count(request.body),
      rest: () => request.exchange.pause(),
      go: () => request.exchange.resume(),
    });
  };
  for (let index = 0; index < SLOW + SMALL + NOTHING; index++) {
    const fields = [
      [':method', 'POST'],
      [':scheme', 'http'],
      [':path', '/'],
      [':authority', 'a'],
    ] as const;
    peer.headers(2 * index + 1, fields, false);
  }
  return { loop, peer, messages };
}

/** The window of the connection that the peer has left, of all that it was given. */
class Window {
  readonly #peer: RawPeer;
  #sent = 0;

  constructor(peer: RawPeer) {
    this.#peer = peer;
  }

  get left(): number {
    this.#peer.read();
    const given = this.#peer.of(TYPE.windowUpdate, 0).reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0);
    return DEFAULT_WINDOW + given - this.#sent;
  }

  /** As much as the windows allow. */
  send(id: number, bytes: number): void {
    for (let left = bytes; left > 0 && this.left > 0; ) {
      const piece = Math.min(left, PIECE, this.left);
      this.#peer.data(id, Buffer.alloc(piece));
      this.#sent += piece;
      left -= piece;
    }
  }
}

/** Slow readers hold all that the connection may carry, and one holds a little; the last holds nothing. */
function crowd(
  start: () => World,
): World & { readonly window: Window; readonly small: Message; readonly free: Message } {
  const world = start();
  loops.push(world.loop);
  const { peer, messages } = world;
  const [free, small] = messages.slice(-2).toReversed() as [Message, Message];
  const window = new Window(peer);
  for (const message of messages) if (message !== free) message.rest();
  window.send(small.id, PIECE);
  for (const { id } of messages.slice(0, SLOW)) window.send(id, STREAM_WINDOW);
  expect(window.left).toBe(0);
  return { ...world, window, small, free };
}

describe.each([
  ['responses', responses],
  ['requests', requests],
])('on a connection full of %s that nobody takes', (_what, start) => {
  test('those who hold the most go, and who holds nothing is heard', () => {
    const { loop, messages, window, small, free } = crowd(start);
    loop.pass(2 * CHECK_MS + 100);
    const gone = messages.filter((message) => message.gone() !== '');
    expect(new Set(gone.map((message) => message.gone()))).toEqual(new Set(['evicted']));
    expect([small.gone(), free.gone()]).toEqual(['', '']);
    // No more of them than must.
    expect((SLOW - gone.length) * STREAM_WINDOW).toBeGreaterThan(MOST_HELD - 2 * STREAM_WINDOW);
    window.send(free.id, 2 * PIECE);
    expect(free.bytes()).toBe(2 * PIECE);
  });

  test('nobody goes before the second look', () => {
    const { loop, messages } = crowd(start);
    loop.pass(CHECK_MS + 100);
    expect(messages.filter((message) => message.gone() !== '')).toEqual([]);
  });

  test('nobody goes where the readers go on in between', () => {
    const { loop, messages, window, free } = crowd(start);
    loop.pass(CHECK_MS + 100);
    for (const message of messages) message.go();
    loop.pass(2 * CHECK_MS);
    expect(messages.filter((message) => message.gone() !== '')).toEqual([]);
    window.send(free.id, PIECE);
    expect(free.bytes()).toBe(PIECE);
  });
});
