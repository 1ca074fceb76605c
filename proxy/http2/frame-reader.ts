import { NativeBuffer } from '../native/memory.ts';
import { ErrorCode, Flag, FRAME_HEADER, FrameType, MAX_STREAM_ID, PREFACE } from './frames.ts';
import type { Http2Stream } from './stream.ts';

/**
 * Frames other than DATA are read whole: bounds what is held for them. Not less than what we tell clients of HTTP in SETTINGS_MAX_FRAME_SIZE, which
 * is said of all types (RFC 9113, 4.2): some make their HEADERS that long.
 */
export const MAX_CONTROL_FRAME = 65_536;
/** The header of a DATA frame, and its pad length. */
const DATA_HEAD = FRAME_HEADER + 1;

/** Where a frame whose beginning came earlier is put together; used within one call only. */
const assembly = new NativeBuffer(FRAME_HEADER + MAX_CONTROL_FRAME);

export interface FrameSink {
  readonly closed: boolean;
  /** The peer broke the protocol. @param code -1: it does not even speak it */
  fail(reason: string, code: number): void;
  /** A DATA frame begins: its length with padding. @returns whose bytes follow; null: nobody's */
  beginData(id: number, length: number, padding: number, flags: number): Http2Stream | null;
  endData(stream: Http2Stream | null, ends: boolean): void;
  /** A whole frame of another type, its payload at `at`; valid during the call only. */
  onFrame(type: number, flags: number, id: number, from: NativeBuffer, at: number, length: number): void;
}

/**
 * Takes a connection's bytes apart (RFC 9113, sections 3.4 and 4). DATA is handed on as it comes, wherever it lies; of other frames the
 * beginning is held until the rest is there. NEVER holds more than one frame's beginning.
 */
export class FrameReader {
  readonly #sink: FrameSink;
  readonly #maxFrame: number;
  #prefaceLeft: boolean;
  #settingsSeen = false;
  /** The stream whose header block has begun; 0: none. */
  blockStream = 0;
  /** The beginning of a frame: `#heldBytes` of it. */
  #held: Buffer | null = null;
  #heldBytes = 0;
  #dataStream: Http2Stream | null = null;
  #dataLeft = 0;
  #paddingLeft = 0;
  #dataEnds = false;

  /** @param maxFrame what our SETTINGS_MAX_FRAME_SIZE allows for DATA */
  constructor(sink: FrameSink, expectsPreface: boolean, maxFrame: number) {
    this.#sink = sink;
    this.#prefaceLeft = expectsPreface;
    this.#maxFrame = maxFrame;
  }

  /** The peer has said its preface and SETTINGS. */
  get opened(): boolean {
    return this.#settingsSeen;
  }

  /** The stream is gone: what still comes for it is nobody's. */
  forget(stream: Http2Stream): void {
    if (this.#dataStream === stream) this.#dataStream = null;
  }

  read(from: NativeBuffer, start: number, end: number): void {
    let p = this.#held === null ? start : this.#complete(from, start, end);
    if (p < end && !this.#sink.closed) p = this.#parse(from, p, end);
    if (p < end && !this.#sink.closed) this.#hold(from.bytes, p, end);
  }

  #hold(bytes: Buffer, start: number, end: number): void {
    this.#heldBytes = end - start;
    this.#held = Buffer.allocUnsafeSlow(Math.max(this.#heldBytes, this.#wanted(bytes, start, end)));
    bytes.copy(this.#held, 0, start, end);
  }

  /** How many bytes from `start` on make a step of `#parse`. */
  #wanted(b: Buffer, start: number, end: number): number {
    if (this.#prefaceLeft) return PREFACE.length;
    if (end - start < FRAME_HEADER) return FRAME_HEADER;
    const length = b.readUIntBE(start, 3);
    if (b[start + 3] === FrameType.DATA) {
      return length > 0 && ((b[start + 4] ?? 0) & Flag.PADDED) !== 0 ? DATA_HEAD : FRAME_HEADER;
    }
    return length > MAX_CONTROL_FRAME ? FRAME_HEADER : FRAME_HEADER + length;
  }

  /** Adds to what is held until it is a step. @returns where the rest begins. */
  #complete(from: NativeBuffer, start: number, end: number): number {
    let p = start;
    for (;;) {
      let held = this.#held as Buffer;
      const wanted = this.#wanted(held, 0, this.#heldBytes);
      if (this.#heldBytes >= wanted) break;
      if (p === end) return end;
      if (held.length < wanted) {
        const larger = Buffer.allocUnsafeSlow(wanted);
        held.copy(larger, 0, 0, this.#heldBytes);
        this.#held = larger;
        held = larger;
      }
      const length = Math.min(wanted - this.#heldBytes, end - p);
      from.bytes.copy(held, this.#heldBytes, p, p + length);
      this.#heldBytes += length;
      p += length;
    }
    const whole = this.#heldBytes;
    (this.#held as Buffer).copy(assembly.bytes, 0, 0, whole);
    this.#held = null;
    this.#parse(assembly, 0, whole);
    return p;
  }

  /** @returns where what is no whole step begins. */
  #parse(from: NativeBuffer, start: number, end: number): number {
    const b = from.bytes;
    let p = start;
    if (this.#prefaceLeft) {
      const have = Math.min(end - p, PREFACE.length);
      if (b.compare(PREFACE, 0, have, p, p + have) !== 0) {
        this.#sink.fail('no HTTP/2 preface', -1);
        return end;
      }
      if (have < PREFACE.length) return p;
      this.#prefaceLeft = false;
      p += PREFACE.length;
    }
    while (!this.#sink.closed) {
      if (this.#dataLeft > 0 || this.#paddingLeft > 0) {
        const next = this.#continueData(from, p, end);
        if (next === p) break;
        p = next;
        continue;
      }
      if (end - p < FRAME_HEADER) break;
      const length = b.readUIntBE(p, 3);
      const type = b.readUInt8(p + 3);
      const flags = b.readUInt8(p + 4);
      const id = b.readUInt32BE(p + 5) & MAX_STREAM_ID;
      if (!this.#mayCome(type, id)) return end;
      if (type === FrameType.DATA) {
        const used = this.#beginData(b, p, end, length, flags, id);
        if (used < 0) break;
        p += used;
        continue;
      }
      if (length > MAX_CONTROL_FRAME) {
        this.#sink.fail(`a frame of type ${type} has ${length} bytes`, ErrorCode.FRAME_SIZE_ERROR);
        return end;
      }
      if (end - p < FRAME_HEADER + length) break;
      if (type === FrameType.SETTINGS && (flags & Flag.ACK) === 0) this.#settingsSeen = true;
      this.#sink.onFrame(type, flags, id, from, p + FRAME_HEADER, length);
      p += FRAME_HEADER + length;
    }
    return p;
  }

  /** SETTINGS come first (RFC 9113, 3.4), and nothing comes within a header block (4.3). */
  #mayCome(type: number, id: number): boolean {
    if (!this.#settingsSeen && type !== FrameType.SETTINGS) {
      this.#sink.fail('the first frame is not SETTINGS', ErrorCode.PROTOCOL_ERROR);
      return false;
    }
    if (this.blockStream !== 0 && (type !== FrameType.CONTINUATION || id !== this.blockStream)) {
      this.#sink.fail('a header block is interrupted', ErrorCode.PROTOCOL_ERROR);
      return false;
    }
    return true;
  }

  /** @returns bytes used (the header, and the pad length), -1 where they have not all come. */
  #beginData(b: Buffer, p: number, end: number, length: number, flags: number, id: number): number {
    if (length > this.#maxFrame || id === 0) {
      this.#sink.fail(
        'a DATA frame is too long or on stream 0',
        id === 0 ? ErrorCode.PROTOCOL_ERROR : ErrorCode.FRAME_SIZE_ERROR,
      );
      return 0;
    }
    let padding = 0;
    if ((flags & Flag.PADDED) !== 0) {
      if (length > 0 && end - p < DATA_HEAD) return -1;
      // The pad length is a byte of padding, too.
      padding = length > 0 ? b.readUInt8(p + FRAME_HEADER) + 1 : 1;
      if (padding > length) {
        this.#sink.fail('padding is longer than its frame', ErrorCode.PROTOCOL_ERROR);
        return 0;
      }
    }
    this.#dataStream = this.#sink.beginData(id, length, padding, flags);
    if (this.#sink.closed) return 0;
    this.#dataLeft = length - padding;
    this.#paddingLeft = padding === 0 ? 0 : padding - 1;
    this.#dataEnds = (flags & Flag.END_STREAM) !== 0;
    if (this.#dataLeft === 0 && this.#paddingLeft === 0) this.#endData();
    return padding === 0 ? FRAME_HEADER : DATA_HEAD;
  }

  #continueData(from: NativeBuffer, p: number, end: number): number {
    if (this.#dataLeft > 0) {
      const length = Math.min(this.#dataLeft, end - p);
      if (length === 0) return p;
      this.#dataLeft -= length;
      this.#dataStream?.deliver(from, p, p + length);
      if (this.#dataLeft === 0 && this.#paddingLeft === 0) this.#endData();
      return p + length;
    }
    const length = Math.min(this.#paddingLeft, end - p);
    this.#paddingLeft -= length;
    if (this.#paddingLeft === 0 && length > 0) this.#endData();
    return p + length;
  }

  #endData(): void {
    const stream = this.#dataStream;
    this.#dataStream = null;
    this.#sink.endData(stream, this.#dataEnds);
  }
}
