import { afterEach, describe, expect, test } from 'vitest';
import { Http2Fields } from '../../../../proxy/http/http2/fields.ts';
import { Http2ResponseHead } from '../../../../proxy/http/http2/heads.ts';
import { NativeBuffer } from '../../../../proxy/native/memory.ts';
import { FLAG, frameBytes, literalHeaders, PREFACE, TYPE } from '../../../support/http2-raw.ts';
import type { FakeLoop } from './support/fake-loop.ts';
import { POST, REQUEST } from './support/raw-peer.ts';
import type { SeenRequest } from './support/recorders.ts';
import { type Served, served } from './support/served.ts';

const [NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, REFUSED_STREAM, CANCEL] = [0, 1, 3, 5, 7, 8];
const content = new NativeBuffer(256 * 1024);
const ok = (fields: [string, string][] = [], length: number | null = null): Http2ResponseHead =>
  new Http2ResponseHead(200, length, 0, fields);

const loops: FakeLoop[] = [];
function start(...options: Parameters<typeof served>): Served {
  const made = served(...options);
  loops.push(made.loop);
  return made;
}
afterEach(() => {
  for (const loop of loops.splice(0)) expect(loop.faults).toEqual([]);
});

function answer(request: SeenRequest, text: string): void {
  request.exchange.respond(ok(), false);
  content.bytes.write(text, 'latin1');
  request.exchange.write(content, 0, text.length);
  request.exchange.finish(null);
}

describe('a request', () => {
  test('is seen with its head and fields, and its body and trailers as they come', () => {
    const { peer, requests } = start();
    peer.headers(
      1,
      [...POST, ['x-a', '1'], ['x-a', '2'], ['cookie', 'a=1'], ['cookie', 'b=2'], ['te', 'trailers']],
      false,
    );
    const { head } = requests.last;
    expect([head.version, head.method, head.target, head.authority]).toEqual(['h2', 'POST', '/', 'orders.shop:8080']);
    expect([head.get('x-a'), head.all('x-a'), head.get('cookie'), head.get('te'), head.get('none')]).toEqual([
      '1, 2',
      ['1', '2'],
      'a=1; b=2',
      'trailers',
      null,
    ]);
    peer.data(1, 'ab');
    expect(requests.last.text).toBe('ab');
    peer.data(1, 'c');
    peer.headers(1, [['x-sum', '7']], true);
    expect(requests.last.text).toBe('abc');
    expect([requests.last.ended, requests.last.trailers]).toEqual([true, [['x-sum', '7']]]);
    expect(requests.last.exchange.bodyless).toBe(false);
  });

  test('without a body is bodyless, and has no end of its own', () => {
    const { peer, requests } = start();
    peer.headers(1, REQUEST);
    expect([requests.last.exchange.bodyless, requests.last.ended]).toEqual([true, false]);
  });

  test('has the crumbs of its cookie put together, wherever they stood (RFC 9113, 8.2.3)', () => {
    const { peer, requests } = start();
    peer.headers(1, [...REQUEST, ['cookie', 'a=1'], ['x-a', '1'], ['cookie', 'b=2']]);
    const { head } = requests.last;
    expect([head.all('cookie'), head.all('x-a'), head.all('none')]).toEqual([['a=1; b=2'], ['1'], []]);
    expect([...head.lines()].filter(([name]) => name === 'cookie')).toHaveLength(2);
  });

  // Our SETTINGS_MAX_FRAME_SIZE is said of HEADERS, too: Go's client, for one, makes use of it.
  test.each([16_385, 40_000, 59_000])('may have a head of %d bytes in one frame', (size) => {
    const { peer, requests } = start({ headerBytes: 60 * 1024 });
    const bytes = frameBytes(
      TYPE.headers,
      FLAG.endHeaders | FLAG.endStream,
      1,
      literalHeaders([...REQUEST, ['x-a', 'a'.repeat(size)]]),
    );
    peer.bytes(Buffer.concat([frameBytes(0x77, 0xff, 1, Buffer.alloc(size)), bytes.subarray(0, 20_000)]));
    peer.bytes(bytes.subarray(20_000));
    expect(requests.last.head.get('x-a')?.length).toBe(size);
    expect(peer.goaways()).toEqual([]);
  });

  test.each(['authorization', 'cookie', 'x-forwarded-client-cert', 'content-type', 'content-length', 'host', ':path'])(
    'with %s in its trailers is reset',
    (name) => {
      const { peer, requests } = start();
      peer.headers(1, POST, false);
      peer.headers(1, [[name, '1']], true);
      expect([peer.resets(1), requests.last.ended]).toEqual([[PROTOCOL_ERROR], false]);
    },
  );

  test('takes Host in place of :authority', () => {
    const { peer, requests } = start();
    peer.headers(1, [...REQUEST.slice(0, 3), ['host', 'a.b']]);
    expect([requests.last.head.authority, requests.last.head.has('host')]).toEqual(['a.b', false]);
  });

  const BAD: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
    ['without :method', REQUEST.slice(1)],
    ['without :scheme', [REQUEST[0] as never, ...REQUEST.slice(2)]],
    ['without :path', [...REQUEST.slice(0, 2), ...REQUEST.slice(3)]],
    ['without authority', REQUEST.slice(0, 3)],
    ['with an empty authority', [...REQUEST.slice(0, 3), [':authority', '']]],
    ['with user information', [...REQUEST.slice(0, 3), [':authority', 'a@b']]],
    ['with two :path', [...REQUEST, [':path', '/b']]],
    ['that spells what sidecars say with _', [...REQUEST, ['x_forwarded_client_cert', 'URI=spiffe://a']]],
    ['that spells its length with _', [...REQUEST, ['content_length', '5']]],
    ['with an unknown pseudo-header field', [...REQUEST, [':protocol', 'websocket']]],
    ['with a response’s pseudo-header field', [...REQUEST, [':status', '200']]],
    ['with a pseudo-header field after a field', [REQUEST[0] as never, ['x-a', '1'], ...REQUEST.slice(1)]],
    ['with a Host that disagrees', [...REQUEST, ['host', 'other.shop:8080']]],
    ['with two Hosts', [...REQUEST, ['host', 'orders.shop:8080'], ['host', 'orders.shop:8080']]],
    ['with an empty path', [...REQUEST.slice(0, 2), [':path', ''], ...REQUEST.slice(3)]],
    ['with a relative path', [...REQUEST.slice(0, 2), [':path', 'a'], ...REQUEST.slice(3)]],
    ['with an absolute-form path', [...REQUEST.slice(0, 2), [':path', 'http://a/b'], ...REQUEST.slice(3)]],
    ['with a fragment', [...REQUEST.slice(0, 2), [':path', '/a#b'], ...REQUEST.slice(3)]],
    ['with a space in the path', [...REQUEST.slice(0, 2), [':path', '/a b'], ...REQUEST.slice(3)]],
    ['with a line end in the path', [...REQUEST.slice(0, 2), [':path', '/a\r\nx: y'], ...REQUEST.slice(3)]],
    ['with * and not OPTIONS', [...REQUEST.slice(0, 2), [':path', '*'], ...REQUEST.slice(3)]],
    ['of another scheme', [REQUEST[0] as never, [':scheme', 'ftp'], ...REQUEST.slice(2)]],
    ['with a method in small letters', [[':method', 'get'], ...REQUEST.slice(1)]],
    ['with a space in the method', [[':method', 'GET /x'], ...REQUEST.slice(1)]],
    ['with a name in capitals', [...REQUEST, ['X-A', '1']]],
    ['with an empty name', [...REQUEST, ['', '1']]],
    ['with a space in a name', [...REQUEST, ['x a', '1']]],
    ['with a colon in a name', [...REQUEST, ['x:a', '1']]],
    ['with NUL in a value', [...REQUEST, ['x-a', 'a\0b']]],
    ['with CR LF in a value', [...REQUEST, ['x-a', 'a\r\nb: c']]],
    ['with LF in a value', [...REQUEST, ['x-a', 'a\nb']]],
    ['with a control byte in a value', [...REQUEST, ['x-a', 'a\x7f']]],
    ['with a space before a value', [...REQUEST, ['x-a', ' a']]],
    ['with a tab after a value', [...REQUEST, ['x-a', 'a\t']]],
    ['with connection', [...REQUEST, ['connection', 'close']]],
    ['with keep-alive', [...REQUEST, ['keep-alive', '5']]],
    ['with proxy-connection', [...REQUEST, ['proxy-connection', 'close']]],
    ['with transfer-encoding', [...REQUEST, ['transfer-encoding', 'chunked']]],
    ['with upgrade', [...REQUEST, ['upgrade', 'h2c']]],
    ['with te of something else', [...REQUEST, ['te', 'gzip']]],
    ['with two lengths, even equal ones', [...POST, ['content-length', '0'], ['content-length', '0']]],
    ['with a list of lengths', [...POST, ['content-length', '0, 0']]],
    ['with a signed length', [...POST, ['content-length', '+0']]],
    ['with a length beyond numbers', [...POST, ['content-length', '9999999999999999']]],
    ['with a length and no body', [...POST, ['content-length', '1']]],
    ['CONNECT with :path', [[':method', 'CONNECT'], ...REQUEST.slice(1)]],
    [
      'CONNECT without a port',
      [
        [':method', 'CONNECT'],
        [':authority', 'a'],
      ],
    ],
    [
      'CONNECT without authority',
      [
        [':method', 'CONNECT'],
        ['host', 'a:1'],
      ],
    ],
  ];
  test.each(BAD)('%s is answered 400 and reset', (_, fields) => {
    const { peer, requests } = start();
    peer.headers(1, fields);
    expect(peer.statuses(1)).toEqual(['400']);
    expect(peer.resets(1)).toEqual([PROTOCOL_ERROR]);
    expect(requests.all).toEqual([]);
    expect(requests.rejected.map(({ status }) => status)).toEqual([400]);
    peer.headers(3, REQUEST);
    expect(requests.all).toHaveLength(1);
  });

  test.each([
    ['OPTIONS *', [[':method', 'OPTIONS'], REQUEST[1] as never, [':path', '*'], REQUEST[3] as never], '*'],
    ['https', [REQUEST[0] as never, [':scheme', 'https'], ...REQUEST.slice(2)], '/'],
    ['a Host that agrees but for case', [...REQUEST, ['host', 'Orders.Shop:8080']], '/'],
    [
      'CONNECT',
      [
        [':method', 'CONNECT'],
        [':authority', 'a:1'],
      ],
      '',
    ],
    ['an empty value', [...REQUEST, ['x-a', '']], '/'],
    ['a tab and obs-text within a value', [...REQUEST, ['x-a', 'a\tb\xe9']], '/'],
  ] as const)('%s is good', (_, fields, target) => {
    const { peer, requests } = start();
    peer.headers(1, fields as never);
    expect(requests.last.head.target).toBe(target);
  });

  test.each([
    ['of too many bytes', 431, { headerBytes: 500 }, [...REQUEST, ['x-a', 'v'.repeat(600)]]],
    ['of very many bytes', 431, { headerBytes: 500 }, [...REQUEST, ['x-a', 'v'.repeat(10_000)]]],
    ['of too many fields', 431, { headerCount: 3 }, [...REQUEST, ...Array.from({ length: 4 }, () => ['x-a', 'v'])]],
    [
      'with too long a target',
      414,
      { targetBytes: 10 },
      [...REQUEST.slice(0, 2), [':path', `/${'a'.repeat(10)}`], ...REQUEST.slice(3)],
    ],
  ] as const)('%s is answered %i, and what is left of it is not wanted', (_, status, limits, fields) => {
    const { peer, requests } = start(limits);
    peer.headers(1, fields as never, false);
    expect([peer.statuses(1), peer.resets(1), requests.all]).toEqual([[String(status)], [NO_ERROR], []]);
  });

  test.each([
    ['longer than its length', PROTOCOL_ERROR, (peer: Served['peer']) => peer.data(1, 'four')],
    ['shorter than its length', PROTOCOL_ERROR, (peer: Served['peer']) => peer.data(1, 'ab', true)],
    [
      'that goes on after its end',
      STREAM_CLOSED,
      (peer: Served['peer']) => {
        peer.data(1, 'abc', true);
        peer.data(1, '');
        peer.data(1, 'd');
      },
    ],
    ['with a second head', PROTOCOL_ERROR, (peer: Served['peer']) => peer.headers(1, [['x-a', '1']], false)],
    [
      'with a pseudo-header field in its trailers',
      PROTOCOL_ERROR,
      (peer: Served['peer']) => peer.headers(1, [[':path', '/']], true),
    ],
    [
      'with content-length in its trailers',
      PROTOCOL_ERROR,
      (peer: Served['peer']) => peer.headers(1, [['content-length', '3']], true),
    ],
  ] as const)('%s is reset, and the handler hears of it once', (_, code, act) => {
    const { peer, requests } = start();
    peer.headers(1, [...POST, ['content-length', '3']], false);
    act(peer);
    expect(peer.resets(1)).toEqual([code]);
    expect(requests.last.fault).toBe('protocol');
    expect(peer.goaways()).toEqual([]);
  });

  test('in any split of its bytes is the same', () => {
    const bytes = Buffer.concat([
      PREFACE,
      frameBytes(TYPE.settings, 0, 0),
      frameBytes(TYPE.headers, 0, 1, literalHeaders(POST).subarray(0, 20)),
      frameBytes(TYPE.continuation, FLAG.endHeaders, 1, literalHeaders(POST).subarray(20)),
      frameBytes(TYPE.data, FLAG.padded, 1, Buffer.concat([Buffer.of(3), Buffer.from('hello'), Buffer.alloc(3)])),
      frameBytes(TYPE.ping, 0, 0, Buffer.from('12345678')),
      frameBytes(TYPE.headers, FLAG.endHeaders | FLAG.endStream, 1, literalHeaders([['x-t', 'v']])),
    ]);
    for (let split = 1; split <= bytes.length; split++) {
      const { peer, channel, requests } = start({}, null);
      channel.split = split;
      peer.bytes(bytes);
      expect([requests.last.text, requests.last.trailers, peer.of(TYPE.ping).length]).toEqual([
        'hello',
        [['x-t', 'v']],
        1,
      ]);
    }
  });

  test('that the client gives up ends the exchange', () => {
    const { peer, requests } = start();
    peer.headers(1, POST, false);
    peer.send(TYPE.rstStream, 0, 1, Buffer.of(0, 0, 0, CANCEL));
    expect([requests.last.fault, requests.last.aborted]).toEqual(['disconnect', 'peer reset the stream: CANCEL']);
  });

  test('beyond the limit is refused, and a place is free again when a response is over', () => {
    const { peer, requests } = start({ maxConcurrentStreams: 2 });
    for (const id of [1, 3, 5]) peer.headers(id, REQUEST);
    expect(peer.resets(5)).toEqual([REFUSED_STREAM]);
    expect(requests.all).toHaveLength(2);
    answer(requests.last, 'x');
    peer.headers(7, REQUEST);
    expect(requests.all).toHaveLength(3);
  });

  test('whose handler throws is answered 500, and the connection goes on', () => {
    const { loop, peer, requests } = served();
    requests.on = () => {
      throw new Error('mistake');
    };
    peer.headers(1, REQUEST);
    expect(peer.statuses(1)).toEqual(['500']);
    expect(loop.faults.map(String)).toEqual(['Error: mistake']);
    requests.on = (request) => answer(request, 'fine');
    peer.headers(3, REQUEST);
    expect(peer.body(3).toString()).toBe('fine');
  });
});

describe('a response', () => {
  test('is head, body and end, in two frames where all is said in one turn', () => {
    const { peer, channel, requests } = start();
    peer.headers(1, REQUEST);
    const before = channel.writes;
    requests.last.exchange.respond(ok([['x-a', 'b']], 6), false);
    for (const text of ['abc', 'def']) {
      content.bytes.write(text, 'latin1');
      requests.last.exchange.write(content, 0, 3);
    }
    requests.last.exchange.finish(null);
    peer.read();
    expect(peer.of(TYPE.headers, 1)[0]?.headers).toEqual([
      [':status', '200'],
      ['x-a', 'b'],
      ['content-length', '6'],
    ]);
    expect(peer.of(TYPE.data, 1).map(({ flags, payload }) => [flags, payload.toString()])).toEqual([
      [FLAG.endStream, 'abcdef'],
    ]);
    expect(channel.writes - before).toBe(1);
  });

  test('that has no body is one frame', () => {
    const { peer, requests } = start();
    peer.headers(1, REQUEST);
    requests.last.exchange.respond(ok(), false);
    requests.last.exchange.finish(null);
    peer.headers(3, REQUEST);
    requests.last.exchange.respond(ok(), true);
    peer.read();
    for (const id of [1, 3]) {
      expect(peer.of(TYPE.headers, id).map(({ flags }) => flags)).toEqual([FLAG.endHeaders | FLAG.endStream]);
      expect(peer.of(TYPE.data, id)).toEqual([]);
    }
  });

  test('has interim responses before it and trailers after it', () => {
    const { peer, requests } = start();
    peer.headers(1, REQUEST);
    const { exchange } = requests.last;
    exchange.informational(new Http2ResponseHead(103, null, 0, [['link', 'x']]));
    exchange.respond(ok(), false);
    exchange.informational(new Http2ResponseHead(103, null, 0, []));
    exchange.finish(new Http2Fields([['grpc-status', '0']]));
    peer.read();
    expect(peer.statuses(1)).toEqual(['103', '200']);
    const last = peer.of(TYPE.headers, 1).at(-1);
    expect([last?.headers, last?.flags]).toEqual([[['grpc-status', '0']], FLAG.endHeaders | FLAG.endStream]);
  });

  test('to HEAD has no body, whoever writes one', () => {
    const { peer, requests } = start();
    const head = [[':method', 'HEAD'] as const, ...REQUEST.slice(1)];
    peer.headers(1, head);
    answer(requests.last, 'body');
    peer.headers(3, head);
    requests.last.exchange.reply({ status: 404, headers: [], body: 'not there' });
    peer.read();
    for (const id of [1, 3]) expect([peer.body(id).length, peer.ended(id)]).toEqual([0, true]);
    expect(peer.of(TYPE.headers, 3)[0]?.headers).toContainEqual(['content-length', '9']);
  });

  test('that comes before the request is complete tells that the rest is not wanted', () => {
    const { peer, requests } = start();
    peer.headers(1, POST, false);
    answer(requests.last, 'no');
    peer.read();
    expect(peer.ended(1)).toBe(true);
    expect(peer.resets(1)).toEqual([NO_ERROR]);
    peer.data(1, 'still on its way', true);
    expect(peer.goaways()).toEqual([]);
  });

  test('of our own is complete', () => {
    const { peer, requests } = start();
    peer.headers(1, REQUEST);
    requests.last.exchange.reply({
      status: 403,
      headers: [['content-type', 'text/plain']],
      body: 'RBAC: access denied',
    });
    peer.read();
    expect([peer.statuses(1), peer.body(1).toString(), peer.ended(1)]).toEqual([['403'], 'RBAC: access denied', true]);
  });

  test('that breaks off is reset, and looks complete to nobody', () => {
    const { peer, requests } = start();
    peer.headers(1, REQUEST);
    requests.last.exchange.respond(ok(), false);
    requests.last.exchange.abort('the application died');
    peer.read();
    expect([peer.ended(1), peer.resets(1), requests.last.aborted]).toEqual([false, [2], '']);
  });

  test('larger than the window waits, the writer is told to stop, and goes on when there is room', () => {
    const { peer, requests } = start();
    peer.headers(1, REQUEST);
    const { exchange } = requests.last;
    exchange.respond(ok(), false);
    content.bytes.fill('z');
    exchange.write(content, 0, 100_000);
    peer.read();
    expect([peer.body(1).length, exchange.congested]).toEqual([65_535, true]);
    peer.window(0, 1_000_000);
    expect(peer.body(1).length).toBe(65_535);
    peer.window(1, 1_000_000);
    expect([peer.body(1).length, exchange.congested, requests.last.drains]).toEqual([100_000, false, 1]);
    exchange.finish(null);
    peer.read();
    expect(peer.ended(1)).toBe(true);
  });

  test('keeps to the peer’s frame size, also with a large head', () => {
    const { peer, requests } = start();
    peer.headers(1, REQUEST);
    requests.last.exchange.respond(ok([['x-large', 'v'.repeat(40_000)]]), false);
    content.bytes.fill('y');
    requests.last.exchange.write(content, 0, 60_000);
    requests.last.exchange.finish(null);
    peer.read();
    expect(peer.of(TYPE.headers, 1)[0]?.headers[1]?.[1]).toHaveLength(40_000);
    expect(peer.body(1)).toHaveLength(60_000);
    expect(Math.max(...peer.of(TYPE.data, 1).map(({ payload }) => payload.length))).toBeLessThanOrEqual(16_384);
  });

  test('to a client that reads nothing is held back in bounded memory', () => {
    const { peer, channel, requests } = start({}, [[4, 0x7fffffff]]);
    peer.window(0, 0x7ffe0000);
    channel.taking = false;
    peer.headers(1, REQUEST);
    const { exchange } = requests.last;
    exchange.respond(ok(), false);
    let written = 0;
    for (; written < 5_000_000 && !exchange.congested; written += 50_000) {
      exchange.write(content, 0, 50_000);
      peer.read();
    }
    expect(exchange.congested).toBe(true);
    expect(written).toBeLessThan(400_000);
    channel.drain();
    peer.read();
    expect([peer.body(1).length, exchange.congested, requests.last.drains]).toEqual([written, false, 1]);
  });
});

describe('a request’s body', () => {
  test('waits while it is not wanted, within the window, and more window comes only for what was taken', () => {
    const { peer, requests } = start();
    requests.on = ({ exchange }) => exchange.pause();
    peer.headers(1, POST, false);
    for (let i = 0; i < 8; i++) peer.data(1, Buffer.alloc(16_384, 'x'));
    expect(requests.last.body).toEqual([]);
    expect(peer.of(TYPE.windowUpdate, 1)).toEqual([]);
    requests.last.exchange.resume();
    peer.read();
    expect(requests.last.text).toHaveLength(131_072);
    expect(peer.of(TYPE.windowUpdate, 1).length).toBeGreaterThan(0);
  });

  test('that comes right after a resumption comes after what had waited', () => {
    const { peer, requests } = start();
    requests.on = ({ exchange }) => exchange.pause();
    peer.headers(1, POST, false);
    peer.data(1, 'first ');
    requests.last.exchange.resume();
    peer.data(1, 'second', true);
    expect([requests.last.text, requests.last.ended]).toEqual(['first second', true]);
  });

  test('beyond the window is refused', () => {
    const { peer, requests } = start();
    requests.on = ({ exchange }) => exchange.pause();
    peer.headers(1, POST, false);
    for (let i = 0; i < 9; i++) peer.data(1, Buffer.alloc(16_384));
    expect([peer.resets(1), requests.last.fault]).toEqual([[FLOW_CONTROL_ERROR], 'protocol']);
  });

  test('gets a larger window while its reader keeps up', () => {
    const { peer } = start();
    peer.headers(1, POST, false);
    for (let i = 0; i < 8; i++) peer.data(1, Buffer.alloc(16_384));
    const given = peer.of(TYPE.windowUpdate, 1).reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0);
    expect(given).toBeGreaterThan(131_072);
  });

  test('that nobody takes stops the whole connection at a bound', () => {
    const { peer, requests } = start();
    requests.on = ({ exchange }) => exchange.pause();
    for (let id = 1; id < 200; id += 2) {
      peer.headers(id, POST, false);
      for (let i = 0; i < 8; i++) if (peer.goaways().length === 0) peer.data(id, Buffer.alloc(16_384));
    }
    expect(peer.goaways()).toEqual([FLOW_CONTROL_ERROR]);
    const held = requests.all.length * 131_072;
    expect(held).toBeGreaterThan(4_000_000);
    expect(held).toBeLessThan(9_000_000);
  });
});

describe('a session', () => {
  test('that drains warns, says the last stream a second later, takes what is under way, and ends', () => {
    const { loop, peer, channel, requests, session } = start();
    peer.headers(1, REQUEST);
    session.drain();
    peer.read();
    peer.headers(3, REQUEST);
    expect(requests.all).toHaveLength(2);
    loop.pass(1_100);
    peer.read();
    expect(peer.of(TYPE.goaway).map(({ payload }) => payload.readUInt32BE(0))).toEqual([0x7fffffff, 3]);
    peer.headers(5, REQUEST);
    expect(requests.all).toHaveLength(2);
    for (const request of requests.all) answer(request, 'last');
    peer.read();
    expect([peer.body(1).toString(), peer.body(3).toString()]).toEqual(['last', 'last']);
    loop.settle();
    expect([channel.over, requests.ends]).toEqual(['finished', ['drained']]);
  });

  test('that is idle ends when its client may have had enough', () => {
    const { loop, channel, requests } = start({ keepAliveTimeoutMs: 10_000 });
    loop.pass(9_000);
    expect(channel.over).toBe('');
    loop.pass(4_000);
    expect([channel.over, requests.ends]).toEqual(['finished', ['idle']]);
  });

  test('whose client is gone ends its exchanges first', () => {
    const { loop, channel, peer, requests } = start();
    peer.headers(1, REQUEST);
    const order: string[] = [];
    requests.last.onRequestAborted = (detail) => order.push(detail);
    requests.onSessionEnd = () => order.push('session');
    channel.die('reset');
    loop.settle();
    expect(order).toEqual(['reset', 'session']);
  });

  test.each([
    ['does not speak HTTP/2', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['says something else before SETTINGS', Buffer.concat([PREFACE, frameBytes(TYPE.ping, 0, 0, Buffer.alloc(8))])],
    ['only acknowledges', Buffer.concat([PREFACE, frameBytes(TYPE.settings, FLAG.ack, 0)])],
  ])('whose client %s is closed', (_, bytes) => {
    const { loop, channel, peer, requests } = start({}, null);
    peer.bytes(bytes);
    loop.settle();
    expect(channel.over).not.toBe('');
    expect(requests.ends).toHaveLength(1);
  });

  test('whose client says nothing is closed', () => {
    const { loop, channel, requests } = start({}, null);
    loop.pass(14_000);
    expect([channel.over, requests.ends]).toEqual(['finished', ['the preface and SETTINGS did not come in time']]);
  });

  test('whose client begins a header block and does not end it is closed', () => {
    const { loop, peer, requests } = start();
    peer.send(TYPE.headers, 0, 1, literalHeaders(REQUEST));
    loop.pass(16_000);
    expect(requests.ends).toEqual(['a header block did not end in time']);
  });

  test('resets a stream whose client neither speaks nor opens its window, and no other', () => {
    const { loop, peer, requests } = start({ streamIdleTimeoutMs: 20_000 }, [[4, 0]]);
    peer.headers(1, POST, false);
    peer.headers(3, REQUEST);
    answer(requests.last, 'never taken');
    peer.headers(5, REQUEST);
    loop.pass(30_000);
    peer.read();
    expect(requests.all.map(({ fault }) => fault)).toEqual(['timeout', 'timeout', '']);
    expect([peer.resets(1), peer.resets(3), peer.resets(5)]).toEqual([[CANCEL], [CANCEL], []]);
    expect(requests.all.map(({ statusSent }) => statusSent)).toEqual([0, 0, -1]);
  });

  test('answers what nobody answers by 504 in the end', () => {
    const { loop, peer, requests } = start({ streamIdleTimeoutMs: 20_000 });
    peer.headers(1, REQUEST);
    // The request may be under way: it is for whoever sent it on to give up first.
    loop.pass(39_000);
    expect(requests.last.fault).toBe('');
    loop.pass(10_000);
    peer.read();
    expect([requests.last.fault, requests.last.statusSent]).toEqual(['timeout', 504]);
    expect([peer.statuses(1), peer.resets(1)]).toEqual([['504'], []]);
  });

  test('does not end before a slow client has taken the last of its streams', () => {
    const { loop, channel, peer, session, requests } = start();
    peer.headers(1, REQUEST);
    session.drain();
    loop.pass(1_100);
    channel.congested = true;
    requests.last.exchange.respond(ok(), true);
    loop.pass(10_000);
    expect(channel.over).toBe('');
    channel.drain();
    loop.settle();
    peer.read();
    expect([peer.statuses(1), channel.over]).toEqual([['200'], 'finished']);
  });
});
