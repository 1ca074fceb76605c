import { describe, expect, test } from 'vitest';
import { parseRequestHead } from '../../../../proxy/protocol/http1/head-parser.ts';
import { acceptedRequest, bytesOf, headOf, LIMITS, requestOf } from './support.ts';

const HOST = 'Host: a';
/** A POST with these lines between Host and the end. */
const post = (...lines: string[]): string => headOf('POST / HTTP/1.1', HOST, ...lines);
const get = (...lines: string[]): string => headOf('GET / HTTP/1.1', HOST, ...lines);
const line = (first: string): string => headOf(first, HOST);

describe('a request head', () => {
  test('is read with its target, authority, fields and length', () => {
    const text = headOf(
      'POST /a?x=1 HTTP/1.1',
      'Host: Shop.example:8080',
      'X-A:  1 ',
      'x-a:2',
      'Content-Length: 12',
      'E:',
    );
    const { head, end, framing, keepAlive, expectContinue } = acceptedRequest(`${text}GET`);
    expect(head.method).toBe('POST');
    expect(head.target).toBe('/a?x=1');
    expect(head.authority).toBe('Shop.example:8080');
    expect(head.version).toBe('http/1.1');
    expect(head.contentLength).toBe(12);
    expect(head.receivedBytes).toBe(text.length);
    expect([...head.lines()]).toEqual([
      ['host', 'Shop.example:8080'],
      ['x-a', '1'],
      ['x-a', '2'],
      ['e', ''],
    ]);
    expect({ end, framing, keepAlive, expectContinue }).toEqual({
      end: text.length,
      framing: { kind: 'length', length: 12 },
      keepAlive: true,
      expectContinue: false,
    });
  });

  test('owns its bytes', () => {
    const bytes = Buffer.from(headOf('GET /path-of-some-length HTTP/1.1', 'Host: a-host-name', 'X-A: a-value-as-well'));
    const { head } = acceptedRequest(bytes.toString());
    bytes.fill(0x41);
    expect([head.target, head.authority, head.get('x-a')]).toEqual([
      '/path-of-some-length',
      'a-host-name',
      'a-value-as-well',
    ]);
  });

  test.each([
    ['one CRLF before the request line', `\r\n${line('GET / HTTP/1.1')}`, { method: 'GET', target: '/' }],
    ['OPTIONS of the server', line('OPTIONS * HTTP/1.1'), { method: 'OPTIONS', target: '*' }],
    ['a method with a hyphen', line('M-SEARCH / HTTP/1.1'), { method: 'M-SEARCH' }],
    ['an absolute target of the same host', line('GET http://A/b?c HTTP/1.1'), { target: '/b?c', authority: 'a' }],
    ['an absolute target without path', line('GET HTTP://a HTTP/1.1'), { target: '/' }],
    ['an absolute target without path, with a query', line('GET http://a?b HTTP/1.1'), { target: '/?b' }],
    ['OPTIONS of an absolute target without path', line('OPTIONS http://a HTTP/1.1'), { target: '*' }],
    ['CONNECT', headOf('CONNECT a:443 HTTP/1.1', 'Host: a:443'), { target: '', authority: 'a:443' }],
    [
      'CONNECT to IPv6',
      headOf('CONNECT [::1]:443 HTTP/1.1', 'Host: [::1]:443'),
      { target: '', authority: '[::1]:443' },
    ],
    ['HTTP/1.0 without Host', headOf('GET / HTTP/1.0'), { version: 'http/1.0', authority: '' }],
    ['HTTP/1.0 with an absolute target', headOf('GET http://a:1/b HTTP/1.0'), { target: '/b', authority: 'a:1' }],
    ['an IPv6 host', headOf('GET / HTTP/1.1', 'Host: [fd00::1]:80'), { authority: '[fd00::1]:80' }],
    [
      'a host of a Kubernetes service',
      headOf('GET / HTTP/1.1', 'Host: my_svc.ns.svc.cluster.local'),
      { authority: 'my_svc.ns.svc.cluster.local' },
    ],
    ['a path that begins with two slashes', line('GET //b/c HTTP/1.1'), { target: '//b/c' }],
    ['Content-Length 0', post('Content-Length: 0'), { contentLength: 0 }],
  ])('%s is accepted', (_, text, expected) => {
    expect(acceptedRequest(text).head).toMatchObject(expected);
  });

  test.each([
    ['by default', get(), true],
    ['with keep-alive', get('Connection: keep-alive'), true],
    ['with close', get('Connection: close'), false],
    ['with Close among others', get('Connection: x, Close'), false],
    ['with close and keep-alive', get('Connection: keep-alive', 'Connection: close'), false],
    ['in HTTP/1.0', headOf('GET / HTTP/1.0'), false],
    ['in HTTP/1.0 with Keep-Alive', headOf('GET / HTTP/1.0', 'Connection: Keep-Alive'), true],
    ['in HTTP/1.0 with both', headOf('GET / HTTP/1.0', 'Connection: keep-alive, close'), false],
  ])('%s leaves the connection as %o', (_, text, keepAlive) => {
    expect(acceptedRequest(text).keepAlive).toBe(keepAlive);
  });

  test.each([
    ['a GET', get(), { kind: 'none' }],
    ['length 0', post('Content-Length: 0'), { kind: 'none' }],
    ['a length', post('Content-Length: 999999999999999'), { kind: 'length', length: 999_999_999_999_999 }],
    ['a GET with a length', get('Content-Length: 1'), { kind: 'length', length: 1 }],
    ['chunked', post('Transfer-Encoding: chunked'), { kind: 'chunked' }],
    ['chunked in any case, with spaces around it', post('tRANSFER-eNCODING:   ChunKed  '), { kind: 'chunked' }],
    ['CONNECT', headOf('CONNECT a:1 HTTP/1.1', 'Host: a:1', 'Content-Length: 0'), { kind: 'none' }],
  ])('%s is framed as it says', (_, text, framing) => {
    expect(acceptedRequest(text).framing).toEqual(framing);
  });

  test.each([
    ['with a body', post('Content-Length: 1', 'Expect: 100-Continue'), true],
    ['without a body', get('Expect: 100-continue'), false],
    ['of HTTP/1.0', headOf('POST / HTTP/1.0', 'Content-Length: 1', 'Expect: 100-continue'), false],
  ])('a request %s expects 100: %o', (_, text, expected) => {
    expect(acceptedRequest(text).expectContinue).toBe(expected);
  });

  test.each([
    ['websocket', get('Connection: Upgrade', 'Upgrade: WebSocket'), 'websocket'],
    ['among other options', get('Connection: keep-alive, Upgrade', 'Upgrade: a/1.0'), 'a/1.0'],
    ['not named in Connection', get('Upgrade: websocket'), null],
    ['a choice of several', get('Connection: upgrade', 'Upgrade: websocket, a'), null],
    ['two lines', get('Connection: upgrade', 'Upgrade: websocket', 'Upgrade: websocket'), null],
    ['malformed', get('Connection: upgrade', 'Upgrade: a b'), null],
    ['empty', get('Connection: upgrade', 'Upgrade:'), null],
    ['HTTP/2', get('Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AA'), null],
    ['TLS', get('Connection: upgrade', 'Upgrade: TLS/1.0'), null],
    ['with a body', post('Connection: upgrade', 'Upgrade: websocket', 'Content-Length: 1'), null],
    ['in HTTP/1.0', headOf('GET / HTTP/1.0', 'Connection: upgrade', 'Upgrade: websocket'), null],
  ])('an upgrade, %s, is asked for only where it can be passed on', (_, text, upgrade) => {
    const { head } = acceptedRequest(text);
    expect(head.upgrade).toBe(upgrade);
    expect(head.has('upgrade')).toBe(false);
  });
});

describe('a request with an ambiguous length is refused', () => {
  test.each([
    ['CL and TE', post('Content-Length: 5', 'Transfer-Encoding: chunked'), 400],
    ['TE and CL', post('Transfer-Encoding: chunked', 'Content-Length: 5'), 400],
    ['TE and CL 0', post('Transfer-Encoding: chunked', 'Content-Length: 0'), 400],
    ['two lengths', post('Content-Length: 5', 'Content-Length: 6'), 400],
    ['two equal lengths', post('Content-Length: 5', 'Content-Length: 5'), 400],
    ['a list of lengths', post('Content-Length: 5, 5'), 400],
    ['a signed length', post('Content-Length: +5'), 400],
    ['a negative length', post('Content-Length: -0'), 400],
    ['a hexadecimal length', post('Content-Length: 0x5'), 400],
    ['a length with a space in it', post('Content-Length: 5 5'), 400],
    ['a length with an underscore', post('Content-Length: 1_0'), 400],
    ['a length with a fraction', post('Content-Length: 5.0'), 400],
    ['an exponent', post('Content-Length: 1e1'), 400],
    ['an octal-looking length', post('Content-Length: 010'), 400],
    ['an empty length', post('Content-Length:'), 400],
    ['a length with a trailing comma', post('Content-Length: 5,'), 400],
    ['a length in quotes', post('Content-Length: "5"'), 400],
    ['a length with a vertical tab', post('Content-Length: \x0b5'), 400],
    ['a length with a no-break space', post('Content-Length: \xa05'), 400],
    ['a length above 10^15', post('Content-Length: 1000000000000000'), 400],
    ['a length that overflows', post('Content-Length: 18446744073709551621'), 400],
    ['two TE lines', post('Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'), 400],
    ['TE after another', post('Transfer-Encoding: chunked', 'Transfer-Encoding: identity'), 400],
    ['TE with chunked twice', post('Transfer-Encoding: chunked, chunked'), 400],
    ['TE with another before', post('Transfer-Encoding: gzip, chunked'), 400],
    ['TE with another after', post('Transfer-Encoding: chunked, identity'), 400],
    ['TE with an empty element', post('Transfer-Encoding: ,chunked'), 400],
    ['TE with a trailing comma', post('Transfer-Encoding: chunked,'), 400],
    ['TE with a parameter', post('Transfer-Encoding: chunked;a=b'), 400],
    ['TE in quotes', post('Transfer-Encoding: "chunked"'), 400],
    ['TE with a vertical tab', post('Transfer-Encoding: \x0bchunked'), 400],
    ['TE with a form feed behind', post('Transfer-Encoding: chunked\x0c'), 400],
    ['TE with a tab before', post('Transfer-Encoding:\tchunked'), 400],
    ['TE with a tab behind', post('Transfer-Encoding: chunked\t'), 400],
    ['CL with a tab behind', post('Content-Length: 5\t'), 400],
    ['CL with a tab before', post('Content-Length:\t5'), 400],
    ['Connection with a tab behind', post('Connection: close\t'), 400],
    ['TE with a NUL', post('Transfer-Encoding: chunked\0'), 400],
    ['an empty TE', post('Transfer-Encoding:'), 400],
    ['TE of another coding', post('Transfer-Encoding: gzip'), 501],
    ['TE with identity', post('Transfer-Encoding: identity'), 501],
    ['TE that is nearly chunked', post('Transfer-Encoding: xchunked'), 501],
    ['TE in HTTP/1.0', headOf('POST / HTTP/1.0', 'Transfer-Encoding: chunked'), 400],
    ['TE with a space before the colon', post('Transfer-Encoding : chunked'), 400],
    ['TE with a tab before the colon', post('Transfer-Encoding\t: chunked'), 400],
    ['TE with a space before its name', post(' Transfer-Encoding: chunked'), 400],
    ['TE in a folded line', post('X: y', '\tTransfer-Encoding: chunked'), 400],
    ['a folded TE', post('Transfer-Encoding:', ' chunked'), 400],
    ['TE after a bare LF', post('X: y\nTransfer-Encoding: chunked'), 400],
    ['TE after a bare CR', post('X: y\rTransfer-Encoding: chunked'), 400],
    ['TE spelt with _', post('Transfer_Encoding: chunked'), 400],
    ['CL spelt with _', post('CONTENT_LENGTH: 5'), 400],
    ['a spoofed XFCC spelt with _', post('X_Forwarded-Client_Cert: By=a'), 400],
    ['TE with a high byte in its name', post('Transfer-Encod\xefng: chunked'), 400],
    ['a body on CONNECT', headOf('CONNECT a:1 HTTP/1.1', 'Host: a:1', 'Content-Length: 1'), 400],
    ['chunks on CONNECT', headOf('CONNECT a:1 HTTP/1.1', 'Host: a:1', 'Transfer-Encoding: chunked'), 400],
    ['another expectation', post('Content-Length: 5', 'Expect: x'), 400],
    ['a disguised expectation', post('Content-Length: 5', 'Expect: y 100-continue'), 400],
    ['an expectation twice', post('Content-Length: 5', 'Expect: 100-continue', 'Expect: 100-continue'), 400],
  ])('%s', (_, text, status) => {
    expect(requestOf(text)).toMatchObject({ kind: 'error', status });
  });
});

describe('a malformed field is refused', () => {
  test.each([
    ['an empty name', get(': a')],
    ['no colon', get('abc')],
    ['a name with a space', get('a b: c')],
    ['a name with a parenthesis', get('a(b): c')],
    ['a name with a control byte', get('a\x01: c')],
    ['a name with NUL', get('a\0: c')],
    ['a name with a high byte', get('a\x80: c')],
    ['a value with NUL', get('a: b\0c')],
    ['a value with ESC', get('a: b\x1bc')],
    ['a value with DEL', get('a: b\x7fc')],
    ['a value with a bare CR', get('a: b\rc')],
    ['a value with two CR', get('a: b\r')],
    ['a folded line', get('a: b', ' c')],
    ['an empty folded line', get('a: b', ' ')],
    ['bare LF at the end', 'GET / HTTP/1.1\r\nHost: a\r\n\n'],
    ['bare LF as every line end', 'GET / HTTP/1.1\nHost: a\n\n'],
    ['CR CR LF at the end', 'GET / HTTP/1.1\r\nHost: a\r\n\r\r\n'],
    ['white space before the first field', headOf('GET / HTTP/1.1', ' X: y', HOST)],
    ['an option of Connection that is no token', get('Connection: a b')],
    ['an option of Connection with a parameter', get('Connection: close;a')],
    ['too many options of Connection', get(`Connection: ${Array.from({ length: 17 }, (_, i) => `x${i}`).join()}`)],
  ])('%s', (_, text) => {
    expect(requestOf(text)).toMatchObject({ kind: 'error', status: 400 });
  });
});

test('a control byte is seen wherever in a value it stands, and none is where none is', () => {
  for (let length = 0; length < 12; length++) {
    const value = '\t ~\x80\xff!Azaz09'.slice(0, length);
    expect(requestOf(get(`x:${value}`)).kind, JSON.stringify(value)).toBe('head');
    for (let at = 0; at <= length; at++) {
      for (const bad of ['\0', '\x08', '\n', '\x1f', '\x7f']) {
        const broken = value.slice(0, at) + bad + value.slice(at);
        expect(requestOf(get(`x:${broken}`)), JSON.stringify(broken)).toMatchObject({ kind: 'error', status: 400 });
      }
    }
  }
});

describe('a malformed request line is refused', () => {
  test.each([
    ['a method in lower case', line('get / HTTP/1.1'), 400],
    ['a method in mixed case', line('Get / HTTP/1.1'), 400],
    ['a method with a digit', line('G3T / HTTP/1.1'), 400],
    ['a method that begins with a hyphen', line('-GET / HTTP/1.1'), 400],
    ['a method of 21 letters', line(`${'A'.repeat(21)} / HTTP/1.1`), 400],
    ['no method', line(' / HTTP/1.1'), 400],
    ['a space before the method', line(' GET / HTTP/1.1'), 400],
    ['two spaces before the target', line('GET  / HTTP/1.1'), 400],
    ['two spaces after the target', line('GET /  HTTP/1.1'), 400],
    ['a tab before the target', line('GET\t/ HTTP/1.1'), 400],
    ['a tab after the target', line('GET /\tHTTP/1.1'), 400],
    ['a space in the target', line('GET /a b HTTP/1.1'), 400],
    ['a space after the version', line('GET / HTTP/1.1 '), 400],
    ['HTTP/0.9', 'GET /\r\n', 400],
    ['HTTP/0.9 with fields', headOf('GET /', HOST), 400],
    ['an empty target', line('GET  HTTP/1.1'), 400],
    ['a target with a fragment', line('GET /a#b HTTP/1.1'), 400],
    ['a target with a high byte', line('GET /\xe4 HTTP/1.1'), 400],
    ['a target with NUL', line('GET /\0 HTTP/1.1'), 400],
    ['a target with DEL', line('GET /\x7f HTTP/1.1'), 400],
    ['a target with a bare CR', line('GET /\r HTTP/1.1'), 400],
    ['a bare LF after the line', 'GET / HTTP/1.1\nHost: a\r\n\r\n', 400],
    ['a bare CR after the line', 'GET / HTTP/1.1\rHost: a\r\n\r\n', 400],
    ['two CRLF before the line', `\r\n\r\n${line('GET / HTTP/1.1')}`, 400],
    ['LF before the line', `\n${line('GET / HTTP/1.1')}`, 400],
    ['CR before the line', `\r${line('GET / HTTP/1.1')}`, 400],
    ['a path without slash', line('GET a HTTP/1.1'), 400],
    ['* of GET', line('GET * HTTP/1.1'), 400],
    ['*/ of OPTIONS', line('OPTIONS */ HTTP/1.1'), 400],
    ['an authority of GET', line('GET a:80 HTTP/1.1'), 400],
    ['a path of CONNECT', line('CONNECT / HTTP/1.1'), 400],
    ['CONNECT without port', line('CONNECT a HTTP/1.1'), 400],
    ['an absolute target of CONNECT', line('CONNECT http://a:80/ HTTP/1.1'), 400],
    ['https', line('GET https://a/ HTTP/1.1'), 400],
    ['another scheme', line('GET file:///a HTTP/1.1'), 400],
    ['an absolute target without authority', line('GET http:///b HTTP/1.1'), 400],
    ['an absolute target with user information', line('GET http://b@a/ HTTP/1.1'), 400],
    ['HTTP/1.2', line('GET / HTTP/1.2'), 505],
    ['HTTP/2.0', line('GET / HTTP/2.0'), 505],
    ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 505],
    ['the method of that preface', line('PRI / HTTP/1.1'), 400],
    ['HTTP/0.9 by name', line('GET / HTTP/0.9'), 505],
    ['HTTP/1.10', line('GET / HTTP/1.10'), 400],
    ['HTTP/01.1', line('GET / HTTP/01.1'), 400],
    ['HTTP/1,1', line('GET / HTTP/1,1'), 400],
    ['http/1.1', line('GET / http/1.1'), 400],
    ['another protocol', line('GET / RTSP/1.0'), 400],
  ])('%s', (_, text, status) => {
    expect(requestOf(text)).toMatchObject({ kind: 'error', status });
  });
});

describe('a request that does not say once where it goes is refused', () => {
  test.each([
    ['no Host', headOf('GET / HTTP/1.1')],
    ['no Host with an absolute target', headOf('GET http://a/ HTTP/1.1')],
    ['two Hosts', headOf('GET / HTTP/1.1', 'Host: a', 'Host: b')],
    ['two equal Hosts', headOf('GET / HTTP/1.1', 'Host: a', 'host: a')],
    ['two Hosts in HTTP/1.0', headOf('GET / HTTP/1.0', 'Host: a', 'Host: b')],
    ['an empty Host', headOf('GET / HTTP/1.1', 'Host:')],
    ['an empty Host in HTTP/1.0', headOf('GET / HTTP/1.0', 'Host: ')],
    ['a list of Hosts', headOf('GET / HTTP/1.1', 'Host: a, b')],
    ['a Host with a space', headOf('GET / HTTP/1.1', 'Host: a b')],
    ['a Host with a tab behind', headOf('GET / HTTP/1.1', 'Host: a\t')],
    ['a Host with a path', headOf('GET / HTTP/1.1', 'Host: a/b')],
    ['a Host with a query', headOf('GET / HTTP/1.1', 'Host: a?b')],
    ['a Host with user information', headOf('GET / HTTP/1.1', 'Host: b@a')],
    ['a Host with a scheme', headOf('GET / HTTP/1.1', 'Host: http://a')],
    ['a Host with a percent', headOf('GET / HTTP/1.1', 'Host: a%2eb')],
    ['a Host with a high byte', headOf('GET / HTTP/1.1', 'Host: \xe4')],
    ['a Host with an empty port', headOf('GET / HTTP/1.1', 'Host: a:')],
    ['a Host with a port of 0', headOf('GET / HTTP/1.1', 'Host: a:0')],
    ['a Host with a port of 65536', headOf('GET / HTTP/1.1', 'Host: a:65536')],
    ['a Host with a signed port', headOf('GET / HTTP/1.1', 'Host: a:+80')],
    ['a Host with two ports', headOf('GET / HTTP/1.1', 'Host: a:80:80')],
    ['a Host of a port alone', headOf('GET / HTTP/1.1', 'Host: :80')],
    ['IPv6 without brackets', headOf('GET / HTTP/1.1', 'Host: ::1')],
    ['IPv6 with a zone', headOf('GET / HTTP/1.1', 'Host: [fe80::1%25eth0]')],
    ['IPv6 that ends nowhere', headOf('GET / HTTP/1.1', 'Host: [::1')],
    ['IPv4 in brackets', headOf('GET / HTTP/1.1', 'Host: [1.2.3.4]')],
    ['bytes after IPv6', headOf('GET / HTTP/1.1', 'Host: [::1]a')],
    ['an absolute target of another host', headOf('GET http://b/ HTTP/1.1', 'Host: a')],
    ['an absolute target of another port', headOf('GET http://a:80/ HTTP/1.1', 'Host: a')],
    ['CONNECT to another host than Host', headOf('CONNECT b:443 HTTP/1.1', 'Host: a:443')],
    ['CONNECT with Host without port', headOf('CONNECT a:443 HTTP/1.1', 'Host: a')],
  ])('%s', (_, text) => {
    expect(requestOf(text)).toMatchObject({ kind: 'error', status: 400 });
  });
});

describe('the limits of a request head', () => {
  const limits = { ...LIMITS, headerBytes: 400, headerCount: 5, targetBytes: 100 };
  const fields = (count: number): string[] => Array.from({ length: count }, (_, i) => `x-${i}: a`);
  const sized = (size: number): string => {
    const text = headOf('GET / HTTP/1.1', HOST, 'X: ');
    return text.replace('X: ', `X: ${'a'.repeat(size - text.length)}`);
  };

  test.each([
    ['a target at the limit', line(`GET /${'a'.repeat(99)} HTTP/1.1`), null],
    ['a target above it', line(`GET /${'a'.repeat(100)} HTTP/1.1`), 414],
    ['a target far above it that does not end', `GET /${'a'.repeat(140)}`, 414],
    ['a target far above it and malformed', line(`GET /${'a'.repeat(140)}\0 HTTP/1.1`), 414],
    ['a method without end', 'A'.repeat(140), 414],
    ['as many fields as allowed', headOf('GET / HTTP/1.1', HOST, ...fields(4)), null],
    ['a field too many', headOf('GET / HTTP/1.1', HOST, ...fields(5)), 431],
    ['a malformed field too many', headOf('GET / HTTP/1.1', HOST, ...fields(4), 'a b'), 431],
    ['a head at the limit', sized(400), null],
    ['a head above it', sized(401), 431],
    ['a wrong length above it', sized(401).replace('\r\n\r\n', '\r\nContent-Length: x\r\n\r\n'), 431],
    ['a head above it that does not end', sized(500).slice(0, 401), 431],
    ['a head below it that does not end', sized(500).slice(0, 400), 'incomplete'],
  ])('%s', (_, text, expected) => {
    const result = requestOf(text, limits);
    if (expected === null) expect(result.kind).toBe('head');
    else if (expected === 'incomplete') expect(result.kind).toBe('incomplete');
    else expect(result).toMatchObject({ kind: 'error', status: expected });
  });

  test.each([
    ['a head', sized(500), 431, 401],
    ['a target', `GET /${'a'.repeat(395)}`, 414, 132],
    ['a target after CRLF', `\r\nGET /${'a'.repeat(395)}`, 414, 134],
  ])('are met by %s that comes a byte at a time, too', (_, text, status, at) => {
    const bytes = bytesOf(text);
    for (let end = 1; end < at; end++) {
      expect(parseRequestHead(bytes, 0, end, limits, end - 1), `${end} bytes`).toEqual({ kind: 'incomplete' });
    }
    expect(parseRequestHead(bytes, 0, at, limits, at - 1)).toMatchObject({ kind: 'error', status });
    expect(parseRequestHead(bytes, 0, bytes.length, limits)).toMatchObject({ kind: 'error', status });
  });

  test('a name of 2,047 bytes is the longest', () => {
    expect(requestOf(get(`${'n'.repeat(2047)}: a`)).kind).toBe('head');
    expect(requestOf(get(`${'n'.repeat(2048)}: a`))).toMatchObject({ kind: 'error', status: 400 });
  });
});
