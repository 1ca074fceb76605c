import { EPOLLIN, EPOLLOUT } from '../native/epoll.ts';
import { type DecodeResult, type HeaderList, HpackDecoder, HpackEncoder } from '../native/hpack.ts';
import type { NativeBuffer } from '../native/memory.ts';
import { resetOnClose } from '../native/socket.ts';
import { TLS_AGAIN, type TlsSession } from '../native/tls-session.ts';
import { FloodGuard } from '../protocol/flood-guard.ts';
import { type EventHandler, type Loop, SCRATCH_BYTES } from '../reactor/loop.ts';
import { Timer } from '../reactor/timers.ts';
import {
  DEFAULT_WINDOW,
  ErrorCode,
  errorCodeName,
  Flag,
  FRAME_HEADER,
  FrameType,
  MAX_MAX_FRAME,
  MAX_WINDOW,
  MIN_MAX_FRAME,
  PREFACE,
  Setting,
  writeFrameHeader,
} from './frames.ts';
import { CONTROL_RESERVE, STAGING_BYTES, type StagingPool } from './staging.ts';
import { type StreamOwner, TunnelStream } from './stream.ts';

/** Receive window of the whole tunnel. It is given back on receipt, so that a blocked application blocks its own stream alone … */
const TUNNEL_WINDOW = 16 * 1024 * 1024;
/** … unless the streams together hold this much, which bounds the memory of a tunnel. */
const MAX_TUNNEL_BACKLOG = 16 * 1024 * 1024;
const OUR_MAX_FRAME = 1024 * 1024;
/** Frames other than DATA are read whole: bound what is held for them. */
const MAX_CONTROL_FRAME = 16_384;
const MAX_HEADER_BLOCK = 16_384;
const MAX_HEADER_LIST = 16_384;
/** Bytes decrypted before they are parsed: several records make one write to the application. */
const GATHER_BYTES = 128 * 1024;
const CHECK_MS = 5_000;
/** A WINDOW_UPDATE of less costs more than it gives; the sum of greater ones is bounded by the windows themselves. */
const SMALL_INCREMENT = 4_096;
/** The peer takes no byte for so long: it is gone, or means to hold our memory. */
const WRITE_STALL_MS = 30_000;
/** A peer that has finished its handshake says its preface and SETTINGS at once. */
const OPENING_MS = 10_000;
/** Nothing heard for so long while streams are open: ask. */
const PING_AFTER_MS = 30_000;
const PING_ANSWER_MS = 20_000;
/** RFC 9113, 6.8: between the warning and the final GOAWAY, streams under way still arrive. */
const GOAWAY_GRACE_MS = 1_000;
const MAX_STREAM_ID = 0x7fffffff;
/** A newcomer avoids the tunnel for so long after a stream in it was last seen to be bulk. */
const BULK_MEMORY_MS = 2_000;

export interface TunnelEvents {
  /** Server only: a CONNECT arrived; answer by `stream.accept` or `stream.refuse`, now or later. */
  onRequest(stream: TunnelStream, headers: HeaderList): void;
  /** A stream is gone; there may be room for another. */
  onStreamEnd(): void;
  /** No new streams on this tunnel. */
  onDraining(): void;
  /** Once, after all streams were told and everything was released. */
  onClosed(reason: string): void;
}

export interface TunnelOptions {
  readonly maxStreams: number;
  readonly idleMs: number;
  /** A stream's receive window at first: what is held for an application that does not read. Bytes. */
  readonly streamWindow: number;
  /** A stream without a byte for so long is ended. */
  readonly streamIdleMs: number;
  readonly staging: StagingPool;
}

/**
 * One HTTP/2 connection over mutual TLS between two sidecars. What one turn of the loop produced, for all streams, leaves in one TLS write at its
 * end. Owns the descriptor and the TLS session from the moment it is made.
 */
export class Tunnel implements EventHandler {
  readonly loop: Loop;
  readonly isClient: boolean;
  readonly #fd: number;
  readonly #tls: TlsSession;
  readonly #events: TunnelEvents;
  readonly #options: TunnelOptions;
  readonly #encoder = new HpackEncoder();
  readonly #decoder = new HpackDecoder();
  readonly #streams = new Map<number, TunnelStream>();

  // Sending.
  sendWindow = DEFAULT_WINDOW;
  peerMaxFrame = MIN_MAX_FRAME;
  #peerInitialWindow = DEFAULT_WINDOW;
  #peerMaxStreams = 100;
  /** Null iff nothing is to be written; [#from, #to) is what is. */
  #out: NativeBuffer | null = null;
  #from = 0;
  #to = 0;
  #blockedSince = 0;
  #flushPlanned = false;
  readonly #flushLater = (): void => this.#flush();
  /** Streams that wait for window or room. */
  #stalledStreams = 0;

  // Receiving.
  /** The beginning of a frame whose rest has not come. */
  #held: Buffer | null = null;
  #prefaceLeft: boolean;
  #settingsSeen = false;
  #dataStream: TunnelStream | null = null;
  #dataLeft = 0;
  #paddingLeft = 0;
  #dataEnds = false;
  #block: Buffer[] | null = null;
  #blockBytes = 0;
  #blockStream = 0;
  #blockEnds = false;
  #receiveWindow = TUNNEL_WINDOW;
  #uncredited = 0;
  #lastPeerStream = 0;
  #nextId = 1;
  #lastHeard: number;
  #pingSent = 0;
  #idleSince: number;
  #draining = false;
  #goawaySent = false;
  #closing = false;
  #closed = false;
  #bulkUntil = 0;
  readonly #check = new Timer(() => this.#onCheck());
  readonly #finalGoaway = new Timer(() => this.#sendGoaway(this.#lastPeerStream, ErrorCode.NO_ERROR));

  // A hostile peer pays nothing for these and we do; the bounds are far above what a sidecar sends.
  readonly #controlGuard = new FloodGuard(400, 10_000);
  readonly #resetGuard = new FloodGuard(4_000, 2_000);
  readonly #emptyGuard = new FloodGuard(2_000, 10_000);
  readonly #windowGuard = new FloodGuard(100_000, 10_000);

  constructor(
    loop: Loop,
    fd: number,
    tls: TlsSession,
    role: 'client' | 'server',
    options: TunnelOptions,
    events: TunnelEvents,
  ) {
    this.loop = loop;
    this.isClient = role === 'client';
    this.#fd = fd;
    this.#tls = tls;
    this.#options = options;
    this.#events = events;
    this.#prefaceLeft = !this.isClient;
    this.#lastHeard = loop.now;
    this.#idleSince = loop.now;
    loop.adopt(fd, EPOLLIN, this);
    loop.arm(this.#check, CHECK_MS);
    this.#sendOpening();
    if (tls.hasPending()) loop.later(() => this.#readTunnel());
  }

  get streamWindow(): number {
    return this.#options.streamWindow;
  }

  get streamCount(): number {
    return this.#streams.size;
  }

  get draining(): boolean {
    return this.#draining;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Whether a small request placed here now would wait behind a bulk flow. */
  get bulk(): boolean {
    return this.loop.now < this.#bulkUntil;
  }

  get hasRoomForStream(): boolean {
    const most = Math.min(this.#options.maxStreams, this.#peerMaxStreams);
    const crowded = this.#out !== null && this.#to - this.#from > STAGING_BYTES - CONTROL_RESERVE;
    return !this.#draining && !crowded && this.#streams.size < most && this.#nextId < MAX_STREAM_ID - 1;
  }

  /** Whether bytes wait for the socket to take them. */
  get hasUnsent(): boolean {
    return this.#out !== null;
  }

  streams(): IterableIterator<TunnelStream> {
    return this.#streams.values();
  }

  noteBulk(): void {
    this.#bulkUntil = this.loop.now + BULK_MEMORY_MS;
  }

  /** Client: opens a CONNECT stream; `hasRoomForStream` must hold. */
  open(headers: HeaderList, owner: StreamOwner): TunnelStream {
    const stream = new TunnelStream(this, this.#nextId, this.#peerInitialWindow);
    this.#nextId += 2;
    stream.owner = owner;
    this.#streams.set(stream.id, stream);
    this.sendHeaders(stream.id, headers, false);
    return stream;
  }

  // ---- sending ----

  get stagingAddress(): number {
    return this.#out?.address ?? 0;
  }

  copyIn(bytes: Buffer, at: number): void {
    if (this.#out !== null) bytes.copy(this.#out.bytes, at);
  }

  copyOut(at: number, length: number): Buffer {
    return this.#out === null ? Buffer.alloc(0) : Buffer.from(this.#out.bytes.subarray(at, at + length));
  }

  /** A copy of received bytes, which lie in the loop's scratch buffer. */
  copyReceived(address: number, length: number): Buffer {
    const at = address - this.loop.scratch.address;
    return Buffer.from(this.loop.scratch.bytes.subarray(at, at + length));
  }

  /** @returns where in the staging buffer `bytes` of a DATA frame may go, or -1: wait until `unstall`. */
  reserveData(bytes: number): number {
    return this.#reserve(bytes, STAGING_BYTES - CONTROL_RESERVE);
  }

  #reserve(bytes: number, limit: number): number {
    if (this.#closed) return -1;
    if (this.#out === null) {
      this.#out = this.#options.staging.take();
      this.#from = 0;
      this.#to = 0;
      this.#planFlush();
    } else if (this.#to + bytes > limit) {
      this.#flush();
      if (this.#closed) return -1;
      if (this.#out === null) return this.#reserve(bytes, limit);
      if (this.#to + bytes > limit && this.#from > 0) {
        this.#out.move(0, this.#from, this.#to - this.#from);
        this.#to -= this.#from;
        this.#from = 0;
      }
      if (this.#to + bytes > limit) {
        this.#stalledStreams++;
        return -1;
      }
    }
    return this.#to;
  }

  /** Completes a DATA frame whose payload lies behind the header's room at `at`. */
  commitData(stream: TunnelStream, at: number, length: number, end: boolean): void {
    if (this.#out === null) return;
    writeFrameHeader(this.#out, at, length, FrameType.DATA, end ? Flag.END_STREAM : 0, stream.id);
    this.#to = at + FRAME_HEADER + length;
    stream.sendWindow -= length;
    this.sendWindow -= length;
    this.#planFlush();
  }

  #planFlush(): void {
    if (this.#flushPlanned) return;
    this.#flushPlanned = true;
    this.loop.later(this.#flushLater);
  }

  /** Room for a control frame; a peer that makes us owe so many that there is none is closed. */
  #control(length: number, type: number, flags: number, id: number): number {
    const at = this.#reserve(FRAME_HEADER + length, STAGING_BYTES);
    if (at < 0 || this.#out === null) {
      this.close('peer does not read what it makes us answer', ErrorCode.ENHANCE_YOUR_CALM);
      return -1;
    }
    writeFrameHeader(this.#out, at, length, type, flags, id);
    this.#to = at + FRAME_HEADER + length;
    this.#planFlush();
    return at + FRAME_HEADER;
  }

  sendHeaders(id: number, headers: HeaderList, end: boolean): void {
    const at = this.#reserve(FRAME_HEADER + MAX_CONTROL_FRAME, STAGING_BYTES);
    if (at < 0 || this.#out === null) {
      this.close('peer does not read', ErrorCode.ENHANCE_YOUR_CALM);
      return;
    }
    const length = this.#encoder.encode(headers, this.#out.address + at + FRAME_HEADER, MAX_CONTROL_FRAME);
    writeFrameHeader(this.#out, at, length, FrameType.HEADERS, Flag.END_HEADERS | (end ? Flag.END_STREAM : 0), id);
    this.#to = at + FRAME_HEADER + length;
    this.#planFlush();
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

  /** END_STREAM without bytes. */
  sendEnd(id: number): void {
    if (!this.#closed) this.#control(0, FrameType.DATA, Flag.END_STREAM, id);
  }

  #sendOpening(): void {
    const at = this.#reserve(256, STAGING_BYTES);
    if (at < 0 || this.#out === null) return;
    if (this.isClient) this.#to += PREFACE.copy(this.#out.bytes, at);
    const settings: readonly (readonly [number, number])[] = [
      [Setting.ENABLE_PUSH, 0],
      [Setting.MAX_CONCURRENT_STREAMS, this.isClient ? 0 : this.#options.maxStreams],
      [Setting.INITIAL_WINDOW_SIZE, this.streamWindow],
      [Setting.MAX_FRAME_SIZE, OUR_MAX_FRAME],
      [Setting.MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST],
    ];
    let to = this.#control(settings.length * 6, FrameType.SETTINGS, 0, 0);
    for (const [name, value] of settings) {
      this.#out.bytes.writeUInt16BE(name, to);
      this.#out.bytes.writeUInt32BE(value, to + 2);
      to += 6;
    }
    this.sendWindowUpdate(0, TUNNEL_WINDOW - DEFAULT_WINDOW);
  }

  #flush(): void {
    this.#flushPlanned = false;
    if (this.#out === null || this.#closed) return;
    const { address } = this.#out;
    while (this.#from < this.#to) {
      const n = this.#tls.write(address + this.#from, this.#to - this.#from);
      if (n > 0) {
        this.#from += n;
        this.#blockedSince = 0;
      } else if (n === TLS_AGAIN) {
        if (this.#blockedSince === 0) this.#blockedSince = this.loop.now;
        this.loop.rearm(this.#fd, EPOLLIN | EPOLLOUT);
        return;
      } else {
        this.close(`write: ${this.#tls.failure}`, -1);
        return;
      }
    }
    this.#options.staging.give(this.#out);
    this.#out = null;
    this.loop.rearm(this.#fd, EPOLLIN);
    if (this.#stalledStreams > 0) {
      this.#stalledStreams = 0;
      this.#unstallAll();
    }
  }

  #unstallAll(): void {
    for (const stream of this.#streams.values()) if (stream.sendWindow > 0) stream.unstall();
  }

  // ---- receiving ----

  onEvents(mask: number): void {
    if (this.#closed) return;
    if ((mask & EPOLLOUT) !== 0) this.#flush();
    if (!this.#closed && (mask & ~EPOLLOUT) !== 0) this.#readTunnel();
  }

  onFault(): void {
    this.close('internal error', ErrorCode.INTERNAL_ERROR);
  }

  #readTunnel(): void {
    if (this.#closed) return;
    const { scratch } = this.loop;
    let filled = 0;
    // NEVER ask again after TLS_AGAIN: OpenSSL calls half a record pending, and the loop would spin until its rest has come.
    let more = false;
    if (this.#held !== null) {
      filled = this.#held.copy(scratch.bytes);
      this.#held = null;
    }
    let ended: string | null = null;
    while (filled < GATHER_BYTES) {
      const n = this.#tls.read(scratch.address + filled, SCRATCH_BYTES - filled);
      more = n > 0 && this.#tls.hasPending();
      if (n > 0) {
        filled += n;
        if (more) continue;
      } else if (n === 0) ended = 'peer closed the tunnel';
      else if (n !== TLS_AGAIN) ended = `read: ${this.#tls.failure}`;
      break;
    }
    this.#lastHeard = this.loop.now;
    const used = this.#parse(filled);
    if (this.#closed) return;
    if (used < filled) this.#held = Buffer.from(scratch.bytes.subarray(used, filled));
    if (ended !== null) this.close(ended, -1);
    else if (more) this.loop.later(() => this.#readTunnel());
  }

  /** @returns how many bytes of the scratch buffer were used; the rest is the beginning of a frame. */
  #parse(filled: number): number {
    const b = this.loop.scratch.bytes;
    let p = 0;
    if (this.#prefaceLeft) {
      const have = Math.min(filled, PREFACE.length);
      if (b.compare(PREFACE, 0, have, 0, have) !== 0) {
        this.close('no HTTP/2 preface', -1);
        return 0;
      }
      if (filled < PREFACE.length) return 0;
      this.#prefaceLeft = false;
      p = PREFACE.length;
    }
    while (!this.#closed) {
      if (this.#dataLeft > 0 || this.#paddingLeft > 0) {
        const next = this.#continueData(p, filled);
        if (next === p) break;
        p = next;
        continue;
      }
      if (filled - p < FRAME_HEADER) break;
      const length = b.readUIntBE(p, 3);
      const type = b.readUInt8(p + 3);
      const flags = b.readUInt8(p + 4);
      const id = b.readUInt32BE(p + 5) & MAX_STREAM_ID;
      if (!this.#settingsSeen && type !== FrameType.SETTINGS) {
        this.close('the first frame is not SETTINGS', ErrorCode.PROTOCOL_ERROR);
        return 0;
      }
      if (this.#block !== null && (type !== FrameType.CONTINUATION || id !== this.#blockStream)) {
        this.close('a header block is interrupted', ErrorCode.PROTOCOL_ERROR);
        return 0;
      }
      if (type === FrameType.DATA) {
        const used = this.#startData(p, filled, length, flags, id);
        if (used < 0) break;
        p += used;
        continue;
      }
      if (length > MAX_CONTROL_FRAME) {
        this.close(`a frame of type ${type} has ${length} bytes`, ErrorCode.FRAME_SIZE_ERROR);
        return 0;
      }
      if (filled - p < FRAME_HEADER + length) break;
      this.#onFrame(type, flags, id, p + FRAME_HEADER, length);
      p += FRAME_HEADER + length;
    }
    return p;
  }

  /** @returns bytes used (the header, and the pad length), -1 where they have not all come. */
  #startData(p: number, filled: number, length: number, flags: number, id: number): number {
    if (length > OUR_MAX_FRAME || id === 0) {
      this.close('a DATA frame is too long or on stream 0', ErrorCode.FRAME_SIZE_ERROR);
      return 0;
    }
    let used = FRAME_HEADER;
    let padding = 0;
    if ((flags & Flag.PADDED) !== 0) {
      if (filled - p < FRAME_HEADER + 1) return -1;
      padding = this.loop.scratch.bytes.readUInt8(p + FRAME_HEADER);
      used++;
      if (padding + 1 > length) {
        this.close('padding is longer than its frame', ErrorCode.PROTOCOL_ERROR);
        return 0;
      }
    }
    if (this.#isIdle(id)) {
      this.close('DATA on a stream that was never opened', ErrorCode.PROTOCOL_ERROR);
      return 0;
    }
    if (length === 0 && (flags & Flag.END_STREAM) === 0 && this.#emptyGuard.hit(this.loop.now)) {
      this.close('a flood of empty DATA frames', ErrorCode.ENHANCE_YOUR_CALM);
      return 0;
    }
    this.#receiveWindow -= length;
    if (this.#receiveWindow < 0) {
      this.close('peer sent more than the window of the tunnel', ErrorCode.FLOW_CONTROL_ERROR);
      return 0;
    }
    this.#uncredited += length;
    this.#dataStream = this.#streams.get(id) ?? null;
    this.#dataLeft = length - (used - FRAME_HEADER) - padding;
    this.#paddingLeft = padding;
    if (used > FRAME_HEADER) this.#dataStream?.onPadding(padding + 1);
    this.#dataEnds = (flags & Flag.END_STREAM) !== 0;
    if (this.#dataLeft === 0 && padding === 0) this.#endData();
    return used;
  }

  #continueData(p: number, filled: number): number {
    if (this.#dataLeft > 0) {
      const length = Math.min(this.#dataLeft, filled - p);
      if (length === 0) return p;
      this.#dataLeft -= length;
      this.#dataStream?.deliver(this.loop.scratch.address + p, length);
      if (this.#dataLeft === 0 && this.#paddingLeft === 0) this.#endData();
      return p + length;
    }
    const length = Math.min(this.#paddingLeft, filled - p);
    this.#paddingLeft -= length;
    if (this.#paddingLeft === 0 && length > 0) this.#endData();
    return p + length;
  }

  #endData(): void {
    const stream = this.#dataStream;
    this.#dataStream = null;
    if (this.#dataEnds) stream?.onPeerEnd();
    this.#creditTunnel();
  }

  /** An application took some of what it had left lying: the tunnel may have stood still because of that. */
  onBacklogTaken(): void {
    this.#creditTunnel();
  }

  #creditTunnel(): void {
    if (this.#uncredited < TUNNEL_WINDOW / 4 || this.#closed) return;
    let backlog = 0;
    for (const each of this.#streams.values()) backlog += each.backlogBytes;
    if (backlog > MAX_TUNNEL_BACKLOG) return;
    this.#receiveWindow += this.#uncredited;
    this.sendWindowUpdate(0, this.#uncredited);
    this.#uncredited = 0;
  }

  /** Whether nobody has opened the stream yet (RFC 9113, 5.1: only HEADERS may come). */
  #isIdle(id: number): boolean {
    if ((id & 1) === 0) return true;
    return this.isClient ? id >= this.#nextId : id > this.#lastPeerStream;
  }

  #onFrame(type: number, flags: number, id: number, at: number, length: number): void {
    switch (type) {
      case FrameType.HEADERS:
        this.#onHeaders(flags, id, at, length);
        break;
      case FrameType.CONTINUATION:
        this.#onContinuation(flags, at, length);
        break;
      case FrameType.SETTINGS:
        this.#onSettings(flags, id, at, length);
        break;
      case FrameType.WINDOW_UPDATE:
        this.#onWindowUpdate(id, at, length);
        break;
      case FrameType.RST_STREAM:
        this.#onReset(id, at, length);
        break;
      case FrameType.PING:
        this.#onPing(flags, id, at, length);
        break;
      case FrameType.GOAWAY:
        this.#onGoaway(at, length);
        break;
      case FrameType.PUSH_PROMISE:
        this.close('PUSH_PROMISE is not allowed', ErrorCode.PROTOCOL_ERROR);
        break;
      default:
        // PRIORITY and unknown types are ignored (RFC 9113, 5.3.2 and 5.5), but not without end.
        if (this.#controlGuard.hit(this.loop.now)) this.close('a flood of ignored frames', ErrorCode.ENHANCE_YOUR_CALM);
    }
  }

  #onHeaders(flags: number, id: number, start: number, size: number): void {
    let at = start;
    let length = size;
    if ((flags & Flag.PADDED) !== 0) {
      const padding = length > 0 ? this.loop.scratch.bytes.readUInt8(at) : 0;
      at++;
      length -= 1 + padding;
    }
    if ((flags & Flag.PRIORITY) !== 0) {
      at += 5;
      length -= 5;
    }
    if (length < 0 || (id & 1) === 0) {
      this.close('malformed HEADERS', ErrorCode.PROTOCOL_ERROR);
      return;
    }
    this.#blockStream = id;
    this.#blockEnds = (flags & Flag.END_STREAM) !== 0;
    if ((flags & Flag.END_HEADERS) !== 0) {
      this.#onDecoded(this.#decoder.decode(this.loop.scratch.address + at, length, MAX_HEADER_LIST));
      return;
    }
    this.#block = [Buffer.from(this.loop.scratch.bytes.subarray(at, at + length))];
    this.#blockBytes = length;
  }

  #onContinuation(flags: number, at: number, length: number): void {
    if (this.#block === null) {
      this.close('CONTINUATION without HEADERS', ErrorCode.PROTOCOL_ERROR);
      return;
    }
    this.#blockBytes += length;
    // Neither long nor many (CVE-2024-27983): the smallest useful ones would still be bounded by the guard.
    if (this.#blockBytes > MAX_HEADER_BLOCK || this.#controlGuard.hit(this.loop.now)) {
      this.close('a header block is too long', ErrorCode.ENHANCE_YOUR_CALM);
      return;
    }
    this.#block.push(Buffer.from(this.loop.scratch.bytes.subarray(at, at + length)));
    if ((flags & Flag.END_HEADERS) === 0) return;
    const whole = Buffer.concat(this.#block);
    this.#block = null;
    this.#onDecoded(this.#decoder.decodeBytes(whole, MAX_HEADER_LIST));
  }

  #onDecoded(result: DecodeResult): void {
    if (result.kind === 'broken') {
      this.close('a header block cannot be decoded', ErrorCode.COMPRESSION_ERROR);
      return;
    }
    const id = this.#blockStream;
    if (this.isClient) this.#onResponseBlock(id, result.kind === 'headers' ? result.headers : null);
    else this.#onRequestBlock(id, result.kind === 'headers' ? result.headers : null);
  }

  #onResponseBlock(id: number, headers: HeaderList | null): void {
    if (this.#isIdle(id)) {
      this.close('HEADERS on a stream that was never opened', ErrorCode.PROTOCOL_ERROR);
      return;
    }
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    const [first] = headers ?? [];
    const status = first?.[0] === ':status' && /^[1-9]\d\d$/.test(first[1]) ? Number(first[1]) : 0;
    if (headers === null) stream.abort('the answer has too many headers', ErrorCode.CANCEL);
    else if (status >= 200) stream.onResponse(status, headers, this.#blockEnds);
    else if (status === 0 && !stream.answered) stream.abort('the answer has no status', ErrorCode.PROTOCOL_ERROR);
    if (this.#blockEnds) stream.onPeerEnd();
  }

  #onRequestBlock(id: number, headers: HeaderList | null): void {
    const known = this.#streams.get(id);
    if (known !== undefined) {
      // Trailers: they end the stream or are an error.
      if (this.#blockEnds) known.onPeerEnd();
      else known.abort('a second request on one stream', ErrorCode.PROTOCOL_ERROR);
      return;
    }
    if (id <= this.#lastPeerStream) {
      if (this.#resetGuard.hit(this.loop.now)) this.close('HEADERS on closed streams', ErrorCode.STREAM_CLOSED);
      return;
    }
    this.#lastPeerStream = id;
    if (this.#goawaySent) return;
    if (this.#isFull()) {
      this.sendReset(id, ErrorCode.REFUSED_STREAM);
      if (this.#resetGuard.hit(this.loop.now)) this.close('more streams than allowed', ErrorCode.ENHANCE_YOUR_CALM);
      return;
    }
    const stream = new TunnelStream(this, id, this.#peerInitialWindow);
    this.#streams.set(id, stream);
    if (headers === null) {
      stream.refuse(431, []);
      return;
    }
    this.#events.onRequest(stream, headers);
    if (this.#blockEnds) stream.onPeerEnd();
  }

  /** Streams that are closed but for a slow application's last bytes are none to the peer; of those we hold as many again. */
  #isFull(): boolean {
    const { maxStreams } = this.#options;
    if (this.#streams.size < maxStreams) return false;
    let open = 0;
    for (const stream of this.#streams.values()) if (!stream.endedOnWire) open++;
    return open >= maxStreams || this.#streams.size >= 2 * maxStreams;
  }

  #onSettings(flags: number, id: number, start: number, length: number): void {
    const ack = (flags & Flag.ACK) !== 0;
    if (id !== 0 || length % 6 !== 0 || (ack && length !== 0)) {
      this.close('malformed SETTINGS', ErrorCode.FRAME_SIZE_ERROR);
      return;
    }
    if (ack) {
      if (!this.#settingsSeen) this.close('the first frame is not SETTINGS', ErrorCode.PROTOCOL_ERROR);
      return;
    }
    if (this.#settingsSeen && this.#controlGuard.hit(this.loop.now)) {
      this.close('a flood of SETTINGS', ErrorCode.ENHANCE_YOUR_CALM);
      return;
    }
    this.#settingsSeen = true;
    const b = this.loop.scratch.bytes;
    for (let at = start; at < start + length && !this.#closed; at += 6) {
      this.#applySetting(b.readUInt16BE(at), b.readUInt32BE(at + 2));
    }
    if (!this.#closed) this.#control(0, FrameType.SETTINGS, Flag.ACK, 0);
  }

  #applySetting(name: number, value: number): void {
    if (name === Setting.HEADER_TABLE_SIZE) this.#encoder.setTableSize(value);
    else if (name === Setting.MAX_CONCURRENT_STREAMS) this.#peerMaxStreams = value;
    else if (name === Setting.MAX_FRAME_SIZE) {
      if (value < MIN_MAX_FRAME || value > MAX_MAX_FRAME) this.close('bad MAX_FRAME_SIZE', ErrorCode.PROTOCOL_ERROR);
      else this.peerMaxFrame = value;
    } else if (name === Setting.INITIAL_WINDOW_SIZE) {
      if (value > MAX_WINDOW) {
        this.close('bad INITIAL_WINDOW_SIZE', ErrorCode.FLOW_CONTROL_ERROR);
        return;
      }
      const change = value - this.#peerInitialWindow;
      this.#peerInitialWindow = value;
      for (const stream of this.#streams.values()) {
        stream.sendWindow += change;
        if (stream.sendWindow > 0) stream.unstall();
      }
    }
  }

  #onWindowUpdate(id: number, at: number, length: number): void {
    if (length !== 4) {
      this.close('malformed WINDOW_UPDATE', ErrorCode.FRAME_SIZE_ERROR);
      return;
    }
    const increment = this.loop.scratch.bytes.readUInt32BE(at) & MAX_STREAM_ID;
    if (increment < SMALL_INCREMENT && this.#windowGuard.hit(this.loop.now)) {
      this.close('a flood of WINDOW_UPDATE', ErrorCode.ENHANCE_YOUR_CALM);
      return;
    }
    if (id === 0) {
      this.sendWindow += increment;
      if (increment === 0 || this.sendWindow > MAX_WINDOW) {
        this.close('bad WINDOW_UPDATE', ErrorCode.FLOW_CONTROL_ERROR);
        return;
      }
      this.#unstallAll();
      return;
    }
    if (this.#isIdle(id)) {
      this.close('WINDOW_UPDATE on a stream that was never opened', ErrorCode.PROTOCOL_ERROR);
      return;
    }
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    stream.sendWindow += increment;
    if (increment === 0 || stream.sendWindow > MAX_WINDOW)
      stream.abort('bad WINDOW_UPDATE', ErrorCode.FLOW_CONTROL_ERROR);
    else if (this.sendWindow > 0 && stream.sendWindow > 0) stream.unstall();
  }

  #onReset(id: number, at: number, length: number): void {
    if (length !== 4 || this.#isIdle(id)) {
      this.close('malformed RST_STREAM', ErrorCode.PROTOCOL_ERROR);
      return;
    }
    const stream = this.#streams.get(id);
    // Connections that lived may die by the thousand; those that were given up before they were made, or were over already, are cheap to fake.
    const guard = stream?.joined ? this.#windowGuard : this.#resetGuard;
    if (!this.isClient && guard.hit(this.loop.now)) {
      this.close('a flood of RST_STREAM', ErrorCode.ENHANCE_YOUR_CALM);
      return;
    }
    stream?.onPeerReset(this.loop.scratch.bytes.readUInt32BE(at));
  }

  #onPing(flags: number, id: number, at: number, length: number): void {
    if (length !== 8 || id !== 0) {
      this.close('malformed PING', ErrorCode.FRAME_SIZE_ERROR);
      return;
    }
    if ((flags & Flag.ACK) !== 0) {
      this.#pingSent = 0;
      return;
    }
    if (this.#controlGuard.hit(this.loop.now)) {
      this.close('a flood of PING', ErrorCode.ENHANCE_YOUR_CALM);
      return;
    }
    const to = this.#control(8, FrameType.PING, Flag.ACK, 0);
    if (to >= 0) this.#out?.bytes.set(this.loop.scratch.bytes.subarray(at, at + 8), to);
  }

  #onGoaway(at: number, length: number): void {
    if (length < 8) {
      this.close('malformed GOAWAY', ErrorCode.FRAME_SIZE_ERROR);
      return;
    }
    const last = this.loop.scratch.bytes.readUInt32BE(at) & MAX_STREAM_ID;
    const code = this.loop.scratch.bytes.readUInt32BE(at + 4);
    this.#startDraining();
    if (!this.isClient) return;
    for (const stream of [...this.#streams.values()]) {
      // Not processed by the peer: safe to try elsewhere.
      if (stream.id > last) stream.onPeerReset(code === ErrorCode.NO_ERROR ? ErrorCode.REFUSED_STREAM : code);
    }
    if (this.#streams.size === 0) this.close(`peer said GOAWAY: ${errorCodeName(code)}`, -1);
  }

  // ---- life ----

  #startDraining(): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#events.onDraining();
  }

  #sendGoaway(last: number, code: number): void {
    if (this.#closed) return;
    this.#goawaySent = last !== MAX_STREAM_ID;
    const at = this.#control(8, FrameType.GOAWAY, 0, 0);
    if (at < 0) return;
    this.#out?.bytes.writeUInt32BE(last, at);
    this.#out?.bytes.writeUInt32BE(code, at + 4);
  }

  /** No new streams; closes when the last one has ended. */
  drain(): void {
    if (this.#closed || this.#draining) return;
    this.#startDraining();
    if (this.isClient) {
      if (this.#streams.size === 0) this.close('drained', ErrorCode.NO_ERROR);
      return;
    }
    this.#sendGoaway(MAX_STREAM_ID, ErrorCode.NO_ERROR);
    this.loop.arm(this.#finalGoaway, GOAWAY_GRACE_MS);
  }

  forget(stream: TunnelStream): void {
    if (!this.#streams.delete(stream.id) || this.#closed) return;
    if (this.#dataStream === stream) this.#dataStream = null;
    if (this.#streams.size === 0) {
      this.#idleSince = this.loop.now;
      if (this.#draining && (this.isClient || this.#goawaySent)) {
        this.loop.later(() => {
          if (this.#streams.size === 0) this.close('drained', ErrorCode.NO_ERROR);
        });
      }
    }
    this.#events.onStreamEnd();
  }

  #onCheck(): void {
    const { now } = this.loop;
    if (this.#blockedSince !== 0 && now - this.#blockedSince > WRITE_STALL_MS) {
      this.close('peer takes no bytes', -1);
      return;
    }
    if (!this.#settingsSeen && now - this.#idleSince > OPENING_MS) {
      this.close('the preface and SETTINGS did not come in time', -1);
      return;
    }
    if (this.#pingSent !== 0 && now - this.#pingSent > PING_ANSWER_MS) {
      this.close('peer does not answer', -1);
      return;
    }
    const { streamIdleMs } = this.#options;
    for (const stream of this.#streams.values()) {
      if (now - stream.lastActivity > streamIdleMs) stream.expire(`no bytes for ${streamIdleMs} ms`);
    }
    if (this.#closed) return;
    if (this.#streams.size === 0) {
      // The server waits longer, so that the client, which knows what it needs, closes first.
      const patience = this.isClient ? this.#options.idleMs : this.#options.idleMs * 2;
      if (now - this.#idleSince > patience || (this.#draining && now - this.#idleSince > GOAWAY_GRACE_MS)) {
        this.close('idle', ErrorCode.NO_ERROR);
        return;
      }
    } else if (this.#pingSent === 0 && now - this.#lastHeard > PING_AFTER_MS) {
      this.#pingSent = now;
      const at = this.#control(8, FrameType.PING, 0, 0);
      if (at >= 0) this.#out?.bytes.fill(0, at, at + 8);
    }
    if (!this.#closed) this.loop.arm(this.#check, CHECK_MS);
  }

  /** The session, for tickets and facts; not after `closed`. */
  get tls(): TlsSession {
    return this.#tls;
  }

  /**
   * Ends the tunnel and every stream in it. @param code GOAWAY to send first; -1: none, and TCP is reset where bytes would be lost.
   */
  close(reason: string, code: number): void {
    if (this.#closed) return;
    if (code >= 0 && !this.#closing) {
      this.#closing = true; // what fails from here on comes back to this function, once
      this.#sendGoaway(this.#lastPeerStream, code);
      this.#flush();
      if (this.#closed) return;
    }
    this.#closed = true;
    this.#draining = true;
    this.loop.cancel(this.#check);
    this.loop.cancel(this.#finalGoaway);
    for (const stream of [...this.#streams.values()]) stream.onTunnelLost(`tunnel: ${reason}`);
    this.#streams.clear();
    if (this.#out !== null) {
      this.#options.staging.give(this.#out);
      this.#out = null;
      resetOnClose(this.#fd);
    } else if (code >= 0) this.#tls.sendCloseNotify();
    this.#events.onClosed(reason);
    this.#tls.free();
    this.loop.close(this.#fd);
    this.#encoder.free();
    this.#decoder.free();
  }
}
