import { errnoName } from './errno.ts';
import { callback, errno } from './library.ts';
import { NativeBuffer, readText } from './memory.ts';
import * as ssl from './openssl.ts';
import { type TlsContext, takeTlsError } from './tls-context.ts';
import { fingerprintOf, type LeafFacts, leafFacts } from './x509.ts';

/** What `read` and `write` return besides a count of bytes. */
export const TLS_AGAIN = -1;
export const TLS_ERROR = -2;

export type HandshakeResult = 'done' | 'want-read' | 'want-write' | 'failed';

/** What is told of a finished handshake in the access log. */
export interface TlsFacts {
  readonly version: string;
  readonly cipher: string;
  readonly group: string;
  readonly alpn: string;
  readonly resumed: boolean;
}

const scratch = new NativeBuffer(32);

/**
 * Handshake messages that a peer may send after the handshake: tickets, and KeyUpdates, of which one is due in 2^24 records (RFC 8446, 5.5), so
 * that these are for 60 TB. OpenSSL works them off within one SSL_read for as long as they come, 10 µs each: without a bound a peer that keeps
 * sending them would hold the loop, and everybody on it, for as long as it likes.
 */
const MAX_LATE_MESSAGES = 256;

/** SSL → steps taken for such messages; of few. Those of a session go with it. */
const lateMessages = new Map<number, number>();
/** Made when the first handshake is done; lives as long as the thread. */
let watcher: bigint | null = null;

function lateMessageWatcher(): bigint {
  watcher ??= callback('int postern_late_message(uintptr_t ssl, int where, int value)', (session = 0, where = 0) => {
    if ((where & ssl.SSL_CB_LOOP) === 0) return 0;
    const count = (lateMessages.get(session) ?? 0) + 1;
    lateMessages.set(session, count);
    // What follows is thrown away: SSL_read returns at the next record.
    if (count > MAX_LATE_MESSAGES) ssl.SSL_set_shutdown(session, ssl.SSL_RECEIVED_SHUTDOWN);
    return 0;
  });
  return watcher;
}

/** A resumable TLS session of a client; freed with the context it belongs to. */
export class TlsTicket {
  readonly pointer: number;
  #freed = false;

  constructor(pointer: number) {
    this.pointer = pointer;
  }

  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    ssl.SSL_SESSION_free(this.pointer);
  }
}

/**
 * One SSL over a non-blocking descriptor, which stays the caller's. ALWAYS: after any failure no further call but `free`.
 * NEVER: read or write before `handshake` said `done`.
 */
export class TlsSession {
  readonly #ssl: number;
  #freed = false;
  /** Why the last call failed; empty after success and after a clean end. */
  failure = '';

  constructor(context: TlsContext, fd: number, role: 'client' | 'server', ticket: TlsTicket | null = null) {
    this.#ssl = ssl.SSL_new(context.pointer);
    if (this.#ssl === 0) throw new Error(`SSL_new: ${takeTlsError()}`);
    ssl.SSL_set_fd(this.#ssl, fd);
    if (role === 'server') ssl.SSL_set_accept_state(this.#ssl);
    else ssl.SSL_set_connect_state(this.#ssl);
    if (ticket !== null) ssl.SSL_set_session(this.#ssl, ticket.pointer);
  }

  handshake(): HandshakeResult {
    const result = ssl.SSL_do_handshake(this.#ssl);
    if (result === 1) {
      ssl.SSL_set_info_callback(this.#ssl, lateMessageWatcher());
      return 'done';
    }
    const error = ssl.SSL_get_error(this.#ssl, result);
    if (error === ssl.SSL_ERROR_WANT_READ) return 'want-read';
    if (error === ssl.SSL_ERROR_WANT_WRITE) return 'want-write';
    this.#explain(error);
    const verify = ssl.SSL_get_verify_result(this.#ssl);
    if (verify !== 0) this.failure += ` (${ssl.X509_verify_cert_error_string(verify)})`;
    return 'failed';
  }

  #explain(error: number): void {
    if (error === ssl.SSL_ERROR_SYSCALL) {
      const code = errno();
      this.failure = code === 0 ? 'connection ended without close_notify' : errnoName(code);
      ssl.ERR_clear_error();
    } else this.failure = takeTlsError();
  }

  /** At most one record. @returns bytes, 0 at close_notify, TLS_AGAIN, TLS_ERROR. */
  read(address: number, length: number): number {
    const n = ssl.SSL_read(this.#ssl, address, length);
    if (n > 0) return n;
    const error = ssl.SSL_get_error(this.#ssl, n);
    if (error === ssl.SSL_ERROR_WANT_READ || error === ssl.SSL_ERROR_WANT_WRITE) return TLS_AGAIN;
    if (error === ssl.SSL_ERROR_ZERO_RETURN) {
      if ((lateMessages.get(this.#ssl) ?? 0) <= MAX_LATE_MESSAGES) return 0;
      this.failure = 'a flood of handshake messages';
      return TLS_ERROR;
    }
    this.#explain(error);
    return TLS_ERROR;
  }

  /** At most one record (16 KiB). @returns bytes taken, TLS_AGAIN (call again with the same bytes), TLS_ERROR. */
  write(address: number, length: number): number {
    const n = ssl.SSL_write(this.#ssl, address, length);
    if (n > 0) return n;
    const error = ssl.SSL_get_error(this.#ssl, n);
    if (error === ssl.SSL_ERROR_WANT_READ || error === ssl.SSL_ERROR_WANT_WRITE) return TLS_AGAIN;
    this.#explain(error);
    return TLS_ERROR;
  }

  /** Whether OpenSSL holds bytes that epoll cannot see. */
  hasPending(): boolean {
    return ssl.SSL_has_pending(this.#ssl) === 1;
  }

  /** Sends close_notify: the write side has ended (RFC 8446, 6.1). @returns false where the socket has no room for it: call again. */
  sendCloseNotify(): boolean {
    const result = ssl.SSL_shutdown(this.#ssl);
    const blocked = result < 0 && ssl.SSL_get_error(this.#ssl, result) === ssl.SSL_ERROR_WANT_WRITE;
    ssl.ERR_clear_error();
    return !blocked;
  }

  /** The peer's leaf certificate, also of a resumed session; null where it showed none. */
  peerCertificate(): LeafFacts | null {
    const x509 = ssl.SSL_get1_peer_certificate(this.#ssl);
    if (x509 === 0) return null;
    try {
      return leafFacts(x509);
    } finally {
      ssl.X509_free(x509);
      ssl.ERR_clear_error();
    }
  }

  /** Fingerprint of the root that the peer's chain was verified against; null for a resumed session, which verifies nothing anew. */
  verifiedRoot(): string | null {
    const chain = ssl.SSL_get0_verified_chain(this.#ssl);
    const count = chain === 0 ? 0 : ssl.OPENSSL_sk_num(chain);
    return count <= 0 ? null : fingerprintOf(ssl.OPENSSL_sk_value(chain, count - 1));
  }

  /** Empty where none was agreed. */
  alpn(): string {
    ssl.SSL_get0_alpn_selected(this.#ssl, scratch.address, scratch.address + 8);
    const at = Number(scratch.bytes.readBigUInt64LE(0));
    const length = scratch.bytes.readUInt32LE(8);
    return at === 0 || length === 0 ? '' : readText(at, length);
  }

  facts(): TlsFacts {
    return {
      version: ssl.SSL_get_version(this.#ssl),
      cipher: ssl.SSL_CIPHER_get_name(ssl.SSL_get_current_cipher(this.#ssl)),
      group: ssl.SSL_get0_group_name(this.#ssl) ?? '',
      alpn: this.alpn(),
      resumed: ssl.SSL_session_reused(this.#ssl) === 1,
    };
  }

  /** A client's ticket for the next connection, once the server has sent one; else null. The caller owns it. */
  takeTicket(): TlsTicket | null {
    const session = ssl.SSL_get1_session(this.#ssl);
    if (session === 0) return null;
    if (ssl.SSL_SESSION_is_resumable(session) === 1) return new TlsTicket(session);
    ssl.SSL_SESSION_free(session);
    return null;
  }

  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    lateMessages.delete(this.#ssl);
    ssl.SSL_free(this.#ssl);
  }
}
