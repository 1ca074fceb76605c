import { messageOf } from '../../mesh/errors.ts';
import { EPOLLIN, EPOLLOUT } from '../native/epoll.ts';
import type { TlsContext } from '../native/tls-context.ts';
import { TlsSession, type TlsTicket } from '../native/tls-session.ts';
import type { EventHandler, Loop } from './loop.ts';
import { Timer } from './timers.ts';

export interface HandshakeEvents {
  /** Both are the caller's now; the descriptor is watched. OpenSSL may hold application bytes already (`hasPending`). */
  onSecured(fd: number, tls: TlsSession): void;
  /** Everything was given back. */
  onFailed(reason: string): void;
}

/** Drives one TLS handshake over a watched descriptor, which it owns meanwhile, within a deadline. */
export class TlsHandshake implements EventHandler {
  readonly #loop: Loop;
  readonly #events: HandshakeEvents;
  readonly #fd: number;
  /** Null: OpenSSL has no memory for one. */
  readonly #tls: TlsSession | null;
  readonly #deadline = new Timer(() => this.#fail('timeout'));
  #over = false;

  constructor(
    loop: Loop,
    fd: number,
    context: TlsContext,
    role: 'client' | 'server',
    timeoutMs: number,
    events: HandshakeEvents,
    ticket: TlsTicket | null = null,
  ) {
    this.#loop = loop;
    this.#events = events;
    this.#fd = fd;
    this.#tls = this.#begin(context, role, ticket);
    if (this.#tls === null) return;
    // A client speaks first; a server's first bytes may be here already, which level-triggered epoll tells at once.
    loop.adopt(fd, role === 'client' ? EPOLLOUT : EPOLLIN, this);
    loop.arm(this.#deadline, timeoutMs);
  }

  #begin(context: TlsContext, role: 'client' | 'server', ticket: TlsTicket | null): TlsSession | null {
    try {
      return new TlsSession(context, this.#fd, role, ticket);
    } catch (error) {
      // Whoever waits must hear of it, as of every failure; what was watched before must not wake anybody until then.
      this.#loop.adopt(this.#fd, 0, this);
      this.#loop.later(() => this.#fail(messageOf(error)));
      return null;
    }
  }

  onEvents(): void {
    if (this.#over || this.#tls === null) return;
    const result = this.#tls.handshake();
    if (result === 'want-read') this.#loop.rearm(this.#fd, EPOLLIN);
    else if (result === 'want-write') this.#loop.rearm(this.#fd, EPOLLOUT);
    else if (result === 'failed') this.#fail(this.#tls.failure);
    else {
      this.#over = true;
      this.#loop.cancel(this.#deadline);
      this.#events.onSecured(this.#fd, this.#tls);
    }
  }

  /** Of its own, or of whoever was told of the end and may not have taken over what is his. */
  onFault(): void {
    if (!this.#over) this.#fail('internal error');
    else if (this.#loop.closeIfOf(this.#fd, this)) this.#tls?.free();
  }

  #fail(reason: string): void {
    if (this.#over) return;
    this.cancel();
    this.#events.onFailed(reason);
  }

  cancel(): void {
    if (this.#over) return;
    this.#over = true;
    this.#loop.cancel(this.#deadline);
    this.#tls?.free();
    this.#loop.close(this.#fd);
  }
}
