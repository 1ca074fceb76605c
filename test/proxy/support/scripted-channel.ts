import { NativeBuffer } from '../../../proxy/native/memory.ts';
import type { Channel, ChannelHandler } from '../../../proxy/reactor/channel.ts';
import { type Loop, SCRATCH_BYTES } from '../../../proxy/reactor/loop.ts';
import { type Timer, TimerWheel } from '../../../proxy/reactor/timers.ts';

/** A loop without descriptors, whose turns and whose clock the test makes. */
export class ManualLoop {
  readonly scratch = new NativeBuffer(SCRATCH_BYTES);
  readonly faults: string[] = [];
  readonly #timers = new TimerWheel();
  #late: (() => void)[] = [];
  /** Timers armed so far. */
  arms = 0;
  now = 1_000_000;

  get loop(): Loop {
    return this as unknown as Loop;
  }

  later(task: () => void): void {
    this.#late.push(task);
  }

  last(task: () => void): void {
    this.#late.push(task);
  }

  arm(timer: Timer, delayMs: number): void {
    this.arms++;
    this.#timers.arm(timer, delayMs, this.now);
  }

  cancel(timer: Timer): void {
    this.#timers.cancel(timer);
  }

  /** Ends turns until nothing is put off any more. */
  settle(): void {
    for (let turns = 0; this.#late.length > 0; turns++) {
      if (turns > 1_000) throw new Error('the loop spins');
      const tasks = this.#late;
      this.#late = [];
      for (const task of tasks) {
        try {
          task();
        } catch (error) {
          this.faults.push(String(error));
        }
      }
    }
  }

  pass(ms: number): void {
    // As a loop that sleeps a little at a time: timers may be armed by timers.
    for (let left = ms; left > 0; left -= 50) {
      this.now += Math.min(50, left);
      this.#timers.advance(this.now);
      this.settle();
    }
  }

  free(): void {
    this.scratch.free();
  }
}

/** A channel in memory: the test is the other side. It keeps the contract of `Channel`, and complains of calls from within. */
export class ScriptedChannel implements Channel {
  readonly #loop: ManualLoop;
  #handler: ChannelHandler | null = null;
  #sent: Buffer[] = [];
  /** What the other side sent while nobody took it; null: its end. */
  #pending: (Buffer | null)[] = [];
  #paused = false;
  #scheduled = false;
  congested = false;
  retiring = false;
  bytesRead = 0;
  /** As of a socket: counted when the turn ends. */
  bytesWritten = 0;
  #unsent = 0;
  /** Writes so far. */
  writes = 0;
  ended = false;
  finished = false;
  aborted: string | null = null;

  constructor(loop: ManualLoop) {
    this.#loop = loop;
  }

  get over(): boolean {
    return this.finished || this.aborted !== null;
  }

  get paused(): boolean {
    return this.#paused;
  }

  attach(handler: ChannelHandler): void {
    this.#handler = handler;
  }

  write(from: NativeBuffer, start: number, end: number): void {
    if (this.over || this.ended) return;
    this.writes++;
    this.#sent.push(Buffer.from(from.bytes.subarray(start, end)));
    if (this.#unsent === 0) {
      this.#loop.last(() => {
        this.bytesWritten += this.#unsent;
        this.#unsent = 0;
      });
    }
    this.#unsent += end - start;
  }

  end(): void {
    if (!this.over) this.ended = true;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    if (this.#pending.length === 0 || this.#scheduled) return;
    this.#scheduled = true;
    this.#loop.later(() => {
      this.#scheduled = false;
      while (!this.#paused && this.#pending.length > 0) this.#deliver(this.#pending.shift() ?? null);
    });
  }

  finish(): void {
    if (!this.over) this.finished = true;
  }

  abort(detail: string): void {
    if (!this.over) this.aborted = detail;
  }

  // ---- the other side ----

  /** Everything written so far, taken. */
  take(): string {
    const all = Buffer.concat(this.#sent).toString('latin1');
    this.#sent = [];
    return all;
  }

  /** Sends bytes (one read), without ending the turn. */
  send(text: string): void {
    this.#come(Buffer.from(text, 'latin1'));
  }

  sendEnd(): void {
    this.#come(null);
  }

  #come(bytes: Buffer | null): void {
    if (this.#paused || this.#pending.length > 0) this.#pending.push(bytes);
    else this.#deliver(bytes);
  }

  #deliver(bytes: Buffer | null): void {
    if (this.over) return;
    if (bytes === null) {
      this.#handler?.onEnd();
      return;
    }
    this.bytesRead += bytes.length;
    bytes.copy(this.#loop.scratch.bytes);
    this.#handler?.onData(this.#loop.scratch, 0, bytes.length);
    // What is delivered is valid during the call only.
    this.#loop.scratch.bytes.fill(0xee, 0, bytes.length);
  }

  drain(): void {
    this.congested = false;
    this.#handler?.onDrain();
  }

  die(detail: string): void {
    if (this.over) return;
    this.aborted = 'died';
    this.#handler?.onClosed(detail);
  }
}
