import { bind, viewAt } from './library.ts';

const malloc = bind<(size: number) => number>('uintptr_t malloc(size_t)');
const freeMemory = bind<(address: number) => void>('void free(uintptr_t)');
const memmove = bind<(to: number, from: number, size: number) => number>(
  'uintptr_t memmove(uintptr_t, uintptr_t, size_t)',
);

const madvise = bind<(address: number, length: number, advice: number) => number>(
  'int madvise(uintptr_t, size_t, int)',
);
const sysconf = bind<(name: number) => number>('long sysconf(int)');

/** asm-generic/mman-common.h. */
const MADV_DONTNEED = 4;
/** bits/confname.h. */
const SC_PAGESIZE = 30;

const mallocTrim = bind<(pad: number) => number>('int malloc_trim(size_t)');

/** Gives freed pages of malloc(3) back to the kernel (malloc_trim(3)); takes a millisecond or so. */
export function releaseFreeMemory(): void {
  mallocTrim(0);
}

/**
 * A block of native memory with a view of it, so that C writes and JavaScript parses in place: no copy and no allocation an event.
 * Whoever makes it frees it, exactly once; the view must not be used afterwards. Its view makes it an object for the life of a thread or of a
 * pool, NEVER for an event or a connection (see `viewAt`).
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

  /** The contents are not needed any more: gives the whole pages back to the kernel (madvise(2)); they come back as zeros when they are touched. */
  discard(): void {
    const page = sysconf(SC_PAGESIZE);
    const from = Math.ceil(this.address / page) * page;
    const to = Math.floor((this.address + this.size) / page) * page;
    if (to > from) madvise(from, to - from, MADV_DONTNEED);
  }

  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    freeMemory(this.address);
  }
}

/** The largest piece that comes or goes in one copy. */
const BOUNCE_BYTES = 64 * 1024;
const bounce = new NativeBuffer(BOUNCE_BYTES);

function fetch(address: number, length: number): void {
  if (length < 0 || length > BOUNCE_BYTES) throw new RangeError(`${length} bytes are too many for one copy`);
  memmove(bounce.address, address, length);
}

/** The bytes at `address` as text, a character each. @throws RangeError above 64 KiB. */
export function readText(address: number, length: number): string {
  fetch(address, length);
  return bounce.bytes.toString('latin1', 0, length);
}

/** A copy of the bytes at `address`. @throws RangeError above 64 KiB. */
export function readBytes(address: number, length: number): Buffer {
  fetch(address, length);
  return Buffer.from(bounce.bytes.subarray(0, length));
}

/** Stores a pointer at `address`, as C's `*(void **) address = value`. */
export function storePointer(address: number, value: number): void {
  bounce.bytes.writeBigUInt64LE(BigInt(value), 0);
  memmove(address, bounce.address, 8);
}

/** Stores a byte at `address`. */
export function storeByte(address: number, value: number): void {
  bounce.bytes.writeUInt8(value, 0);
  memmove(address, bounce.address, 1);
}

/** Lets C write up to 64 KiB: `fill` gets the address and says how many bytes it wrote there (0 or less: nothing). */
export function receiveBytes(fill: (address: number, room: number) => number): Buffer | null {
  const length = fill(bounce.address, BOUNCE_BYTES);
  return length <= 0 ? null : Buffer.from(bounce.bytes.subarray(0, length));
}
