import type { NativeBuffer } from '../native/memory.ts';
import { type DecodeResult, HpackDecoder } from '../protocol/hpack/decoder.ts';
import { ErrorCode, Flag } from './frames.ts';

/** What is wrong with a frame of a header block. */
export interface BlockFault {
  readonly reason: string;
  readonly code: number;
}

const MALFORMED: BlockFault = { reason: 'malformed HEADERS', code: ErrorCode.PROTOCOL_ERROR };
const TOO_LONG: BlockFault = { reason: 'a header block is too long', code: ErrorCode.ENHANCE_YOUR_CALM };

export interface HeaderLimits {
  /** Of a block as it comes, all its frames together. */
  readonly blockBytes: number;
  /** Of the list it decodes to, counted as in RFC 9113, 6.5.2. */
  readonly listBytes: number;
  readonly fields: number;
}

/** Puts the frames of a header block together and decodes it; keeps the connection's decoding table (RFC 9113, section 4.3). */
export class HeaderBlocks {
  readonly #decoder = new HpackDecoder();
  readonly #limits: HeaderLimits;
  #parts: Buffer[] = [];
  #bytes = 0;
  /** Of the block that was begun last. */
  stream = 0;
  ends = false;

  constructor(limits: HeaderLimits) {
    this.#limits = limits;
  }

  /** HEADERS. @returns the list, what is wrong, or null: the rest comes in CONTINUATION. */
  begin(flags: number, id: number, from: NativeBuffer, start: number, size: number): DecodeResult | BlockFault | null {
    let at = start;
    let length = size;
    if ((flags & Flag.PADDED) !== 0) {
      const padding = length > 0 ? from.bytes.readUInt8(at) : 0;
      at++;
      length -= 1 + padding;
    }
    if ((flags & Flag.PRIORITY) !== 0) {
      at += 5;
      length -= 5;
    }
    if (length < 0 || (id & 1) === 0) return MALFORMED;
    if (length > this.#limits.blockBytes) return TOO_LONG;
    this.stream = id;
    this.ends = (flags & Flag.END_STREAM) !== 0;
    if ((flags & Flag.END_HEADERS) !== 0) return this.#decode(from.bytes, at, at + length);
    this.#parts.push(Buffer.from(from.bytes.subarray(at, at + length)));
    this.#bytes = length;
    return null;
  }

  /** CONTINUATION. */
  add(flags: number, from: NativeBuffer, at: number, length: number): DecodeResult | BlockFault | null {
    this.#bytes += length;
    if (this.#bytes > this.#limits.blockBytes) return TOO_LONG;
    this.#parts.push(Buffer.from(from.bytes.subarray(at, at + length)));
    if ((flags & Flag.END_HEADERS) === 0) return null;
    const whole = Buffer.concat(this.#parts);
    this.#parts = [];
    return this.#decode(whole, 0, whole.length);
  }

  #decode(bytes: Buffer, start: number, end: number): DecodeResult {
    return this.#decoder.decode(bytes, start, end, this.#limits.listBytes, this.#limits.fields);
  }
}
