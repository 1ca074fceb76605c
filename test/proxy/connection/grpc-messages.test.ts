import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GrpcMessages } from '../../../proxy/connection/grpc-messages.ts';

function message(length: number, flags = 0): Buffer {
  const bytes = Buffer.alloc(5 + length, 0x07);
  bytes.writeUInt8(flags, 0);
  bytes.writeUInt32BE(length, 1);
  return bytes;
}

function countOf(pieces: readonly Buffer[]): number {
  const messages = new GrpcMessages();
  // Each piece lies in the middle of a larger buffer, as it does in the scratch buffer.
  for (const piece of pieces)
    messages.scan(Buffer.concat([Buffer.alloc(3, 1), piece, Buffer.alloc(3, 1)]), 3, 3 + piece.length);
  return messages.count;
}

describe('messages of a gRPC call', () => {
  test('are counted alike under every split of the bytes into two', () => {
    const bytes = Buffer.concat([message(0), message(1), message(300, 1), message(7)]);
    for (let cut = 0; cut <= bytes.length; cut++) {
      expect(countOf([bytes.subarray(0, cut), bytes.subarray(cut)])).toBe(4);
    }
  });

  test('are counted alike when the bytes come one by one', () => {
    const bytes = Buffer.concat([message(0), message(70_000), message(2)]);
    expect(countOf(Array.from(bytes, (byte) => Buffer.of(byte)))).toBe(3);
  });

  test('are counted alike however they are split', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 700 }), { maxLength: 20 }),
        fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1 }),
        (lengths, sizes) => {
          const bytes = Buffer.concat(lengths.map((length) => message(length)));
          const pieces: Buffer[] = [];
          for (let at = 0, turn = 0; at < bytes.length; turn++) {
            const size = sizes[turn % sizes.length] ?? 1;
            pieces.push(bytes.subarray(at, at + size));
            at += size;
          }
          expect(countOf(pieces)).toBe(lengths.length);
        },
      ),
    );
  });

  test('count once their prefix is whole, though the rest may never come', () => {
    expect(countOf([message(10).subarray(0, 4)])).toBe(0);
    expect(countOf([message(10).subarray(0, 5)])).toBe(1);
  });

  test('may be said to be of 4 GiB: nothing else is counted within that', () => {
    const prefix = Buffer.from([0, 0xff, 0xff, 0xff, 0xff]);
    expect(countOf([prefix, message(0), message(1), message(2)])).toBe(1);
  });
});
