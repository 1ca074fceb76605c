import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatTraceparent, parseTraceparent, TraceSource } from '../../../proxy/connection/trace-context.ts';
import { CountingBytes } from './support/telemetry-plane.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const PARENT = '00f067aa0ba902b7';
const SAMPLED = `00-${TRACE}-${PARENT}-01`;
const UNSAMPLED = `00-${TRACE}-${PARENT}-00`;

describe('a traceparent', () => {
  test.each([
    ['sampled', SAMPLED, true],
    ['not sampled', UNSAMPLED, false],
    ['with flags that we do not know', `00-${TRACE}-${PARENT}-ff`, true],
    ['with unknown flags only', `00-${TRACE}-${PARENT}-fe`, false],
    ['of a later version', `01-${TRACE}-${PARENT}-01`, true],
    ['of a later version with more in it', `cc-${TRACE}-${PARENT}-01-what-the-future-will-be-like`, true],
  ])('is read: %s', (_, text, sampled) => {
    expect(parseTraceparent(text)).toEqual({ traceId: TRACE, parentId: PARENT, sampled });
  });

  test.each([
    ['empty', ''],
    ['of version ff', `ff-${TRACE}-${PARENT}-01`],
    ['with a version of one digit', `0-${TRACE}-${PARENT}-01`],
    ['with a version that is no number', `.0-${TRACE}-${PARENT}-01`],
    ['with capitals in the version', `0A-${TRACE}-${PARENT}-01`],
    ['with a trace ID of zeros', `00-${'0'.repeat(32)}-${PARENT}-01`],
    ['with a parent ID of zeros', `00-${TRACE}-${'0'.repeat(16)}-01`],
    ['with capitals in the trace ID', `00-${TRACE.toUpperCase()}-${PARENT}-01`],
    ['with capitals in the parent ID', `00-${TRACE}-${PARENT.toUpperCase()}-01`],
    ['with what is no digit in the trace ID', `00-${TRACE.slice(1)}g-${PARENT}-01`],
    ['with what is no digit in the flags', `00-${TRACE}-${PARENT}-0x`],
    ['too short', SAMPLED.slice(0, -1)],
    ['too long for its version', `${SAMPLED}-00`],
    ['with a space behind', `${SAMPLED} `],
    ['with a space before', ` ${SAMPLED}`],
    ['twice in one message', `${SAMPLED}, ${SAMPLED}`],
    ['of a later version, longer, without a dash', `01-${TRACE}-${PARENT}-01x`],
    ['with other dashes', SAMPLED.replaceAll('-', '_')],
    ['with a dash too few', `00${TRACE}0-${PARENT}-01`],
  ])('is not taken: %s', (_, text) => {
    expect(parseTraceparent(text)).toBeNull();
  });

  test('is read back as it was written', () => {
    const hex = (length: number) =>
      fc
        .array(fc.integer({ min: 0, max: 15 }), { minLength: length, maxLength: length })
        .map((digits) => digits.map((digit) => digit.toString(16)).join(''))
        .filter((text) => /[^0]/.test(text));
    fc.assert(
      fc.property(hex(32), hex(16), fc.boolean(), (traceId, parentId, sampled) => {
        expect(parseTraceparent(formatTraceparent(traceId, parentId, sampled))).toEqual({ traceId, parentId, sampled });
      }),
    );
  });
});

describe('the trace of a request', () => {
  const source = (sampling: number | null): TraceSource => new TraceSource(sampling, new CountingBytes());

  test('goes on with a span of our own where the caller samples', () => {
    const trace = source(0).next(SAMPLED);
    expect(trace).toEqual({
      traceId: TRACE,
      parentSpanId: PARENT,
      spanId: '0001020304050607',
      traceparent: `00-${TRACE}-0001020304050607-01`,
      carried: true,
    });
  });

  test.each([
    ['the caller does not sample', 1, UNSAMPLED],
    ['no spans are made', null, SAMPLED],
  ])('is passed on as it is where %s', (_, sampling, text) => {
    expect(source(sampling).next(text)).toMatchObject({ spanId: null, traceparent: text, carried: true });
  });

  test.each([null, 'nonsense', `${SAMPLED}, ${SAMPLED}`])('begins here where the caller sends %s', (text) => {
    expect(source(1).next(text)).toEqual({
      traceId: '000102030405060708090a0b0c0d0e0f',
      parentSpanId: null,
      spanId: '1011121314151617',
      traceparent: '00-000102030405060708090a0b0c0d0e0f-1011121314151617-01',
      carried: false,
    });
  });

  test.each([
    ['no spans are made', null],
    ['the ratio is 0', 0],
  ])('that begins here is not sampled where %s', (_, sampling) => {
    const trace = source(sampling).next(null);
    expect(trace.spanId).toBeNull();
    expect(parseTraceparent(trace.traceparent)).toMatchObject({ traceId: trace.traceId, sampled: false });
  });

  test('that begins here is sampled by the ratio', () => {
    const random = { bytes: Buffer.alloc(64), take: (length: number): number => (length === 4 ? 32 : 1) };
    random.bytes.fill(1, 0, 32);
    const sampledAt = (share: number): boolean => {
      random.bytes.writeUInt32LE(Math.floor(share * 2 ** 32), 32);
      return new TraceSource(0.25, random).next(null).spanId !== null;
    };
    expect([0, 0.2499, 0.25, 0.9999].map(sampledAt)).toEqual([true, true, false, false]);
  });
});
