import { describe, expect, test } from 'vitest';
import { acceptedResponse, headOf, LIMITS, responseOf } from './support.ts';

const ok = (...lines: string[]): string => headOf('HTTP/1.1 200 OK', ...lines);
const status = (code: number, ...lines: string[]): string => headOf(`HTTP/1.1 ${code} X`, ...lines);

describe('a response head', () => {
  test('is read with its status, fields and length', () => {
    const text = ok('Server: a', 'Content-Length: 3', 'Host: b');
    const { head, end, framing, keepAlive } = acceptedResponse(`${text}abc`);
    expect(head).toMatchObject({
      status: 200,
      version: 'http/1.1',
      contentLength: 3,
      receivedBytes: text.length,
      upgrade: null,
    });
    expect([...head.lines()]).toEqual([
      ['server', 'a'],
      ['host', 'b'],
    ]);
    expect({ end, framing, keepAlive }).toEqual({
      end: text.length,
      framing: { kind: 'length', length: 3 },
      keepAlive: true,
    });
  });

  test.each([
    ['an empty reason', headOf('HTTP/1.1 200 ')],
    ['no reason and no space', headOf('HTTP/1.1 200')],
    ['a reason with high bytes', headOf('HTTP/1.1 200 sch\xf6n')],
    ['HTTP/1.0', headOf('HTTP/1.0 200 OK')],
  ])('with %s is accepted', (_, text) => {
    expect(acceptedResponse(text).head.status).toBe(200);
  });

  test.each([
    ['a length', ok('Content-Length: 1'), 'GET', { kind: 'length', length: 1 }],
    ['length 0', ok('Content-Length: 0'), 'GET', { kind: 'none' }],
    ['chunked', ok('Transfer-Encoding: chunked'), 'GET', { kind: 'chunked' }],
    ['neither', ok(), 'GET', { kind: 'until-close' }],
    ['HTTP/1.0 with neither', headOf('HTTP/1.0 200 OK', 'Connection: keep-alive'), 'GET', { kind: 'until-close' }],
    ['HEAD with a length', ok('Content-Length: 5'), 'HEAD', { kind: 'none' }],
    ['HEAD with chunked', ok('Transfer-Encoding: chunked'), 'HEAD', { kind: 'none' }],
    ['304 with a length', status(304, 'Content-Length: 5'), 'GET', { kind: 'none' }],
    ['304 without', status(304), 'GET', { kind: 'none' }],
    ['204', status(204), 'GET', { kind: 'none' }],
    ['204 with length 0', status(204, 'Content-Length: 0'), 'GET', { kind: 'none' }],
    ['100', status(100), 'POST', { kind: 'none' }],
    ['103 with fields', status(103, 'Link: a'), 'GET', { kind: 'none' }],
    ['101', status(101, 'Connection: Upgrade', 'Upgrade: websocket'), 'GET', { kind: 'raw' }],
    ['200 of CONNECT', ok(), 'CONNECT', { kind: 'raw' }],
    ['403 of CONNECT', status(403, 'Content-Length: 4'), 'CONNECT', { kind: 'length', length: 4 }],
  ])('%s is framed as it says', (_, text, method, framing) => {
    expect(acceptedResponse(text, method).framing).toEqual(framing);
  });

  test.each([
    ['with a length', ok('Content-Length: 1'), true],
    ['with close', ok('Content-Length: 1', 'Connection: close'), false],
    ['until the connection ends', ok('Connection: keep-alive'), false],
    ['of HTTP/1.0', headOf('HTTP/1.0 200 OK', 'Content-Length: 1'), false],
    ['of HTTP/1.0 with keep-alive', headOf('HTTP/1.0 200 OK', 'Content-Length: 1', 'Connection: keep-alive'), true],
    ['that upgrades', status(101, 'Connection: Upgrade', 'Upgrade: websocket'), false],
  ])('%s lets the connection be used again: %o', (_, text, keepAlive) => {
    expect(acceptedResponse(text).keepAlive).toBe(keepAlive);
  });

  test('has the Content-Length of HEAD and 304, and none of 204', () => {
    expect(acceptedResponse(ok('Content-Length: 5'), 'HEAD').head.contentLength).toBe(5);
    expect(acceptedResponse(status(304, 'Content-Length: 5')).head.contentLength).toBe(5);
    expect(acceptedResponse(status(204, 'Content-Length: 0')).head.contentLength).toBeNull();
  });

  test('names the protocol that 101 changes to', () => {
    expect(acceptedResponse(status(101, 'Connection: Upgrade', 'Upgrade: WebSocket')).head.upgrade).toBe('websocket');
    expect(acceptedResponse(ok('Connection: Upgrade', 'Upgrade: WebSocket')).head.upgrade).toBeNull();
  });
});

describe('a response is refused that has', () => {
  test.each([
    ['CL and TE', ok('Content-Length: 5', 'Transfer-Encoding: chunked'), 'GET'],
    ['CL and TE for HEAD', ok('Content-Length: 5', 'Transfer-Encoding: chunked'), 'HEAD'],
    ['two lengths', ok('Content-Length: 5', 'Content-Length: 5'), 'GET'],
    ['a list of lengths', ok('Content-Length: 5, 5'), 'GET'],
    ['a negative length', ok('Content-Length: -1'), 'GET'],
    ['another coding', ok('Transfer-Encoding: gzip, chunked'), 'GET'],
    ['an unknown coding', ok('Transfer-Encoding: gzip'), 'GET'],
    ['chunks in HTTP/1.0', headOf('HTTP/1.0 200 OK', 'Transfer-Encoding: chunked'), 'GET'],
    ['204 with a length', status(204, 'Content-Length: 5'), 'GET'],
    ['204 with chunks', status(204, 'Transfer-Encoding: chunked'), 'GET'],
    ['100 with a length', status(100, 'Content-Length: 5'), 'GET'],
    ['103 with chunks', status(103, 'Transfer-Encoding: chunked'), 'GET'],
    ['200 of CONNECT with a length', ok('Content-Length: 5'), 'CONNECT'],
    ['200 of CONNECT with chunks', ok('Transfer-Encoding: chunked'), 'CONNECT'],
    ['101 without Upgrade', status(101, 'Connection: Upgrade'), 'GET'],
    ['101 without Connection', status(101, 'Upgrade: websocket'), 'GET'],
    ['101 to HTTP/2', status(101, 'Connection: Upgrade', 'Upgrade: h2c'), 'GET'],
    ['101 with a length', status(101, 'Connection: Upgrade', 'Upgrade: websocket', 'Content-Length: 1'), 'GET'],
    ['status 99', headOf('HTTP/1.1 099 X'), 'GET'],
    ['status 600', headOf('HTTP/1.1 600 X'), 'GET'],
    ['a status of two digits', headOf('HTTP/1.1 20 X'), 'GET'],
    ['a status of four digits', headOf('HTTP/1.1 2000 X'), 'GET'],
    ['a signed status', headOf('HTTP/1.1 +20 X'), 'GET'],
    ['two spaces before the status', headOf('HTTP/1.1  200 OK'), 'GET'],
    ['a tab before the status', headOf('HTTP/1.1\t200 OK'), 'GET'],
    ['a tab after the status', headOf('HTTP/1.1 200\tOK'), 'GET'],
    ['a reason with NUL', headOf('HTTP/1.1 200 O\0K'), 'GET'],
    ['a reason with a bare CR', headOf('HTTP/1.1 200 O\rK'), 'GET'],
    ['a bare LF', 'HTTP/1.1 200 OK\nA: b\n\n', 'GET'],
    ['CRLF before the status line', `\r\n${ok()}`, 'GET'],
    ['no status line', headOf('Server: a'), 'GET'],
    ['HTTP/2.0', headOf('HTTP/2.0 200 OK'), 'GET'],
    ['ICY', headOf('ICY 200 OK'), 'GET'],
    ['a folded line', ok('A: b', ' c'), 'GET'],
    ['a space before the colon', ok('A : b'), 'GET'],
    ['a Set-Cookie that is to be dropped', ok('Connection: Set-Cookie', 'Set-Cookie: a=b'), 'GET'],
  ])('%s', (_, text, method) => {
    expect(responseOf(text, method).kind).toBe('error');
  });
});

describe('the limits of a response head', () => {
  const limits = { ...LIMITS, headerBytes: 200, headerCount: 2 };
  test.each([
    ['a reason above the limit', headOf(`HTTP/1.1 200 ${'a'.repeat(190)}`), 431],
    ['a reason above the limit that does not end', `HTTP/1.1 200 ${'a'.repeat(190)}`, 431],
    ['a field above the limit', headOf('HTTP/1.1 200 OK', `a: ${'a'.repeat(190)}`), 431],
    ['a field too many', ok('a: b', 'c: d', 'e: f'), 431],
  ])('%s is refused', (_, text, expected) => {
    expect(responseOf(text, 'GET', limits)).toMatchObject({ kind: 'error', status: expected });
  });
});
