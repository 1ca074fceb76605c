import { bind, viewAt } from './library.ts';

const malloc = bind<(size: number) => number>('uintptr_t malloc(size_t)');
const freeMemory = bind<(address: number) => void>('void free(uintptr_t)');
const memmove = bind<(to: number, from: number, size: number) => number>(
  'uintptr_t memmove(uintptr_t, uintptr_t, size_t)',
);

const mallocTrim = bind<(pad: number) => number>('int malloc_trim(size_t)');

/** Gives freed pages of malloc(3) back to the kernel (malloc_trim(3)); takes a millisecond or so. */
export function releaseFreeMemory(): void {
  mallocTrim(0);
}

/**
 * A block of native memory with a view of it, so that C writes and JavaScript parses in place: no copy and no allocation an event.
 * Whoever makes it frees it, exactly once; the view must not be used afterwards.
 */
export class NativeBuffer {
  readonly address: number;
  readonly size: number;
  readonly bytes: Buffer;
  #freed = false;

  constructor(size: number) {
    this.address = malloc(size);
    if (this.address === 0) throw new Error(`out of memory: ${size} bytes`);
    this.size = size;
    this.bytes = viewAt(this.address, size);
  }

  /** Moves `length` bytes from offset `from` to offset `to`; the ranges may overlap. */
  move(to: number, from: number, length: number): void {
    if (to < 0 || from < 0 || length < 0 || to + length > this.size || from + length > this.size) {
      throw new RangeError(`move(${to}, ${from}, ${length}) outside of ${this.size} bytes`);
    }
    memmove(this.address + to, this.address + from, length);
  }

  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    freeMemory(this.address);
  }
}
