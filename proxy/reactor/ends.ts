import { Errno, errnoName } from '../native/errno.ts';
import { errno } from '../native/library.ts';
import { readInto, resetOnClose, shutdownWrite, writeFrom } from '../native/socket.ts';
import { TLS_AGAIN, type TlsSession } from '../native/tls-session.ts';

/** What `ByteEnd.read` and `write` return besides a count of bytes; 0 from `read` is the end of the stream. */
export const AGAIN = -1;
export const FAILED = -2;

/** One side of a relay: a byte stream over a non-blocking descriptor. */
export interface ByteEnd {
  readonly fd: number;
  /** Why FAILED was returned. */
  failure: string;
  read(address: number, length: number): number;
  /** May take fewer bytes than given; with AGAIN or fewer, call again when writable. */
  write(address: number, length: number): number;
  /** Bytes that were read ahead and that epoll cannot see. */
  hasPending(): boolean;
  /** No more will be written. @returns false where that could not be told yet: call again when writable. */
  endWrite(): boolean;
  /** Releases what the end holds besides the descriptor; `abort`: the close that follows tells the peer so. */
  release(abort: boolean): void;
}

/** @returns AGAIN or FAILED of the last failed system call, with its name in `end.failure`. */
function failed(end: ByteEnd): number {
  const code = errno();
  if (code === Errno.EAGAIN || code === Errno.EINTR) return AGAIN;
  end.failure = errnoName(code);
  return FAILED;
}

export class SocketEnd implements ByteEnd {
  readonly fd: number;
  failure = '';

  constructor(fd: number) {
    this.fd = fd;
  }

  read(address: number, length: number): number {
    const n = readInto(this.fd, address, length);
    return n >= 0 ? n : failed(this);
  }

  write(address: number, length: number): number {
    const n = writeFrom(this.fd, address, length);
    return n >= 0 ? n : failed(this);
  }

  hasPending(): boolean {
    return false;
  }

  endWrite(): boolean {
    shutdownWrite(this.fd);
    return true;
  }

  release(abort: boolean): void {
    if (abort) resetOnClose(this.fd);
  }
}

/** Largest TLS record (RFC 8446, 5.1). */
const RECORD_BYTES = 16_384;

export class TlsEnd implements ByteEnd {
  readonly fd: number;
  readonly #tls: TlsSession;
  failure = '';
  #ended = false;
  #deferred = 0;

  constructor(fd: number, tls: TlsSession) {
    this.fd = fd;
    this.#tls = tls;
  }

  /** Gathers several records, so that they leave in one write. */
  read(address: number, length: number): number {
    if (this.#deferred !== 0) {
      const result = this.#deferred - 1;
      this.#deferred = 0;
      return this.#result(result);
    }
    let got = 0;
    while (length - got >= RECORD_BYTES || got === 0) {
      const n = this.#tls.read(address + got, length - got);
      if (n > 0) {
        got += n;
        if (!this.#tls.hasPending()) break;
        continue;
      }
      if (got === 0) return this.#result(n);
      // What came before the end is delivered first; the end is told by the next call.
      if (n !== TLS_AGAIN) this.#deferred = n + 1;
      break;
    }
    return got;
  }

  #result(n: number): number {
    if (n < TLS_AGAIN) this.failure = this.#tls.failure;
    return n;
  }

  write(address: number, length: number): number {
    let sent = 0;
    while (sent < length) {
      const n = this.#tls.write(address + sent, length - sent);
      if (n > 0) sent += n;
      else if (sent > 0) return sent;
      else return this.#result(n);
    }
    return sent;
  }

  hasPending(): boolean {
    return this.#deferred !== 0 || this.#tls.hasPending();
  }

  endWrite(): boolean {
    if (!this.#ended) this.#ended = this.#tls.sendCloseNotify();
    return this.#ended;
  }

  release(abort: boolean): void {
    if (!abort) this.endWrite();
    else resetOnClose(this.fd);
    this.#tls.free();
  }
}
