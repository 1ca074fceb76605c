import { NativeBuffer } from '../../../../../proxy/native/memory.ts';
import type { Channel, ChannelHandler } from '../../../../../proxy/reactor/channel.ts';
import type { FakeLoop } from './fake-loop.ts';

const CONGESTED_BYTES = 64 * 1024;
/** Shared: its view lives as long as the thread. */
const delivery = new NativeBuffer(256 * 1024);

/** A channel in memory. What the session writes is `written`; the test says what comes by `receive`. */
export class FakeChannel implements Channel {
  retiring = false;
  bytesRead = 0;
  bytesWritten = 0;
  congested = false;
  paused = false;
  /** How it ended; empty: it has not. */
  over: '' | 'finished' | 'aborted' | 'closed' = '';
  ended = false;
  detail = '';
  /** Whether the other side takes what is written; while not, it becomes congested. */
  taking = true;
  readonly #loop: FakeLoop;
  #handler: ChannelHandler | null = null;
  #written: Buffer[] = [];
  #unread = 0;
  /** What was received while nobody listened or the handler had paused. */
  #held: Buffer[] = [];
  /** Bytes of what is received that come in one event. */
  split = Number.POSITIVE_INFINITY;
  /** How often the session wrote. */
  writes = 0;

  constructor(loop: FakeLoop) {
    this.#loop = loop;
  }

  attach(handler: ChannelHandler): void {
    this.#handler = handler;
    this.#plan();
  }

  write(from: NativeBuffer, start: number, end: number): void {
    if (this.over !== '' || this.ended) return;
    this.writes++;
    this.bytesWritten += end - start;
    this.#written.push(Buffer.from(from.bytes.subarray(start, end)));
    if (this.taking) return;
    this.#unread += end - start;
    if (this.#unread > CONGESTED_BYTES) this.congested = true;
  }

  end(): void {
    this.ended = true;
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.#plan();
  }

  finish(): void {
    if (this.over === '') this.over = 'finished';
  }

  abort(detail: string): void {
    if (this.over !== '') return;
    this.over = 'aborted';
    this.detail = detail;
  }

  // ---- the other side ----

  /** Everything written since the last call. */
  take(): Buffer {
    const all = Buffer.concat(this.#written);
    this.#written = [];
    return all;
  }

  /** The other side takes everything again. */
  drain(): void {
    this.taking = true;
    this.#unread = 0;
    if (!this.congested) return;
    this.congested = false;
    this.#handler?.onDrain();
  }

  receive(bytes: Buffer): void {
    this.#held.push(bytes);
    this.#deliver();
  }

  receiveEnd(): void {
    if (this.over === '') this.#handler?.onEnd();
  }

  die(detail: string): void {
    if (this.over !== '') return;
    this.over = 'closed';
    this.#handler?.onClosed(detail);
  }

  #plan(): void {
    if (this.#held.length > 0) this.#loop.later(() => this.#deliver());
  }

  #deliver(): void {
    while (this.#held.length > 0 && this.#handler !== null && !this.paused && this.over === '') {
      const first = this.#held.shift() ?? Buffer.alloc(0);
      const length = Math.min(first.length, this.split, delivery.size);
      if (length < first.length) this.#held.unshift(first.subarray(length));
      first.copy(delivery.bytes, 0, 0, length);
      this.bytesRead += length;
      this.#handler.onData(delivery, 0, length);
    }
  }
}
