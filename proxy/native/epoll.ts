import { bind, errno } from './library.ts';
import { NativeBuffer } from './memory.ts';

/** epoll(7), level-triggered, and eventfd(2). */

const epollCreate1 = bind<(flags: number) => number>('int epoll_create1(int)');
const epollCtl = bind<(epoll: number, op: number, fd: number, event: number) => number>(
  'int epoll_ctl(int, int, int, uintptr_t)',
);
const epollWait = bind<(epoll: number, events: number, max: number, timeout: number) => number>(
  'int epoll_wait(int, uintptr_t, int, int)',
);
const cEventfd = bind<(initial: number, flags: number) => number>('int eventfd(uint, int)');

export const EPOLLIN = 0x001;
export const EPOLLOUT = 0x004;
export const EPOLLERR = 0x008;
export const EPOLLHUP = 0x010;
export const EPOLLRDHUP = 0x2000;
/** Tell only of bytes that are new. To be combined with others unsigned (`>>> 0`). */
export const EPOLLET = 0x80000000;

const EPOLL_CLOEXEC = 0o2000000;
const CTL_ADD = 1;
const CTL_DEL = 2;
const CTL_MOD = 3;
/** struct epoll_event is packed on x86-64 only (sys/epoll.h). */
const EVENT_SIZE = process.arch === 'x64' ? 12 : 16;
const DATA_AT = process.arch === 'x64' ? 4 : 8;

/** Events gathered by one epoll_wait(2); more wait for the next turn. */
const BATCH = 512;

export class Epoll {
  readonly fd: number;
  readonly #events = new NativeBuffer(EVENT_SIZE * (BATCH + 1));
  readonly #view: DataView;

  constructor() {
    this.fd = epollCreate1(EPOLL_CLOEXEC);
    if (this.fd < 0) throw new Error(`epoll_create1: errno ${errno()}`);
    const { buffer, byteOffset, byteLength } = this.#events.bytes;
    this.#view = new DataView(buffer, byteOffset, byteLength);
  }

  #control(op: number, fd: number, mask: number): boolean {
    const at = EVENT_SIZE * BATCH;
    this.#view.setUint32(at, mask, true);
    this.#view.setUint32(at + DATA_AT, fd, true);
    return epollCtl(this.fd, op, fd, this.#events.address + at) === 0;
  }

  /** @returns false with errno, e.g. ENOSPC at fs.epoll.max_user_watches. */
  add(fd: number, mask: number): boolean {
    return this.#control(CTL_ADD, fd, mask);
  }

  modify(fd: number, mask: number): void {
    this.#control(CTL_MOD, fd, mask);
  }

  remove(fd: number): void {
    this.#control(CTL_DEL, fd, 0);
  }

  /** @returns how many events there are, 0 at the timeout (milliseconds) or after a signal. */
  wait(timeoutMs: number): number {
    return Math.max(0, epollWait(this.fd, this.#events.address, BATCH, timeoutMs));
  }

  fdAt(index: number): number {
    return this.#view.getUint32(index * EVENT_SIZE + DATA_AT, true);
  }

  maskAt(index: number): number {
    return this.#view.getUint32(index * EVENT_SIZE, true);
  }

  free(): void {
    this.#events.free();
  }
}

const EFD_FLAGS = 0o2004000; // EFD_CLOEXEC | EFD_NONBLOCK

/** @returns the descriptor of a new eventfd(2). */
export function openEventFd(): number {
  const fd = cEventfd(0, EFD_FLAGS);
  if (fd < 0) throw new Error(`eventfd: errno ${errno()}`);
  return fd;
}
