import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { NativeBuffer } from '../../../../proxy/native/memory.ts';
import { HpackDecoder } from '../../../../proxy/protocol/hpack/decoder.ts';
import { HpackEncoder } from '../../../../proxy/protocol/hpack/encoder.ts';
import type { HeaderList } from '../../../../proxy/protocol/hpack/header-list.ts';
import { HpackDecoder as NgDecoder, HpackEncoder as NgEncoder } from '../../support/nghttp2-hpack.ts';

/** Against the nghttp2 that node carries: an implementation that knows nothing of ours. */

const block = new NativeBuffer(65_536);
afterAll(() => block.free());

const name = fc.oneof(
  fc.stringMatching(/^:?[a-z][a-z0-9-]{0,20}$/),
  fc.constantFrom(':path', ':authority', 'content-type', 'cookie', 'x-request-id'),
);
const value = fc.string({
  unit: fc.integer({ min: 0x20, max: 0xff }).map((code) => String.fromCharCode(code)),
  maxLength: 100,
});
const headers: fc.Arbitrary<HeaderList> = fc.array(
  fc.tuple(
    name,
    fc.oneof(value, fc.constantFrom('GET', '/', 'v'.repeat(30), 'w'.repeat(40))).filter((text) => text.trim() === text),
  ),
  { maxLength: 15 },
);
const blocks = fc.array(fc.tuple(headers, fc.option(fc.nat(6_000))), { maxLength: 12 });

describe('header blocks', () => {
  test('of ours are what nghttp2 reads, one after another, also while the table’s size changes', () => {
    fc.assert(
      fc.property(blocks, (lists) => {
        const encoder = new HpackEncoder();
        const theirs = new NgDecoder();
        try {
          for (const [list, size] of lists) {
            if (size !== null) encoder.setTableSize(size);
            const length = encoder.encode(list, block.bytes, 0, block.size);
            expect(theirs.decode(block.address, length, 65_536)).toEqual({ kind: 'headers', headers: list });
          }
        } finally {
          theirs.free();
        }
      }),
      { numRuns: 200 },
    );
  });

  test('of nghttp2 are what we read, one after another, also while the table’s size changes', () => {
    fc.assert(
      fc.property(blocks, (lists) => {
        const theirs = new NgEncoder();
        const decoder = new HpackDecoder();
        try {
          for (const [list, size] of lists) {
            if (size !== null) theirs.setTableSize(size);
            const length = theirs.encode(list, block.address, block.size);
            expect(decoder.decode(block.bytes, 0, length, 65_536)).toEqual({ kind: 'headers', headers: list });
          }
        } finally {
          theirs.free();
        }
      }),
      { numRuns: 200 },
    );
  });

  test('of any bytes at all are never read otherwise than nghttp2 reads them: we may refuse more', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 4 }), (rounds) => {
        const theirs = new NgDecoder();
        const decoder = new HpackDecoder();
        try {
          for (const bytes of rounds) {
            block.bytes.set(bytes);
            const ours = decoder.decode(block.bytes, 0, bytes.length, 65_536);
            if (ours.kind === 'broken') return;
            expect(theirs.decode(block.address, bytes.length, 65_536)).toEqual(ours);
          }
        } finally {
          theirs.free();
        }
      }),
      { numRuns: 3_000 },
    );
  });

  /** Literals of all kinds, with names of their own and of both tables; the same bytes mean another field where the dynamic table has moved on. */
  const PIECES = [
    '40 03 782d61 01 31', // x-a: 1, indexed
    '40 03 782d62 01 32',
    '5f 01 33', // content-type: 3, indexed
    '5f 01 34',
    '7e 01 35', // the newest name of the dynamic table: 5, indexed
    '00 03 782d61 01 36',
    '00 0c 782d726571756573742d6964 01 37', // x-request-id
    '0f 10 01 38', // content-type: 8
    '0f 2e 01 39', // the last name of the static table
    '0f 2f 01 30', // the newest name of the dynamic table
    '0f 30 01 30',
    '10 03 782d61 01 31', // never indexed
    '82',
    'be', // the newest field of the dynamic table
  ].map((text) => Buffer.from(text.replaceAll(' ', ''), 'hex'));

  test('of a few literals that come again and again, in any order, are what nghttp2 reads', () => {
    const pieces = fc.array(fc.constantFrom(...PIECES), { maxLength: 5 }).map((parts) => Buffer.concat(parts));
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 12 }), (rounds) => {
        const theirs = new NgDecoder();
        const decoder = new HpackDecoder();
        try {
          for (const bytes of rounds) {
            block.bytes.set(bytes);
            const ours = decoder.decode(block.bytes, 0, bytes.length, 65_536);
            if (ours.kind === 'broken') return;
            expect(theirs.decode(block.address, bytes.length, 65_536)).toEqual(ours);
          }
        } finally {
          theirs.free();
        }
      }),
      { numRuns: 2_000 },
    );
  });

  test('with more fields than are wanted are too large, and the next is still understood', () => {
    const decoder = new HpackDecoder();
    block.bytes.fill(0x82, 0, 6);
    expect(decoder.decode(block.bytes, 0, 6, 65_536, 5).kind).toBe('too-large');
    expect(decoder.decode(block.bytes, 0, 5, 65_536, 5).kind).toBe('headers');
  });
});
