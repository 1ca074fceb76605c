import { ErrorCode, errorCodeName, FRAME_HEADER } from '../http2/frames.ts';
import type { FrameOutput } from '../http2/output.ts';
import type { Http2Stream } from '../http2/stream.ts';
import { StreamInbox } from '../http2/stream-inbox.ts';
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT } from '../native/epoll.ts';
import { Errno, errnoName } from '../native/errno.ts';
import { errno } from '../native/library.ts';
import type { NativeBuffer } from '../native/memory.ts';
import { readInto, resetOnClose, shutdownWrite, writeBytes, writeFrom } from '../native/socket.ts';
import type { HeaderList } from '../protocol/hpack/header-list.ts';
import type { Channel } from '../reactor/channel.ts';
import type { EventHandler } from '../reactor/loop.ts';
import { Timer } from '../reactor/timers.ts';
import { StreamChannel } from './stream-channel.ts';
import type { Tunnel } from './tunnel.ts';

/** How much one stream may bring in one turn: streams take turns. */
const QUANTUM = 64 * 1024;
/** A client's bytes that may leave before the answer to CONNECT; kept until then, so that another endpoint can be tried without loss. */
const OPTIMISTIC_BYTES = 16 * 1024;
/** What a stream's receive window grows to while the application keeps up. */
const MAX_STREAM_WINDOW = 4 * 1024 * 1024;
/** A stream that carries more than this within BULK_EPOCH_MS is bulk: newcomers stay away from its tunnel. */
const BULK_BYTES = 1024 * 1024;
const BULK_EPOCH_MS = 1000;
/** How long an application may take for the last bytes of a stream whose tunnel is gone. */
const LINGER_MS = 60_000;

export type StreamEnd = 'closed' | 'aborted' | 'refused' | 'idle';

export interface StreamOwner {
  /** Client only: the answer to CONNECT; status 0: none will come, and nothing was processed. After a non-200 one the stream is over and `takeSocket` gives the application's socket back. */
  onResponse(status: number, headers: HeaderList): void;
  /** Once; nothing of the stream is left. `detail` says what failed, empty after a clean end. */
  onEnd(how: StreamEnd, detail: string): void;
}

/** What of a refusal's headers says why. */
const REASON_HEADER = 'x-postern-reason';

/**
 * One CONNECT stream of a tunnel, joined to an application's socket, or opened as a channel. Half-close is carried across, an abort on one side
 * aborts the other. ALWAYS: bytes count against the stream's receive window until the application's socket or the channel's handler has taken them.
 */
export class TunnelStream implements EventHandler, Http2Stream {
  readonly tunnel: Tunnel;
  readonly id: number;
  owner: StreamOwner | null = null;
  /** Server, before anything is joined: more bytes wait (`peekHeld`), or the peer has ended. */
  whenHeld: (() => void) | null = null;
  sendWindow: number;
  readonly #output: FrameOutput;
  readonly #inbox: StreamInbox;
  /** -1 until the application's socket is attached. */
  #fd = -1;
  /** In place of a socket. */
  #channel: StreamChannel | null = null;
  /** Server: CONNECT came. */
  #requested = false;
  /** Client: the first bytes sent before the answer; null once it came. */
  #replay: Buffer[] | null = null;
  #replayBytes = 0;
  #answered = false;
  /** Waits for window or for room in the tunnel: the socket is not read. */
  stalled = false;
  #localEnded = false;
  #peerEnded = false;
  #writeEnded = false;
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
    const { connection } = tunnel;
    this.#output = connection.output;
    this.#inbox = new StreamInbox(connection.output, id, connection.streamWindow, MAX_STREAM_WINDOW);
    this.lastActivity = tunnel.loop.now;
  }

  get over(): boolean {
    return this.#over;
  }

  /** Whether the application is connected, or the channel is open. */
  get joined(): boolean {
    return this.#fd >= 0 || this.#channel !== null;
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
    return this.#inbox.bytes;
  }

  /** Server: the bytes that wait, at most `most` of them, which stay; null: none. Valid until anything else is called. */
  peekHeld(most: number): Buffer | null {
    return this.#inbox.peek(most);
  }

  /** The peer has ended its direction; bytes may still wait. */
  get peerEnded(): boolean {
    return this.#peerEnded;
  }

  /**
   * Makes a channel of the stream, in place of `attach`. Server: after `accept`. Client: at once; no more than OPTIMISTIC_BYTES leave before the
   * answer, and one that is not 200 closes the channel (after `StreamOwner.onResponse`).
   */
  openChannel(): Channel {
    const allowance = this.tunnel.isClient && !this.#answered ? OPTIMISTIC_BYTES : Number.POSITIVE_INFINITY;
    const channel = new StreamChannel(this, this.#inbox, allowance);
    this.#channel = channel;
    this.whenHeld = null;
    if (!this.tunnel.isClient) this.#answered = true;
    if (this.#peerEnded) channel.peerEnded();
    return channel;
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
    this.whenHeld = null;
    if (this.tunnel.isClient) {
      this.#replay = [];
      for (const bytes of replay) this.#sendReplay(bytes);
    } else this.#answered = true;
    if (this.#over) return;
    this.tunnel.loop.adopt(fd, EPOLLIN, this);
    if (this.#inbox.bytes > 0 || this.#peerEnded) this.#drain();
    if (!this.#over) this.#rearm();
  }

  #sendReplay(bytes: Buffer): void {
    if (this.#over) return;
    this.#replay?.push(bytes);
    this.#replayBytes += bytes.length;
    const output = this.#output;
    const fits = bytes.length <= Math.min(this.sendWindow, output.sendWindow, output.peerMaxFrame);
    const at = fits ? output.reserveData(bytes.length + FRAME_HEADER) : -1;
    if (at < 0) {
      this.abort('no room to send again what the first endpoint did not take', ErrorCode.CANCEL);
      return;
    }
    output.copyIn(bytes, at + FRAME_HEADER);
    output.commitData(this, at, bytes.length, false);
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
    if ((mask & EPOLLOUT) !== 0 && this.#inbox.bytes > 0) this.#drain();
    if (!this.#over && !this.#localEnded && (mask & (EPOLLIN | EPOLLERR | EPOLLHUP)) !== 0) this.#readApplication();
    if (!this.#over && (mask & EPOLLERR) !== 0 && this.#localEnded) this.abort('application reset', ErrorCode.CANCEL);
    if (!this.#over) this.#rearm();
  }

  onFault(): void {
    this.abort('internal error', ErrorCode.INTERNAL_ERROR);
  }

  #readApplication(): void {
    const output = this.#output;
    let most = Math.min(QUANTUM, this.sendWindow, output.sendWindow, output.peerMaxFrame);
    if (!this.#answered) most = Math.min(most, OPTIMISTIC_BYTES - this.#replayBytes);
    if (most <= 0) {
      this.stalled = true;
      return;
    }
    const at = output.reserveData(most + FRAME_HEADER);
    if (at < 0) {
      if (!this.#over) this.stalled = true;
      return;
    }
    const n = readInto(this.#fd, output.stagingAddress + at + FRAME_HEADER, most);
    if (n > 0) {
      if (!this.#answered) this.#keepForReplay(output.copyOut(at + FRAME_HEADER, n));
      output.commitData(this, at, n, false);
      this.count(n);
      this.bytesToPeer += n;
    } else if (n === 0) {
      this.#localEnded = true;
      output.commitData(this, at, 0, true);
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

  /** Bytes went either way. */
  count(bytes: number): void {
    const { now } = this.tunnel.loop;
    this.lastActivity = now;
    if (now - this.#epochStart > BULK_EPOCH_MS) {
      this.#epochStart = now;
      this.#epochBytes = 0;
    }
    this.#epochBytes += bytes;
    if (this.#epochBytes > BULK_BYTES) this.tunnel.noteBulk();
  }

  /** Server: CONNECT, or trailers. Client: the answer, or trailers. */
  onHeaders(headers: HeaderList | null, ends: boolean): void {
    if (this.tunnel.isClient) this.#onAnswer(headers, ends);
    else if (this.#requested) {
      // Trailers: they end the stream or are an error.
      if (ends) this.onPeerEnd();
      else this.abort('a second request on one stream', ErrorCode.PROTOCOL_ERROR);
    } else {
      this.#requested = true;
      if (headers === null) this.refuse(431, []);
      else this.tunnel.onRequest(this, headers);
      if (ends) this.onPeerEnd();
    }
  }

  #onAnswer(headers: HeaderList | null, ends: boolean): void {
    const [first] = headers ?? [];
    const status = first?.[0] === ':status' && /^[1-9]\d\d$/.test(first[1]) ? Number(first[1]) : 0;
    if (headers === null) this.abort('the answer has too many headers', ErrorCode.CANCEL);
    else if (status >= 200) this.#onResponse(status, headers, ends);
    else if (status === 0 && !this.#answered) this.abort('the answer has no status', ErrorCode.PROTOCOL_ERROR);
    if (ends) this.onPeerEnd();
  }

  /** Client: the peer answered CONNECT; `ends`: and that was all. */
  #onResponse(status: number, headers: HeaderList, ends: boolean): void {
    if (this.#over || this.#answered) return;
    if (status === 200) {
      this.#answered = true;
      this.#replay = null;
      this.owner?.onResponse(status, headers);
      this.#channel?.answered();
      this.unstall();
      return;
    }
    this.#peerEnded = ends;
    this.owner?.onResponse(status, headers);
    const reason = headers.find(([name]) => name === REASON_HEADER)?.[1];
    this.#channel?.refused(`CONNECT answered ${status}${reason === undefined ? '' : `: ${reason}`}`);
    this.#end('refused', `CONNECT answered ${status}`, ErrorCode.CANCEL);
  }

  /** Client, before the answer: the owner may take the socket back. */
  #offerSocket(): void {
    if (!this.#over && this.#replay !== null) this.owner?.onResponse(0, []);
  }

  deliver(from: NativeBuffer, start: number, end: number): void {
    if (this.#over || this.#peerEnded) return;
    const length = end - start;
    if (!this.#inbox.receive(length)) {
      this.abort('peer sent more than its window', ErrorCode.FLOW_CONTROL_ERROR);
      return;
    }
    this.count(length);
    this.bytesToApplication += length;
    if (this.#channel !== null) {
      this.#channel.deliver(from, start, end);
      return;
    }
    let taken = 0;
    if (this.#fd >= 0 && this.#inbox.bytes === 0) {
      taken = writeFrom(this.#fd, from.address + start, length);
      if (taken < 0) {
        if (!this.#mayRetryWrite()) return;
        taken = 0;
      }
      this.#inbox.credit(taken);
      if (taken === length) return;
    }
    this.#inbox.hold(from, start + taken, end);
    if (this.#fd >= 0) this.#rearm();
    else this.whenHeld?.();
  }

  onPadding(bytes: number): void {
    if (this.#over || this.#peerEnded) return;
    this.#inbox.receive(bytes);
    this.#inbox.credit(bytes);
  }

  /** @returns false where the application's socket is dead (the stream is then aborted). */
  #mayRetryWrite(): boolean {
    const code = errno();
    if (code === Errno.EAGAIN || code === Errno.EINTR) return true;
    this.abort(`application: ${errnoName(code)}`, ErrorCode.CANCEL);
    return false;
  }

  #drain(): void {
    this.#drainInbox();
    this.tunnel.connection.giveCredit();
  }

  #drainInbox(): void {
    for (let first = this.#inbox.first; first !== null; first = this.#inbox.first) {
      const taken = writeBytes(this.#fd, first);
      if (taken < 0) {
        this.#mayRetryWrite();
        return;
      }
      this.lastActivity = this.tunnel.loop.now;
      const all = taken === first.length;
      this.#inbox.take(taken);
      if (!all) return;
    }
    if (this.#peerEnded) this.#endWrite();
  }

  /** END_STREAM from the peer. */
  onPeerEnd(): void {
    if (this.#over || this.#peerEnded) return;
    this.#peerEnded = true;
    this.#inbox.ended = true;
    if (this.#channel !== null) this.#channel.peerEnded();
    else if (this.#fd < 0) this.whenHeld?.();
    else if (this.#inbox.bytes === 0) this.#endWrite();
  }

  /** The channel has sent END_STREAM. */
  channelSentEnd(): void {
    this.#localEnded = true;
    this.#finishIfDone();
  }

  /** The channel has delivered everything up to the peer's end. */
  channelReadEnd(): void {
    this.#writeEnded = true;
    this.#finishIfDone();
  }

  /** What the peer still sends is not wanted: an orderly end without its own (RFC 9113, 8.1). */
  leave(): void {
    if (this.#over) return;
    if (!this.#peerEnded) this.#output.sendReset(this.id, ErrorCode.NO_ERROR);
    this.#end('closed', '', ErrorCode.NO_ERROR);
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
    if (code === ErrorCode.NO_ERROR && this.#peerEnded && this.joined) {
      // RFC 9113, 8.1: it is done and wants no more of us; what it sent before its end is still delivered.
      this.#localEnded = true;
      if (this.#fd >= 0) this.#rearm();
      this.#channel?.writeNoMore();
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
  onConnectionLost(why: string): void {
    const reason = `tunnel: ${why}`;
    if (this.endedOnWire && this.joined) {
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

  fail(detail: string, code: number): void {
    this.#end('aborted', detail, code);
  }

  check(now: number): void {
    const { streamIdleMs } = this.tunnel;
    if (now - this.lastActivity > streamIdleMs) {
      this.#end('idle', `no bytes for ${streamIdleMs} ms`, ErrorCode.CANCEL);
    }
  }

  /** Server: refuses the CONNECT with a status; no application was dialled. */
  refuse(status: number, headers: HeaderList): void {
    if (this.#over) return;
    this.#output.sendHeaders(this.id, [[':status', String(status)], ...headers], true);
    this.#end('refused', `answered ${status}`, ErrorCode.NO_ERROR);
  }

  /** Server: accepts the CONNECT. */
  accept(headers: HeaderList): void {
    this.#output.sendHeaders(this.id, [[':status', '200'], ...headers], false);
  }

  /** Window or room came back. */
  unstall(): void {
    this.#channel?.pump();
    if (!this.stalled || this.#over) return;
    this.stalled = false;
    if (this.#fd >= 0) this.#rearm();
  }

  #rearm(): void {
    const mask = (this.#localEnded || this.stalled ? 0 : EPOLLIN) | (this.#inbox.bytes > 0 ? EPOLLOUT : 0);
    this.tunnel.loop.rearm(this.#fd, mask);
  }

  /** @param code RST_STREAM to send; NO_ERROR where none is needed, -1 where the peer has ended it or is gone. */
  #end(how: StreamEnd, detail: string, code: number): void {
    if (this.#over) return;
    this.#over = true;
    if (code >= 0 && !this.endedOnWire && how !== 'closed') {
      // An answer that was a refusal and complete needs no reset: peers take many of those for an attack (CVE-2023-44487).
      if (how === 'refused' && this.tunnel.isClient && this.#peerEnded) this.#output.sendEnd(this.id);
      else if (!(how === 'refused' && code === ErrorCode.NO_ERROR && this.#peerEnded))
        this.#output.sendReset(this.id, code);
    }
    this.#inbox.clear();
    this.whenHeld = null;
    if (this.#fd >= 0) {
      if (how !== 'closed') resetOnClose(this.#fd);
      this.tunnel.loop.close(this.#fd);
      this.#fd = -1;
    }
    this.tunnel.connection.forget(this);
    this.#channel?.closed(how === 'closed' ? null : detail);
    this.owner?.onEnd(how, detail);
  }
}
