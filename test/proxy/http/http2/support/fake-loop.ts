import { NativeBuffer } from '../../../../../proxy/native/memory.ts';
import type { Loop } from '../../../../../proxy/reactor/loop.ts';
import { type Timer, TimerWheel } from '../../../../../proxy/reactor/timers.ts';

/** A loop without descriptors: turns are made by hand and time passes by hand. */
export class FakeLoop {
  readonly scratch = new NativeBuffer(256 * 1024);
  now = 1_000_000;
  /** What tasks let out, which the real loop reports. */
  readonly faults: unknown[] = [];
  readonly #timers = new TimerWheel();
  #late: (() => void)[] = [];
  #last: (() => void)[] = [];

  constructor() {
    this.#timers.advance(this.now);
  }

  /** For whoever wants the real one: what is not here is not used without descriptors. */
  get loop(): Loop {
    return this as unknown as Loop;
  }

  later(task: () => void): void {
    this.#late.push(task);
  }

  last(task: () => void): void {
    this.#last.push(task);
  }

  arm(timer: Timer, delayMs: number): void {
    this.#timers.arm(timer, delayMs, this.now);
  }

  cancel(timer: Timer): void {
    this.#timers.cancel(timer);
  }

  /** One turn, as the real loop's: what is put off meanwhile belongs to the next. */
  turn(): void {
    for (const list of ['late', 'last'] as const) {
      const tasks = list === 'late' ? this.#late : this.#last;
      if (list === 'late') this.#late = [];
      else this.#last = [];
      for (const task of tasks) this.#run(task);
    }
  }

  #run(task: () => void): void {
    try {
      task();
    } catch (error) {
      this.faults.push(error);
    }
  }

  /** Turns until nothing is left to do. @throws where that never comes. */
  settle(): void {
    for (let turns = 0; this.#late.length + this.#last.length > 0; turns++) {
      if (turns > 10_000) throw new Error('the loop spins');
      this.turn();
    }
  }

  /** Lets time pass, with all that it brings. */
  pass(ms: number): void {
    for (let left = ms; left > 0; left -= 16) {
      this.now += Math.min(16, left);
      this.#run(() => this.#timers.advance(this.now));
      this.settle();
    }
  }
}
