import { EPOLLET, EPOLLIN } from '../native/epoll.ts';
import { Errno } from '../native/errno.ts';
import { errno } from '../native/library.ts';
import { peekInto } from '../native/socket.ts';
import { MAX_CLIENT_HELLO_BYTES, type PeekResult, peekTls } from '../protocol/client-hello.ts';
import type { EventHandler, Loop } from '../reactor/loop.ts';
import { Timer } from '../reactor/timers.ts';

export type FirstBytes =
  | Exclude<PeekResult, { kind: 'incomplete' }>
  | { readonly kind: 'silent' }
  | { readonly kind: 'ended' };

/** Looks at the first bytes of a watched connection without taking them, within a deadline. Exactly one answer comes, unless it is cancelled. */
export class Peek implements EventHandler {
  readonly #loop: Loop;
  readonly #fd: number;
  readonly #onResult: (result: FirstBytes) => void;
  readonly #deadline: Timer;
  #seen = 0;
  #over = false;

  /** `silent`: not a byte came in time; a half hello at the deadline is `malformed`. */
  constructor(loop: Loop, fd: number, timeoutMs: number, onResult: (result: FirstBytes) => void) {
    this.#loop = loop;
    this.#fd = fd;
    this.#onResult = onResult;
    this.#deadline = new Timer(() =>
      this.#finish(
        this.#seen === 0 ? { kind: 'silent' } : { kind: 'malformed', reason: 'the hello did not come in time' },
      ),
    );
    // Those that were looked at stay in the socket, and must not wake us again.
    loop.adopt(fd, (EPOLLIN | EPOLLET) >>> 0, this);
    loop.arm(this.#deadline, timeoutMs);
  }

  onEvents(): void {
    if (this.#over) return;
    const { scratch } = this.#loop;
    const n = peekInto(this.#fd, scratch.address, MAX_CLIENT_HELLO_BYTES);
    if (n === 0) this.#finish({ kind: 'ended' });
    else if (n < 0 && errno() !== Errno.EAGAIN && errno() !== Errno.EINTR) this.#finish({ kind: 'ended' });
    if (n <= 0) return;
    this.#seen = n;
    const result = peekTls(scratch.bytes, 0, n);
    if (result.kind !== 'incomplete') this.#finish(result);
    else if (n === MAX_CLIENT_HELLO_BYTES) this.#finish({ kind: 'malformed', reason: 'the hello is too long' });
  }

  /** Of its own, or of whoever was told and may not have taken the descriptor over. */
  onFault(): void {
    if (!this.#over) this.#finish({ kind: 'malformed', reason: 'internal error' });
    else this.#loop.closeIfOf(this.#fd, this);
  }

  #finish(result: FirstBytes): void {
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
