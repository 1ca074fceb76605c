import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT } from '../native/epoll.ts';
import { Errno, errnoName } from '../native/errno.ts';
import type { HeaderList } from '../native/hpack.ts';
import { errno } from '../native/library.ts';
import { readInto, resetOnClose, shutdownWrite, writeBytes, writeFrom } from '../native/socket.ts';
import type { EventHandler } from '../reactor/loop.ts';
import { ErrorCode, errorCodeName, FRAME_HEADER } from './frames.ts';
import type { Tunnel } from './tunnel.ts';

/** How much one stream may bring in one turn: streams take turns. */
const QUANTUM = 64 * 1024;
/** A client's bytes that may leave before the answer to CONNECT; kept until then, so that another endpoint can be tried without loss. */
const OPTIMISTIC_BYTES = 16 * 1024;
/** A stream's receive window at first, and what it grows to while the application keeps up: a slow reader never makes us hold more than the first. */
export const INITIAL_STREAM_WINDOW = 256 * 1024;
const MAX_STREAM_WINDOW = 4 * 1024 * 1024;
/** A stream that carries more than this within BULK_EPOCH_MS is bulk: newcomers stay away from its tunnel. */
const BULK_BYTES = 1024 * 1024;
const BULK_EPOCH_MS = 1000;

export type StreamEnd = 'closed' | 'aborted' | 'refused';

export interface StreamOwner {
  /** Client only: the answer to CONNECT. After a non-200 one the stream is over and `takeSocket` gives the application's socket back. */
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
  #receiveWindow = INITIAL_STREAM_WINDOW;
  #windowSize = INITIAL_STREAM_WINDOW;
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
    this.lastActivity = tunnel.loop.now;
  }

  get over(): boolean {
    return this.#over;
  }

  /** Bytes held for an application that does not take them. */
  get backlogBytes(): number {
    return this.#backlogBytes;
  }

  /** Joins the application's socket, watched already. `replay`: bytes of an earlier try that this stream sends first. */
  attach(fd: number, replay: readonly Buffer[] = []): void {
    this.#fd = fd;
    if (this.tunnel.isClient) {
      this.#replay = [];
      for (const bytes of replay) this.#sendReplay(bytes);
    } else this.#answered = true;
    this.tunnel.loop.adopt(fd, EPOLLIN, this);
    if (this.#backlogBytes > 0 || this.#peerEnded) this.#drain();
    if (!this.#over) this.#rearm();
  }

  #sendReplay(bytes: Buffer): void {
    this.#replay?.push(bytes);
    this.#replayBytes += bytes.length;
    const at = this.tunnel.reserveData(bytes.length + FRAME_HEADER);
    if (at < 0) {
      this.abort('no room to send again what the first endpoint did not take', ErrorCode.CANCEL);
      return;
    }
    this.tunnel.copyIn(bytes, at + FRAME_HEADER);
    this.tunnel.commitData(this, at, bytes.length, false);
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

  /** Client: the peer answered CONNECT. */
  onResponse(status: number, headers: HeaderList): void {
    if (this.#over || this.#answered) return;
    if (status === 200) {
      this.#answered = true;
      this.#replay = null;
      this.owner?.onResponse(status, headers);
      this.unstall();
      return;
    }
    this.owner?.onResponse(status, headers);
    this.#end('refused', `CONNECT answered ${status}`, ErrorCode.CANCEL);
  }

  /** Client, before the answer: the owner may take the socket back as after a 503. */
  #offerSocket(): void {
    if (!this.#over && this.#replay !== null) this.owner?.onResponse(503, []);
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
    const rest = this.tunnel.copyReceived(address + taken, length - taken);
    this.#backlog.push(rest);
    this.#backlogBytes += rest.length;
    if (this.#fd >= 0) this.#rearm();
  }

  /** @returns false where the application's socket is dead (the stream is then aborted). */
  #mayRetryWrite(): boolean {
    const code = errno();
    if (code === Errno.EAGAIN || code === Errno.EINTR) return true;
    this.abort(`application: ${errnoName(code)}`, ErrorCode.CANCEL);
    return false;
  }

  #drain(): void {
    while (this.#backlog.length > 0) {
      const first = this.#backlog[0] as Buffer;
      const taken = writeBytes(this.#fd, first);
      if (taken < 0) {
        this.#mayRetryWrite();
        return;
      }
      this.#backlogBytes -= taken;
      this.#credit(taken);
      if (taken < first.length) {
        this.#backlog[0] = first.subarray(taken);
        return;
      }
      this.#backlog.shift();
    }
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
    shutdownWrite(this.#fd);
    this.#finishIfDone();
  }

  #finishIfDone(): void {
    if (this.#localEnded && this.#writeEnded) this.#end('closed', '', ErrorCode.NO_ERROR);
  }

  /** RST_STREAM from the peer. */
  onPeerReset(code: number): void {
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
    if (this.#replayBytes === 0 && !this.#localEnded) this.#offerSocket();
    this.#end('aborted', reason, -1);
  }

  /** Ends both sides at once: RST_STREAM to the peer, RST to the application. Does nothing when it is over. */
  abort(detail: string, code: number): void {
    this.#end('aborted', detail, code);
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
    const complete = how === 'closed' || (how === 'refused' && code === ErrorCode.NO_ERROR && this.#peerEnded);
    if (code >= 0 && !complete) this.tunnel.sendReset(this.id, code);
    this.#backlog = [];
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
