import type { NativeBuffer } from '../native/memory.ts';
import type { Loop } from '../reactor/loop.ts';
import type { StreamInbox } from './stream-inbox.ts';

export interface ByteSink {
  /** Bytes `[start, end)`, valid during the call only, all taken by it. */
  onBytes(from: NativeBuffer, start: number, end: number): void;
  /** The peer has ended and everything was delivered. */
  onBytesEnd(): void;
  /** Bytes that had waited were taken. */
  onBacklogTaken(): void;
}

/** Pushes what comes for a stream to whoever reads it, in order; while that one pauses, or before there is one, it waits in the inbox. */
export class PushReader {
  readonly #loop: Loop;
  readonly #inbox: StreamInbox;
  readonly #sink: ByteSink;
  #open = false;
  #paused = false;
  #ended = false;
  #stopped = false;
  #planned = false;

  constructor(loop: Loop, inbox: StreamInbox, sink: ByteSink) {
    this.#loop = loop;
    this.#inbox = inbox;
    this.#sink = sink;
  }

  /** Somebody listens from now on; what has waited comes later in this turn. */
  open(): void {
    this.#open = true;
    this.#plan();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#plan();
  }

  /** Nothing is delivered any more. */
  stop(): void {
    this.#stopped = true;
  }

  get #flowing(): boolean {
    return this.#open && !this.#paused && !this.#stopped;
  }

  /** New bytes, which the inbox has accounted for. */
  deliver(from: NativeBuffer, start: number, end: number): void {
    if (this.#stopped) return;
    if (!this.#flowing || this.#inbox.bytes > 0) {
      this.#inbox.hold(from, start, end);
      return;
    }
    this.#sink.onBytes(from, start, end);
    if (!this.#stopped) this.#inbox.credit(end - start);
  }

  /** The peer has ended. */
  end(): void {
    this.#ended = true;
    if (this.#flowing && this.#inbox.bytes === 0) this.#finish();
  }

  #finish(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#sink.onBytesEnd();
  }

  #plan(): void {
    if (this.#planned || !this.#flowing || (this.#inbox.bytes === 0 && !this.#ended)) return;
    this.#planned = true;
    this.#loop.later(() => this.#deliverHeld());
  }

  #deliverHeld(): void {
    this.#planned = false;
    const { scratch } = this.#loop;
    let taken = false;
    for (let first = this.#inbox.first; first !== null && this.#flowing; first = this.#inbox.first) {
      const length = Math.min(first.length, scratch.size);
      first.copy(scratch.bytes, 0, 0, length);
      this.#inbox.take(length);
      taken = true;
      this.#sink.onBytes(scratch, 0, length);
    }
    if (taken && !this.#stopped) this.#sink.onBacklogTaken();
    if (this.#ended && this.#flowing && this.#inbox.bytes === 0) this.#finish();
  }
}
