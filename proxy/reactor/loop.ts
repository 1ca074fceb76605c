import { EPOLLIN, Epoll, openEventFd } from '../native/epoll.ts';
import { NativeBuffer } from '../native/memory.ts';
import { closeDescriptor, readInto } from '../native/socket.ts';
import { Outbox } from './outbox.ts';
import { type Timer, TimerWheel } from './timers.ts';

/** Whoever owns a descriptor. An exception thrown here ends what `onFault` decides, not the loop. */
export interface EventHandler {
  onEvents(mask: number): void;
  /** After `onEvents` threw: release everything; must not throw. */
  onFault(error: unknown): void;
}

/** Longest sleep: how late a shutdown from outside could be seen if its wake-up were lost. */
const IDLE_MS = 1000;

/** Bytes of the shared scratch buffer: one read, or the records gathered for one write. */
export const SCRATCH_BYTES = 256 * 1024;

/**
 * The event loop of a worker: level-triggered epoll, coarse timers, work put off to the end of the turn. It never awaits.
 * ALWAYS: a descriptor that was watched is closed by `close`, at the end of the turn, so that its number cannot be taken by a new connection
 * while events of the old one are still in the batch.
 */
export class Loop {
  readonly scratch = new NativeBuffer(SCRATCH_BYTES);
  /** What the channels of this loop write. */
  readonly outbox = new Outbox(this);
  readonly eventFd = openEventFd();
  readonly #epoll = new Epoll();
  readonly #handlers: (EventHandler | undefined)[] = [];
  /** What each watched descriptor waits for. */
  readonly #masks: number[] = [];
  readonly #timers = new TimerWheel();
  readonly #descriptors: Int32Array;
  #closing: number[] = [];
  #closingNext: number[] = [];
  #late: (() => void)[] = [];
  #lateNext: (() => void)[] = [];
  #last: (() => void)[] = [];
  #lastNext: (() => void)[] = [];
  #running = true;
  readonly #onWake: () => void;
  readonly #onFault: (error: unknown) => void;
  /** Monotonic milliseconds at the start of this turn. */
  now = performance.now();
  /** Channels that nobody writes to any more and that have not delivered everything yet: a drain waits for them. */
  undelivered = 0;
  /** Longest turn since it was last taken, milliseconds. */
  #longestTurn = 0;
  /** All turns since it was last taken, milliseconds. */
  #busy = 0;

  /**
   * @param descriptors bitmap of open descriptors, shared with whoever closes them if this thread dies
   * @param onWake another thread has written to `eventFd`
   * @param onFault an exception that a handler let out
   */
  constructor(descriptors: SharedArrayBuffer, onWake: () => void, onFault: (error: unknown) => void) {
    this.#descriptors = new Int32Array(descriptors);
    this.#onWake = onWake;
    this.#onFault = onFault;
    this.#mark(this.eventFd, true);
    this.#mark(this.#epoll.fd, true);
    this.#epoll.add(this.eventFd, EPOLLIN);
  }

  #mark(fd: number, open: boolean): void {
    const word = fd >> 5;
    if (word >= this.#descriptors.length) return;
    if (open) Atomics.or(this.#descriptors, word, 1 << (fd & 31));
    else Atomics.and(this.#descriptors, word, ~(1 << (fd & 31)));
  }

  /** Takes a descriptor over; mask 0: nothing is waited for yet. @returns false where the kernel refuses (the descriptor is then closed). */
  watch(fd: number, mask: number, handler: EventHandler): boolean {
    if (mask !== 0 && !this.#epoll.add(fd, mask)) {
      closeDescriptor(fd);
      return false;
    }
    this.#mark(fd, true);
    this.#handlers[fd] = handler;
    this.#masks[fd] = mask;
    return true;
  }

  /**
   * Changes what is waited for; costs nothing where it is the same. Mask 0 takes the descriptor out of epoll altogether: HUP and ERR cannot be
   * masked, and would come back in every turn from a connection that we do not want to read now.
   */
  rearm(fd: number, mask: number): void {
    const before = this.#masks[fd];
    if (mask === before || this.#handlers[fd] === undefined) return;
    this.#masks[fd] = mask;
    if (mask === 0) this.#epoll.remove(fd);
    else if (before !== 0) this.#epoll.modify(fd, mask);
    else if (!this.#epoll.add(fd, mask)) {
      // Nothing would ever wake it again.
      const handler = this.#handlers[fd];
      this.later(() => {
        if (this.#handlers[fd] === handler) handler?.onFault(new Error('epoll refuses the descriptor'));
      });
    }
  }

  /** Closes a descriptor whether it is watched yet or not: for whoever does not know how far a failure came. */
  discard(fd: number): void {
    if (this.#handlers[fd] === undefined) closeDescriptor(fd);
    else this.close(fd);
  }

  /** Hands a watched descriptor to another handler. */
  adopt(fd: number, mask: number, handler: EventHandler): void {
    this.#handlers[fd] = handler;
    this.rearm(fd, mask);
  }

  /** Ends the watch now, closes at the end of the turn. */
  close(fd: number): void {
    if (this.#handlers[fd] === undefined) return;
    this.#handlers[fd] = undefined;
    // A descriptor that still polls readable would come back in every turn until it is closed; it is closed in this one.
    this.#closing.push(fd);
  }

  /** As `close`, but only where the descriptor is still this handler's: after a failure nobody knows whether somebody else has adopted it. @returns whether it was */
  closeIfOf(fd: number, handler: EventHandler): boolean {
    if (this.#handlers[fd] !== handler) return false;
    this.close(fd);
    return true;
  }

  /** Runs `task` once, at the end of this turn: that is where what all connections produced leaves together. */
  later(task: () => void): void {
    this.#late.push(task);
  }

  /** As `later`, but after everything that was put off to the end of this turn: what those tasks wrote leaves with the rest. */
  last(task: () => void): void {
    this.#last.push(task);
  }

  arm(timer: Timer, delayMs: number): void {
    this.#timers.arm(timer, delayMs, this.now);
  }

  cancel(timer: Timer): void {
    this.#timers.cancel(timer);
  }

  /** Longest turn since the last call, milliseconds: how long an event may have waited. */
  takeLongestTurn(): number {
    const longest = this.#longestTurn;
    this.#longestTurn = 0;
    return longest;
  }

  /** Time spent in turns since the last call, milliseconds. */
  takeBusy(): number {
    const busy = this.#busy;
    this.#busy = 0;
    return busy;
  }

  stop(): void {
    this.#running = false;
  }

  run(): void {
    while (this.#running) this.#turn();
  }

  #turn(): void {
    const sleep = this.#late.length + this.#last.length > 0 ? 0 : this.#timers.sleepMs(performance.now(), IDLE_MS);
    const count = this.#epoll.wait(Math.ceil(sleep));
    this.now = performance.now();
    for (let i = 0; i < count; i++) {
      const fd = this.#epoll.fdAt(i);
      const handler = this.#handlers[fd];
      if (handler !== undefined) this.#dispatch(handler, this.#epoll.maskAt(i));
      else if (fd === this.eventFd) this.#woken();
    }
    try {
      this.#timers.advance(this.now);
    } catch (error) {
      this.#onFault(error);
    }
    this.#runLate();
    this.#runLast();
    this.#closeAll();
    const took = performance.now() - this.now;
    this.#busy += took;
    if (took > this.#longestTurn) this.#longestTurn = took;
  }

  #dispatch(handler: EventHandler, mask: number): void {
    try {
      handler.onEvents(mask);
    } catch (error) {
      this.#onFault(error);
      handler.onFault(error);
    }
  }

  #woken(): void {
    readInto(this.eventFd, this.scratch.address, 8);
    try {
      this.#onWake();
    } catch (error) {
      this.#onFault(error);
    }
  }

  #runLate(): void {
    // What is put off by a late task belongs to the next turn, unless it is about to close: two swapped lists, no allocation.
    const tasks = this.#late;
    this.#late = this.#lateNext;
    this.#runAll(tasks);
    this.#lateNext = tasks;
  }

  #runLast(): void {
    const tasks = this.#last;
    this.#last = this.#lastNext;
    this.#runAll(tasks);
    this.#lastNext = tasks;
  }

  #runAll(tasks: (() => void)[]): void {
    if (tasks.length === 0) return;
    for (const task of tasks) {
      try {
        task();
      } catch (error) {
        this.#onFault(error);
      }
    }
    tasks.length = 0;
  }

  #closeAll(): void {
    if (this.#closing.length === 0) return;
    const list = this.#closing;
    this.#closing = this.#closingNext;
    for (const fd of list) {
      this.#mark(fd, false);
      closeDescriptor(fd);
    }
    list.length = 0;
    this.#closingNext = list;
  }

  /** Closes every descriptor it still owns, but for `eventFd`: other threads write to it, so it stays marked for whoever buries this one. */
  destroy(): void {
    this.#closeAll();
    const own = [...this.#handlers.keys()].filter((fd) => this.#handlers[fd] !== undefined);
    for (const fd of [...own, this.#epoll.fd]) {
      // First unmarked: whoever buries this thread must not close a number that somebody else has got meanwhile.
      this.#mark(fd, false);
      closeDescriptor(fd);
    }
    this.#epoll.free();
    this.scratch.free();
    this.outbox.free();
  }
}
