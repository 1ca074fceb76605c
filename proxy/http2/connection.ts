import type { NativeBuffer } from '../native/memory.ts';
import type { DecodeResult } from '../protocol/hpack/decoder.ts';
import type { Loop } from '../reactor/loop.ts';
import { Timer } from '../reactor/timers.ts';
import { ControlFrames, type ControlledConnection } from './control-frames.ts';
import { FrameReader, type FrameSink } from './frame-reader.ts';
import { DEFAULT_WINDOW, ErrorCode, errorCodeName, Flag, FrameType, MAX_STREAM_ID, Setting } from './frames.ts';
import { FloodGuards, type FloodLimits } from './guards.ts';
import { type BlockFault, HeaderBlocks, type HeaderLimits } from './header-blocks.ts';
import { Liveness, type LivenessOptions } from './liveness.ts';
import { FrameOutput, type OutputEvents } from './output.ts';
import { ReceiveCredit } from './receive-credit.ts';
import type { StagingPool } from './staging.ts';
import type { Http2Stream } from './stream.ts';
import { StreamTable } from './stream-table.ts';
import type { FrameTransport, TransportEvents } from './transport.ts';

/** Of a header block that is long, the parts are long as well. */
const SMALL_CONTINUATION = 1_024;
/** RFC 9113, 6.8: between the warning and the final GOAWAY, streams under way still arrive. */
const GOAWAY_GRACE_MS = 1_000;
const EVICTED = 'its reader kept the whole connection waiting';

export interface ConnectionOptions extends LivenessOptions {
  /** Streams at a time: the peer's on a server, ours on a client. */
  readonly maxStreams: number;
  /** Receive window of a stream at first. Bytes. */
  readonly streamWindow: number;
  /** Receive window of the connection, and what its streams may hold before it is not given back. Bytes. */
  readonly connectionWindow: number;
  readonly maxBacklog: number;
  /** Our SETTINGS_MAX_FRAME_SIZE. */
  readonly maxFrame: number;
  readonly headers: HeaderLimits;
  readonly floods: FloodLimits;
  readonly staging: StagingPool;
}

export interface ConnectionEvents<S extends Http2Stream> {
  /** Server: the peer opens a stream; its header block follows (`onHeaders`). */
  newStream(id: number, sendWindow: number): S;
  /** A stream is gone, or the peer allows more: there may be room for another. */
  onRoom(): void;
  /** No new streams on this connection. */
  onDraining(): void;
  /** Once, after all streams were told; the transport is released right after. */
  onClosed(reason: string): void;
}

/**
 * One HTTP/2 connection (RFC 9113): frames, windows, settings and limits, and which streams there are. What one turn of the loop produced for
 * all of them leaves in one write at its end. Owns its transport from the moment it is made.
 */
export class Http2Connection<S extends Http2Stream>
  implements TransportEvents, FrameSink, OutputEvents, ControlledConnection
{
  readonly loop: Loop;
  readonly isClient: boolean;
  readonly output: FrameOutput;
  readonly streamWindow: number;
  readonly #transport: FrameTransport;
  readonly #events: ConnectionEvents<S>;
  readonly #options: ConnectionOptions;
  readonly #reader: FrameReader;
  readonly #blocks: HeaderBlocks;
  readonly #credit: ReceiveCredit;
  readonly #guards: FloodGuards;
  readonly #liveness: Liveness;
  readonly #control: ControlFrames;
  readonly #streams = new StreamTable<S>();
  #lastPeerStream = 0;
  #nextId = 1;
  /** When it last had no stream, of the loop's clock. */
  idleSince: number;
  #draining = false;
  #goawaySent = false;
  #closing = false;
  #closed = false;
  readonly #finalGoaway = new Timer(() => this.#sendGoaway(this.#lastPeerStream, ErrorCode.NO_ERROR));

  constructor(
    loop: Loop,
    transport: FrameTransport,
    role: 'client' | 'server',
    options: ConnectionOptions,
    events: ConnectionEvents<S>,
  ) {
    this.loop = loop;
    this.isClient = role === 'client';
    this.streamWindow = options.streamWindow;
    this.#transport = transport;
    this.#options = options;
    this.#events = events;
    this.idleSince = loop.now;
    this.output = new FrameOutput(loop, transport, options.staging, this);
    this.#reader = new FrameReader(this, !this.isClient, options.maxFrame);
    this.#blocks = new HeaderBlocks(options.headers);
    this.#credit = new ReceiveCredit(this.output, options.connectionWindow, options.maxBacklog);
    this.#guards = new FloodGuards(options.floods);
    this.#liveness = new Liveness(this, options);
    this.#control = new ControlFrames(this, this.output, this.#streams, this.#guards, this.#liveness);
    transport.start(this);
    this.#sendOpening();
  }

  get streamCount(): number {
    return this.#streams.size;
  }

  get draining(): boolean {
    return this.#draining;
  }

  get retiring(): boolean {
    return this.#draining || this.#transport.retiring;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The peer has said its preface and SETTINGS. */
  get opened(): boolean {
    return this.#reader.opened;
  }

  /** A header block has begun and not ended. */
  get withinBlock(): boolean {
    return this.#reader.blockStream !== 0;
  }

  /** How many streams a client may open now; none beside slow readers, who would hold them up. */
  get room(): number {
    if (this.#draining || this.output.crowded || this.#credit.withheld || this.#nextId >= MAX_STREAM_ID - 1) return 0;
    return Math.max(0, Math.min(this.#options.maxStreams, this.#control.maxStreams) - this.#streams.size);
  }

  /** A copy: what is done with one may end others. */
  streams(): readonly S[] {
    return this.#streams.all();
  }

  /** Client: registers the next stream; `room` must be above 0. */
  open<T extends S>(make: (id: number, sendWindow: number) => T): T {
    const stream = make(this.#nextId, this.#control.initialWindow);
    this.#nextId += 2;
    this.#streams.set(stream.id, stream);
    return stream;
  }

  #sendOpening(): void {
    if (this.isClient) this.output.sendPreface();
    this.output.sendSettings([
      [Setting.ENABLE_PUSH, 0],
      [Setting.MAX_CONCURRENT_STREAMS, this.isClient ? 0 : this.#options.maxStreams],
      [Setting.INITIAL_WINDOW_SIZE, this.streamWindow],
      [Setting.MAX_FRAME_SIZE, this.#options.maxFrame],
      [Setting.MAX_HEADER_LIST_SIZE, this.#options.headers.listBytes],
    ]);
    this.output.sendWindowUpdate(0, this.#options.connectionWindow - DEFAULT_WINDOW);
  }

  // ---- transport and output ----

  onBytes(from: NativeBuffer, start: number, end: number): void {
    if (this.#closed) return;
    this.#liveness.heard();
    this.#reader.read(from, start, end);
  }

  onWritable(): void {
    if (this.#closed) return;
    this.output.onWritable();
    if (this.#isDrained) this.#closeWhenEmpty();
  }

  get #isDrained(): boolean {
    return this.#draining && this.#streams.size === 0 && (this.isClient || this.#goawaySent);
  }

  onTransportEnd(detail: string): void {
    this.close(detail, -1);
  }

  onTransportFault(): void {
    this.close('internal error', ErrorCode.INTERNAL_ERROR);
  }

  onWriteFailed(detail: string): void {
    this.close(detail, -1);
  }

  onOverflow(): void {
    this.close('peer does not read what it makes us answer', ErrorCode.ENHANCE_YOUR_CALM);
  }

  onRoom(): void {
    for (const stream of this.#streams.all()) if (stream.sendWindow > 0) stream.unstall();
  }

  fail(reason: string, code: number): void {
    this.close(reason, code);
  }

  flood(what: string): void {
    this.close(`a flood of ${what}`, ErrorCode.ENHANCE_YOUR_CALM);
  }

  // ---- frames ----

  beginData(id: number, length: number, padding: number, flags: number): S | null {
    if (this.isIdle(id)) {
      this.close('DATA on a stream that was never opened', ErrorCode.PROTOCOL_ERROR);
      return null;
    }
    if (length === 0 && (flags & Flag.END_STREAM) === 0 && this.#guards.empty.hit(this.loop.now)) {
      this.flood('empty DATA frames');
      return null;
    }
    if (!this.#credit.take(length)) {
      this.close('peer sent more than the window of the connection', ErrorCode.FLOW_CONTROL_ERROR);
      return null;
    }
    const stream = this.#streams.get(id) ?? null;
    if (padding > 0) stream?.onPadding(padding);
    return stream;
  }

  endData(stream: Http2Stream | null, ends: boolean): void {
    if (ends) stream?.onPeerEnd();
    this.giveCredit();
  }

  /** Bytes were taken, or are not wanted any more: the connection may have stood still because of them. */
  giveCredit(): void {
    if (this.#closed) return;
    const { withheld } = this.#credit;
    this.#credit.give(this.#streams);
    if (withheld && !this.#credit.withheld) this.#events.onRoom();
  }

  /** Every few seconds: streams whose readers keep all others waiting have to go. */
  relieve(): void {
    if (!this.#credit.checkStuck()) return;
    for (let one = this.#credit.greediest(this.#streams); one !== null; one = this.#credit.greediest(this.#streams)) {
      one.evict(EVICTED);
    }
  }

  /** Whether nobody has opened the stream yet (RFC 9113, 5.1: only HEADERS may come). */
  isIdle(id: number): boolean {
    if ((id & 1) === 0) return true;
    return this.isClient ? id >= this.#nextId : id > this.#lastPeerStream;
  }

  onFrame(type: number, flags: number, id: number, from: NativeBuffer, at: number, length: number): void {
    switch (type) {
      case FrameType.HEADERS:
        this.#onBlock(this.#blocks.begin(flags, id, from, at, length), id);
        break;
      case FrameType.CONTINUATION:
        this.#onContinuation(flags, id, from, at, length);
        break;
      default:
        this.#control.onFrame(type, flags, id, from.bytes, at, length);
    }
  }

  #onContinuation(flags: number, id: number, from: NativeBuffer, at: number, length: number): void {
    if (this.#reader.blockStream === 0) {
      this.close('CONTINUATION without HEADERS', ErrorCode.PROTOCOL_ERROR);
      return;
    }
    // Neither long nor many (CVE-2024-27983): a block is bounded, and so is how many small ones it may be made of.
    const small = length < SMALL_CONTINUATION && (flags & Flag.END_HEADERS) === 0;
    if (small && this.#guards.control.hit(this.loop.now)) this.flood('CONTINUATION');
    else this.#onBlock(this.#blocks.add(flags, from, at, length), id);
  }

  #onBlock(block: DecodeResult | BlockFault | null, id: number): void {
    this.#reader.blockStream = block === null ? id : 0;
    if (block === null) return;
    if ('reason' in block) {
      this.close(block.reason, block.code);
      return;
    }
    if (block.kind === 'broken') {
      this.close('a header block cannot be decoded', ErrorCode.COMPRESSION_ERROR);
      return;
    }
    const stream = this.isClient ? this.#answered(id) : this.#asked(id);
    stream?.onHeaders(block.kind === 'headers' ? block.headers : null, this.#blocks.ends);
  }

  /** Client: whose response or trailers these are. */
  #answered(id: number): S | null {
    const stream = this.#streams.get(id) ?? null;
    if (stream !== null) return stream;
    if (this.isIdle(id)) this.close('HEADERS on a stream that was never opened', ErrorCode.PROTOCOL_ERROR);
    else if (this.#guards.reset.hit(this.loop.now)) this.close('HEADERS on closed streams', ErrorCode.STREAM_CLOSED);
    return null;
  }

  /** Server: whose request or trailers these are. */
  #asked(id: number): S | null {
    const known = this.#streams.get(id);
    if (known !== undefined) return known;
    const { now } = this.loop;
    if (id <= this.#lastPeerStream) {
      if (this.#guards.reset.hit(now)) this.close('HEADERS on closed streams', ErrorCode.STREAM_CLOSED);
      return null;
    }
    this.#lastPeerStream = id;
    if (this.#goawaySent) return null;
    if (this.#isFull()) {
      this.output.sendReset(id, ErrorCode.REFUSED_STREAM);
      if (this.#guards.reset.hit(now)) this.close('more streams than allowed', ErrorCode.ENHANCE_YOUR_CALM);
      return null;
    }
    const stream = this.#events.newStream(id, this.#control.initialWindow);
    this.#streams.set(id, stream);
    return stream;
  }

  /** Streams that are closed but for a slow reader's last bytes are none to the peer; of those we hold as many again. */
  #isFull(): boolean {
    const { maxStreams } = this.#options;
    if (this.#streams.size < maxStreams) return false;
    let open = 0;
    for (const stream of this.#streams) if (!stream.endedOnWire) open++;
    return open >= maxStreams || this.#streams.size >= 2 * maxStreams;
  }

  /** The peer made us reset a stream: often, that is as good an attack as resetting them itself. */
  notePeerFault(): void {
    if (!this.isClient && !this.#closed && this.#guards.reset.hit(this.loop.now)) this.flood('malformed requests');
  }

  // ---- what control frames say ----

  onSettings(): void {
    if (this.isClient) this.#events.onRoom();
  }

  onGoaway(last: number, code: number): void {
    this.#startDraining();
    if (!this.isClient) return;
    for (const stream of this.#streams.all()) {
      // Not processed by the peer, whatever its reason (RFC 9113, 6.8): safe to try elsewhere.
      if (stream.id > last) stream.onPeerReset(ErrorCode.REFUSED_STREAM);
    }
    if (this.#streams.size === 0) this.close(`peer said GOAWAY: ${errorCodeName(code)}`, -1);
  }

  // ---- life ----

  #startDraining(): void {
    if (this.#draining || this.#closed) return;
    this.#draining = true;
    this.#events.onDraining();
  }

  #sendGoaway(last: number, code: number): void {
    if (this.#closed) return;
    this.#goawaySent = last !== MAX_STREAM_ID;
    this.output.sendGoaway(last, code);
    if (this.#goawaySent && this.#isDrained) this.#closeWhenEmpty();
  }

  /** No new streams; closes when the last one has ended. */
  drain(): void {
    if (this.#closed || this.#draining) return;
    this.#startDraining();
    if (this.isClient) {
      if (this.#streams.size > 0) return;
      if (this.output.hasUnsent) this.#closeWhenEmpty();
      else this.close('drained', ErrorCode.NO_ERROR);
      return;
    }
    this.#sendGoaway(MAX_STREAM_ID, ErrorCode.NO_ERROR);
    this.loop.arm(this.#finalGoaway, GOAWAY_GRACE_MS);
  }

  /** A stream is over. */
  forget(stream: S): void {
    if (!this.#streams.delete(stream.id) || this.#closed) return;
    this.#reader.forget(stream);
    if (this.#streams.size === 0) {
      this.idleSince = this.loop.now;
      if (this.#isDrained) this.#closeWhenEmpty();
    }
    this.giveCredit();
    this.#events.onRoom();
  }

  #closeWhenEmpty(): void {
    if (this.#closing) return;
    this.loop.later(() => {
      if (this.#closed || this.#streams.size > 0) return;
      this.output.flush();
      // A slow peer has not taken all of the last streams yet: `onWritable` comes back to it.
      if (!this.output.hasUnsent) this.close('drained', ErrorCode.NO_ERROR);
    });
  }

  /** No stream for long enough to be closed: sooner where none will come. */
  idleFor(ms: number): boolean {
    if (this.output.hasUnsent) return false;
    const idle = this.loop.now - this.idleSince;
    return idle > ms || (this.#draining && idle > GOAWAY_GRACE_MS);
  }

  /**
   * Ends the connection and every stream in it. @param code GOAWAY to send first; -1: none, and the transport is reset where bytes would be lost.
   */
  close(reason: string, code: number): void {
    if (this.#closed) return;
    if (code >= 0 && !this.#closing) {
      this.#closing = true; // what fails from here on comes back to this function, once
      this.#sendGoaway(this.#lastPeerStream, code);
      this.output.flush();
      if (this.#closed) return;
    }
    this.#closed = true;
    this.#draining = true;
    this.#liveness.stop();
    this.loop.cancel(this.#finalGoaway);
    for (const stream of this.#streams.all()) stream.onConnectionLost(reason);
    this.#streams.clear();
    const lost = this.output.close();
    this.#transport.end(lost ? 'reset' : code >= 0 ? 'orderly' : 'silent', reason);
    this.#events.onClosed(reason);
    this.#transport.release();
  }
}
