import { EPOLLET, EPOLLHUP, EPOLLIN, EPOLLRDHUP } from '../native/epoll.ts';
import { Errno } from '../native/errno.ts';
import { errno } from '../native/library.ts';
import { peekInto } from '../native/socket.ts';
import { sniffProtocol } from '../protocol/application-protocol.ts';
import { AGAIN, type ByteEnd, FAILED } from '../reactor/ends.ts';
import type { EventHandler, Loop } from '../reactor/loop.ts';
import { Timer } from '../reactor/timers.ts';

/** Bytes that were looked at stay in the socket, and must not wake us again. */
const EVENTS = (EPOLLIN | EPOLLRDHUP | EPOLLET) >>> 0;
/** No request line is waited for beyond this (`sniffProtocol` needs less). */
export const SNIFF_BYTES = 8_192;

/**
 * What the first bytes of a connection are. `silent`: none came in time, as where the server speaks first; `ended`: none will come;
 * `failed`: the connection is broken. Bytes that could still become HTTP at the deadline are `opaque`.
 */
export type SniffResult = 'http/1' | 'h2' | 'opaque' | 'silent' | 'ended' | 'failed';

/** Looks at the first bytes of a watched socket without taking them, within a deadline. Exactly one answer comes, later than the constructor, unless it is cancelled. */
export class SocketSniff implements EventHandler {
  readonly #loop: Loop;
  readonly #fd: number;
  readonly #onResult: (result: SniffResult) => void;
  readonly #deadline: Timer;
  #seen = 0;
  #over = false;

  constructor(loop: Loop, fd: number, timeoutMs: number, onResult: (result: SniffResult) => void) {
    this.#loop = loop;
    this.#fd = fd;
    this.#onResult = onResult;
    this.#deadline = new Timer(() => this.#finish(this.#seen === 0 ? 'silent' : 'opaque'));
    loop.adopt(fd, EVENTS, this);
    loop.arm(this.#deadline, timeoutMs);
  }

  onEvents(mask: number): void {
    if (this.#over) return;
    const { scratch } = this.#loop;
    const n = peekInto(this.#fd, scratch.address, SNIFF_BYTES);
    if (n < 0 && (errno() === Errno.EAGAIN || errno() === Errno.EINTR)) return;
    if (n <= 0) {
      this.#finish('ended');
      return;
    }
    this.#seen = n;
    const result = sniffProtocol(scratch.bytes, 0, n);
    if (result !== 'incomplete') this.#finish(result);
    else if ((mask & (EPOLLRDHUP | EPOLLHUP)) !== 0) this.#finish('opaque');
  }

  /** Of its own, or of whoever was told and may not have taken the descriptor over. */
  onFault(): void {
    if (!this.#over) this.#finish('failed');
    else this.#loop.closeIfOf(this.#fd, this);
  }

  #finish(result: SniffResult): void {
    if (this.#over) return;
    this.cancel();
    this.#onResult(result);
  }

  cancel(): void {
    if (this.#over) return;
    this.#over = true;
    this.#loop.cancel(this.#deadline);
    this.#loop.rearm(this.#fd, 0);
  }
}

/** As `SocketSniff`, of a stream that cannot be peeked at (TLS): what was read comes with the answer, and goes before everything that is read later. */
export class EndSniff implements EventHandler {
  readonly #loop: Loop;
  readonly #end: ByteEnd;
  readonly #onResult: (result: SniffResult, taken: Buffer | null) => void;
  readonly #deadline: Timer;
  #taken: Buffer | null = null;
  #over = false;

  constructor(
    loop: Loop,
    end: ByteEnd,
    timeoutMs: number,
    onResult: (result: SniffResult, taken: Buffer | null) => void,
  ) {
    this.#loop = loop;
    this.#end = end;
    this.#onResult = onResult;
    this.#deadline = new Timer(() => this.#finish(this.#taken === null ? 'silent' : 'opaque'));
    loop.adopt(end.fd, EPOLLIN, this);
    loop.arm(this.#deadline, timeoutMs);
    // Bytes that TLS read together with its handshake wake nobody.
    if (end.hasPending()) loop.later(() => this.onEvents());
  }

  onEvents(): void {
    if (this.#over) return;
    const { scratch } = this.#loop;
    const n = this.#end.read(scratch.address, SNIFF_BYTES);
    if (n === AGAIN) return;
    if (n === FAILED) {
      this.#finish('failed');
      return;
    }
    if (n === 0) {
      this.#finish(this.#taken === null ? 'ended' : 'opaque');
      return;
    }
    const read = Buffer.from(scratch.bytes.subarray(0, n));
    this.#taken = this.#taken === null ? read : Buffer.concat([this.#taken, read]);
    const result = sniffProtocol(this.#taken, 0, this.#taken.length);
    if (result !== 'incomplete') this.#finish(result);
    else if (this.#end.hasPending()) this.#loop.later(() => this.onEvents());
  }

  /** As of `SocketSniff`. */
  onFault(): void {
    if (!this.#over) this.#finish('failed');
    else if (this.#loop.closeIfOf(this.#end.fd, this)) this.#end.release(true);
  }

  #finish(result: SniffResult): void {
    if (this.#over) return;
    this.cancel();
    this.#onResult(result, this.#taken);
  }

  cancel(): void {
    if (this.#over) return;
    this.#over = true;
    this.#loop.cancel(this.#deadline);
    this.#loop.rearm(this.#end.fd, 0);
  }
}
