import { EPOLLIN } from '../native/epoll.ts';
import { Errno, errnoName } from '../native/errno.ts';
import { type Address, accept, openListener, peerOfLastAccept, setNoDelay } from '../native/socket.ts';
import type { EventHandler, Loop } from './loop.ts';
import { Timer } from './timers.ts';

const BACKLOG = 4096;
/** Connections taken in one turn: established ones must not starve behind a flood of new ones. */
const ACCEPT_PER_TURN = 64;
/** How long accepting rests when descriptors have run out. */
const PAUSE_MS = 100;

export interface ListenerEvents {
  /** Takes the descriptor over. */
  onConnection(fd: number, peer: Address): void;
  /** False: accepting rests (connections wait in the kernel's queue) until `resume`. */
  mayAccept(): boolean;
  /** Accepting rests because of `reason`: a setting that is reached, or an error with what to raise. */
  onPause(reason: string): void;
}

/** What is exhausted is rarely seen from inside: the operator is told which limit it is. */
function pauseReason(errno: number): string {
  if (errno === Errno.EMFILE) return 'EMFILE: raise the limit of open files of this process (ulimit -n, LimitNOFILE)';
  return errnoName(errno);
}

/** A listening socket. It pauses rather than spins when descriptors have run out, and recovers by itself. */
export class Listener implements EventHandler {
  readonly address: Address;
  readonly #loop: Loop;
  readonly #events: ListenerEvents;
  readonly #retry = new Timer(() => this.resume());
  #fd: number;
  #paused = false;

  /** @throws Error with `errno` where the address cannot be listened on. */
  constructor(loop: Loop, at: Address, events: ListenerEvents) {
    this.address = at;
    this.#loop = loop;
    this.#events = events;
    const fd = openListener(at, BACKLOG);
    if (fd < 0) throw Object.assign(new Error(errnoName(-fd)), { errno: -fd });
    // Accepted sockets inherit it: one system call a listener, not one a connection.
    setNoDelay(fd);
    this.#fd = fd;
    if (!loop.watch(fd, EPOLLIN, this)) throw new Error('epoll refuses the listener');
  }

  onEvents(): void {
    for (let i = 0; i < ACCEPT_PER_TURN && this.#fd >= 0; i++) {
      if (!this.#events.mayAccept()) {
        this.#pause('limits.maxConnections');
        return;
      }
      const fd = accept(this.#fd);
      if (fd < 0) {
        if (fd === -Errno.EAGAIN) return;
        // The connection died in the queue; the next may be well.
        if (fd === -Errno.ECONNABORTED || fd === -Errno.EINTR) continue;
        this.#pause(pauseReason(-fd));
        return;
      }
      const peer = peerOfLastAccept();
      try {
        this.#events.onConnection(fd, peer);
      } catch (error) {
        this.#loop.discard(fd);
        throw error;
      }
    }
  }

  onFault(): void {
    // The connection that failed was not ours yet; go on accepting.
  }

  #pause(reason: string): void {
    if (this.#paused || this.#fd < 0) return;
    this.#paused = true;
    this.#loop.rearm(this.#fd, 0);
    this.#loop.arm(this.#retry, PAUSE_MS);
    this.#events.onPause(reason);
  }

  resume(): void {
    if (!this.#paused || this.#fd < 0) return;
    this.#paused = false;
    this.#loop.cancel(this.#retry);
    this.#loop.rearm(this.#fd, EPOLLIN);
  }

  close(): void {
    if (this.#fd < 0) return;
    this.#loop.cancel(this.#retry);
    this.#loop.close(this.#fd);
    this.#fd = -1;
  }
}
