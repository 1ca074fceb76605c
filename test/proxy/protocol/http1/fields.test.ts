import { describe, expect, test } from 'vitest';
import { hashOf } from '../../../../proxy/protocol/http1/field-names.ts';
import type { BodyFraming, ConnectionDirective } from '../../../../proxy/protocol/http1/framing.ts';
import type { Http1RequestHead } from '../../../../proxy/protocol/http1/request-head.ts';
import type { Http1ResponseHead } from '../../../../proxy/protocol/http1/response-head.ts';
import { acceptedRequest, acceptedResponse, headOf, requestOf } from './support.ts';

const NONE: BodyFraming = { kind: 'none' };

/** The head as it goes to the next hop. */
function encoded(
  head: Http1RequestHead | Http1ResponseHead,
  framing: BodyFraming = NONE,
  connection: ConnectionDirective = 'keep-alive',
): string {
  const to = Buffer.alloc(3 + head.encodedBytes());
  return to.latin1Slice(3, head.encode(to, 3, framing, connection));
}

const request = (...lines: string[]): Http1RequestHead =>
  acceptedRequest(headOf('GET / HTTP/1.1', 'Host: a', ...lines)).head;
const response = (...lines: string[]): Http1ResponseHead => acceptedResponse(headOf('HTTP/1.1 200 OK', ...lines)).head;

describe('fields', () => {
  test('are found by name in any case, and joined in order', () => {
    const head = request('X-A: 1', 'x-B: 2', 'x-a:', 'X-a: 3 , 4');
    expect(head.get('x-a')).toBe('1, , 3 , 4');
    expect(head.all('x-a')).toEqual(['1', '', '3 , 4']);
    expect([head.has('x-a'), head.has('x-c'), head.get('x-c')]).toEqual([true, false, null]);
    expect(head.all('x-c')).toEqual([]);
  });

  test('with names that differ in - and _ alone are different fields', () => {
    const head = request('a_b: 1', 'a-b: 2');
    expect([head.get('a_b'), head.get('a-b')]).toEqual(['1', '2']);
  });

  test('whose names have one hash are different fields', () => {
    expect(hashOf('x-xz')).toBe(hashOf('x-z8'));
    const head = request('X-XZ: 1', 'X-Z8: 2');
    expect([head.get('x-xz'), head.get('x-z8')]).toEqual(['1', '2']);
    expect([...head.lines()].map(([name]) => name)).toEqual(['host', 'x-xz', 'x-z8']);
  });

  test.each(['host', 'expect', 'upgrade'])(
    'whose names share a slot of the hash with %s are not taken for it',
    (special) => {
      const letters = 'abcdefghijklmnopqrstuvwxyz';
      const slot = hashOf(special) % 1024;
      const names: string[] = [];
      for (let i = 0; names.length < 3; i++) {
        let name = special.slice(3);
        for (let rest = i, left = Math.min(3, special.length); left > 0; left--, rest = Math.floor(rest / 26)) {
          name += letters[rest % 26];
        }
        if (name !== special && hashOf(name) % 1024 === slot) names.push(name);
        if (i > 26 ** 3) break;
      }
      expect(names).not.toEqual([]);
      for (const name of names) expect(request(`${name}: x`).get(name)).toBe('x');
    },
  );

  test('keep high bytes as characters', () => {
    expect(request('X-A: \xe4\xff').get('x-a')).toBe('\xe4\xff');
  });

  test('that are removed are neither found nor sent', () => {
    const head = request('X-A: 1', 'X-B: 2', 'x-a: 3');
    head.remove('x-a');
    expect([head.get('x-a'), head.all('x-a'), head.has('x-a')]).toEqual([null, [], false]);
    expect(encoded(head)).toBe('GET / HTTP/1.1\r\nHost: a\r\nX-B: 2\r\n\r\n');
  });

  test('are removed by predicate over names in lower case, set ones too', () => {
    const head = request('X-Internal-A: 1', 'X-B: 2');
    head.set('x-internal-c', '3');
    const asked: string[] = [];
    head.removeWhere((name) => {
      asked.push(name);
      return name.startsWith('x-internal-');
    });
    expect(asked).toEqual(['x-internal-a', 'x-b', 'x-internal-c']);
    expect(encoded(head)).toBe('GET / HTTP/1.1\r\nHost: a\r\nX-B: 2\r\n\r\n');
  });

  test('are removed by predicate over names with the initial alone, where one is given', () => {
    const head = request('X-A: 1', 'xb: 2', 'Y-A: 3', '~x: 4');
    head.set('x-c', '5');
    head.set('y-c', '6');
    const asked: string[] = [];
    head.removeWhere((name) => asked.push(name) > 1, 'x'.charCodeAt(0));
    expect(asked).toEqual(['x-a', 'xb', 'x-c']);
    expect([...head.lines()].map(([name]) => name)).toEqual(['host', 'x-a', 'y-a', '~x', 'y-c']);
  });

  test('that are set replace every line of the name, and come last', () => {
    const head = request('X-A: 1', 'X-B: 2', 'X-A: 3');
    head.set('x-a', '4');
    head.set('x-c', '5');
    head.set('x-c', '6');
    expect([head.get('x-a'), head.all('x-c'), head.has('x-c')]).toEqual(['4', ['6'], true]);
    expect([...head.lines()]).toEqual([
      ['host', 'a'],
      ['x-b', '2'],
      ['x-a', '4'],
      ['x-c', '6'],
    ]);
    expect(encoded(head)).toBe('GET / HTTP/1.1\r\nHost: a\r\nX-B: 2\r\nx-a: 4\r\nx-c: 6\r\n\r\n');
  });

  test.each([
    ['a value with CR', 'x-a', 'b\rc'],
    ['a value with LF', 'x-a', 'b\nc'],
    ['a value with NUL', 'x-a', 'b\0'],
    ['a value whose characters would be cut to CR and LF', 'x-a', '\u010d\u010a'],
    ['an empty name', '', 'b'],
    ['a name with a capital', 'X-A', 'b'],
    ['a name with a colon', 'x:a', 'b'],
    ['a name with a wide character', 'x\u012da', 'b'],
    ['Host', 'host', 'b'],
    ['Content-Length', 'content-length', '1'],
    ['Transfer-Encoding', 'transfer-encoding', 'chunked'],
    ['Connection', 'connection', 'close'],
  ])('that are set are never %s', (_, name, value) => {
    const head = request();
    expect(() => head.set(name, value)).toThrow(RangeError);
    expect(encoded(head)).toBe('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  });

  test('leave Host where it is', () => {
    const head = request('X-A: 1');
    head.remove('host');
    head.removeWhere(() => true);
    expect(encoded(head)).toBe('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    const old = acceptedRequest(headOf('GET http://a/ HTTP/1.0', 'X-A: 1')).head;
    old.remove('host');
    old.removeWhere(() => true);
    expect(encoded(old)).toBe('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
  });
});

describe('the target', () => {
  test('is replaced in the request line', () => {
    const head = request('X-A: 1');
    head.setTarget('/b?c');
    expect(head.target).toBe('/b?c');
    expect(encoded(head)).toBe('GET /b?c HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\n');
  });

  test.each(['', 'b', '/b c', '/b\r\n', '/b#c', '/\xe4', '/\u0120', 'http://b/'])('is never %j', (target) => {
    expect(() => request().setTarget(target)).toThrow(RangeError);
  });

  test.each([
    ['an absolute form', headOf('GET http://A/b HTTP/1.1', 'Host: a'), 'GET /b HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['HTTP/1.0', headOf('GET /b HTTP/1.0', 'Host: a'), 'GET /b HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['HTTP/1.0 in absolute form', headOf('GET http://a/b HTTP/1.0'), 'GET /b HTTP/1.1\r\nhost: a\r\n\r\n'],
    ['CRLF before', `\r\n${headOf('GET /b HTTP/1.1', 'Host: a')}`, 'GET /b HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['CONNECT', headOf('CONNECT a:1 HTTP/1.1', 'Host: a:1'), 'CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n'],
    ['CONNECT of HTTP/1.0', headOf('CONNECT a:1 HTTP/1.0'), 'CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n'],
    [
      'HTTP/1.0 without authority',
      headOf('GET /b HTTP/1.0', 'X: y'),
      'GET /b HTTP/1.0\r\nX: y\r\nConnection: keep-alive\r\n\r\n',
    ],
  ])('of %s is sent in origin form', (_, text, expected) => {
    expect(encoded(acceptedRequest(text).head)).toBe(expected);
  });

  test('of HTTP/1.0 without authority can be replaced, too', () => {
    const { head } = acceptedRequest(headOf('GET /b HTTP/1.0'));
    head.setTarget('/c');
    expect(encoded(head, NONE, 'close')).toBe('GET /c HTTP/1.0\r\nConnection: close\r\n\r\n');
  });
});

describe('fields of one connection', () => {
  test.each([
    ['Connection and Keep-Alive', ['Connection: keep-alive', 'Keep-Alive: timeout=5']],
    ['Proxy-Connection', ['Proxy-Connection: keep-alive']],
    ['what Connection names', ['Connection: x-a, X-B', 'X-A: 1', 'x-b: 2', 'X-b: 3']],
    ['what a second Connection names', ['Connection: close', 'X-A: 1', 'Connection: x-a']],
    ['TE', ['TE: gzip;q=0.5', 'Connection: TE']],
    ['Upgrade', ['Upgrade: websocket', 'Connection: upgrade']],
    ['HTTP2-Settings', ['HTTP2-Settings: AA']],
  ])('%s end here', (_, lines) => {
    expect(encoded(request(...lines))).toBe('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  });

  test('TE: trailers is said anew', () => {
    const head = request('TE: gzip, Trailers', 'Connection: TE');
    expect(head.get('te')).toBe('trailers');
    expect(encoded(head)).toBe('GET / HTTP/1.1\r\nHost: a\r\nte: trailers\r\nConnection: TE\r\n\r\n');
    head.remove('te');
    expect(encoded(head)).toBe('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  });

  test.each(['Trailer', 'Proxy-Authorization', 'Proxy-Authenticate', 'Expect'])('%s goes on', (name) => {
    const value = name === 'Expect' ? '100-continue' : 'x';
    expect(encoded(request(`${name}: ${value}`))).toContain(`\r\n${name}: ${value}\r\n`);
  });

  test.each([
    'Host',
    'Content-Length',
    'Content-Type',
    'Transfer-Encoding',
    'Authorization',
    'Cookie',
    'X-Forwarded-For',
    'X-Forwarded-Client-Cert',
    'X-Envoy-Original-Path',
    'X-Request-Id',
    'traceparent',
    'If-Match',
    'Cache-Control',
  ])('%s is not made one of them by naming it', (name) => {
    const result = requestOf(headOf('GET / HTTP/1.1', 'Host: a', `Connection: close, ${name}`));
    expect(result).toMatchObject({ kind: 'error', status: 400 });
  });
});

describe('framing and connection of the next hop', () => {
  const post = (...lines: string[]): Http1RequestHead =>
    acceptedRequest(headOf('POST / HTTP/1.1', 'Host: a', ...lines)).head;
  const START = 'POST / HTTP/1.1\r\nHost: a\r\n';

  test.each<[string, Http1RequestHead, BodyFraming, ConnectionDirective, string]>([
    ['no length', post(), NONE, 'keep-alive', '\r\n'],
    ['length 0', post('Content-Length: 0'), NONE, 'keep-alive', 'Content-Length: 0\r\n\r\n'],
    [
      'a length',
      post('Content-Length: 7'),
      { kind: 'length', length: 7 },
      'close',
      'Content-Length: 7\r\nConnection: close\r\n\r\n',
    ],
    [
      'chunks',
      post('Transfer-Encoding: chunked'),
      { kind: 'chunked' },
      'keep-alive',
      'Transfer-Encoding: chunked\r\n\r\n',
    ],
    ['close with TE', post('TE: trailers'), NONE, 'close', 'te: trailers\r\nConnection: close, TE\r\n\r\n'],
    [
      'an upgrade',
      post('Upgrade: WebSocket', 'Connection: upgrade'),
      NONE,
      'upgrade',
      'Connection: upgrade\r\nUpgrade: websocket\r\n\r\n',
    ],
  ])('a request with %s says so', (_, head, framing, connection, expected) => {
    expect(encoded(head, framing, connection)).toBe(START + expected);
  });

  test('a request whose body would be left out is not written', () => {
    expect(() => encoded(post('Content-Length: 7'), NONE)).toThrow(RangeError);
  });

  test('an upgrade that nobody asked for is not written', () => {
    expect(() => encoded(post(), NONE, 'upgrade')).toThrow(RangeError);
  });

  test('a head is not written where there is no room', () => {
    const head = request('X-A: 1');
    expect(() => head.encode(Buffer.alloc(head.encodedBytes() - 1), 0, NONE, 'keep-alive')).toThrow(RangeError);
  });

  test('what a head may take is never less than it takes', () => {
    const head = acceptedRequest(
      headOf('GET http://abc/ HTTP/1.0', 'TE: trailers', 'Connection: keep-alive, x', 'Content-Length: 0', 'X: y'),
    ).head;
    head.setTarget(`/${'t'.repeat(300)}`);
    head.set('x-b', 'c'.repeat(300));
    expect(encoded(head, NONE, 'close').length).toBeLessThanOrEqual(head.encodedBytes());
  });

  test.each<[string, Http1ResponseHead, BodyFraming, ConnectionDirective, string]>([
    [
      'a length',
      response('A: b', 'Content-Length: 7'),
      { kind: 'length', length: 7 },
      'keep-alive',
      'HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 7\r\n\r\n',
    ],
    [
      'chunks',
      response('Transfer-Encoding: chunked'),
      { kind: 'chunked' },
      'close',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n',
    ],
    [
      'an empty body',
      response('Content-Length: 0'),
      NONE,
      'keep-alive',
      'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n',
    ],
    [
      'the end of the connection',
      response('A: b'),
      { kind: 'until-close' },
      'close',
      'HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\n\r\n',
    ],
    [
      'the length of HEAD',
      acceptedResponse(headOf('HTTP/1.1 200 OK', 'Content-Length: 9'), 'HEAD').head,
      NONE,
      'keep-alive',
      'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n',
    ],
    [
      'the length of 304',
      acceptedResponse(headOf('HTTP/1.1 304 X', 'Content-Length: 9')).head,
      NONE,
      'keep-alive',
      'HTTP/1.1 304 X\r\nContent-Length: 9\r\n\r\n',
    ],
    [
      'no length of 204',
      acceptedResponse(headOf('HTTP/1.1 204 X', 'Content-Length: 0')).head,
      NONE,
      'keep-alive',
      'HTTP/1.1 204 X\r\n\r\n',
    ],
    [
      'the version HTTP/1.1',
      acceptedResponse(headOf('HTTP/1.0 404 Gone away', 'A: b', 'Keep-Alive: x')).head,
      { kind: 'until-close' },
      'close',
      'HTTP/1.1 404 Gone away\r\nA: b\r\nConnection: close\r\n\r\n',
    ],
    [
      'the space after the status',
      acceptedResponse(headOf('HTTP/1.1 204')).head,
      NONE,
      'keep-alive',
      'HTTP/1.1 204 \r\n\r\n',
    ],
    [
      'the protocol of 101',
      acceptedResponse(headOf('HTTP/1.1 101 Y', 'Upgrade: WebSocket', 'Connection: Upgrade', 'A: b')).head,
      { kind: 'raw' },
      'upgrade',
      'HTTP/1.1 101 Y\r\nA: b\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n',
    ],
  ])('a response says %s', (_, head, framing, connection, expected) => {
    expect(encoded(head, framing, connection)).toBe(expected);
  });
});
