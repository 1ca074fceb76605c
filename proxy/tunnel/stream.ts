import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT } from '../native/epoll.ts';
import { Errno, errnoName } from '../native/errno.ts';
import type { HeaderList } from '../native/hpack.ts';
import { errno } from '../native/library.ts';
import { readInto, resetOnClose, shutdownWrite, writeBytes, writeFrom } from '../native/socket.ts';
import type { EventHandler } from '../reactor/loop.ts';
import { Timer } from '../reactor/timers.ts';
import { ErrorCode, errorCodeName, FRAME_HEADER } from './frames.ts';
import type { Tunnel } from './tunnel.ts';

/** How much one stream may bring in one turn: streams take turns. */
const QUANTUM = 64 * 1024;
/** A client's bytes that may leave before the answer to CONNECT; kept until then, so that another endpoint can be tried without loss. */
const OPTIMISTIC_BYTES = 16 * 1024;
/** A stream's receive window at first, and what it grows to while the application keeps up: a slow reader never makes us hold more than the first. */
const MAX_STREAM_WINDOW = 4 * 1024 * 1024;
/** A stream that carries more than this within BULK_EPOCH_MS is bulk: newcomers stay away from its tunnel. */
const BULK_BYTES = 1024 * 1024;
const BULK_EPOCH_MS = 1000;
/** What waits for a slow application lies in chunks of at least this: a peer that sends byte by byte must not make each byte cost an object. */
const CHUNK_BYTES = 4096;
/** How long an application may take for the last bytes of a stream whose tunnel is gone. */
const LINGER_MS = 60_000;

export type StreamEnd = 'closed' | 'aborted' | 'refused' | 'idle';

export interface StreamOwner {
  /** Client only: the answer to CONNECT; status 0: none will come, and nothing was processed. After a non-200 one the stream is over and `takeSocket` gives the application's socket back. */
  onResponse(status: number, headers: HeaderList): void;
  /** Once; nothing of the stream is left. `detail` says what failed, empty after a clean end. */
  onEnd(how: StreamEnd, detail: string): void;
}

/**
 * One CONNECT stream of a tunnel, joined to an application's socket. Half-close is carried across, an abort on one side aborts the other.
 * ALWAYS: bytes count against the stream's receive window until the application's socket has taken them.
 */
export class TunnelStream implements EventHandler {
  readonly tunnel: Tunnel;
  readonly id: number;
  owner: StreamOwner | null = null;
  sendWindow: number;
  #receiveWindow: number;
  #windowSize: number;
  #uncredited = 0;
  /** -1 until the application's socket is attached. */
  #fd = -1;
  /** Client: the first bytes sent before the answer; null once it came. */
  #replay: Buffer[] | null = null;
  #replayBytes = 0;
  #answered = false;
  /** Waits for window or for room in the tunnel: the socket is not read. */
  stalled = false;
  #localEnded = false;
  #peerEnded = false;
  #writeEnded = false;
  #backlog: Buffer[] = [];
  #backlogBytes = 0;
  /** The chunk that the last of the backlog lies in, where it may grow. */
  #tail: Buffer | null = null;
  #tailUsed = 0;
  #over = false;
  #epochStart = 0;
  #epochBytes = 0;
  bytesToPeer = 0;
  bytesToApplication = 0;
  lastActivity: number;

  constructor(tunnel: Tunnel, id: number, sendWindow: number) {
    this.tunnel = tunnel;
    this.id = id;
    this.sendWindow = sendWindow;
    this.#receiveWindow = tunnel.streamWindow;
    this.#windowSize = tunnel.streamWindow;
    this.lastActivity = tunnel.loop.now;
  }

  get over(): boolean {
    return this.#over;
  }

  /** Whether the application is connected. */
  get joined(): boolean {
    return this.#fd >= 0;
  }

  /** Both sides have ended as far as HTTP/2 goes (RFC 9113, 5.1: closed), though the application may still have bytes to take. */
  get endedOnWire(): boolean {
    return this.#localEnded && this.#peerEnded;
  }

  get answered(): boolean {
    return this.#answered;
  }

  /** Bytes held for an application that does not take them. */
  get backlogBytes(): number {
    return this.#backlogBytes;
  }

  /** Joins the application's socket, watched already. `replay`: bytes of an earlier try that this stream sends first. */
  attach(fd: number, replay: readonly Buffer[] = []): void {
    if (this.#over) {
      // The tunnel was lost just now: nobody else would close the socket.
      resetOnClose(fd);
      this.tunnel.loop.close(fd);
      return;
    }
    this.#fd = fd;
    if (this.tunnel.isClient) {
      this.#replay = [];
      for (const bytes of replay) this.#sendReplay(bytes);
    } else this.#answered = true;
    if (this.#over) return;
    this.tunnel.loop.adopt(fd, EPOLLIN, this);
    if (this.#backlogBytes > 0 || this.#peerEnded) this.#drain();
    if (!this.#over) this.#rearm();
  }

  #sendReplay(bytes: Buffer): void {
    if (this.#over) return;
    this.#replay?.push(bytes);
    this.#replayBytes += bytes.length;
    const { tunnel } = this;
    const fits = bytes.length <= Math.min(this.sendWindow, tunnel.sendWindow, tunnel.peerMaxFrame);
    const at = fits ? tunnel.reserveData(bytes.length + FRAME_HEADER) : -1;
    if (at < 0) {
      this.abort('no room to send again what the first endpoint did not take', ErrorCode.CANCEL);
      return;
    }
    tunnel.copyIn(bytes, at + FRAME_HEADER);
    tunnel.commitData(this, at, bytes.length, false);
    this.bytesToPeer += bytes.length;
  }

  /** Client: gives the application's socket back, with the bytes that were read from it, after a refusal or before the tunnel was there. */
  takeSocket(): { fd: number; replay: readonly Buffer[]; ended: boolean } | null {
    if (this.#fd < 0 || this.#replay === null) return null;
    const taken = { fd: this.#fd, replay: this.#replay, ended: this.#localEnded };
    this.tunnel.loop.rearm(this.#fd, 0);
    this.#fd = -1;
    return taken;
  }

  onEvents(mask: number): void {
    if (this.#over) return;
    if ((mask & EPOLLOUT) !== 0 && this.#backlogBytes > 0) this.#drain();
    if (!this.#over && !this.#localEnded && (mask & (EPOLLIN | EPOLLERR | EPOLLHUP)) !== 0) this.#readApplication();
    if (!this.#over && (mask & EPOLLERR) !== 0 && this.#localEnded) this.abort('application reset', ErrorCode.CANCEL);
    if (!this.#over) this.#rearm();
  }

  onFault(): void {
    this.abort('internal error', ErrorCode.INTERNAL_ERROR);
  }

  #readApplication(): void {
    const { tunnel } = this;
    let most = Math.min(QUANTUM, this.sendWindow, tunnel.sendWindow, tunnel.peerMaxFrame);
    if (!this.#answered) most = Math.min(most, OPTIMISTIC_BYTES - this.#replayBytes);
    if (most <= 0) {
      this.stalled = true;
      return;
    }
    const at = tunnel.reserveData(most + FRAME_HEADER);
    if (at < 0) {
      if (!this.#over) this.stalled = true;
      return;
    }
    const n = readInto(this.#fd, tunnel.stagingAddress + at + FRAME_HEADER, most);
    if (n > 0) {
      if (!this.#answered) this.#keepForReplay(tunnel.copyOut(at + FRAME_HEADER, n));
      tunnel.commitData(this, at, n, false);
      this.#count(n);
      this.bytesToPeer += n;
    } else if (n === 0) {
      this.#localEnded = true;
      tunnel.commitData(this, at, 0, true);
      this.#finishIfDone();
    } else {
      const code = errno();
      if (code !== Errno.EAGAIN && code !== Errno.EINTR)
        this.abort(`application: ${errnoName(code)}`, ErrorCode.CANCEL);
    }
  }

  #keepForReplay(bytes: Buffer): void {
    this.#replay?.push(bytes);
    this.#replayBytes += bytes.length;
  }

  #count(bytes: number): void {
    const { now } = this.tunnel.loop;
    this.lastActivity = now;
    if (now - this.#epochStart > BULK_EPOCH_MS) {
      this.#epochStart = now;
      this.#epochBytes = 0;
    }
    this.#epochBytes += bytes;
    if (this.#epochBytes > BULK_BYTES) this.tunnel.noteBulk();
  }

  /** Client: the peer answered CONNECT; `ends`: and that was all. */
  onResponse(status: number, headers: HeaderList, ends: boolean): void {
    if (this.#over || this.#answered) return;
    if (status === 200) {
      this.#answered = true;
      this.#replay = null;
      this.owner?.onResponse(status, headers);
      this.unstall();
      return;
    }
    this.#peerEnded = ends;
    this.owner?.onResponse(status, headers);
    this.#end('refused', `CONNECT answered ${status}`, ErrorCode.CANCEL);
  }

  /** Client, before the answer: the owner may take the socket back. */
  #offerSocket(): void {
    if (!this.#over && this.#replay !== null) this.owner?.onResponse(0, []);
  }

  /** Bytes from the peer, at `address`, valid during the call only. */
  deliver(address: number, length: number): void {
    if (this.#over || this.#peerEnded) return;
    this.#receiveWindow -= length;
    if (this.#receiveWindow < 0) {
      this.abort('peer sent more than its window', ErrorCode.FLOW_CONTROL_ERROR);
      return;
    }
    this.#count(length);
    this.bytesToApplication += length;
    let taken = 0;
    if (this.#fd >= 0 && this.#backlogBytes === 0) {
      taken = writeFrom(this.#fd, address, length);
      if (taken < 0) {
        if (!this.#mayRetryWrite()) return;
        taken = 0;
      }
      this.#credit(taken);
      if (taken === length) return;
    }
    this.#hold(this.tunnel.copyReceived(address + taken, length - taken));
    if (this.#fd >= 0) this.#rearm();
  }

  #hold(bytes: Buffer): void {
    this.#backlogBytes += bytes.length;
    const last = this.#backlog.at(-1);
    if (bytes.length >= CHUNK_BYTES || last === undefined) {
      // Mostly it is the first words of a connection, for an application that is being dialled.
      this.#backlog.push(bytes);
      this.#tail = null;
    } else if (this.#tail === null || this.#tailUsed + bytes.length > CHUNK_BYTES) {
      this.#tail = Buffer.allocUnsafeSlow(CHUNK_BYTES);
      this.#tailUsed = bytes.copy(this.#tail);
      this.#backlog.push(this.#tail.subarray(0, this.#tailUsed));
    } else {
      // The beginning of the last part may have been taken already.
      this.#tailUsed += bytes.copy(this.#tail, this.#tailUsed);
      this.#backlog[this.#backlog.length - 1] = this.#tail.subarray(last.byteOffset, this.#tailUsed);
    }
  }

  /** A padded frame's padding counts against the window, too (RFC 9113, 6.9.1), and is taken at once. */
  onPadding(bytes: number): void {
    if (this.#over || this.#peerEnded) return;
    this.#receiveWindow -= bytes;
    this.#credit(bytes);
  }

  /** @returns false where the application's socket is dead (the stream is then aborted). */
  #mayRetryWrite(): boolean {
    const code = errno();
    if (code === Errno.EAGAIN || code === Errno.EINTR) return true;
    this.abort(`application: ${errnoName(code)}`, ErrorCode.CANCEL);
    return false;
  }

  #drain(): void {
    this.#drainBacklog();
    this.tunnel.onBacklogTaken();
  }

  #drainBacklog(): void {
    while (this.#backlog.length > 0) {
      const first = this.#backlog[0] as Buffer;
      const taken = writeBytes(this.#fd, first);
      if (taken < 0) {
        this.#mayRetryWrite();
        return;
      }
      this.#backlogBytes -= taken;
      this.lastActivity = this.tunnel.loop.now;
      this.#credit(taken);
      if (taken < first.length) {
        this.#backlog[0] = first.subarray(taken);
        return;
      }
      this.#backlog.shift();
    }
    this.#tail = null;
    if (this.#peerEnded) this.#endWrite();
  }

  /** Gives window back for what the application took; more of it while the application keeps up. */
  #credit(bytes: number): void {
    this.#uncredited += bytes;
    if (this.#uncredited < this.#windowSize / 2 || this.#peerEnded) return;
    let increment = this.#uncredited;
    if (this.#backlogBytes === 0 && this.#windowSize < MAX_STREAM_WINDOW) {
      increment += this.#windowSize;
      this.#windowSize *= 2;
    }
    this.#uncredited = 0;
    this.#receiveWindow += increment;
    this.tunnel.sendWindowUpdate(this.id, increment);
  }

  /** END_STREAM from the peer. */
  onPeerEnd(): void {
    if (this.#over || this.#peerEnded) return;
    this.#peerEnded = true;
    if (this.#fd >= 0 && this.#backlogBytes === 0) this.#endWrite();
  }

  #endWrite(): void {
    if (this.#writeEnded) return;
    this.#writeEnded = true;
    // Where the application has ended as well, the close that follows says it all.
    if (!this.#localEnded) shutdownWrite(this.#fd);
    this.#finishIfDone();
  }

  #finishIfDone(): void {
    if (this.#localEnded && this.#writeEnded) this.#end('closed', '', ErrorCode.NO_ERROR);
  }

  /** RST_STREAM from the peer. */
  onPeerReset(code: number): void {
    if (this.#over) return;
    if (code === ErrorCode.NO_ERROR && this.#peerEnded && this.#fd >= 0) {
      // RFC 9113, 8.1: it is done and wants no more of us; what it sent before its end is still delivered.
      this.#localEnded = true;
      this.#rearm();
      this.#finishIfDone();
      return;
    }
    // REFUSED_STREAM promises that nothing was processed (RFC 9113, 8.7): another endpoint may be tried with the same bytes.
    if (code === ErrorCode.REFUSED_STREAM) this.#offerSocket();
    this.#end(
      code === ErrorCode.REFUSED_STREAM ? 'refused' : 'aborted',
      `peer reset the stream: ${errorCodeName(code)}`,
      -1,
    );
  }

  /** The tunnel is gone. What was sent may have been processed; only a stream that sent nothing can be tried again elsewhere. */
  onTunnelLost(reason: string): void {
    if (this.endedOnWire && this.#fd >= 0) {
      // Complete but for what a slow application has not taken yet.
      this.tunnel.loop.arm(new Timer(() => this.abort(reason, -1)), LINGER_MS);
      return;
    }
    if (this.#replayBytes === 0 && !this.#localEnded) this.#offerSocket();
    this.#end('aborted', reason, -1);
  }

  /** Ends both sides at once: RST_STREAM to the peer, RST to the application. Does nothing when it is over. */
  abort(detail: string, code: number): void {
    this.#end('aborted', detail, code);
  }

  /** No byte in either direction for too long. */
  expire(detail: string): void {
    this.#end('idle', detail, ErrorCode.CANCEL);
  }

  /** Server: refuses the CONNECT with a status; no application was dialled. */
  refuse(status: number, headers: HeaderList): void {
    if (this.#over) return;
    this.tunnel.sendHeaders(this.id, [[':status', String(status)], ...headers], true);
    this.#end('refused', `answered ${status}`, ErrorCode.NO_ERROR);
  }

  /** Server: accepts the CONNECT. */
  accept(headers: HeaderList): void {
    this.tunnel.sendHeaders(this.id, [[':status', '200'], ...headers], false);
  }

  /** Window or room came back. */
  unstall(): void {
    if (!this.stalled || this.#over) return;
    this.stalled = false;
    if (this.#fd >= 0) this.#rearm();
  }

  #rearm(): void {
    const mask = (this.#localEnded || this.stalled ? 0 : EPOLLIN) | (this.#backlogBytes > 0 ? EPOLLOUT : 0);
    this.tunnel.loop.rearm(this.#fd, mask);
  }

  /** @param code RST_STREAM to send; NO_ERROR where none is needed, -1 where the peer has ended it or is gone. */
  #end(how: StreamEnd, detail: string, code: number): void {
    if (this.#over) return;
    this.#over = true;
    if (code >= 0 && !this.endedOnWire && how !== 'closed') {
      // An answer that was a refusal and complete needs no reset: peers take many of those for an attack (CVE-2023-44487).
      if (how === 'refused' && this.tunnel.isClient && this.#peerEnded) this.tunnel.sendEnd(this.id);
      else if (!(how === 'refused' && code === ErrorCode.NO_ERROR && this.#peerEnded))
        this.tunnel.sendReset(this.id, code);
    }
    this.#backlog = [];
    this.#tail = null;
    this.#backlogBytes = 0;
    if (this.#fd >= 0) {
      if (how !== 'closed') resetOnClose(this.#fd);
      this.tunnel.loop.close(this.#fd);
      this.#fd = -1;
    }
    this.tunnel.forget(this);
    this.owner?.onEnd(how, detail);
  }
}
