import { NativeBuffer } from '../native/memory.ts';
import type { Loop } from './loop.ts';

export const OUTBOX_BYTES = 256 * 1024;
/** From this size on a system call of its own costs less than the copy. */
const STRAIGHT_BYTES = 32 * 1024;

/** Whoever writes by way of the outbox. */
export interface OutboxOwner {
  /** Takes all of the bytes: what cannot leave now is kept by the owner. */
  send(from: NativeBuffer, start: number, end: number): void;
}

/**
 * Gathers what one owner at a time writes, so that a head, its body and what follows leave in one system call and one TLS record. A loop has one:
 * no connection keeps a buffer of its own. It is emptied when another owner writes, when it is full, and at the end of the turn.
 */
export class Outbox {
  readonly #loop: Loop;
  readonly #buffer = new NativeBuffer(OUTBOX_BYTES);
  /** Null iff nothing is gathered. */
  #owner: OutboxOwner | null = null;
  #used = 0;
  #scheduled = false;
  readonly #endOfTurn = (): void => {
    this.#scheduled = false;
    this.flush();
  };

  constructor(loop: Loop) {
    this.#loop = loop;
  }

  /** @returns false where the bytes were not taken: whatever came before them has been sent, and the owner sends these by itself. */
  gather(owner: OutboxOwner, from: NativeBuffer, start: number, end: number): boolean {
    const length = end - start;
    if (this.#owner !== owner) {
      this.flush();
      if (length >= STRAIGHT_BYTES) return false;
      this.#owner = owner;
      if (!this.#scheduled) {
        this.#scheduled = true;
        this.#loop.last(this.#endOfTurn);
      }
    } else if (this.#used + length > OUTBOX_BYTES) {
      this.flush();
      return false;
    }
    from.bytes.copy(this.#buffer.bytes, this.#used, start, end);
    this.#used += length;
    return true;
  }

  /** Sends what is gathered, whosever it is. */
  flush(): void {
    const owner = this.#owner;
    if (owner === null) return;
    const used = this.#used;
    this.#owner = null;
    this.#used = 0;
    owner.send(this.#buffer, 0, used);
  }

  flushOf(owner: OutboxOwner): void {
    if (this.#owner === owner) this.flush();
  }

  /** The owner is dead: what it wrote is forgotten. */
  drop(owner: OutboxOwner): void {
    if (this.#owner !== owner) return;
    this.#owner = null;
    this.#used = 0;
  }

  free(): void {
    this.#buffer.free();
  }
}
