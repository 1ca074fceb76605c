import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { HpackDecoder } from '../../../../proxy/protocol/hpack/decoder.ts';
import { HpackEncoder } from '../../../../proxy/protocol/hpack/encoder.ts';
import type { HeaderList } from '../../../../proxy/protocol/hpack/header-list.ts';
import { huffmanBytes, huffmanDecode, huffmanEncode } from '../../../../proxy/protocol/hpack/huffman.ts';

const ROOM = 65_536;
const MAX = 16_384;

function encode(encoder: HpackEncoder, headers: HeaderList): Buffer {
  const to = Buffer.alloc(ROOM);
  return to.subarray(0, encoder.encode(headers, to, 0, ROOM));
}

const decode = (decoder: HpackDecoder, block: Buffer, max = MAX): unknown => {
  const result = decoder.decode(block, 0, block.length, max);
  return result.kind === 'headers' ? result.headers : result.kind;
};

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');

/** Latin-1 text, so that each character is one byte. */
const latin1 = (maxLength: number) =>
  fc.uint8Array({ maxLength }).map((bytes) => Buffer.from(bytes).toString('latin1'));

describe('the Huffman code', () => {
  // RFC 7541, C.4 and C.6.
  test.each([
    ['www.example.com', 'f1e3 c2e5 f23a 6ba0 ab90 f4ff'],
    ['no-cache', 'a8eb 1064 9cbf'],
    ['custom-key', '25a8 49e9 5ba9 7d7f'],
    ['custom-value', '25a8 49e9 5bb8 e8b4 bf'],
    ['302', '6402'],
    ['private', 'aec3 771a 4b'],
    ['Mon, 21 Oct 2013 20:13:21 GMT', 'd07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff'],
    ['https://www.example.com', '9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3'],
  ])('%s', (text, encoded) => {
    const to = Buffer.alloc(64);
    const end = huffmanEncode(text, to, 0);
    expect(to.subarray(0, end)).toEqual(hex(encoded));
    expect(huffmanBytes(text)).toBe(end);
    const out = Buffer.alloc(128);
    expect(out.toString('latin1', 0, huffmanDecode(hex(encoded), 0, end, out))).toBe(text);
  });

  test('carries every byte there and back', () => {
    fc.assert(
      fc.property(latin1(200), (text) => {
        const to = Buffer.alloc(huffmanBytes(text));
        expect(huffmanEncode(text, to, 0)).toBe(to.length);
        const out = Buffer.alloc(to.length * 2);
        expect(out.toString('latin1', 0, huffmanDecode(to, 0, to.length, out))).toBe(text);
      }),
    );
  });

  test.each([
    ['padding of zeros', '18'], // "a" is 00011, then 000
    ['a whole byte of padding', '1fff'],
    ['EOS itself', '3fffffff'],
    ['EOS within', 'ffffffff 00'],
  ])('refuses %s', (_what, encoded) => {
    const bytes = hex(encoded);
    expect(huffmanDecode(bytes, 0, bytes.length, Buffer.alloc(64))).toBe(-1);
  });
});

describe('the decoder', () => {
  test('reads the requests of RFC 7541, C.4, one after another', () => {
    const decoder = new HpackDecoder();
    const first = [
      [':method', 'GET'],
      [':scheme', 'http'],
      [':path', '/'],
      [':authority', 'www.example.com'],
    ];
    expect(decode(decoder, hex('8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff'))).toEqual(first);
    expect(decode(decoder, hex('8286 84be 5886 a8eb 1064 9cbf'))).toEqual([...first, ['cache-control', 'no-cache']]);
    expect(decode(decoder, hex('8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf'))).toEqual([
      [':method', 'GET'],
      [':scheme', 'https'],
      [':path', '/index.html'],
      [':authority', 'www.example.com'],
      ['custom-key', 'custom-value'],
    ]);
  });

  test('evicts as RFC 7541, C.5, with a table of 256 bytes', () => {
    const decoder = new HpackDecoder();
    const date = 'Mon, 21 Oct 2013 20:13:21 GMT';
    const location = 'https://www.example.com';
    const block = hex(
      `3fe101 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
       2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`,
    );
    const rest = [
      ['cache-control', 'private'],
      ['date', date],
      ['location', location],
    ];
    expect(decode(decoder, block)).toEqual([[':status', '302'], ...rest]);
    expect(decode(decoder, hex('4803 3330 37c1 c0bf'))).toEqual([[':status', '307'], ...rest]);
    // The insertion of 307 has evicted 302, which was the last.
    expect(decode(decoder, hex('c2'))).toBe('broken');
  });

  test.each([
    ['index 0', '80'],
    ['an index beyond the tables', 'be'],
    ['a name beyond the tables', '7f00 0161'],
    ['an index cut short', 'ff'],
    ['an index without end', 'ff80 8080 8080 8080 8000'],
    ['a name cut short', '4003 6162'],
    ['a value cut short', '0001 6105 6162'],
    ['no value at all', '0001 61'],
    ['a length beyond any use', '0001 617f ffff ff7f'],
    ['a size update after a field', '8220'],
    ['three size updates', '2021 22'],
    ['a size update above our bound', '3fe2 1f'],
    ['Huffman padding that is none', '0001 6181 18'],
  ])('refuses %s', (_what, block) => {
    expect(decode(new HpackDecoder(), hex(block))).toBe('broken');
  });

  test('keeps its tables in step when a list is too large', () => {
    const decoder = new HpackDecoder();
    const large = 'v'.repeat(500);
    const encoder = new HpackEncoder();
    const list: HeaderList = [
      ['x-large', large],
      ['x-small', 'a'],
    ];
    encode(encoder, list);
    expect(decode(decoder, encode(encoder, list), 100)).toBe('too-large');
    expect(decode(decoder, encode(encoder, list))).toEqual(list);
  });

  test('refuses a block of one-byte references without end, and one of many is too large before that', () => {
    expect(decode(new HpackDecoder(), Buffer.alloc(200, 0x82), 1e6)).toBe('too-large');
    expect(decode(new HpackDecoder(), Buffer.alloc(100_000, 0x82), 1e9)).toBe('broken');
  });

  test('never throws, and never answers with more than the bound, whatever comes', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 5 }), (blocks) => {
        const decoder = new HpackDecoder();
        for (const bytes of blocks) {
          const result = decoder.decode(Buffer.from(bytes), 0, bytes.length, 200);
          if (result.kind === 'broken') return;
          if (result.kind !== 'headers') continue;
          const size = result.headers.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0);
          expect(size).toBeLessThanOrEqual(200);
        }
      }),
      { numRuns: 2_000 },
    );
  });
});

const name = fc.oneof(
  fc.constantFrom(':method', ':path', ':status', 'content-type', 'cookie', 'authorization', 'x-request-id', 'date'),
  fc.stringMatching(/^[a-z][a-z0-9-]{0,10}$/),
);
const value = fc.oneof(fc.constantFrom('GET', '/', '200', 'application/grpc', ''), latin1(40));
const lists = fc.array(fc.array(fc.tuple(name, value), { maxLength: 12 }), { minLength: 1, maxLength: 12 });

describe('encoder and decoder', () => {
  test('agree on every sequence of lists, also while the table size changes', () => {
    fc.assert(
      fc.property(lists, fc.array(fc.nat(6_000), { maxLength: 12 }), (sequence, sizes) => {
        const encoder = new HpackEncoder();
        const decoder = new HpackDecoder();
        for (const [i, list] of sequence.entries()) {
          const size = sizes[i];
          if (size !== undefined && size % 3 === 0) encoder.setTableSize(size);
          expect(decode(decoder, encode(encoder, list), 1e6)).toEqual(list);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('a list that repeats becomes one byte a field', () => {
    const encoder = new HpackEncoder();
    const list: HeaderList = [
      [':method', 'GET'],
      [':path', '/orders'],
      [':authority', 'orders.shop:8080'],
      ['user-agent', 'curl/8'],
    ];
    encode(encoder, list);
    encode(encoder, list);
    expect(encode(encoder, list)).toHaveLength(4);
  });

  test('a field that has left the table is sent as it is', () => {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder();
    const early: HeaderList = [['x-a', '1']];
    for (let i = 0; i < 3; i++) decode(decoder, encode(encoder, early));
    for (let i = 0; i < 24; i++) {
      const filler: HeaderList = [[`x-fill-${i >> 1}`, 'v'.repeat(500)]];
      expect(decode(decoder, encode(encoder, filler))).toEqual(filler);
    }
    expect(decode(decoder, encode(encoder, early))).toEqual(early);
  });

  test('a name whose values never come again is sent once', () => {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder();
    for (const id of ['one', 'two', 'three']) {
      const list: HeaderList = [['x-request-id', id]];
      const sent = encode(encoder, list);
      expect(sent.includes('x-request-id') || sent.length > 12).toBe(id === 'one');
      expect(decode(decoder, sent)).toEqual(list);
    }
  });

  test('a literal that comes again at its place is the same object: nobody need check it twice', () => {
    const decoder = new HpackDecoder();
    const literal = hex('0f10 0161');
    const [[first], [again], [other]] = [literal, literal, hex('0f10 0162')].map((block) => decode(decoder, block)) as [
      HeaderList,
      HeaderList,
      HeaderList,
    ];
    expect(again).toBe(first);
    expect(other).toEqual(['content-type', 'b']);
  });

  test('a value that never comes again does not enter the table', () => {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder();
    const stable = ['x-team', 'blue'] as const;
    for (let i = 0; i < 500; i++) decode(decoder, encode(encoder, [stable, ['x-request-id', `request-${i}`]]));
    // Had the 500 entered, the stable one would be out or far back: only the first has, for its name's sake.
    expect(encode(encoder, [stable])).toEqual(hex('be'));
  });

  test.each(['authorization', 'proxy-authorization', 'cookie', 'set-cookie'])(
    '%s is sent as never indexed, however often it comes',
    (secret) => {
      const encoder = new HpackEncoder();
      for (let i = 0; i < 5; i++) {
        const [first = 0] = encode(encoder, [[secret, 'Bearer x']]);
        expect(first & 0xf0).toBe(0x10);
      }
    },
  );

  test('a list that does not fit changes nothing', () => {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder();
    const list: HeaderList = [['x-a', 'b'.repeat(100)]];
    const to = Buffer.alloc(64);
    for (let i = 0; i < 3; i++) expect(() => encoder.encode(list, to, 0, to.length)).toThrow(RangeError);
    for (let i = 0; i < 3; i++) expect(decode(decoder, encode(encoder, list))).toEqual(list);
  });

  test('names without end are not remembered without end', () => {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder();
    for (let i = 0; i < 2_000; i++) {
      const list: HeaderList = [[`x-${i}`, 'v']];
      expect(decode(decoder, encode(encoder, list))).toEqual(list);
    }
  });
});
