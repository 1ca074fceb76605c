import type { NativeBuffer } from '../../native/memory.ts';
import { BodyDecoder } from '../../protocol/http1/body-decoder.ts';
import type { HeadResult, HeadStatus, ParsedHead } from '../../protocol/http1/framing.ts';
import { ByteQueue } from '../../reactor/byte-queue.ts';
import type { Channel } from '../../reactor/channel.ts';
import type { Loop } from '../../reactor/loop.ts';
import type { HttpLimits } from '../../worker/messages.ts';

/**
 * The reading half of an HTTP/1 session: the messages of one connection, one after the other. ALWAYS: `#held` has everything that was read and
 * not used yet, and what comes later comes behind it; while it does, but for a head that has not ended yet, the channel is paused. NEVER is a
 * byte that could be part of a body taken for the beginning of a message.
 */
export abstract class MessageReader<Head> {
  readonly channel: Channel;
  protected readonly loop: Loop;
  protected readonly limits: HttpLimits;
  protected readonly body: BodyDecoder;
  #held: ByteQueue | null = null;
  #scheduled = false;
  #partial = false;

  constructor(loop: Loop, channel: Channel, limits: HttpLimits) {
    this.loop = loop;
    this.channel = channel;
    this.limits = limits;
    this.body = new BodyDecoder(limits);
  }

  /** What is held is the beginning of a head. */
  protected get partial(): boolean {
    return this.#partial;
  }

  /** Whether what comes next is taken now: `head`, `body` (anything but a head), or by nobody. */
  protected abstract reads(): 'head' | 'body' | 'nothing';
  /** @param seen bytes that an earlier call has looked at */
  protected abstract parseHead(bytes: Buffer, start: number, end: number, seen: number): HeadResult<Head>;
  /** @param more bytes came behind the head already */
  protected abstract onHead(parsed: ParsedHead<Head>, more: boolean): void;
  protected abstract onBadHead(status: HeadStatus, reason: string): void;
  /** The first bytes of a head came without its end. */
  protected abstract onHeadBegun(): void;
  /** Takes at least one byte. @returns the position after what was taken */
  protected abstract onBodyBytes(from: NativeBuffer, start: number, end: number): number;
  /** Nothing is read any more. */
  protected abstract get over(): boolean;

  onData(from: NativeBuffer, start: number, end: number): void {
    if (this.#held === null) this.#consume(from, start, end);
    else if (this.#partial) this.#continueHead(this.#held, from, start, end);
    else this.#held.push(from.bytes, start, end);
  }

  #consume(from: NativeBuffer, start: number, end: number): void {
    let at = start;
    while (at < end && !this.over) {
      const reads = this.reads();
      if (reads === 'head') at = this.#readHead(from.bytes, at, end);
      else if (reads === 'body') at = this.onBodyBytes(from, at, end);
      else {
        this.#held ??= new ByteQueue();
        this.#held.push(from.bytes, at, end);
        this.channel.pause();
        return;
      }
    }
  }

  #readHead(bytes: Buffer, start: number, end: number): number {
    const result = this.parseHead(bytes, start, end, 0);
    if (result.kind === 'head') {
      this.onHead(result, result.end < end);
      return result.end;
    }
    if (result.kind === 'error') this.onBadHead(result.status, result.reason);
    else {
      this.#held = new ByteQueue();
      this.#held.push(bytes, start, end);
      this.#partial = true;
      this.onHeadBegun();
    }
    return end;
  }

  #continueHead(held: ByteQueue, from: NativeBuffer, start: number, end: number): void {
    const seen = held.length;
    // No head is longer than the limit: what comes behind it is not copied.
    const taken = Math.min(end - start, Math.max(1, this.limits.headerBytes + 1 - seen));
    held.push(from.bytes, start, start + taken);
    const bytes = held.view;
    const result = this.parseHead(bytes, 0, bytes.length, seen);
    if (result.kind === 'error') this.onBadHead(result.status, result.reason);
    else if (result.kind === 'head') {
      this.#partial = false;
      this.#held = null;
      const at = start + result.end - seen;
      this.onHead(result, at < end);
      this.#consume(from, at, end);
    } else if (taken < end - start) this.onBadHead(431, 'a head that does not end');
  }

  /**
   * Somebody takes what comes next, perhaps: what is held comes later in this turn. Where nothing is held the channel is not stopped, whoever takes
   * it or not: an end is noticed, and what comes first is held.
   */
  protected proceed(): void {
    if (this.over) return;
    if (this.#held === null || this.#partial) this.channel.resume();
    else if (!this.#scheduled && this.reads() !== 'nothing') {
      this.#scheduled = true;
      this.loop.later(() => this.#consumeHeld());
    }
  }

  #consumeHeld(): void {
    this.#scheduled = false;
    const held = this.#held;
    if (held === null || this.#partial || this.over || this.reads() === 'nothing') return;
    this.#held = null;
    const { scratch } = this.loop;
    while (held.length > 0 && !this.over) {
      const length = held.copyTo(scratch.bytes);
      held.drop(length);
      this.onData(scratch, 0, length);
    }
    this.proceed();
  }

  /** Forgets what is held. */
  protected drop(): void {
    this.#held = null;
    this.#partial = false;
  }
}
