import { describe, expect, test } from 'vitest';
import { FLAG, frameBytes, literalHeaders, settingsPayload, TYPE, uint32 } from '../../support/http2-raw.ts';
import { POST, REQUEST } from '../http/http2/support/raw-peer.ts';
import { type Served, served } from '../http/http2/support/served.ts';

const [PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, COMPRESSION_ERROR, ENHANCE_YOUR_CALM] = [1, 3, 6, 9, 11];

/** An odd number for each round, from 1 on. */
const id = (round: number): number => 2 * round + 1;

const request = (round: number, flags: number = FLAG.endStream): Buffer =>
  frameBytes(TYPE.headers, FLAG.endHeaders | flags, id(round), literalHeaders(REQUEST));

/** What an attacker sends, again and again, and how many times are more than enough. */
const FLOODS: readonly (readonly [string, number, (round: number) => Buffer])[] = [
  ['rapid reset', 6_000, (i) => Buffer.concat([request(i), frameBytes(TYPE.rstStream, 0, id(i), uint32(8))])],
  [
    'requests that make us reset',
    6_000,
    (i) => Buffer.concat([request(i, 0), frameBytes(TYPE.windowUpdate, 0, id(i), uint32(0))]),
  ],
  ['malformed requests', 6_000, (i) => frameBytes(TYPE.headers, 5, id(i), literalHeaders([['x', 'y']]))],
  ['more requests than allowed', 6_000, (i) => request(i)],
  ['SETTINGS', 600, () => frameBytes(TYPE.settings, 0, 0, settingsPayload([[4, 100]]))],
  ['empty SETTINGS', 600, () => frameBytes(TYPE.settings, 0, 0)],
  ['PING', 120_000, () => frameBytes(TYPE.ping, 0, 0, Buffer.alloc(8))],
  ['PRIORITY', 120_000, () => frameBytes(TYPE.priority, 0, 1, Buffer.alloc(5))],
  ['frames of unknown types', 120_000, () => frameBytes(0xbe, 0, 0, Buffer.alloc(10))],
  ['GOAWAY', 600, () => frameBytes(TYPE.goaway, 0, 0, Buffer.alloc(8))],
  ['small window updates', 120_000, () => frameBytes(TYPE.windowUpdate, 0, 0, uint32(1))],
  ['empty DATA', 3_000, (i) => (i === 0 ? request(0, 0) : frameBytes(TYPE.data, 0, 1))],
  ['empty CONTINUATION', 600, (i) => (i === 0 ? frameBytes(TYPE.headers, 0, 1) : frameBytes(TYPE.continuation, 0, 1))],
  [
    'CONTINUATION that grows',
    100,
    (i) => frameBytes(i === 0 ? TYPE.headers : TYPE.continuation, 0, 1, Buffer.alloc(1_000, 0x82)),
  ],
];

describe('a flood of', () => {
  test.each(FLOODS)('%s ends the connection, with what was made of it', (_, rounds, frame) => {
    const made = served();
    const before = made.channel.writes;
    for (let i = 0; i < rounds && made.channel.over === ''; i++) {
      made.peer.bytes(frame(i));
      // Nobody reads a flood's answers for long.
      if (i % 64 === 0) made.loop.settle();
    }
    expect(made.peer.goaways()).toEqual([ENHANCE_YOUR_CALM]);
    made.loop.settle();
    expect([made.channel.over, made.requests.ends.length, made.session.active]).toEqual(['finished', 1, 0]);
    expect(made.channel.writes).toBeGreaterThan(before);
  });

  test('what it makes us answer, by a client that reads nothing, ends at a bound', () => {
    const made = served();
    made.channel.taking = false;
    const start = made.channel.bytesWritten;
    for (let i = 0; i < 90_000 && made.channel.over === ''; i++) {
      made.channel.receive(frameBytes(TYPE.ping, 0, 0, Buffer.alloc(8)));
      if (i % 1_000 === 0) made.loop.settle();
    }
    made.loop.settle();
    expect(made.channel.over).toBe('aborted');
    expect(made.channel.bytesWritten - start).toBeLessThan(600_000);
  });
});

/** What no peer may send even once. */
const BROKEN: readonly (readonly [string, number, readonly Buffer[]])[] = [
  ['HEADERS longer than our frames', FRAME_SIZE_ERROR, [frameBytes(TYPE.headers, 4, 1, Buffer.alloc(65_537))]],
  ['DATA longer than our frames', FRAME_SIZE_ERROR, [request(0, 0), frameBytes(TYPE.data, 0, 1, Buffer.alloc(65_537))]],
  ['DATA on stream 0', PROTOCOL_ERROR, [frameBytes(TYPE.data, 0, 0, Buffer.alloc(1))]],
  ['DATA on a stream that nobody opened', PROTOCOL_ERROR, [frameBytes(TYPE.data, 0, 1, Buffer.alloc(1))]],
  [
    'padding longer than its frame',
    PROTOCOL_ERROR,
    [request(0, 0), frameBytes(TYPE.data, FLAG.padded, 1, Buffer.of(4, 0, 0))],
  ],
  ['padded DATA without the pad', PROTOCOL_ERROR, [request(0, 0), frameBytes(TYPE.data, FLAG.padded, 1)]],
  ['a client’s stream with an even number', PROTOCOL_ERROR, [frameBytes(TYPE.headers, 5, 2, literalHeaders(REQUEST))]],
  [
    'padded HEADERS without the pad',
    PROTOCOL_ERROR,
    [frameBytes(TYPE.headers, 5 | FLAG.padded, 1, Buffer.of(9, 0x82))],
  ],
  ['CONTINUATION without HEADERS', PROTOCOL_ERROR, [frameBytes(TYPE.continuation, 4, 1)]],
  [
    'a header block that is interrupted',
    PROTOCOL_ERROR,
    [frameBytes(TYPE.headers, 0, 1), frameBytes(TYPE.ping, 0, 0, Buffer.alloc(8))],
  ],
  [
    'another stream’s CONTINUATION',
    PROTOCOL_ERROR,
    [frameBytes(TYPE.headers, 0, 1), frameBytes(TYPE.continuation, 4, 3)],
  ],
  [
    'a header block that cannot be decoded',
    COMPRESSION_ERROR,
    [frameBytes(TYPE.headers, 5, 1, Buffer.of(0xff, 0xff, 0xff))],
  ],
  [
    'a header block of references without end',
    COMPRESSION_ERROR,
    [frameBytes(TYPE.headers, 5, 1, Buffer.alloc(2_000, 0x82))],
  ],
  ['SETTINGS of a wrong length', FRAME_SIZE_ERROR, [frameBytes(TYPE.settings, 0, 0, Buffer.alloc(5))]],
  ['an acknowledgement with settings', FRAME_SIZE_ERROR, [frameBytes(TYPE.settings, FLAG.ack, 0, Buffer.alloc(6))]],
  ['SETTINGS of a stream', PROTOCOL_ERROR, [frameBytes(TYPE.settings, 0, 1)]],
  ['push that is neither on nor off', PROTOCOL_ERROR, [frameBytes(TYPE.settings, 0, 0, settingsPayload([[2, 2]]))]],
  [
    'a window larger than 2^31-1',
    FLOW_CONTROL_ERROR,
    [frameBytes(TYPE.settings, 0, 0, settingsPayload([[4, 0x80000000]]))],
  ],
  ['frames smaller than 16 KiB', PROTOCOL_ERROR, [frameBytes(TYPE.settings, 0, 0, settingsPayload([[5, 16_383]]))]],
  [
    'a setting that overflows a window',
    FLOW_CONTROL_ERROR,
    [
      request(0, 0),
      frameBytes(TYPE.windowUpdate, 0, 1, uint32(0x7fff0000)),
      frameBytes(TYPE.settings, 0, 0, settingsPayload([[4, 0x7fffffff]])),
    ],
  ],
  ['a window update of 3 bytes', FRAME_SIZE_ERROR, [frameBytes(TYPE.windowUpdate, 0, 0, Buffer.alloc(3))]],
  ['a window update of nothing', PROTOCOL_ERROR, [frameBytes(TYPE.windowUpdate, 0, 0, uint32(0))]],
  [
    'a window update beyond the largest window',
    FLOW_CONTROL_ERROR,
    [frameBytes(TYPE.windowUpdate, 0, 0, uint32(0x7fffffff))],
  ],
  ['a window update of a stream that nobody opened', PROTOCOL_ERROR, [frameBytes(TYPE.windowUpdate, 0, 1, uint32(1))]],
  ['a reset of a stream that nobody opened', PROTOCOL_ERROR, [frameBytes(TYPE.rstStream, 0, 1, uint32(8))]],
  ['a reset of 3 bytes', FRAME_SIZE_ERROR, [frameBytes(TYPE.rstStream, 0, 1, Buffer.alloc(3))]],
  ['a PING of 7 bytes', FRAME_SIZE_ERROR, [frameBytes(TYPE.ping, 0, 0, Buffer.alloc(7))]],
  ['a PING of a stream', PROTOCOL_ERROR, [frameBytes(TYPE.ping, 0, 1, Buffer.alloc(8))]],
  ['a GOAWAY of 4 bytes', FRAME_SIZE_ERROR, [frameBytes(TYPE.goaway, 0, 0, Buffer.alloc(4))]],
  ['a GOAWAY of a stream', PROTOCOL_ERROR, [frameBytes(TYPE.goaway, 0, 1, Buffer.alloc(8))]],
  ['PUSH_PROMISE', PROTOCOL_ERROR, [frameBytes(TYPE.pushPromise, 4, 1, Buffer.alloc(4))]],
];

describe('ends the connection with its code:', () => {
  test.each(BROKEN)('%s', (_, code, frames) => {
    const made = served();
    made.peer.bytes(Buffer.concat(frames));
    expect(made.peer.goaways()).toEqual([code]);
    expect(made.channel.over).toBe('finished');
  });

  test('a header block longer than a head may be, in one frame as in many', () => {
    const made = served({ headerBytes: 4_096 });
    made.peer.bytes(frameBytes(TYPE.headers, 5, 1, Buffer.alloc(24_000)));
    expect(made.peer.goaways()).toEqual([ENHANCE_YOUR_CALM]);
  });

  test('more than the window of the connection', () => {
    const made = served();
    made.requests.on = ({ exchange }) => exchange.pause();
    for (let i = 0; i < 100 && made.channel.over === ''; i++) {
      made.peer.headers(id(i), POST, false);
      for (let n = 0; n < 8; n++) made.peer.data(id(i), Buffer.alloc(16_384));
    }
    expect(made.peer.goaways()).toEqual([FLOW_CONTROL_ERROR]);
  });
});

test('large heads in many frames, again and again, are no flood', () => {
  const made = served();
  const block = literalHeaders([...REQUEST, ...Array.from({ length: 5 }, () => ['x-a', 'v'.repeat(10_000)] as const)]);
  for (let i = 0; i < 500; i++) {
    const frames = [frameBytes(TYPE.headers, FLAG.endStream, id(i), block.subarray(0, 16_384))];
    for (let at = 16_384; at < block.length; at += 16_384) {
      const last = at + 16_384 >= block.length ? FLAG.endHeaders : 0;
      frames.push(frameBytes(TYPE.continuation, last, id(i), block.subarray(at, at + 16_384)));
    }
    made.peer.bytes(Buffer.concat(frames));
    made.requests.last.exchange.reply({ status: 200, headers: [], body: '' });
  }
  expect([made.requests.all.length, made.channel.over]).toEqual([500, '']);
});

/** The attacker's frames must not cost what they cost to send, again and again, in what stays. */
test('streams that were given up leave nothing behind', () => {
  const made: Served = served();
  for (let i = 0; i < 2_000; i++) {
    made.peer.bytes(Buffer.concat([request(i), frameBytes(TYPE.rstStream, 0, id(i), uint32(8))]));
  }
  expect([made.session.active, made.channel.over]).toEqual([0, '']);
});
