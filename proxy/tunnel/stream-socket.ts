import { ErrorCode, FRAME_HEADER } from '../http2/frames.ts';
import type { FrameOutput } from '../http2/output.ts';
import type { StreamInbox } from '../http2/stream-inbox.ts';
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT } from '../native/epoll.ts';
import { Errno, errnoName } from '../native/errno.ts';
import { errno } from '../native/library.ts';
import type { NativeBuffer } from '../native/memory.ts';
import { readInto, resetOnClose, shutdownWrite, writeBytes, writeFrom } from '../native/socket.ts';
import type { EventHandler } from '../reactor/loop.ts';
import type { TunnelStream } from './stream.ts';

/** How much one stream may bring in one turn: streams take turns. */
const QUANTUM = 64 * 1024;
/** A client's bytes that may leave before the answer to CONNECT; kept until then, so that another endpoint can be tried without loss. */
export const OPTIMISTIC_BYTES = 16 * 1024;

/** An application's socket as its owner gets it back: what was read from it is to be sent again. */
export interface TakenSocket {
  readonly fd: number;
  readonly replay: readonly Buffer[];
  /** The application has ended its direction. */
  readonly ended: boolean;
}

/**
 * An application's socket, joined to a stream: bytes are read straight into the tunnel's output, and written straight from what it has received.
 * Owns the descriptor, which is watched already, until it is closed or taken back.
 */
export class StreamSocket implements EventHandler {
  readonly #stream: TunnelStream;
  readonly #inbox: StreamInbox;
  readonly #output: FrameOutput;
  readonly #fd: number;
  /** Client: the first bytes sent before the answer; null once it came. */
  #replay: Buffer[] | null;
  #replayBytes = 0;
  #writeEnded = false;

  constructor(stream: TunnelStream, inbox: StreamInbox, fd: number) {
    this.#stream = stream;
    this.#inbox = inbox;
    this.#output = stream.tunnel.connection.output;
    this.#fd = fd;
    this.#replay = stream.tunnel.isClient ? [] : null;
  }

  /** @param replay bytes of an earlier try that are sent first */
  begin(replay: readonly Buffer[]): void {
    const stream = this.#stream;
    for (const bytes of replay) if (!stream.over) this.#sendReplay(bytes);
    if (stream.over) return;
    stream.tunnel.loop.adopt(this.#fd, EPOLLIN, this);
    if (this.#inbox.bytes > 0 || stream.peerEnded) this.#drain();
    if (!stream.over) this.rearm();
  }

  #sendReplay(bytes: Buffer): void {
    const stream = this.#stream;
    const output = this.#output;
    this.#keepForReplay(bytes);
    const fits = bytes.length <= Math.min(stream.sendWindow, output.sendWindow, output.peerMaxFrame);
    const at = fits ? output.reserveData(bytes.length + FRAME_HEADER) : -1;
    if (at < 0) {
      stream.abort('no room to send again what the first endpoint did not take', ErrorCode.CANCEL);
      return;
    }
    output.copyIn(bytes, at + FRAME_HEADER);
    output.commitData(stream, at, bytes.length, false);
    stream.bytesToPeer += bytes.length;
  }

  #keepForReplay(bytes: Buffer): void {
    this.#replay?.push(bytes);
    this.#replayBytes += bytes.length;
  }

  /** Client: CONNECT has not been answered by 200, so that the socket may be taken back. */
  get returnable(): boolean {
    return this.#replay !== null;
  }

  /** Nothing of the application's has been sent. */
  get unused(): boolean {
    return this.#replayBytes === 0;
  }

  /** Client: CONNECT was answered by 200. */
  answered(): void {
    this.#replay = null;
  }

  /** The descriptor is the caller's from now on; null where it cannot be given back. */
  take(): TakenSocket | null {
    if (this.#replay === null) return null;
    this.#stream.tunnel.loop.rearm(this.#fd, 0);
    return { fd: this.#fd, replay: this.#replay, ended: this.#stream.localEnded };
  }

  // ---- from the application ----

  onEvents(mask: number): void {
    const stream = this.#stream;
    if (stream.over) return;
    if ((mask & EPOLLOUT) !== 0 && this.#inbox.bytes > 0) this.#drain();
    if (!stream.over && !stream.localEnded && (mask & (EPOLLIN | EPOLLERR | EPOLLHUP)) !== 0) this.#read();
    if (!stream.over && (mask & EPOLLERR) !== 0 && stream.localEnded) {
      stream.abort('application reset', ErrorCode.CANCEL);
    }
    if (!stream.over) this.rearm();
  }

  onFault(): void {
    this.#stream.abort('internal error', ErrorCode.INTERNAL_ERROR);
  }

  #read(): void {
    const stream = this.#stream;
    const output = this.#output;
    let most = Math.min(QUANTUM, stream.sendWindow, output.sendWindow, output.peerMaxFrame);
    if (!stream.answered) most = Math.min(most, OPTIMISTIC_BYTES - this.#replayBytes);
    if (most <= 0) {
      stream.stalled = true;
      return;
    }
    const at = output.reserveData(most + FRAME_HEADER);
    if (at < 0) {
      if (!stream.over) stream.stalled = true;
      return;
    }
    const n = readInto(this.#fd, output.stagingAddress + at + FRAME_HEADER, most);
    if (n > 0) {
      if (!stream.answered) this.#keepForReplay(output.copyOut(at + FRAME_HEADER, n));
      output.commitData(stream, at, n, false);
      stream.count(n);
      stream.bytesToPeer += n;
    } else if (n === 0) {
      output.commitData(stream, at, 0, true);
      stream.sentEnd();
    } else this.#mayRetry();
  }

  /** After a call that failed. @returns false where the application's socket is dead (the stream is then aborted) */
  #mayRetry(): boolean {
    const code = errno();
    if (code === Errno.EAGAIN || code === Errno.EINTR) return true;
    this.#stream.abort(`application: ${errnoName(code)}`, ErrorCode.CANCEL);
    return false;
  }

  // ---- to the application ----

  /** Bytes of the peer's: what the application does not take at once is held. */
  deliver(from: NativeBuffer, start: number, end: number): void {
    const length = end - start;
    let taken = 0;
    if (this.#inbox.bytes === 0) {
      taken = writeFrom(this.#fd, from.address + start, length);
      if (taken < 0) {
        if (!this.#mayRetry()) return;
        taken = 0;
      }
      this.#inbox.credit(taken);
      if (taken === length) return;
    }
    this.#inbox.hold(from, start + taken, end);
    this.rearm();
  }

  /** The peer has ended its direction. */
  peerEnded(): void {
    if (this.#inbox.bytes === 0) this.#endWrite();
  }

  #drain(): void {
    this.#drainInbox();
    this.#stream.tunnel.connection.giveCredit();
  }

  #drainInbox(): void {
    const stream = this.#stream;
    for (let first = this.#inbox.first; first !== null; first = this.#inbox.first) {
      const taken = writeBytes(this.#fd, first);
      if (taken < 0) {
        this.#mayRetry();
        return;
      }
      stream.lastActivity = stream.tunnel.loop.now;
      const all = taken === first.length;
      this.#inbox.take(taken);
      if (!all) return;
    }
    if (stream.peerEnded) this.#endWrite();
  }

  #endWrite(): void {
    if (this.#writeEnded) return;
    this.#writeEnded = true;
    // Where the application has ended as well, the close that follows says it all.
    if (!this.#stream.localEnded) shutdownWrite(this.#fd);
    this.#stream.readEnd();
  }

  // ---- life ----

  /** What is waited for follows from the stream's state. */
  rearm(): void {
    const stream = this.#stream;
    const mask = (stream.localEnded || stream.stalled ? 0 : EPOLLIN) | (this.#inbox.bytes > 0 ? EPOLLOUT : 0);
    stream.tunnel.loop.rearm(this.#fd, mask);
  }

  /** @param orderly both directions had ended; else the application sees a reset */
  close(orderly: boolean): void {
    if (!orderly) resetOnClose(this.#fd);
    this.#stream.tunnel.loop.close(this.#fd);
  }
}
