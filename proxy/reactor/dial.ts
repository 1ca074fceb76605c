import { EPOLLOUT } from '../native/epoll.ts';
import { Errno, errnoName } from '../native/errno.ts';
import { type Address, connect, connectError, resetOnClose } from '../native/socket.ts';
import type { EventHandler, Loop } from './loop.ts';
import { Timer } from './timers.ts';

export interface DialEvents {
  /** The descriptor is the caller's: adopt or close it. It is watched by the loop. */
  onConnected(fd: number): void;
  /** `reason` is an errno's name, or `timeout`. */
  onFailed(reason: string): void;
}

/** One attempt to connect, with a deadline. Exactly one of the two events comes, later than the constructor, unless `cancel` comes first. */
export class Dial implements EventHandler {
  readonly #loop: Loop;
  readonly #events: DialEvents;
  readonly #deadline = new Timer(() => this.#fail('timeout'));
  #fd: number;
  #over = false;

  constructor(loop: Loop, to: Address, mark: number, timeoutMs: number, events: DialEvents) {
    this.#loop = loop;
    this.#events = events;
    this.#fd = connect(to, mark);
    if (this.#fd < 0) {
      const reason = errnoName(-this.#fd);
      loop.later(() => this.#fail(reason));
    } else if (loop.watch(this.#fd, EPOLLOUT, this)) loop.arm(this.#deadline, timeoutMs);
    else {
      this.#fd = -1;
      loop.later(() => this.#fail(errnoName(Errno.ENOBUFS)));
    }
  }

  onEvents(mask: number): void {
    if (this.#over) return;
    // Writable and nothing else is connected (connect(2)); only otherwise is it worth asking.
    const error = mask === EPOLLOUT ? 0 : connectError(this.#fd);
    if (error !== 0) {
      this.#fail(errnoName(error));
      return;
    }
    this.#over = true;
    this.#loop.cancel(this.#deadline);
    this.#events.onConnected(this.#fd);
  }

  /** Of its own, or of whoever was told of the connection and may not have taken it over. */
  onFault(): void {
    if (!this.#over) this.#fail('internal error');
    else this.#loop.closeIfOf(this.#fd, this);
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
    if (this.#fd < 0) return;
    // It may be connected already: an abort must not look like an end of input to the other side.
    resetOnClose(this.#fd);
    this.#loop.close(this.#fd);
  }
}
