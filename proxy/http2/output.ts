import type { NativeBuffer } from '../native/memory.ts';
import { HpackEncoder } from '../protocol/hpack/encoder.ts';
import type { HeaderField, HeaderList } from '../protocol/hpack/header-list.ts';
import type { Loop } from '../reactor/loop.ts';
import {
  DEFAULT_WINDOW,
  Flag,
  FRAME_HEADER,
  FrameType,
  MAX_STREAM_ID,
  MIN_MAX_FRAME,
  PREFACE,
  writeFrameHeader,
} from './frames.ts';
import { CONTROL_RESERVE, STAGING_BYTES, type StagingPool } from './staging.ts';
import type { Http2Stream } from './stream.ts';
import { BLOCKED, type FrameTransport } from './transport.ts';

/** A header block that fits one frame of any peer. */
const BLOCK_IN_PLACE = MIN_MAX_FRAME;
/** A header list that may be longer is refused: more than the largest head that the limits allow, with what we add. */
const MAX_BLOCK = 256 * 1024;
/** Most that a field may take besides its name and value (RFC 7541, 6.2: a type, two lengths). */
const FIELD_OVERHEAD = 12;
/** One stream's DATA frame at a time: streams take turns. */
const MAX_PIECE = 64 * 1024;

/** Made when the first long block is sent. */
let longBlock: Buffer | null = null;

export interface OutputEvents {
  onWriteFailed(detail: string): void;
  /** The peer does not read, and there is no more room even for control frames. */
  onOverflow(): void;
  /** Streams that waited for room may go on. */
  onRoom(): void;
}

/** What a connection writes: gathered in a staging buffer, sent once at the end of the turn. Keeps the connection's send window. */
export class FrameOutput {
  sendWindow = DEFAULT_WINDOW;
  peerMaxFrame = MIN_MAX_FRAME;
  /** When the transport first took nothing; 0 while it takes. */
  blockedSince = 0;
  readonly #loop: Loop;
  readonly #transport: FrameTransport;
  readonly #staging: StagingPool;
  readonly #events: OutputEvents;
  readonly #encoder = new HpackEncoder();
  /** Null iff nothing is to be written; [#from, #to) is what is. */
  #out: NativeBuffer | null = null;
  #from = 0;
  #to = 0;
  /** Where the header of the last frame is, as long as nothing of it was given to the transport; else -1. */
  #open = -1;
  #flushPlanned = false;
  readonly #flushLater = (): void => this.flush();
  /** Somebody waits for room. */
  #stalled = false;
  /** Within a call of a stream's own: it hears of room later. */
  #reserving = false;
  readonly #roomLater = (): void => {
    if (!this.#closed) this.#events.onRoom();
  };
  #closed = false;

  constructor(loop: Loop, transport: FrameTransport, staging: StagingPool, events: OutputEvents) {
    this.#loop = loop;
    this.#transport = transport;
    this.#staging = staging;
    this.#events = events;
  }

  get stagingAddress(): number {
    return this.#out?.address ?? 0;
  }

  /** Whether bytes wait for the transport to take them. */
  get hasUnsent(): boolean {
    return this.#out !== null;
  }

  /** No room for a newcomer's first frames. */
  get crowded(): boolean {
    return this.#out !== null && this.#to - this.#from > STAGING_BYTES - CONTROL_RESERVE;
  }

  copyIn(bytes: Buffer, at: number): void {
    if (this.#out !== null) bytes.copy(this.#out.bytes, at);
  }

  copyOut(at: number, length: number): Buffer {
    return this.#out === null ? Buffer.alloc(0) : Buffer.from(this.#out.bytes.subarray(at, at + length));
  }

  /** @returns where in the staging buffer `bytes` of a DATA frame may go, or -1: wait for `unstall`. */
  reserveData(bytes: number): number {
    if (this.#transport.congested) {
      this.#stalled = true;
      return -1;
    }
    return this.#reserve(bytes, STAGING_BYTES - CONTROL_RESERVE);
  }

  #reserve(bytes: number, limit: number): number {
    if (this.#closed) return -1;
    if (this.#out === null) {
      this.#out = this.#staging.take();
      this.#from = 0;
      this.#to = 0;
      this.#planFlush();
    } else if (this.#to + bytes > limit) {
      this.#reserving = true;
      this.flush();
      this.#reserving = false;
      if (this.#closed) return -1;
      if (this.#out === null) return this.#reserve(bytes, limit);
      if (this.#to + bytes > limit && this.#from > 0) {
        this.#out.move(0, this.#from, this.#to - this.#from);
        this.#to -= this.#from;
        this.#from = 0;
      }
      if (this.#to + bytes > limit) {
        this.#stalled = true;
        return -1;
      }
    }
    return this.#to;
  }

  /** Completes a DATA frame whose payload lies behind the header's room at `at`. */
  commitData(stream: Http2Stream, at: number, length: number, end: boolean): void {
    if (this.#out === null) return;
    writeFrameHeader(this.#out, at, length, FrameType.DATA, end ? Flag.END_STREAM : 0, stream.id);
    this.#open = at;
    this.#to = at + FRAME_HEADER + length;
    stream.sendWindow -= length;
    this.sendWindow -= length;
    this.#planFlush();
  }

  /** Copies of `[start, end)` what the windows and the room allow. @returns how many bytes that was. */
  sendData(stream: Http2Stream, bytes: Buffer, start: number, end: number): number {
    let done = start;
    while (done < end) {
      const most = Math.min(end - done, stream.sendWindow, this.sendWindow, MAX_PIECE);
      if (most <= 0) break;
      const length = this.#grow(stream, bytes, done, most) || this.#append(stream, bytes, done, most);
      if (length === 0) break;
      done += length;
    }
    return done - start;
  }

  /** Adds to the last frame, where that is this stream's DATA: many small writes of one turn are one frame. @returns the bytes added. */
  #grow(stream: Http2Stream, bytes: Buffer, start: number, most: number): number {
    if (this.#out === null || this.#open < 0) return 0;
    const b = this.#out.bytes;
    const at = this.#open;
    if (b[at + 3] !== FrameType.DATA || b[at + 4] !== 0 || b.readUInt32BE(at + 5) !== stream.id) return 0;
    const before = b.readUIntBE(at, 3);
    const room = STAGING_BYTES - CONTROL_RESERVE - this.#to;
    const length = Math.min(most, room, Math.min(MAX_PIECE, this.peerMaxFrame) - before);
    if (length <= 0) return 0;
    bytes.copy(b, this.#to, start, start + length);
    b.writeUIntBE(before + length, at, 3);
    this.#to += length;
    stream.sendWindow -= length;
    this.sendWindow -= length;
    return length;
  }

  #append(stream: Http2Stream, bytes: Buffer, start: number, most: number): number {
    const length = Math.min(most, this.peerMaxFrame);
    const at = this.reserveData(FRAME_HEADER + length);
    if (at < 0 || this.#out === null) return 0;
    bytes.copy(this.#out.bytes, at + FRAME_HEADER, start, start + length);
    this.commitData(stream, at, length, false);
    return length;
  }

  /** END_STREAM: on the stream's last frame, where that has not left yet, else by an empty DATA frame. */
  sendEnd(id: number): void {
    if (this.#closed) return;
    if (this.#out !== null && this.#open >= 0) {
      const b = this.#out.bytes;
      const type = b[this.#open + 3];
      if (type === FrameType.DATA && b.readUInt32BE(this.#open + 5) === id) {
        b[this.#open + 4] = Flag.END_STREAM;
        this.#open = -1;
        return;
      }
      if (type === FrameType.HEADERS && b.readUInt32BE(this.#open + 5) === id) {
        b[this.#open + 4] = Flag.END_HEADERS | Flag.END_STREAM;
        this.#open = -1;
        return;
      }
    }
    this.#control(0, FrameType.DATA, Flag.END_STREAM, id);
  }

  #planFlush(): void {
    if (this.#flushPlanned) return;
    this.#flushPlanned = true;
    this.#transport.plan(this.#flushLater);
  }

  /** Room for a control frame; a peer that makes us owe so many that there is none is closed. */
  #control(length: number, type: number, flags: number, id: number): number {
    const at = this.#reserve(FRAME_HEADER + length, STAGING_BYTES);
    if (at < 0 || this.#out === null) {
      if (!this.#closed) this.#events.onOverflow();
      return -1;
    }
    writeFrameHeader(this.#out, at, length, type, flags, id);
    this.#open = -1;
    this.#to = at + FRAME_HEADER + length;
    this.#planFlush();
    return at + FRAME_HEADER;
  }

  /** @throws RangeError where the list may take more than 256 KiB. */
  sendHeaders(id: number, headers: HeaderList, end: boolean): void {
    if (this.#closed) return;
    let bound = FIELD_OVERHEAD;
    for (let i = 0; i < headers.length; i++) {
      const field = headers[i] as HeaderField;
      bound += field[0].length + field[1].length + FIELD_OVERHEAD;
    }
    const flags = end ? Flag.END_STREAM : 0;
    if (bound > BLOCK_IN_PLACE) {
      this.#sendLongHeaders(id, headers, flags);
      return;
    }
    const at = this.#reserve(FRAME_HEADER + bound, STAGING_BYTES);
    if (at < 0 || this.#out === null) {
      if (!this.#closed) this.#events.onOverflow();
      return;
    }
    const start = at + FRAME_HEADER;
    const length = this.#encoder.encode(headers, this.#out.bytes, start, start + bound) - start;
    writeFrameHeader(this.#out, at, length, FrameType.HEADERS, Flag.END_HEADERS | flags, id);
    this.#open = end ? -1 : at;
    this.#to = at + FRAME_HEADER + length;
    this.#planFlush();
  }

  /** HEADERS and CONTINUATION, with nothing between them (RFC 9113, 6.10). */
  #sendLongHeaders(id: number, headers: HeaderList, flags: number): void {
    longBlock ??= Buffer.allocUnsafeSlow(MAX_BLOCK);
    const total = this.#encoder.encode(headers, longBlock, 0, MAX_BLOCK);
    for (let done = 0; done === 0 || done < total; done += BLOCK_IN_PLACE) {
      const length = Math.min(BLOCK_IN_PLACE, total - done);
      const last = done + length === total ? Flag.END_HEADERS : 0;
      const type = done === 0 ? FrameType.HEADERS : FrameType.CONTINUATION;
      const at = this.#control(length, type, (done === 0 ? flags : 0) | last, id);
      if (at < 0 || this.#out === null) return;
      longBlock.copy(this.#out.bytes, at, done, done + length);
    }
  }

  #sendWord(type: number, id: number, value: number): void {
    const at = this.#control(4, type, 0, id);
    if (at >= 0) this.#out?.bytes.writeUInt32BE(value, at);
  }

  sendWindowUpdate(id: number, increment: number): void {
    if (!this.#closed) this.#sendWord(FrameType.WINDOW_UPDATE, id, increment);
  }

  sendReset(id: number, code: number): void {
    if (!this.#closed) this.#sendWord(FrameType.RST_STREAM, id, code);
  }

  sendPreface(): void {
    const at = this.#reserve(PREFACE.length, STAGING_BYTES);
    if (at >= 0 && this.#out !== null) this.#to += PREFACE.copy(this.#out.bytes, at);
  }

  sendSettings(settings: readonly (readonly [name: number, value: number])[]): void {
    let to = this.#control(settings.length * 6, FrameType.SETTINGS, 0, 0);
    if (to < 0 || this.#out === null) return;
    for (const [name, value] of settings) {
      this.#out.bytes.writeUInt16BE(name, to);
      this.#out.bytes.writeUInt32BE(value, to + 2);
      to += 6;
    }
  }

  acknowledgeSettings(): void {
    this.#control(0, FrameType.SETTINGS, Flag.ACK, 0);
  }

  /** The peer's SETTINGS_HEADER_TABLE_SIZE. */
  setTableSize(size: number): void {
    this.#encoder.setTableSize(size);
  }

  /** @param high and low: the 8 bytes that come back with the answer. */
  sendPing(high: number, low: number, ack: boolean): void {
    const to = this.#control(8, FrameType.PING, ack ? Flag.ACK : 0, 0);
    if (to < 0 || this.#out === null) return;
    this.#out.bytes.writeUInt32BE(high, to);
    this.#out.bytes.writeUInt32BE(low, to + 4);
  }

  sendGoaway(last: number, code: number): void {
    const to = this.#control(8, FrameType.GOAWAY, 0, 0);
    if (to < 0 || this.#out === null) return;
    this.#out.bytes.writeUInt32BE(last & MAX_STREAM_ID, to);
    this.#out.bytes.writeUInt32BE(code, to + 4);
  }

  flush(): void {
    this.#flushPlanned = false;
    if (this.#out === null || this.#closed) return;
    // What the transport has seen must not change any more: OpenSSL may hold half a record of it.
    this.#open = -1;
    while (this.#from < this.#to) {
      const n = this.#transport.write(this.#out, this.#from, this.#to);
      if (n > 0) {
        this.#from += n;
        this.blockedSince = 0;
      } else if (n === BLOCKED) {
        if (this.blockedSince === 0) this.blockedSince = this.#loop.now;
        this.#transport.awaitRoom(true);
        return;
      } else {
        this.#events.onWriteFailed(`write: ${this.#transport.failure}`);
        return;
      }
      if (this.#closed || this.#out === null) return;
    }
    this.#staging.give(this.#out);
    this.#out = null;
    this.#transport.awaitRoom(false);
    this.#unstall();
  }

  /** The transport takes bytes again. */
  onWritable(): void {
    this.flush();
    if (this.#out === null && !this.#closed) this.#unstall();
  }

  #unstall(): void {
    if (!this.#stalled || this.#transport.congested) return;
    this.#stalled = false;
    if (this.#reserving) this.#loop.later(this.#roomLater);
    else this.#events.onRoom();
  }

  /** Gives everything back; nothing is written any more. @returns whether bytes were lost. */
  close(): boolean {
    if (this.#closed) return false;
    this.#closed = true;
    if (this.#out === null) return false;
    this.#staging.give(this.#out);
    this.#out = null;
    return true;
  }
}
