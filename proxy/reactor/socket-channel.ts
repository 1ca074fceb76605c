import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT } from '../native/epoll.ts';
import type { NativeBuffer } from '../native/memory.ts';
import { ByteQueue } from './byte-queue.ts';
import type { Channel, ChannelHandler } from './channel.ts';
import { AGAIN, type ByteEnd, FAILED, SocketEnd } from './ends.ts';
import type { EventHandler, Loop } from './loop.ts';
import type { OutboxOwner } from './outbox.ts';
import { Timer } from './timers.ts';

/** How much a channel may bring in one turn, so that others get theirs. */
const READ_BYTES = 64 * 1024;
/** More than this waits for the socket: congested … */
const CONGESTED_BYTES = 64 * 1024;
/** … until it is no more than this. */
const EASED_BYTES = 16 * 1024;
/** Beyond every promise of the contract: whoever writes on and on without looking at `congested` loses the connection, not our memory. */
const MAX_BACKLOG_BYTES = 1024 * 1024;
/** How long a slow peer may take for the last bytes after `finish`. */
const DELIVERY_MS = 60_000;
/** After our FIN: how long, and how much of what still comes is read and thrown away (RFC 9112, section 9.6: else a reset could overtake the response). */
const LINGER_MS = 1_000;
const LINGER_BYTES = 64 * 1024;
/** What a dead socket may still hold, in reads. */
const LAST_READS = 16;

type Phase = 'open' | 'delivering' | 'lingering' | 'over';

/**
 * A socket, or TLS over one, as a channel. ALWAYS: while nothing waits to be written it holds no buffer. Interest in reading is withdrawn from
 * epoll only when an event comes that is not wanted: a short pause costs no system call.
 */
export class SocketChannel implements Channel, EventHandler, OutboxOwner {
  readonly #loop: Loop;
  readonly #end: ByteEnd;
  #handler: ChannelHandler | null = null;
  /** Read by somebody else before; delivered first. */
  #prefix: Buffer | null;
  /** What the socket did not take; null iff it took everything. */
  #backlog: ByteQueue | null = null;
  #phase: Phase = 'open';
  #paused = false;
  /** epoll may tell that there is something to read. */
  #watchesReading = true;
  #pumpScheduled = false;
  #peerEnded = false;
  #endWanted = false;
  #endTold = false;
  #congested = false;
  /** Why writing failed; what was received before is still delivered. */
  #writeFailure: string | null = null;
  #lingered = 0;
  #deadline: Timer | null = null;
  #bytesRead = 0;
  #bytesWritten = 0;
  /** Set by whoever knows that trust has changed. */
  retiring = false;

  /**
   * @param end over a descriptor that the loop watches; both are the channel's from now on
   * @param prefix bytes that were read from it already
   */
  constructor(loop: Loop, end: ByteEnd, prefix: Buffer | null = null) {
    this.#loop = loop;
    this.#end = end;
    this.#prefix = prefix !== null && prefix.length > 0 ? prefix : null;
    loop.adopt(end.fd, EPOLLIN, this);
  }

  get bytesRead(): number {
    return this.#bytesRead;
  }

  /** Those that the kernel or OpenSSL has taken. */
  get bytesWritten(): number {
    return this.#bytesWritten;
  }

  get congested(): boolean {
    return this.#congested;
  }

  get #blocked(): boolean {
    return this.#backlog !== null || (this.#endWanted && !this.#endTold);
  }

  attach(handler: ChannelHandler): void {
    if (this.#phase !== 'open') return;
    this.#handler = handler;
    if (!this.#paused) this.#watchReading();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#phase === 'open' && this.#handler !== null) this.#watchReading();
  }

  #watchReading(): void {
    this.#watchesReading = true;
    this.#rearm();
    if (this.#prefix !== null || this.#end.hasPending()) this.#schedulePump();
  }

  /** What epoll cannot see comes by itself, later in this turn. */
  #schedulePump(): void {
    if (this.#pumpScheduled) return;
    this.#pumpScheduled = true;
    this.#loop.later(() => {
      this.#pumpScheduled = false;
      this.#guarded(() => this.#onReadable());
    });
  }

  /** As the loop guards events: an exception of the handler's costs this channel alone. */
  #guarded(task: () => void): void {
    try {
      task();
      if (this.#isLive) this.#rearm();
    } catch (error) {
      this.onFault();
      throw error;
    }
  }

  onEvents(mask: number): void {
    if (!this.#isLive) return;
    if ((mask & (EPOLLOUT | EPOLLERR | EPOLLHUP)) !== 0 && this.#blocked) this.#onWritable();
    if ((mask & (EPOLLIN | EPOLLERR | EPOLLHUP)) !== 0) this.#onReadable();
    if (this.#isLive) this.#rearm();
  }

  get #isLive(): boolean {
    return this.#phase !== 'over';
  }

  onFault(): void {
    try {
      this.#die('internal error');
    } catch {
      // The handler fails again at what its first exception left behind; everything of the channel is released.
    }
  }

  #rearm(): void {
    const reads = this.#watchesReading && !this.#peerEnded && this.#phase !== 'delivering';
    this.#loop.rearm(this.#end.fd, (reads ? EPOLLIN : 0) | (this.#blocked ? EPOLLOUT : 0));
  }

  // ---- reading ----

  #onReadable(): void {
    if (this.#phase === 'lingering') this.#discard();
    else if (this.#handler === null || this.#paused) this.#watchesReading = false;
    else if (this.#phase === 'open' && !this.#peerEnded) this.#read(this.#handler);
  }

  #read(first: ChannelHandler): void {
    const { scratch } = this.#loop;
    let handler: ChannelHandler | null = first;
    if (this.#prefix !== null) {
      handler = this.#deliverPrefix(handler);
      if (handler === null) return;
    }
    let budget = READ_BYTES;
    do {
      const n = this.#end.read(scratch.address, READ_BYTES);
      if (n === AGAIN) return;
      if (n === FAILED) {
        this.#die(this.#end.failure);
        return;
      }
      if (n === 0) {
        this.#peerEnded = true;
        handler.onEnd();
        return;
      }
      this.#bytesRead += n;
      budget -= n;
      handler.onData(scratch, 0, n);
      handler = this.#reader;
      if (handler === null) return;
    } while (budget > 0 && this.#end.hasPending());
    if (this.#end.hasPending()) this.#schedulePump();
  }

  /** Who takes what is read now; null where nobody does. */
  get #reader(): ChannelHandler | null {
    return this.#phase === 'open' && !this.#paused ? this.#handler : null;
  }

  #deliverPrefix(handler: ChannelHandler): ChannelHandler | null {
    const { scratch } = this.#loop;
    let reader: ChannelHandler | null = handler;
    while (this.#prefix !== null && reader !== null) {
      const length = this.#prefix.copy(scratch.bytes);
      this.#prefix = length < this.#prefix.length ? this.#prefix.subarray(length) : null;
      this.#bytesRead += length;
      reader.onData(scratch, 0, length);
      reader = this.#reader;
    }
    return reader;
  }

  // ---- writing ----

  write(from: NativeBuffer, start: number, end: number): void {
    if (this.#phase !== 'open' || this.#endWanted || start >= end) return;
    if (this.#backlog === null && this.#loop.outbox.gather(this, from, start, end)) return;
    this.send(from, start, end);
  }

  send(from: NativeBuffer, start: number, end: number): void {
    if (this.#phase === 'over' || this.#writeFailure !== null) return;
    let taken = 0;
    if (this.#backlog === null) {
      taken = this.#end.write(from.address + start, end - start);
      if (taken === FAILED) {
        this.#failWriting(this.#end.failure);
        return;
      }
      taken = Math.max(0, taken);
      this.#bytesWritten += taken;
      if (taken === end - start) return;
    }
    this.#hold(from.bytes, start + taken, end);
  }

  #hold(bytes: Buffer, start: number, end: number): void {
    this.#backlog ??= new ByteQueue();
    this.#backlog.push(bytes, start, end);
    if (this.#backlog.length > CONGESTED_BYTES) this.#congested = true;
    if (this.#backlog.length > MAX_BACKLOG_BYTES) this.#failWriting('more is written than the peer takes');
    else this.#rearm();
  }

  #onWritable(): void {
    if (this.#backlog !== null && !this.#drain(this.#backlog)) return;
    if (this.#backlog === null && this.#endWanted) this.#tellEnd();
    if (!this.#congested || (this.#backlog?.length ?? 0) > EASED_BYTES) return;
    this.#congested = false;
    if (this.#phase === 'open') this.#handler?.onDrain();
  }

  /** @returns false where the socket is dead. */
  #drain(backlog: ByteQueue): boolean {
    const { scratch } = this.#loop;
    while (backlog.length > 0) {
      // Ends write from native memory; OpenSSL wants the same bytes again, not the same address.
      const length = backlog.copyTo(scratch.bytes);
      const taken = this.#end.write(scratch.address, length);
      if (taken === AGAIN) return true;
      if (taken === FAILED) {
        this.#failWriting(this.#end.failure);
        return false;
      }
      this.#bytesWritten += taken;
      backlog.drop(taken);
      if (taken < length) return true;
    }
    this.#backlog = null;
    return true;
  }

  /** Nothing is told from within a call of the handler's: that comes later in this turn. */
  #failWriting(detail: string): void {
    this.#writeFailure = detail;
    this.#backlog = null;
    this.#congested = false;
    if (this.#phase === 'open') this.#loop.later(() => this.#guarded(() => this.#onWriteFailed(detail)));
    else this.#release(true);
  }

  /** A peer that refuses our bytes may have said why before: its answer is in the socket. Of a failed TLS session nothing can be read. */
  #onWriteFailed(detail: string): void {
    const { scratch } = this.#loop;
    let reader = this.#end instanceof SocketEnd && !this.#peerEnded ? this.#reader : null;
    for (let reads = 0; reader !== null && reads < LAST_READS; reads++) {
      const n = this.#end.read(scratch.address, READ_BYTES);
      if (n <= 0) break;
      this.#bytesRead += n;
      reader.onData(scratch, 0, n);
      reader = this.#reader;
    }
    this.#die(detail);
  }

  // ---- ends ----

  end(): void {
    if (this.#phase !== 'open' || this.#endWanted) return;
    this.#loop.outbox.flushOf(this);
    this.#endWanted = true;
    if (this.#writeFailure !== null) return;
    if (this.#backlog === null) this.#tellEnd();
    this.#rearm();
  }

  /** After the last byte; asked again when the socket is writable where it could not be told. */
  #tellEnd(): void {
    if (!this.#endTold) this.#endTold = this.#end.endWrite();
    if (this.#endTold && this.#phase === 'delivering') this.#linger();
  }

  finish(): void {
    if (this.#phase !== 'open') return;
    this.#loop.outbox.flushOf(this);
    this.#handler = null;
    this.#prefix = null;
    if (this.#writeFailure !== null) {
      this.#release(true);
      return;
    }
    this.#phase = 'delivering';
    this.#loop.undelivered++;
    this.#endWanted = true;
    if (this.#backlog === null) this.#tellEnd();
    if (!this.#isLive) return;
    if (this.#phase === 'delivering') this.#armDeadline(DELIVERY_MS);
    this.#rearm();
  }

  #linger(): void {
    if (this.#peerEnded) {
      this.#release(false);
      return;
    }
    this.#loop.undelivered--;
    this.#phase = 'lingering';
    this.#watchesReading = true;
    this.#armDeadline(LINGER_MS);
    if (this.#end.hasPending()) this.#schedulePump();
  }

  #discard(): void {
    do {
      const n = this.#end.read(this.#loop.scratch.address, READ_BYTES);
      if (n === AGAIN) return;
      if (n > 0) this.#lingered += n;
      if (n <= 0 || this.#lingered > LINGER_BYTES) {
        this.#release(n === FAILED);
        return;
      }
    } while (this.#end.hasPending());
  }

  #armDeadline(delayMs: number): void {
    this.#deadline ??= new Timer(() => this.#release(this.#phase !== 'lingering'));
    this.#loop.arm(this.#deadline, delayMs);
  }

  abort(_detail: string): void {
    if (this.#phase !== 'over') this.#release(true);
  }

  /** Gives everything back and tells the handler. */
  #die(detail: string): void {
    if (this.#phase === 'over') return;
    const handler = this.#handler;
    this.#release(true);
    handler?.onClosed(detail);
  }

  #release(abort: boolean): void {
    if (this.#phase === 'delivering') this.#loop.undelivered--;
    this.#phase = 'over';
    this.#handler = null;
    this.#prefix = null;
    this.#backlog = null;
    this.#congested = false;
    if (this.#deadline !== null) this.#loop.cancel(this.#deadline);
    this.#loop.outbox.drop(this);
    this.#end.release(abort);
    this.#loop.close(this.#end.fd);
  }
}
