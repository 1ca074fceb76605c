import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { type HeaderList, HpackDecoder, HpackEncoder } from '../../../proxy/native/hpack.ts';
import { NativeBuffer } from '../../../proxy/native/memory.ts';

const block = new NativeBuffer(16_384);
afterAll(() => block.free());

const name = fc.stringMatching(/^:?[a-z][a-z0-9-]{0,30}$/);
const value = fc.string({
  unit: fc.integer({ min: 0x20, max: 0xff }).map((code) => String.fromCharCode(code)),
  maxLength: 200,
});
const headers: fc.Arbitrary<HeaderList> = fc.array(fc.tuple(name, value), { maxLength: 20 });

function withCodec(use: (encoder: HpackEncoder, decoder: HpackDecoder) => void): void {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  try {
    use(encoder, decoder);
  } finally {
    encoder.free();
    encoder.free(); // once is what counts
    decoder.free();
    decoder.free();
  }
}

function put(bytes: Buffer): number {
  bytes.copy(block.bytes);
  return bytes.length;
}

describe('headers', () => {
  test('come back as they were, over many blocks of one connection and changes of the table’s size', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(headers, fc.option(fc.nat(10_000)))), (blocks) => {
        withCodec((encoder, decoder) => {
          for (const [list, size] of blocks) {
            if (size !== null) encoder.setTableSize(size);
            const length = encoder.encode(list, block.address, block.size);
            expect(decoder.decode(block.address, length, 65_536)).toEqual({ kind: 'headers', headers: list });
          }
        });
      }),
      { numRuns: 100 },
    );
  });

  test('that do not fit are refused and not cut', () => {
    withCodec((encoder) => {
      expect(() => encoder.encode([['a', 'x'.repeat(70_000)]], block.address, block.size)).toThrow(RangeError);
      const many = Array.from({ length: 129 }, () => ['a', 'b'] as const);
      expect(() => encoder.encode(many, block.address, block.size)).toThrow(RangeError);
    });
    withCodec((encoder) => {
      expect(() => encoder.encode([['a', '\u0001'.repeat(20_000)]], block.address, 100)).toThrow(RangeError);
    });
  });

  test('over the bound are too large, and the next block is still understood', () => {
    withCodec((encoder, decoder) => {
      const large: HeaderList = Array.from({ length: 20 }, (_, i) => [`name-${i}`, 'v'.repeat(100)]);
      const first = encoder.encode(large, block.address, block.size);
      expect(decoder.decode(block.address, first, 500)).toEqual({ kind: 'too-large' });
      // All of these are in the dynamic table by now: the block is a list of indexes.
      const second = encoder.encode(large, block.address, block.size);
      expect(second).toBeLessThan(first / 10);
      expect(decoder.decode(block.address, second, 65_536)).toEqual({ kind: 'headers', headers: large });
    });
  });

  test('more than 128 of them are too many, whatever their size', () => {
    withCodec((_, decoder) => {
      // 0x82: `:method: GET` of the static table.
      expect(decoder.decode(block.address, put(Buffer.alloc(129, 0x82)), 65_536).kind).toBe('too-large');
      expect(decoder.decode(block.address, put(Buffer.alloc(128, 0x82)), 65_536).kind).toBe('headers');
    });
  });
});

describe('a block', () => {
  test.each([
    ['with an index that no table has', Buffer.from([0xff, 0xff, 0x7f])],
    ['that names index 0', Buffer.from([0x80])],
    ['that ends within a string', Buffer.from([0x00, 0x05, 0x61])],
    ['with an integer that never ends', Buffer.alloc(20, 0xff)],
    ['that makes the table larger than was agreed', Buffer.from([0x3f, 0xe2, 0x7f])],
    ['with Huffman padding that is no prefix of EOS', Buffer.from([0x00, 0x81, 0x00, 0x00])],
    ['that changes the table’s size after a field', Buffer.from([0x82, 0x20])],
  ])('%s is broken', (_, bytes) => {
    withCodec((_encoder, decoder) => {
      expect(decoder.decode(block.address, put(bytes), 65_536).kind).toBe('broken');
    });
  });

  test('of any bytes at all is decoded or broken, and never more', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        withCodec((_, decoder) => {
          expect(['headers', 'broken', 'too-large']).toContain(
            decoder.decode(block.address, put(Buffer.from(bytes)), 4_096).kind,
          );
        });
      }),
      { numRuns: 200 },
    );
  });

  test('without any field is an empty list', () => {
    withCodec((_, decoder) => {
      expect(decoder.decode(block.address, 0, 100)).toEqual({ kind: 'headers', headers: [] });
    });
  });
});
