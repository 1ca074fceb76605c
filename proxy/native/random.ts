import { bind } from './library.ts';
import { NativeBuffer } from './memory.ts';

/** RAND_bytes of the OpenSSL inside the node binary (node:crypto would cost every worker 1.4 MB of private memory). */
const RAND_bytes = bind<(to: number, length: number) => number>('int RAND_bytes(uintptr_t, int)');

const POOL_BYTES = 4096;

/**
 * Random bytes from a pool that is filled in one call: identifiers are wanted for each request, a few bytes at a time. NEVER for keys. One a worker.
 */
export class RandomPool {
  readonly #pool = new NativeBuffer(POOL_BYTES);
  #at = POOL_BYTES;

  /** The pool itself; what `take` gave is valid until the next call. */
  get bytes(): Buffer {
    return this.#pool.bytes;
  }

  /** @returns where `length` (at most 4,096) fresh bytes begin in `bytes`; they are given once. @throws Error where OpenSSL has no randomness. */
  take(length: number): number {
    if (this.#at + length > POOL_BYTES) {
      if (RAND_bytes(this.#pool.address, POOL_BYTES) !== 1) throw new Error('RAND_bytes failed');
      this.#at = 0;
    }
    const at = this.#at;
    this.#at += length;
    return at;
  }
}
