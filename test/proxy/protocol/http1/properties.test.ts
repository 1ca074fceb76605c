import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BodyDecoder } from '../../../../proxy/protocol/http1/body-decoder.ts';
import type { BodyFraming, ConnectionDirective } from '../../../../proxy/protocol/http1/framing.ts';
import { mutated, requestBytes, responseBytes } from './generators.ts';
import {
  bytesOf,
  decodeInPieces,
  LIMITS,
  parseInPieces,
  plain,
  requestOf,
  requestUpTo,
  responseOf,
  responseUpTo,
} from './support.ts';

/** Some of a message, mostly all of it. */
const begun = (text: fc.Arbitrary<string>): fc.Arbitrary<Buffer> =>
  fc
    .tuple(mutated(text), fc.option(fc.nat(200), { freq: 2 }))
    .map(([bytes, length]) => (length === null ? bytes : bytes.subarray(0, length)));
const cuts = fc.array(fc.nat(2_000), { maxLength: 12 });
/** A byte at a time. */
const everywhere = (bytes: Buffer): number[] => Array.from(bytes, (_, i) => i);

describe('whatever comes', () => {
  test('a request head is judged the same however it was split', () => {
    fc.assert(
      fc.property(begun(requestBytes), cuts, (bytes, at) => {
        const whole = plain(requestUpTo(bytes, bytes.length, 0));
        expect(plain(parseInPieces(bytes, at, requestUpTo))).toEqual(whole);
        expect(plain(parseInPieces(bytes, everywhere(bytes), requestUpTo))).toEqual(whole);
      }),
      { numRuns: 400 },
    );
  });

  test('a response head is judged the same however it was split', () => {
    fc.assert(
      fc.property(begun(responseBytes), cuts, (bytes, at) => {
        const whole = plain(responseUpTo(bytes, bytes.length, 0));
        expect(plain(parseInPieces(bytes, at, responseUpTo))).toEqual(whole);
        expect(plain(parseInPieces(bytes, everywhere(bytes), responseUpTo))).toEqual(whole);
      }),
      { numRuns: 400 },
    );
  });

  test('a chunked body is read the same however it was split', () => {
    const piece = fc.constantFrom('0', '3', '00', 'abc', '\r\n', '\r\n', '\n', ';a', '="', '"', 'A: b\r\n', '\r', ' ');
    const likely = fc.constantFrom('3\r\nabc\r\n', '1;a=b\r\nx\r\n', '0\r\n', '\r\n', 'A: b\r\n', '0\r\n\r\n');
    fc.assert(
      fc.property(fc.array(fc.oneof(likely, piece), { maxLength: 10 }), cuts, (pieces, at) => {
        const bytes = bytesOf(pieces.join(''));
        const decode = (where: readonly number[]): unknown => {
          const decoder = new BodyDecoder(LIMITS);
          decoder.begin({ kind: 'chunked' });
          const { taken, ...rest } = decodeInPieces(decoder, bytes, where);
          return rest.failure === null ? { taken, ...rest } : rest;
        };
        const whole = decode([]);
        expect(decode(at)).toEqual(whole);
        expect(decode(everywhere(bytes))).toEqual(whole);
      }),
      { numRuns: 1_000 },
    );
  });

  test('arbitrary bytes never make a parser throw', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.constantFrom('', 'GET / HTTP/1.1\r\n', 'HTTP/1.1 200 OK\r\n'),
        (array, start) => {
          const text = start + Buffer.from(array).toString('latin1');
          for (const kind of [requestOf(text).kind, responseOf(text).kind]) {
            expect(['incomplete', 'head', 'error']).toContain(kind);
          }
        },
      ),
      { numRuns: 2_000 },
    );
  });
});

describe('a head that was accepted', () => {
  const directive = (upgrade: string | null, keepAlive: boolean): ConnectionDirective =>
    upgrade !== null ? 'upgrade' : keepAlive ? 'keep-alive' : 'close';

  test('of a request is the same after it was sent on', () => {
    let accepted = 0;
    fc.assert(
      fc.property(mutated(requestBytes), (bytes) => {
        const first = requestUpTo(bytes, bytes.length, 0);
        if (first.kind !== 'head') return;
        accepted++;
        const { head, framing, keepAlive } = first;
        const to = Buffer.alloc(head.encodedBytes());
        const length = head.encode(to, 0, framing, directive(head.upgrade, keepAlive));
        const again = requestUpTo(to, length, 0);
        if (again.kind !== 'head') throw new Error(`${again.kind}: ${to.latin1Slice(0, length)}`);
        expect(again.end).toBe(length);
        expect([again.framing, again.keepAlive]).toEqual([framing, keepAlive]);
        // To HTTP/1.0 nobody says 100; HTTP/1.1 is what goes on.
        if (head.version === 'http/1.1') expect(again.expectContinue).toBe(first.expectContinue);
        for (const key of ['method', 'target', 'authority', 'upgrade', 'contentLength'] as const) {
          expect(again.head[key]).toEqual(head[key]);
        }
        expect([...again.head.lines()].sort()).toEqual([...head.lines()].sort());
      }),
      { numRuns: 1_500 },
    );
    expect(accepted).toBeGreaterThan(50);
  });

  test('of a response is the same after it was sent on', () => {
    let accepted = 0;
    fc.assert(
      fc.property(mutated(responseBytes), (bytes) => {
        const first = responseUpTo(bytes, bytes.length, 0);
        if (first.kind !== 'head') return;
        accepted++;
        const { head, framing, keepAlive } = first;
        const to = Buffer.alloc(head.encodedBytes());
        const length = head.encode(to, 0, framing, directive(head.upgrade, keepAlive));
        const again = responseUpTo(to, length, 0);
        if (again.kind !== 'head') throw new Error(`${again.kind}: ${to.latin1Slice(0, length)}`);
        expect(again.end).toBe(length);
        expect([again.framing, again.keepAlive]).toEqual([framing, keepAlive]);
        for (const key of ['status', 'upgrade', 'contentLength'] as const) {
          expect(again.head[key]).toEqual(head[key]);
        }
        expect([...again.head.lines()].sort()).toEqual([...head.lines()].sort());
      }),
      { numRuns: 1_500 },
    );
    expect(accepted).toBeGreaterThan(50);
  });

  test('has exactly the fields that edits leave, whatever they are', () => {
    const name = fc.constantFrom('x-a', 'x-b', 'x-c', 'user-agent');
    const edit = fc.oneof(
      fc.record({ kind: fc.constant('set' as const), name, value: fc.stringMatching(/^[!-~]{0,8}$/) }),
      fc.record({ kind: fc.constant('remove' as const), name, value: fc.constant('') }),
      fc.record({ kind: fc.constant('removeWhere' as const), name, value: fc.constant('') }),
    );
    const lines = fc.array(fc.tuple(name, fc.stringMatching(/^[!-~]{0,8}$/)), { maxLength: 6 });
    fc.assert(
      fc.property(lines, fc.array(edit, { maxLength: 6 }), (fields, edits) => {
        const text = `GET / HTTP/1.1\r\nHost: a\r\n${fields.map(([one, value]) => `${one}: ${value}\r\n`).join('')}\r\n`;
        const result = requestOf(text);
        if (result.kind !== 'head') throw new Error(result.kind);
        let model: (readonly [string, string])[] = [['host', 'a'], ...fields];
        for (const { kind, name: one, value } of edits) {
          model = model.filter(([other]) => other !== one);
          if (kind === 'set') {
            model.push([one, value]);
            result.head.set(one, value);
          } else if (kind === 'remove') result.head.remove(one);
          else result.head.removeWhere((other) => other === one);
        }
        expect([...result.head.lines()]).toEqual(model);
        for (const [one] of model) {
          const values = model.filter(([other]) => other === one).map(([, value]) => value);
          expect(result.head.all(one)).toEqual(values);
          expect(result.head.get(one)).toBe(values.join(', '));
        }
        const none: BodyFraming = { kind: 'none' };
        const to = Buffer.alloc(result.head.encodedBytes());
        const again = requestUpTo(to, result.head.encode(to, 0, none, 'keep-alive'), 0);
        expect(again.kind === 'head' ? [...again.head.lines()] : again).toEqual(model);
      }),
      { numRuns: 300 },
    );
  });
});
