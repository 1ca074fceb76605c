import { afterEach, describe, expect, test } from 'vitest';
import { Http2Fields } from '../../../../proxy/http/http2/fields.ts';
import { Http2RequestHead } from '../../../../proxy/http/http2/heads.ts';
import { NativeBuffer } from '../../../../proxy/native/memory.ts';
import { FLAG, settingsPayload, TYPE, uint32 } from '../../../support/http2-raw.ts';
import type { FakeLoop } from './support/fake-loop.ts';
import { SeenResponse } from './support/recorders.ts';
import { type Asked, asked } from './support/served.ts';

const [NO_ERROR, PROTOCOL_ERROR, CANCEL] = [0, 1, 8];
const content = new NativeBuffer(256 * 1024);

const head = (method = 'GET', fields: [string, string][] = [], contentLength: number | null = null): Http2RequestHead =>
  new Http2RequestHead(
    { method, target: '/a?x=1', authority: 'orders:80', scheme: 'http', contentLength, receivedBytes: 0 },
    fields,
  );

const loops: FakeLoop[] = [];
function start(...options: Parameters<typeof asked>): Asked {
  const made = asked(...options);
  loops.push(made.loop);
  return made;
}
afterEach(() => {
  for (const loop of loops.splice(0)) expect(loop.faults).toEqual([]);
});

/** Begins a request of that method; it is complete with its head. */
function get({ session, peer }: Asked, method = 'GET'): SeenResponse {
  const response = new SeenResponse();
  session.begin(head(method), true, response);
  peer.read();
  return response;
}

const OK: readonly (readonly [string, string])[] = [[':status', '200']];

describe('a request', () => {
  test('is sent with its control data, fields and length', () => {
    const { session, peer } = start();
    const exchange = session.begin(head('POST', [['x-a', 'b']], 3), false, new SeenResponse());
    content.bytes.write('abc', 'latin1');
    exchange.write(content, 0, 3);
    exchange.finish(new Http2Fields([['x-sum', '1']]));
    peer.read();
    expect(peer.of(TYPE.headers, 1).map(({ headers }) => headers)).toEqual([
      [
        [':method', 'POST'],
        [':scheme', 'http'],
        [':path', '/a?x=1'],
        [':authority', 'orders:80'],
        ['x-a', 'b'],
        ['content-length', '3'],
      ],
      [['x-sum', '1']],
    ]);
    expect([peer.body(1).toString(), peer.ended(1)]).toEqual(['abc', true]);
  });

  test('waits for the window, and tells when there is room', () => {
    const { session, peer } = start();
    const response = new SeenResponse();
    const exchange = session.begin(head('POST'), false, response);
    exchange.write(content, 0, 100_000);
    peer.read();
    expect([peer.body(1).length, exchange.congested]).toEqual([65_535, true]);
    peer.window(0, 100_000);
    peer.window(1, 100_000);
    expect([peer.body(1).length, exchange.congested, response.drains]).toEqual([100_000, false, 1]);
  });

  test('that is given up is reset, and nothing is heard of it', () => {
    const { session, peer } = start();
    const response = new SeenResponse();
    const exchange = session.begin(head(), true, response);
    exchange.abort('not wanted');
    peer.read();
    expect(peer.resets(1)).toEqual([CANCEL]);
    peer.headers(1, OK);
    expect([response.head, response.failure]).toEqual([null, null]);
  });
});

describe('a response', () => {
  test('is heard with its head, body and trailers, after interim ones', () => {
    const made = start();
    const response = get(made);
    const { peer } = made;
    peer.headers(
      1,
      [
        [':status', '103'],
        ['link', 'x'],
      ],
      false,
    );
    peer.headers(1, [...OK, ['x-a', 'b'], ['content-length', '4']], false);
    peer.data(1, 'ab');
    peer.data(1, 'cd');
    peer.headers(1, [['grpc-status', '0']]);
    expect([response.informational, response.head?.status, response.head?.get('x-a')]).toEqual([[103], 200, 'b']);
    expect([response.head?.contentLength, response.head?.has('content-length')]).toEqual([4, false]);
    expect([response.text, response.ended, response.trailers]).toEqual(['abcd', true, [['grpc-status', '0']]]);
    expect([made.session.active, response.failure]).toEqual([0, null]);
  });

  test('without a body is told so, and has no end of its own', () => {
    const made = start();
    const response = get(made);
    made.peer.headers(1, [...OK]);
    expect([response.bodyless, response.ended, made.session.active]).toEqual([true, false, 0]);
  });

  test('to HEAD, or 304, may tell a length and has no body', () => {
    const made = start();
    const [first, second] = [get(made, 'HEAD'), get(made)];
    made.peer.headers(1, [...OK, ['content-length', '100']]);
    made.peer.headers(
      3,
      [
        [':status', '304'],
        ['content-length', '100'],
      ],
      false,
    );
    made.peer.data(3, '', true);
    expect([first.head?.contentLength, first.failure, second.ended, second.failure]).toEqual([100, null, true, null]);
  });

  test.each([
    ['without :status', [['x-a', 'b']], true],
    ['with a status of two digits', [[':status', '20']], true],
    ['with a status beyond 599', [[':status', '600']], true],
    [
      'with two statuses',
      [
        [':status', '200'],
        [':status', '200'],
      ],
      true,
    ],
    [
      'with :status after a field',
      [
        ['x-a', 'b'],
        [':status', '200'],
      ],
      true,
    ],
    [
      'with a request’s pseudo-header field',
      [
        [':status', '200'],
        [':path', '/'],
      ],
      true,
    ],
    ['101', [[':status', '101']], false],
    ['an interim one that ends', [[':status', '103']], true],
    [
      'with a name in capitals',
      [
        [':status', '200'],
        ['X', 'y'],
      ],
      true,
    ],
    [
      'with a line end in a value',
      [
        [':status', '200'],
        ['x', 'a\r\nb'],
      ],
      true,
    ],
    [
      'with connection',
      [
        [':status', '200'],
        ['connection', 'close'],
      ],
      true,
    ],
    [
      'with transfer-encoding',
      [
        [':status', '200'],
        ['transfer-encoding', 'chunked'],
      ],
      true,
    ],
    [
      'with two lengths',
      [
        [':status', '200'],
        ['content-length', '1'],
        ['content-length', '1'],
      ],
      false,
    ],
    [
      'with a length and no body',
      [
        [':status', '200'],
        ['content-length', '1'],
      ],
      true,
    ],
  ] as const)('%s is a fault of protocol', (_, fields, ends) => {
    const made = start();
    const response = get(made);
    made.peer.headers(1, fields as never, ends);
    expect([response.failure?.kind, made.peer.resets(1)]).toEqual(['protocol', [PROTOCOL_ERROR]]);
    expect(made.peer.goaways()).toEqual([]);
  });

  test.each([
    ['longer than its length', (peer: Asked['peer']) => peer.data(1, 'four')],
    ['shorter than its length', (peer: Asked['peer']) => peer.data(1, 'ab', true)],
    ['with a second head', (peer: Asked['peer']) => peer.headers(1, OK, false)],
  ])('%s fails', (_, act) => {
    const made = start();
    const response = get(made);
    made.peer.headers(1, [...OK, ['content-length', '3']], false);
    act(made.peer);
    expect(response.failure?.kind).toBe('protocol');
  });

  test('with a head larger than the limit fails', () => {
    const made = start({ headerBytes: 1_000, headerCount: 10 });
    const response = get(made);
    made.peer.headers(1, [...OK, ['x', 'v'.repeat(2_000)]]);
    expect(response.failure?.kind).toBe('protocol');
  });

  test('with interim ones without end fails', () => {
    const made = start();
    const response = get(made);
    for (let i = 0; i < 65; i++) made.peer.headers(1, [[':status', '103']], false);
    expect([response.informational.length, response.failure?.kind]).toEqual([64, 'protocol']);
  });

  test('with a body where none may be fails', () => {
    const made = start();
    const response = get(made, 'HEAD');
    made.peer.headers(1, OK, false);
    made.peer.data(1, 'x', true);
    expect(response.failure?.kind).toBe('protocol');
  });

  test('that is complete is delivered, though the connection is lost while its reader pauses', () => {
    const { session, peer, channel, loop } = start();
    const response = new SeenResponse();
    const exchange = session.begin(head(), true, response);
    peer.read();
    peer.headers(1, OK, false);
    exchange.pause();
    peer.data(1, 'all of it', true);
    channel.die('reset');
    loop.settle();
    expect([response.text, response.failure]).toEqual(['', null]);
    exchange.resume();
    loop.settle();
    expect([response.text, response.ended, response.failure]).toEqual(['all of it', true, null]);
  });

  test('before the request is complete ends the exchange when that was given up', () => {
    const { session, peer } = start();
    const response = new SeenResponse();
    const exchange = session.begin(head('POST'), false, response);
    peer.read();
    peer.headers(1, OK, true);
    expect([response.bodyless, session.active]).toEqual([true, 1]);
    peer.send(TYPE.rstStream, 0, 1, uint32(NO_ERROR));
    expect([session.active, response.failure]).toEqual([0, null]);
    exchange.finish(null);
    peer.read();
    expect(peer.ended(1)).toBe(false);
  });
});

describe('what fails', () => {
  test.each([
    ['REFUSED_STREAM', 7, 'refused'],
    ['CANCEL', 8, 'reset'],
    ['NO_ERROR before the response', 0, 'reset'],
    ['ENHANCE_YOUR_CALM', 11, 'reset'],
  ] as const)('by %s is told as it is', (_, code, kind) => {
    const made = start();
    const response = get(made);
    made.peer.send(TYPE.rstStream, 0, 1, uint32(code));
    expect(response.failure?.kind).toBe(kind);
  });

  test.each([
    ['done', 0],
    ['an error', 2],
    ['too many resets', 11],
  ])('by GOAWAY (%s): what was not processed is refused, what was goes on, and there is no room', (_, code) => {
    const made = start();
    const [first, second] = [get(made), get(made)];
    made.peer.send(TYPE.goaway, 0, 0, Buffer.concat([uint32(1), uint32(code)]));
    expect([first.failure, second.failure?.kind, made.session.room]).toEqual([null, 'refused', 0]);
    made.peer.headers(1, OK);
    expect(first.head?.status).toBe(200);
    made.loop.settle();
    expect([made.channel.over, made.owner.ends]).toEqual(['finished', ['drained']]);
  });

  test('by the end of the connection is reset, and then the session ends', () => {
    const made = start();
    const order: string[] = [];
    const response = get(made);
    response.onFailed = ({ kind }) => order.push(kind);
    made.owner.onSessionEnd = () => order.push('session');
    made.channel.die('connection reset');
    made.loop.settle();
    expect(order).toEqual(['reset', 'session']);
  });

  test('by time: an idle stream, and a response that does not come', () => {
    const idle = start({ streamIdleTimeoutMs: 10_000 });
    const silent = get(idle);
    idle.loop.pass(15_000);
    const slow = start({ requestTimeoutMs: 1_000 });
    const late = get(slow);
    for (let i = 0; i < 10; i++) {
      slow.peer.headers(1, [[':status', '103']], false);
      slow.loop.pass(150);
    }
    expect([silent.failure?.kind, late.failure?.kind]).toEqual(['timeout', 'timeout']);
    slow.peer.read();
    expect(slow.peer.resets(1)).toEqual([CANCEL]);
  });

  test('in a call of the listener’s own is told after it', () => {
    const { session, peer, loop } = start();
    const response = new SeenResponse();
    session.begin(head('GET', [['x', 'v'.repeat(300_000)]]), true, response);
    expect(response.failure).toBeNull();
    loop.settle();
    expect([response.failure?.kind, session.active, peer.goaways()]).toEqual(['refused', 0, []]);
  });

  test('because the server opens a stream of its own ends the connection', () => {
    for (const type of [TYPE.headers, TYPE.pushPromise]) {
      const made = start();
      const response = get(made);
      made.peer.send(type, FLAG.endHeaders, 2, Buffer.alloc(4));
      made.loop.settle();
      expect([made.peer.goaways(), response.failure?.kind]).toEqual([[PROTOCOL_ERROR], 'reset']);
    }
  });
});

describe('room', () => {
  test('is what both sides allow, and comes back when an exchange ends', () => {
    const made = start({ maxConcurrentStreams: 3 });
    expect(made.session.room).toBe(3);
    made.peer.send(TYPE.settings, 0, 0, settingsPayload([[3, 1]]));
    expect([made.session.room, made.owner.rooms]).toEqual([1, 2]);
    get(made);
    expect(made.session.room).toBe(0);
    const refused = new SeenResponse();
    made.session.begin(head(), true, refused);
    made.loop.settle();
    expect(refused.failure?.kind).toBe('refused');
    made.peer.headers(1, OK);
    expect([made.session.room, made.owner.rooms]).toEqual([1, 3]);
  });

  test('is none where what is below will not live long', () => {
    const { session, channel } = start();
    channel.retiring = true;
    expect(session.room).toBe(0);
  });

  test('is none for a session that retires, which ends with its last exchange', () => {
    const made = start();
    const response = get(made);
    made.session.retire();
    expect([made.session.room, made.channel.over]).toEqual([0, '']);
    made.peer.headers(1, OK);
    made.loop.settle();
    expect([response.head?.status, made.channel.over, made.owner.ends]).toEqual([200, 'finished', ['drained']]);
  });
});

test('a paused reader is given no more than the window, and the rest when it goes on', () => {
  const { session, peer } = start();
  const response = new SeenResponse();
  const exchange = session.begin(head(), true, response);
  peer.read();
  peer.headers(1, OK, false);
  exchange.pause();
  for (let i = 0; i < 8; i++) peer.data(1, Buffer.alloc(16_384, 'x'), i === 7);
  expect([response.text, peer.of(TYPE.windowUpdate, 1)]).toEqual(['', []]);
  exchange.resume();
  peer.read();
  expect([response.text.length, response.ended]).toEqual([131_072, true]);
});

test('slow readers who hold too much hold up nobody new, and what they held is given back with them', () => {
  const { session, peer } = start();
  const exchanges = Array.from({ length: 50 }, () => session.begin(head(), true, new SeenResponse()));
  peer.read();
  for (const [index, exchange] of exchanges.entries()) {
    exchange.pause();
    peer.headers(2 * index + 1, OK, false);
    for (let sent = 0; sent < 120_000; sent += 15_000) peer.data(2 * index + 1, Buffer.alloc(15_000));
  }
  expect(session.room).toBe(0);
  const given = (): number =>
    peer.of(TYPE.windowUpdate, 0).reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0);
  const before = given();
  for (const exchange of exchanges) exchange.abort('not wanted');
  peer.read();
  expect(session.room).toBe(100);
  expect(given()).toBeGreaterThan(before);
});
