import { ErrorCode, errorCodeName } from '../http2/frames.ts';
import type { FrameOutput } from '../http2/output.ts';
import type { Http2Stream } from '../http2/stream.ts';
import { StreamInbox } from '../http2/stream-inbox.ts';
import type { NativeBuffer } from '../native/memory.ts';
import { resetOnClose } from '../native/socket.ts';
import type { HeaderList } from '../protocol/hpack/header-list.ts';
import type { Channel } from '../reactor/channel.ts';
import { Timer } from '../reactor/timers.ts';
import { StreamChannel } from './stream-channel.ts';
import { OPTIMISTIC_BYTES, StreamSocket, type TakenSocket } from './stream-socket.ts';
import type { Tunnel } from './tunnel.ts';

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
export class TunnelStream implements Http2Stream {
  readonly tunnel: Tunnel;
  readonly id: number;
  owner: StreamOwner | null = null;
  /** Server, before anything is joined: more bytes wait (`peekHeld`), or the peer has ended. */
  whenHeld: (() => void) | null = null;
  sendWindow: number;
  readonly #output: FrameOutput;
  readonly #inbox: StreamInbox;
  /** The application's socket; null until it is attached, and once it is closed or taken back. */
  #socket: StreamSocket | null = null;
  /** In place of a socket. */
  #channel: StreamChannel | null = null;
  /** Server: CONNECT came. */
  #requested = false;
  #answered = false;
  /** Waits for window or for room in the tunnel: the socket is not read. */
  stalled = false;
  #localEnded = false;
  #peerEnded = false;
  /** All that the peer sent was delivered, and its end. */
  #readEnded = false;
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
    return this.#socket !== null || this.#channel !== null;
  }

  /** Both sides have ended as far as HTTP/2 goes (RFC 9113, 5.1: closed), though the application may still have bytes to take. */
  get endedOnWire(): boolean {
    return this.#localEnded && this.#peerEnded;
  }

  /** Our side has sent END_STREAM. */
  get localEnded(): boolean {
    return this.#localEnded;
  }

  /** CONNECT was answered by 200, or the server has joined something. */
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
    this.whenHeld = null;
    if (!this.tunnel.isClient) this.#answered = true;
    const socket = new StreamSocket(this, this.#inbox, fd);
    this.#socket = socket;
    socket.begin(replay);
  }

  /** Client: gives the application's socket back, with the bytes that were read from it, after a refusal or before the tunnel was there. */
  takeSocket(): TakenSocket | null {
    const taken = this.#socket?.take() ?? null;
    if (taken !== null) this.#socket = null;
    return taken;
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
      this.#socket?.answered();
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
    if (!this.#over && this.#socket?.returnable === true) this.owner?.onResponse(0, []);
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
    if (this.#socket !== null) {
      this.#socket.deliver(from, start, end);
      return;
    }
    this.#inbox.hold(from, start, end);
    this.whenHeld?.();
  }

  onPadding(bytes: number): void {
    if (this.#over || this.#peerEnded) return;
    this.#inbox.receive(bytes);
    this.#inbox.credit(bytes);
  }

  /** END_STREAM from the peer. */
  onPeerEnd(): void {
    if (this.#over || this.#peerEnded) return;
    this.#peerEnded = true;
    this.#inbox.ended = true;
    if (this.#channel !== null) this.#channel.peerEnded();
    else if (this.#socket !== null) this.#socket.peerEnded();
    else this.whenHeld?.();
  }

  /** The socket or the channel has sent END_STREAM. */
  sentEnd(): void {
    this.#localEnded = true;
    this.#finishIfDone();
  }

  /** The socket or the channel has delivered everything up to the peer's end. */
  readEnd(): void {
    this.#readEnded = true;
    this.#finishIfDone();
  }

  /** What the peer still sends is not wanted: an orderly end without its own (RFC 9113, 8.1). */
  leave(): void {
    if (this.#over) return;
    if (!this.#peerEnded) this.#output.sendReset(this.id, ErrorCode.NO_ERROR);
    this.#end('closed', '', ErrorCode.NO_ERROR);
  }

  #finishIfDone(): void {
    if (this.#localEnded && this.#readEnded) this.#end('closed', '', ErrorCode.NO_ERROR);
  }

  /** RST_STREAM from the peer. */
  onPeerReset(code: number): void {
    if (this.#over) return;
    if (code === ErrorCode.NO_ERROR && this.#peerEnded && this.joined) {
      // RFC 9113, 8.1: it is done and wants no more of us; what it sent before its end is still delivered.
      this.#localEnded = true;
      this.#socket?.rearm();
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
    if (this.#socket?.unused === true && !this.#localEnded) this.#offerSocket();
    this.#end('aborted', reason, -1);
  }

  /** Ends both sides at once: RST_STREAM to the peer, RST to the application. Does nothing when it is over. */
  abort(detail: string, code: number): void {
    this.#end('aborted', detail, code);
  }

  evict(detail: string): void {
    this.#end('aborted', detail, ErrorCode.CANCEL);
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
    this.#socket?.rearm();
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
    this.#socket?.close(how === 'closed');
    this.#socket = null;
    this.tunnel.connection.forget(this);
    this.#channel?.closed(how === 'closed' ? null : detail);
    this.owner?.onEnd(how, detail);
  }
}
