import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BodyDecoder } from '../../../../proxy/protocol/http1/body-decoder.ts';
import {
  lastChunkBytes,
  MAX_CHUNK_HEAD_BYTES,
  writeChunkEnd,
  writeChunkHead,
  writeLastChunk,
} from '../../../../proxy/protocol/http1/body-encoder.ts';
import type { BodyFraming } from '../../../../proxy/protocol/http1/framing.ts';
import { bytesOf, decodeChunked, decodeInPieces, LIMITS } from './support.ts';

const NEXT = 'GET / HTTP/1.1';

function begun(framing: BodyFraming): BodyDecoder {
  const decoder = new BodyDecoder(LIMITS);
  decoder.begin(framing);
  return decoder;
}

describe('a chunked body', () => {
  test.each([
    ['of one chunk', '3\r\nabc\r\n0\r\n\r\n', 'abc'],
    ['of several', '1\r\na\r\n2\r\nbc\r\n0\r\n\r\n', 'abc'],
    ['of none', '0\r\n\r\n', ''],
    ['with sizes in both cases', 'a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n', '01234567890123456789a'],
    ['with leading zeros', '003\r\nabc\r\n00\r\n\r\n', 'abc'],
    ['with chunks that look like ends', '5\r\n0\r\n\r\n\r\n0\r\n\r\n', '0\r\n\r\n'],
    ['with an extension', '3;a\r\nabc\r\n0;b=c\r\n\r\n', 'abc'],
    ['with several extensions', '3;a;b=c;d="e ;\\"f"\r\nabc\r\n0\r\n\r\n', 'abc'],
    ['with extensions of 256 bytes', `3;${'a'.repeat(255)}\r\nabc\r\n0\r\n\r\n`, 'abc'],
  ])('%s is read to its end and not further', (_, text, body) => {
    expect(decodeChunked(text + NEXT)).toEqual({ body, done: true, failure: null, trailers: [], taken: text.length });
  });

  test.each([
    ['a size with 0x', '0x3\r\nabc\r\n0\r\n\r\n'],
    ['a signed size', '+3\r\nabc\r\n0\r\n\r\n'],
    ['a negative size', '-3\r\nabc\r\n0\r\n\r\n'],
    ['a size with a space before', ' 3\r\nabc\r\n0\r\n\r\n'],
    ['a size with a space after', '3 \r\nabc\r\n0\r\n\r\n'],
    ['a size with a tab after', '3\t\r\nabc\r\n0\r\n\r\n'],
    ['a size with an underscore', '1_0\r\nabc\r\n0\r\n\r\n'],
    ['a size that is no number', 'g\r\nabc\r\n0\r\n\r\n'],
    ['no size', '\r\nabc\r\n0\r\n\r\n'],
    ['no size where the end could be', '\r\n\r\n'],
    ['an extension without size', ';a\r\nabc\r\n0\r\n\r\n'],
    ['a size above 2^48', '1000000000001\r\n'],
    ['a size of 17 digits', '00000000000000003\r\nabc\r\n0\r\n\r\n'],
    ['a size that overflows to 3', '10000000000000003\r\nabc\r\n0\r\n\r\n'],
    ['a size with a list', '3,3\r\nabc\r\n0\r\n\r\n'],
    ['a bare LF after the size', '3\nabc\r\n0\r\n\r\n'],
    ['a bare CR after the size', '3\rabc\r\n0\r\n\r\n'],
    ['CR CR LF after the size', '3\r\r\nabc\r\n0\r\n\r\n'],
    ['a bare LF after an extension', '3;a\nabc\r\n0\r\n\r\n'],
    ['a bare LF within an extension', '3;a\nb\r\nabc\r\n0\r\n\r\n'],
    ['a bare CR within an extension', '3;a\rb\r\nabc\r\n0\r\n\r\n'],
    ['CR LF within a quoted extension', '3;a="\r\n"\r\nabc\r\n0\r\n\r\n'],
    ['a bare LF within a quoted extension', '3;a="\n"\r\nabc\r\n0\r\n\r\n'],
    ['NUL in an extension', '3;a\0\r\nabc\r\n0\r\n\r\n'],
    ['a space in an extension', '3;a b\r\nabc\r\n0\r\n\r\n'],
    ['a space before an extension', '3 ;a\r\nabc\r\n0\r\n\r\n'],
    ['an empty extension', '3;\r\nabc\r\n0\r\n\r\n'],
    ['an empty value of an extension', '3;a=\r\nabc\r\n0\r\n\r\n'],
    ['bytes after a quoted value', '3;a="b"c\r\nabc\r\n0\r\n\r\n'],
    ['extensions of 257 bytes', `3;${'a'.repeat(256)}\r\nabc\r\n0\r\n\r\n`],
    ['no CRLF after the data', '3\r\nabc0\r\n\r\n'],
    ['a bare LF after the data', '3\r\nabc\n0\r\n\r\n'],
    ['a bare CR after the data', '3\r\nabc\r0\r\n\r\n'],
    ['data longer than its size', '3\r\nabcd\r\n0\r\n\r\n'],
    ['data shorter than its size', '3\r\nab\r\n0\r\n\r\n'],
    ['a bare LF after the last chunk', '0\n\r\n'],
    ['a bare LF at the end', '0\r\n\n'],
    ['a bare CR at the end', '0\r\n\rX\r\n\r\n'],
    ['a trailer without colon', '0\r\nabc\r\n\r\n'],
    ['a trailer with a space before the colon', '0\r\nA : b\r\n\r\n'],
    ['a folded trailer', '0\r\nA: b\r\n c\r\n\r\n'],
    ['a trailer with a bare LF', '0\r\nA: b\n\r\n'],
  ])('with %s is refused', (_, text) => {
    const { done, failure } = decodeChunked(text + NEXT);
    expect({ done, failed: failure !== null }).toEqual({ done: false, failed: true });
  });

  test('with a size of 2^48 is still a chunk', () => {
    expect(decodeChunked('1000000000000\r\nabc')).toMatchObject({ body: 'abc', done: false, failure: null });
  });

  test('gives the data that came before it broke', () => {
    expect(decodeChunked('3\r\nabc\r\nx')).toMatchObject({ body: 'abc', done: false });
  });

  test('that has not ended is neither done nor failed, until the connection ends', () => {
    const decoder = begun({ kind: 'chunked' });
    expect(decodeInPieces(decoder, bytesOf('3\r\nabc\r\n'), [])).toMatchObject({ done: false, failure: null });
    decoder.endOfInput();
    expect([decoder.done, decoder.failure]).toEqual([false, 'the connection ended within a body']);
  });
});

describe('trailers', () => {
  test('come after the last chunk', () => {
    const text = '1\r\na\r\n0\r\nServer-Timing:  x \r\nDigest: y\r\n\r\n';
    expect(decodeChunked(text + NEXT)).toEqual({
      body: 'a',
      done: true,
      failure: null,
      trailers: [
        ['server-timing', 'x'],
        ['digest', 'y'],
      ],
      taken: text.length,
    });
  });

  test.each([
    'Content-Length: 5',
    'Transfer-Encoding: chunked',
    'Host: a',
    'Connection: close',
    'TE: trailers',
    'Upgrade: x',
    'Trailer: x',
    'Keep-Alive: x',
    'Expect: 100-continue',
    'Authorization: x',
    'Proxy-Authorization: x',
    'Cookie: a=b',
    'Set-Cookie: a=b',
    'Content-Type: x',
    'Content-Encoding: x',
    'Cache-Control: x',
    'If-None-Match: x',
    'Location: x',
    'X-Forwarded-For: x',
    'X-Forwarded-Client-Cert: x',
    'x_forwarded_client_cert: x',
    'x_forwarded_new: x',
    'X-Envoy-Anything: x',
    'Forwarded: x',
    'traceparent: x',
  ])('are never %s', (line) => {
    expect(decodeChunked(`0\r\nA: b\r\n${line}\r\n\r\n`)).toMatchObject({ done: false, failure: expect.any(String) });
  });

  test.each([
    ['as many as fields of a head', '0\r\na: b\r\nc: d\r\n\r\n', true],
    ['more', '0\r\na: b\r\nc: d\r\ne: f\r\n\r\n', false],
    ['as long as a head', `0\r\na: ${'b'.repeat(93)}\r\n\r\n`, true],
    ['longer', `0\r\na: ${'b'.repeat(94)}\r\n\r\n`, false],
    ['longer and without end', `0\r\na: ${'b'.repeat(200)}`, false],
  ])('are bounded: %s', (_, text, done) => {
    const limits = { ...LIMITS, headerBytes: 100, headerCount: 2 };
    for (const cuts of [[], Array.from(text, (_, i) => i)]) {
      expect(decodeChunked(text, cuts, limits)).toMatchObject({ done, failure: done ? null : expect.any(String) });
    }
  });

  test('of one message are not those of the next', () => {
    const decoder = begun({ kind: 'chunked' });
    decodeInPieces(decoder, bytesOf('0\r\nA: b\r\n\r\n'), []);
    expect(decoder.trailers?.get('a')).toBe('b');
    decoder.begin({ kind: 'chunked' });
    expect(decodeInPieces(decoder, bytesOf('0\r\n\r\n'), [])).toMatchObject({ done: true, trailers: [] });
  });
});

describe('a body', () => {
  test('of a length ends after it', () => {
    const decoder = begun({ kind: 'length', length: 3 });
    expect(decodeInPieces(decoder, bytesOf(`abc${NEXT}`), [1])).toMatchObject({ body: 'abc', done: true, taken: 3 });
  });

  test('of a length that comes short fails when the connection ends', () => {
    const decoder = begun({ kind: 'length', length: 3 });
    expect(decodeInPieces(decoder, bytesOf('ab'), [])).toMatchObject({ done: false, failure: null });
    decoder.endOfInput();
    expect(decoder.failure).toBe('the connection ended within a body');
  });

  test('that there is none of is done at once', () => {
    const decoder = begun({ kind: 'none' });
    expect(decodeInPieces(decoder, bytesOf(NEXT), [])).toMatchObject({ done: true, taken: 0, body: '' });
  });

  test.each<BodyFraming>([{ kind: 'until-close' }, { kind: 'raw' }])('of $kind ends with the connection', (framing) => {
    const decoder = begun(framing);
    expect(decodeInPieces(decoder, bytesOf(NEXT), [4])).toMatchObject({ done: false, failure: null, body: NEXT });
    decoder.endOfInput();
    expect([decoder.done, decoder.failure]).toEqual([true, null]);
  });
});

describe('the encoder of chunks', () => {
  test.each([
    [1, '1'],
    [15, 'f'],
    [16, '10'],
    [0xabcdef, 'abcdef'],
    [2 ** 48 - 1, 'ffffffffffff'],
  ])('writes %d as %s', (length, digits) => {
    const to = Buffer.alloc(MAX_CHUNK_HEAD_BYTES + 1);
    expect(to.latin1Slice(1, writeChunkHead(to, 1, length))).toBe(`${digits}\r\n`);
  });

  test.each([0, -1, 2 ** 48])('never writes a chunk of %d', (length) => {
    expect(() => writeChunkHead(Buffer.alloc(32), 0, length)).toThrow(RangeError);
  });

  test('does not write where there is no room', () => {
    expect(() => writeChunkHead(Buffer.alloc(3), 0, 0x10)).toThrow(RangeError);
    expect(() => writeLastChunk(Buffer.alloc(lastChunkBytes(null) - 1), 0, null)).toThrow(RangeError);
  });

  const NAMES = ['x-a', 'x-b', 'Digest', 'X_C'];
  test('and the decoder are inverse, at any split, with trailers that may be changed between', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { maxLength: 6 }),
        fc.array(fc.tuple(fc.constantFrom(...NAMES), fc.stringMatching(/^(?:[!-~](?:[ -~]{0,8}[!-~])?)?$/)), {
          maxLength: 4,
        }),
        fc.array(fc.nat(400), { maxLength: 12 }),
        (chunks, trailers, cuts) => {
          const section = `0\r\n${trailers.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;
          const first = begun({ kind: 'chunked' });
          decodeInPieces(first, bytesOf(section), []);
          const to = Buffer.alloc(4096);
          let p = 0;
          for (const chunk of chunks) {
            p = writeChunkHead(to, p, chunk.length);
            to.set(chunk, p);
            p = writeChunkEnd(to, p + chunk.length);
          }
          p = writeLastChunk(to, p, first.trailers);
          const again = decodeInPieces(begun({ kind: 'chunked' }), to.subarray(0, p), cuts);
          expect(again).toEqual({
            body: Buffer.concat(chunks).toString('latin1'),
            done: true,
            failure: null,
            trailers: trailers.map(([name, value]) => [name.toLowerCase(), value]),
            taken: p,
          });
        },
      ),
    );
  });
});
