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
  readonly #tls: TlsSession;
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
    this.#tls = new TlsSession(context, fd, role, ticket);
    // A client speaks first; a server's first bytes may be here already, which level-triggered epoll tells at once.
    loop.adopt(fd, role === 'client' ? EPOLLOUT : EPOLLIN, this);
    loop.arm(this.#deadline, timeoutMs);
  }

  onEvents(): void {
    if (this.#over) return;
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

  onFault(): void {
    this.cancel();
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
    this.#tls.free();
    this.#loop.close(this.#fd);
  }
}
