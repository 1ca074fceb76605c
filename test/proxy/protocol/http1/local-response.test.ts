import { describe, expect, test } from 'vitest';
import { localResponse } from '../../../../proxy/protocol/http1/local-response.ts';
import { acceptedResponse } from './support.ts';

const reply = { status: 403, headers: [['content-type', 'text/plain']], body: 'RBAC: access denied' } as const;

describe('a response of our own', () => {
  test('has its length, fields and body', () => {
    expect(localResponse(reply, { headRequest: false, close: false }).toString()).toBe(
      'HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\nContent-Length: 19\r\n\r\nRBAC: access denied',
    );
  });

  test('to HEAD has the same head and no body', () => {
    expect(localResponse(reply, { headRequest: true, close: true }).toString()).toBe(
      'HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\nContent-Length: 19\r\nConnection: close\r\n\r\n',
    );
  });

  test('to HTTP/1.0 says that the connection stays', () => {
    const text = localResponse(reply, { headRequest: true, close: false, keepAlive: true }).toString();
    expect(text).toContain('\r\nConnection: keep-alive\r\n');
  });

  test('counts bytes, not characters', () => {
    const bytes = localResponse({ status: 400, headers: [], body: 'schön' }, { headRequest: false, close: true });
    expect(bytes.toString()).toBe('HTTP/1.1 400 Bad Request\r\nContent-Length: 6\r\nConnection: close\r\n\r\nschön');
  });

  test('of a status without a known reason is a response all the same', () => {
    const bytes = localResponse({ status: 499, headers: [], body: '' }, { headRequest: false, close: true });
    expect(acceptedResponse(bytes.toString()).head.status).toBe(499);
  });

  test.each([
    ['a header with CR LF', { ...reply, headers: [['a', 'b\r\nc: d']] as const }],
    ['a header of wide characters', { ...reply, headers: [['a', '\u010d\u010a']] as const }],
    ['a header name with a space', { ...reply, headers: [['a b', 'c']] as const }],
    ['a header name of wide characters', { ...reply, headers: [['\u212aey', 'c']] as const }],
    ['framing of its own', { ...reply, headers: [['Content-Length', '1']] as const }],
    ['a status without a body', { ...reply, status: 204 }],
    ['an informational status', { ...reply, status: 100 }],
    ['a status that is none', { ...reply, status: 1000 }],
  ])('is never made with %s', (_, bad) => {
    expect(() => localResponse(bad, { headRequest: false, close: false })).toThrow(RangeError);
  });
});
