import { bind } from '../../../proxy/native/library.ts';
import { NativeBuffer, readText } from '../../../proxy/native/memory.ts';

/**
 * HPACK (RFC 7541) by the nghttp2 inside the node binary. A deflater and an inflater belong to one HTTP/2 connection each and keep its dynamic
 * tables. Strings are bytes as latin1.
 */

const deflateNew = bind<(out: number, tableSize: number) => number>('int nghttp2_hd_deflate_new(uintptr_t, size_t)');
const deflateDel = bind<(deflater: number) => void>('void nghttp2_hd_deflate_del(uintptr_t)');
const deflateResize = bind<(deflater: number, tableSize: number) => number>(
  'int nghttp2_hd_deflate_change_table_size(uintptr_t, size_t)',
);
const deflateHd2 = bind<(deflater: number, buffer: number, length: number, nva: number, count: number) => number>(
  'intptr_t nghttp2_hd_deflate_hd2(uintptr_t, uintptr_t, size_t, uintptr_t, size_t)',
);
const inflateNew = bind<(out: number) => number>('int nghttp2_hd_inflate_new(uintptr_t)');
const inflateDel = bind<(inflater: number) => void>('void nghttp2_hd_inflate_del(uintptr_t)');
const inflateHd3 = bind<
  (inflater: number, nv: number, flags: number, input: number, length: number, final: number) => number
>('intptr_t nghttp2_hd_inflate_hd3(uintptr_t, uintptr_t, uintptr_t, uintptr_t, size_t, int)');
const inflateEnd = bind<(inflater: number) => number>('int nghttp2_hd_inflate_end_headers(uintptr_t)');

const INFLATE_FINAL = 1;
const INFLATE_EMIT = 2;
/** struct nghttp2_nv: name, value, namelen, valuelen, flags; padded. */
const NV_SIZE = 40;
/** Most fields of a list that are kept or sent, and what a block that is over it may still bring. */
export const MAX_FIELDS = 512;
const DEFAULT_FIELDS = 128;
const EMITTED_PER_FIELD = 4;
/** SETTINGS_HEADER_TABLE_SIZE that both sides use: the default, and the most we let a peer make us keep. */
const TABLE_SIZE = 4096;

const slot = new NativeBuffer(8);
const nva = new NativeBuffer(NV_SIZE * MAX_FIELDS);
const text = new NativeBuffer(65_536);
const emitted = new NativeBuffer(64);

export type HeaderList = readonly (readonly [name: string, value: string])[];

function newObject(create: (out: number) => number, what: string): number {
  if (create(slot.address) !== 0) throw new Error(`${what}: out of memory`);
  return Number(slot.bytes.readBigUInt64LE(0));
}

export class HpackEncoder {
  readonly #deflater = newObject((out) => deflateNew(out, TABLE_SIZE), 'nghttp2_hd_deflate_new');
  #freed = false;

  /** The peer's SETTINGS_HEADER_TABLE_SIZE; more than our own bound is not used. */
  setTableSize(size: number): void {
    deflateResize(this.#deflater, Math.min(size, TABLE_SIZE));
  }

  /**
   * Writes the header block to `address`. @returns its bytes.
   * @throws RangeError where the headers or the block do not fit.
   */
  encode(headers: HeaderList, address: number, room: number): number {
    if (headers.length > MAX_FIELDS) throw new RangeError(`${headers.length} headers`);
    let at = 0;
    for (let i = 0; i < headers.length; i++) {
      const [name, value] = headers[i] as readonly [string, string];
      if (at + name.length + value.length > text.size) throw new RangeError('header list too long');
      const base = i * NV_SIZE;
      nva.bytes.writeBigUInt64LE(BigInt(text.address + at), base);
      at += text.bytes.write(name, at, 'latin1');
      nva.bytes.writeBigUInt64LE(BigInt(text.address + at), base + 8);
      at += text.bytes.write(value, at, 'latin1');
      nva.bytes.writeBigUInt64LE(BigInt(name.length), base + 16);
      nva.bytes.writeBigUInt64LE(BigInt(value.length), base + 24);
      nva.bytes.writeUInt8(0, base + 32);
    }
    const length = deflateHd2(this.#deflater, address, room, nva.address, headers.length);
    if (length < 0) throw new RangeError(`header block does not fit (nghttp2 ${length})`);
    return length;
  }

  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    deflateDel(this.#deflater);
  }
}

export type DecodeResult =
  | { readonly kind: 'headers'; readonly headers: HeaderList }
  /** The block is broken: the connection's tables are lost (RFC 9113, 4.3: COMPRESSION_ERROR). */
  | { readonly kind: 'broken' }
  /** More than `maxBytes` (RFC 9113, 6.5.2 counting) or too many; the tables are still in step. */
  | { readonly kind: 'too-large' };

export class HpackDecoder {
  readonly #inflater = newObject((out) => inflateNew(out), 'nghttp2_hd_inflate_new');
  #freed = false;

  /** As `decode`, of a block in JavaScript's memory. @throws RangeError above 64 KiB. */
  decodeBytes(block: Buffer, maxBytes: number, maxFields = DEFAULT_FIELDS): DecodeResult {
    if (block.length > text.size) throw new RangeError('header block too long');
    block.copy(text.bytes);
    return this.decode(text.address, block.length, maxBytes, maxFields);
  }

  /** Decodes one complete header block. A list over the bound is still decoded to its end (but not kept), so that the tables stay in step. */
  decode(address: number, length: number, maxBytes: number, maxFields = DEFAULT_FIELDS): DecodeResult {
    const headers: [string, string][] = [];
    let size = 0;
    let count = 0;
    let at = address;
    let left = length;
    for (;;) {
      const n = inflateHd3(this.#inflater, emitted.address, emitted.address + 48, at, left, 1);
      if (n < 0) return { kind: 'broken' };
      at += n;
      left -= n;
      const flags = emitted.bytes.readInt32LE(48);
      if ((flags & INFLATE_EMIT) !== 0) {
        const nameLength = Number(emitted.bytes.readBigUInt64LE(16));
        const valueLength = Number(emitted.bytes.readBigUInt64LE(24));
        // A block of one-byte references to long entries costs its sender nothing: beyond any use it is an attack.
        if (++count > EMITTED_PER_FIELD * maxFields) return { kind: 'broken' };
        size += nameLength + valueLength + 32;
        if (size <= maxBytes && headers.length < maxFields) {
          headers.push([this.#text(0, nameLength), this.#text(8, valueLength)]);
        } else size = maxBytes + 1;
      }
      if ((flags & INFLATE_FINAL) !== 0) {
        inflateEnd(this.#inflater);
        return size > maxBytes ? { kind: 'too-large' } : { kind: 'headers', headers };
      }
      if ((flags & INFLATE_EMIT) === 0 && left === 0) return { kind: 'broken' };
    }
  }

  #text(pointerAt: number, length: number): string {
    if (length === 0) return '';
    return readText(Number(emitted.bytes.readBigUInt64LE(pointerAt)), length);
  }

  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    inflateDel(this.#inflater);
  }
}
