import { EPOLLIN, EPOLLOUT } from '../native/epoll.ts';
import type { NativeBuffer } from '../native/memory.ts';
import { resetOnClose } from '../native/socket.ts';
import { TLS_AGAIN, TLS_ERROR, type TlsSession } from '../native/tls-session.ts';
import type { Channel, ChannelHandler } from '../reactor/channel.ts';
import { type EventHandler, type Loop, SCRATCH_BYTES } from '../reactor/loop.ts';

/** What `FrameTransport.write` returns besides a count of bytes. */
export const BLOCKED = TLS_AGAIN;
export const FAILED = TLS_ERROR;

/** How a transport ends: its peer is told that bytes are missing, that all was said, or nothing. */
export type TransportEnd = 'reset' | 'orderly' | 'silent';

export interface TransportEvents {
  /** Bytes of the peer, valid during the call only. Also called without any: it is readable but nothing came. */
  onBytes(from: NativeBuffer, start: number, end: number): void;
  /** `write` may be called again after BLOCKED. */
  onWritable(): void;
  /** The peer has ended it, or it failed. Nothing follows. */
  onTransportEnd(detail: string): void;
  onTransportFault(): void;
}

/** What an HTTP/2 connection's frames go through. */
export interface FrameTransport {
  /** Events begin. */
  start(events: TransportEvents): void;
  /** @returns bytes taken, of as many calls as the caller likes; BLOCKED (the same bytes again after `onWritable`) or FAILED. */
  write(from: NativeBuffer, start: number, end: number): number;
  /** Whether `onWritable` is waited for. */
  awaitRoom(wanted: boolean): void;
  /** Runs `flush` at the end of this turn. */
  plan(flush: () => void): void;
  /** It holds what its own peer does not take: no DATA until `onWritable`. */
  readonly congested: boolean;
  /** What is below will not live long. */
  readonly retiring: boolean;
  readonly failure: string;
  end(how: TransportEnd, detail: string): void;
  /** After `end`: frees what is left. */
  release(): void;
}

/** Bytes decrypted before they are parsed: several records make one write to the application. */
const GATHER_BYTES = 128 * 1024;

/** TLS over a descriptor, both owned from the moment it is made: one write of OpenSSL for what one turn of the loop produced. */
export class TlsTransport implements FrameTransport, EventHandler {
  readonly congested = false;
  readonly retiring = false;
  readonly #loop: Loop;
  readonly #fd: number;
  readonly #tls: TlsSession;
  #events: TransportEvents | null = null;
  readonly #readLater = (): void => this.#read();

  constructor(loop: Loop, fd: number, tls: TlsSession) {
    this.#loop = loop;
    this.#fd = fd;
    this.#tls = tls;
  }

  get failure(): string {
    return this.#tls.failure;
  }

  start(events: TransportEvents): void {
    this.#events = events;
    this.#loop.adopt(this.#fd, EPOLLIN, this);
    if (this.#tls.hasPending()) this.#loop.later(this.#readLater);
  }

  onEvents(mask: number): void {
    if ((mask & EPOLLOUT) !== 0) this.#events?.onWritable();
    if ((mask & ~EPOLLOUT) !== 0) this.#read();
  }

  onFault(): void {
    this.#events?.onTransportFault();
  }

  #read(): void {
    if (this.#events === null) return;
    const { scratch } = this.#loop;
    let filled = 0;
    // NEVER ask again after TLS_AGAIN: OpenSSL calls half a record pending, and the loop would spin until its rest has come.
    let more = false;
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
    this.#events.onBytes(scratch, 0, filled);
    if (ended !== null) this.#events?.onTransportEnd(ended);
    else if (more && this.#events !== null) this.#loop.later(this.#readLater);
  }

  write(from: NativeBuffer, start: number, end: number): number {
    return this.#tls.write(from.address + start, end - start);
  }

  awaitRoom(wanted: boolean): void {
    this.#loop.rearm(this.#fd, wanted ? EPOLLIN | EPOLLOUT : EPOLLIN);
  }

  plan(flush: () => void): void {
    this.#loop.last(flush);
  }

  end(how: TransportEnd): void {
    this.#events = null;
    if (how === 'reset') resetOnClose(this.#fd);
    else if (how === 'orderly') this.#tls.sendCloseNotify();
  }

  release(): void {
    this.#tls.free();
    this.#loop.close(this.#fd);
  }
}

/** A channel: an application's socket, TLS over a socket, or a stream of a tunnel. */
export class ChannelTransport implements FrameTransport, ChannelHandler {
  readonly failure = 'the channel is closed';
  readonly #loop: Loop;
  readonly #channel: Channel;
  #events: TransportEvents | null = null;

  constructor(loop: Loop, channel: Channel) {
    this.#loop = loop;
    this.#channel = channel;
  }

  get congested(): boolean {
    return this.#channel.congested;
  }

  get retiring(): boolean {
    return this.#channel.retiring;
  }

  start(events: TransportEvents): void {
    this.#events = events;
    this.#channel.attach(this);
  }

  onData(from: NativeBuffer, start: number, end: number): void {
    this.#events?.onBytes(from, start, end);
  }

  /** HTTP/2 knows no half of a connection: who ends one direction means both. */
  onEnd(): void {
    this.#events?.onTransportEnd('peer closed the connection');
  }

  onDrain(): void {
    this.#events?.onWritable();
  }

  onClosed(detail: string): void {
    this.#events?.onTransportEnd(detail);
  }

  write(from: NativeBuffer, start: number, end: number): number {
    if (this.#channel.congested) return BLOCKED;
    this.#channel.write(from, start, end);
    return end - start;
  }

  awaitRoom(): void {}

  plan(flush: () => void): void {
    this.#loop.later(flush);
  }

  end(how: TransportEnd, detail: string): void {
    this.#events = null;
    if (how === 'reset') this.#channel.abort(detail);
    else this.#channel.finish();
  }

  release(): void {}
}
