import type { Loop } from '../reactor/loop.ts';
import {
  DEFAULT_WINDOW,
  ErrorCode,
  Flag,
  FrameType,
  MAX_MAX_FRAME,
  MAX_STREAM_ID,
  MAX_WINDOW,
  MIN_MAX_FRAME,
  Setting,
} from './frames.ts';
import type { FloodGuards } from './guards.ts';
import type { Liveness } from './liveness.ts';
import type { FrameOutput } from './output.ts';
import type { Http2Stream } from './stream.ts';
import type { StreamTable } from './stream-table.ts';

/** A WINDOW_UPDATE of less costs more than it gives; the sum of greater ones is bounded by the windows themselves. */
const SMALL_INCREMENT = 4_096;

/** The connection that control frames are about. */
export interface ControlledConnection {
  readonly loop: Loop;
  readonly isClient: boolean;
  readonly closed: boolean;
  /** The peer has said its preface and SETTINGS. */
  readonly opened: boolean;
  /** Whether nobody has opened the stream yet. */
  isIdle(id: number): boolean;
  /** The window of the connection is open again. */
  onRoom(): void;
  /** All of a SETTINGS frame was applied. */
  onSettings(): void;
  /** The peer takes no new streams. @param last the last one of ours that it may have processed */
  onGoaway(last: number, code: number): void;
  /** The peer made us reset a stream. */
  notePeerFault(): void;
  flood(what: string): void;
  close(reason: string, code: number): void;
}

/**
 * What a peer says of the connection and its streams without carrying anything (RFC 9113, 6): SETTINGS, WINDOW_UPDATE, RST_STREAM, PING, GOAWAY, and
 * what is to be ignored. ALWAYS: each is of the right form before anything comes of it, and costs the peer a hit of a guard.
 */
export class ControlFrames {
  /** Send window of a new stream, as the peer wants it. Bytes. */
  initialWindow = DEFAULT_WINDOW;
  /** How many streams of ours the peer takes at a time. */
  maxStreams = 100;
  readonly #connection: ControlledConnection;
  readonly #output: FrameOutput;
  readonly #streams: StreamTable<Http2Stream>;
  readonly #guards: FloodGuards;
  readonly #liveness: Liveness;

  constructor(
    connection: ControlledConnection,
    output: FrameOutput,
    streams: StreamTable<Http2Stream>,
    guards: FloodGuards,
    liveness: Liveness,
  ) {
    this.#connection = connection;
    this.#output = output;
    this.#streams = streams;
    this.#guards = guards;
    this.#liveness = liveness;
  }

  /** Any frame but DATA, HEADERS and CONTINUATION. */
  onFrame(type: number, flags: number, id: number, b: Buffer, at: number, length: number): void {
    switch (type) {
      case FrameType.SETTINGS:
        this.#onSettings(flags, id, b, at, length);
        break;
      case FrameType.WINDOW_UPDATE:
        this.#onWindowUpdate(id, b, at, length);
        break;
      case FrameType.RST_STREAM:
        this.#onReset(id, b, at, length);
        break;
      case FrameType.PING:
        this.#onPing(flags, id, b, at, length);
        break;
      case FrameType.GOAWAY:
        this.#onGoaway(id, b, at, length);
        break;
      case FrameType.PUSH_PROMISE:
        this.#connection.close('PUSH_PROMISE is not allowed', ErrorCode.PROTOCOL_ERROR);
        break;
      default:
        // PRIORITY and unknown types are ignored (RFC 9113, 5.3.2 and 5.5), but not without end.
        if (this.#guards.trifle.hit(this.#connection.loop.now)) this.#connection.flood('ignored frames');
    }
  }

  #onSettings(flags: number, id: number, b: Buffer, start: number, length: number): void {
    const ack = (flags & Flag.ACK) !== 0;
    if (id !== 0 || length % 6 !== 0 || (ack && length !== 0)) {
      this.#connection.close('malformed SETTINGS', id === 0 ? ErrorCode.FRAME_SIZE_ERROR : ErrorCode.PROTOCOL_ERROR);
      return;
    }
    if (ack) {
      if (!this.#connection.opened) this.#connection.close('the first frame is not SETTINGS', ErrorCode.PROTOCOL_ERROR);
      return;
    }
    if (this.#guards.control.hit(this.#connection.loop.now)) {
      this.#connection.flood('SETTINGS');
      return;
    }
    for (let at = start; at < start + length && !this.#connection.closed; at += 6) {
      this.#applySetting(b.readUInt16BE(at), b.readUInt32BE(at + 2));
    }
    if (this.#connection.closed) return;
    this.#output.acknowledgeSettings();
    this.#connection.onSettings();
  }

  #applySetting(name: number, value: number): void {
    if (name === Setting.HEADER_TABLE_SIZE) this.#output.setTableSize(value);
    else if (name === Setting.MAX_CONCURRENT_STREAMS) this.maxStreams = value;
    else if (name === Setting.ENABLE_PUSH) {
      if (value > (this.#connection.isClient ? 0 : 1))
        this.#connection.close('bad ENABLE_PUSH', ErrorCode.PROTOCOL_ERROR);
    } else if (name === Setting.MAX_FRAME_SIZE) {
      if (value < MIN_MAX_FRAME || value > MAX_MAX_FRAME)
        this.#connection.close('bad MAX_FRAME_SIZE', ErrorCode.PROTOCOL_ERROR);
      else this.#output.peerMaxFrame = value;
    } else if (name === Setting.INITIAL_WINDOW_SIZE) this.#changeInitialWindow(value);
  }

  #changeInitialWindow(value: number): void {
    if (value > MAX_WINDOW) {
      this.#connection.close('bad INITIAL_WINDOW_SIZE', ErrorCode.FLOW_CONTROL_ERROR);
      return;
    }
    const change = value - this.initialWindow;
    this.initialWindow = value;
    for (const stream of this.#streams.all()) {
      stream.sendWindow += change;
      if (stream.sendWindow > MAX_WINDOW) {
        this.#connection.close('INITIAL_WINDOW_SIZE overflows a window', ErrorCode.FLOW_CONTROL_ERROR);
        return;
      }
      if (stream.sendWindow > 0) stream.unstall();
    }
  }

  #onWindowUpdate(id: number, b: Buffer, at: number, length: number): void {
    if (length !== 4) {
      this.#connection.close('malformed WINDOW_UPDATE', ErrorCode.FRAME_SIZE_ERROR);
      return;
    }
    const increment = b.readUInt32BE(at) & MAX_STREAM_ID;
    if (increment < SMALL_INCREMENT && this.#guards.window.hit(this.#connection.loop.now)) {
      this.#connection.flood('WINDOW_UPDATE');
      return;
    }
    if (id === 0) {
      const output = this.#output;
      output.sendWindow += increment;
      if (increment === 0 || output.sendWindow > MAX_WINDOW) {
        this.#connection.close(
          'bad WINDOW_UPDATE',
          increment === 0 ? ErrorCode.PROTOCOL_ERROR : ErrorCode.FLOW_CONTROL_ERROR,
        );
      } else if (output.sendWindow > 0) this.#connection.onRoom();
      return;
    }
    if (this.#connection.isIdle(id)) {
      this.#connection.close('WINDOW_UPDATE on a stream that was never opened', ErrorCode.PROTOCOL_ERROR);
      return;
    }
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    stream.sendWindow += increment;
    if (increment === 0 || stream.sendWindow > MAX_WINDOW) {
      const code = increment === 0 ? ErrorCode.PROTOCOL_ERROR : ErrorCode.FLOW_CONTROL_ERROR;
      stream.fail('bad WINDOW_UPDATE', code);
      this.#connection.notePeerFault();
    } else if (this.#output.sendWindow > 0 && stream.sendWindow > 0) stream.unstall();
  }

  #onReset(id: number, b: Buffer, at: number, length: number): void {
    if (length !== 4 || this.#connection.isIdle(id)) {
      this.#connection.close(
        'malformed RST_STREAM',
        length !== 4 ? ErrorCode.FRAME_SIZE_ERROR : ErrorCode.PROTOCOL_ERROR,
      );
      return;
    }
    const code = b.readUInt32BE(at);
    const stream = this.#streams.get(id);
    // Streams that lived may die by the thousand; those that were given up before they came to anything, or were over already, are cheap to fake.
    const guard = stream?.joined ? this.#guards.window : this.#guards.reset;
    if (!this.#connection.isClient && guard.hit(this.#connection.loop.now)) {
      this.#connection.flood('RST_STREAM');
      return;
    }
    stream?.onPeerReset(code);
  }

  #onPing(flags: number, id: number, b: Buffer, at: number, length: number): void {
    if (length !== 8 || id !== 0) {
      this.#connection.close('malformed PING', length !== 8 ? ErrorCode.FRAME_SIZE_ERROR : ErrorCode.PROTOCOL_ERROR);
    } else if ((flags & Flag.ACK) !== 0) this.#liveness.answered();
    else if (this.#guards.trifle.hit(this.#connection.loop.now)) this.#connection.flood('PING');
    else this.#output.sendPing(b.readUInt32BE(at), b.readUInt32BE(at + 4), true);
  }

  #onGoaway(id: number, b: Buffer, at: number, length: number): void {
    if (length < 8 || id !== 0) {
      this.#connection.close('malformed GOAWAY', length < 8 ? ErrorCode.FRAME_SIZE_ERROR : ErrorCode.PROTOCOL_ERROR);
      return;
    }
    const last = b.readUInt32BE(at) & MAX_STREAM_ID;
    const code = b.readUInt32BE(at + 4);
    if (this.#guards.control.hit(this.#connection.loop.now)) {
      this.#connection.flood('GOAWAY');
      return;
    }
    this.#connection.onGoaway(last, code);
  }
}
