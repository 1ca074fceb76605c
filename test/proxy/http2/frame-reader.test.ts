import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FrameReader, type FrameSink } from '../../../proxy/http2/frame-reader.ts';
import type { Http2Stream } from '../../../proxy/http2/stream.ts';
import { NativeBuffer } from '../../../proxy/native/memory.ts';
import { FLAG, frameBytes, PREFACE, TYPE } from '../../support/http2-raw.ts';

const input = new NativeBuffer(512 * 1024);

/** Everything that a reader tells, in order; DATA joined where it came in pieces. */
class Sink implements FrameSink {
  closed = false;
  readonly told: string[] = [];
  #data = '';

  fail(reason: string, code: number): void {
    this.closed = true;
    this.told.push(`fail ${code} ${reason}`);
  }

  beginData(id: number, length: number, padding: number, flags: number): Http2Stream {
    this.told.push(`data ${id} ${length} ${padding} ${flags}`);
    const deliver = (from: NativeBuffer, start: number, end: number): void => {
      this.#data += from.bytes.toString('hex', start, end);
    };
    return { deliver } as Http2Stream;
  }

  endData(_stream: Http2Stream | null, ends: boolean): void {
    this.told.push(`end ${ends} ${this.#data}`);
    this.#data = '';
  }

  onFrame(type: number, flags: number, id: number, from: NativeBuffer, at: number, length: number): void {
    this.told.push(`frame ${type} ${flags} ${id} ${from.bytes.toString('hex', at, at + length)}`);
  }
}

function read(bytes: Buffer, cuts: readonly number[], prefaced = false): readonly string[] {
  const sink = new Sink();
  const reader = new FrameReader(sink, prefaced, 65_536);
  bytes.copy(input.bytes);
  let at = 0;
  for (const cut of [...cuts, bytes.length]) {
    if (cut > at && !sink.closed) reader.read(input, at, cut);
    at = Math.max(at, cut);
  }
  return sink.told;
}

const id = fc.integer({ min: 1, max: 0x7fffffff });
const payload = (maxLength: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ maxLength }).map((bytes) => Buffer.from(bytes));
const data = fc.tuple(id, fc.boolean(), fc.option(fc.nat(255)), payload(300)).map(([stream, ends, padding, bytes]) => {
  const flags = (ends ? FLAG.endStream : 0) | (padding === null ? 0 : FLAG.padded);
  const body = padding === null ? bytes : Buffer.concat([Buffer.of(padding), bytes, Buffer.alloc(padding)]);
  return frameBytes(TYPE.data, flags, stream, body);
});
const control = fc
  .tuple(
    fc.constantFrom(TYPE.headers, TYPE.ping, TYPE.settings, TYPE.windowUpdate, 0x77),
    fc.nat(255),
    id,
    payload(300),
  )
  .map(([type, flags, stream, bytes]) => frameBytes(type, flags, stream, bytes));
const frames = fc
  .array(fc.oneof(data, control), { maxLength: 12 })
  .map((list) => Buffer.concat([frameBytes(TYPE.settings, 0, 0), ...list]));

describe('the reader of frames', () => {
  test('tells the same in whatever pieces the bytes come', () => {
    fc.assert(
      fc.property(frames, fc.boolean(), fc.array(fc.nat(4_000), { maxLength: 30 }), (list, prefaced, cuts) => {
        const bytes = prefaced ? Buffer.concat([PREFACE, list]) : list;
        const places = cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b);
        expect(read(bytes, places, prefaced)).toEqual(read(bytes, [], prefaced));
      }),
      { numRuns: 500 },
    );
  });

  test('tells the same byte by byte', () => {
    fc.assert(
      fc.property(frames, (bytes) => {
        const each = Array.from({ length: bytes.length }, (_, i) => i);
        expect(read(bytes, each)).toEqual(read(bytes, []));
      }),
      { numRuns: 100 },
    );
  });

  test('never throws, and says nothing after it failed, whatever comes', () => {
    fc.assert(
      fc.property(fc.array(payload(100), { maxLength: 6 }), (parts) => {
        const told = read(Buffer.concat([frameBytes(TYPE.settings, 0, 0), ...parts]), [7, 30, 80]);
        const failed = told.findIndex((line) => line.startsWith('fail'));
        expect([-1, told.length - 1]).toContain(failed);
      }),
      { numRuns: 2_000 },
    );
  });

  test('holds no more of a long DATA frame than its header', () => {
    const bytes = Buffer.concat([
      frameBytes(TYPE.settings, 0, 0),
      frameBytes(TYPE.data, FLAG.endStream, 1, Buffer.alloc(60_000, 'x')),
    ]);
    const told = read(bytes, [20, 30_000]);
    expect(told.slice(1, 2)).toEqual(['data 1 60000 0 1']);
    expect(told.at(-1)).toBe(`end true ${'78'.repeat(60_000)}`);
  });
});
