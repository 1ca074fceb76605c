import { ErrorCode } from '../http2/frames.ts';
import { type ByteSink, PushReader } from '../http2/push-reader.ts';
import type { StreamInbox } from '../http2/stream-inbox.ts';
import { type OutboxEvents, StreamOutbox } from '../http2/stream-outbox.ts';
import type { NativeBuffer } from '../native/memory.ts';
import type { Channel, ChannelHandler } from '../reactor/channel.ts';
import { Timer } from '../reactor/timers.ts';
import type { TunnelStream } from './stream.ts';

/** After `finish`: how long the peer may take for what was written … */
const DELIVERY_MS = 60_000;
/** … and then for an end of its own. */
const LINGER_MS = 1_000;

/** A stream of a tunnel as a channel. */
export class StreamChannel implements Channel, ByteSink, OutboxEvents {
  readonly #stream: TunnelStream;
  readonly #reader: PushReader;
  readonly #outbox: StreamOutbox;
  #handler: ChannelHandler | null = null;
  /** Why it is dead, while there is nobody to be told. */
  #dead: string | null = null;
  /** Counted among the loop's. */
  #undelivered = false;
  /** No event comes any more: the owner of the channel has left it, or heard its end. */
  #left = false;
  readonly #giveUp = new Timer(() => {
    if (this.#outbox.endSent) this.#stream.leave();
    else this.#stream.abort('the peer does not take the last bytes', ErrorCode.CANCEL);
  });

  /** @param allowance how many bytes may leave before `answered` */
  constructor(stream: TunnelStream, inbox: StreamInbox, allowance: number) {
    const { loop, connection } = stream.tunnel;
    this.#stream = stream;
    this.#reader = new PushReader(loop, inbox, this);
    this.#outbox = new StreamOutbox(loop, connection.output, stream, this, allowance);
    if (stream.over) this.#dead = 'the stream is over';
  }

  // ---- Channel ----

  attach(handler: ChannelHandler): void {
    if (this.#left) return;
    this.#handler = handler;
    if (this.#dead !== null) this.#tellLater();
    this.#reader.open();
  }

  get congested(): boolean {
    return this.#outbox.congested;
  }

  write(from: NativeBuffer, start: number, end: number): void {
    if (this.#left || this.#stream.over) return;
    this.#stream.count(end - start);
    this.#stream.bytesToPeer += end - start;
    this.#outbox.write(from.bytes, start, end);
  }

  end(): void {
    if (!this.#left && !this.#stream.over) this.#outbox.end(null);
  }

  pause(): void {
    this.#reader.pause();
  }

  resume(): void {
    this.#reader.resume();
  }

  finish(): void {
    if (this.#left) return;
    this.#left = true;
    if (this.#stream.over) return;
    // What still comes is read and dropped, so that the peer can come to its own end.
    this.#reader.resume();
    this.#reader.open();
    this.#outbox.end(null);
    if (this.#stream.over) return;
    const { loop } = this.#stream.tunnel;
    this.#setUndelivered(!this.#outbox.endSent);
    loop.arm(this.#giveUp, this.#outbox.endSent ? LINGER_MS : DELIVERY_MS);
  }

  #setUndelivered(undelivered: boolean): void {
    if (undelivered === this.#undelivered) return;
    this.#undelivered = undelivered;
    this.#stream.tunnel.loop.undelivered += undelivered ? 1 : -1;
  }

  abort(detail: string): void {
    if (this.#left) return;
    this.#left = true;
    this.#stream.abort(detail, ErrorCode.CANCEL);
  }

  get retiring(): boolean {
    return this.#stream.tunnel.draining;
  }

  get bytesRead(): number {
    return this.#stream.bytesToApplication;
  }

  get bytesWritten(): number {
    return this.#stream.bytesToPeer;
  }

  // ---- from the stream ----

  deliver(from: NativeBuffer, start: number, end: number): void {
    this.#reader.deliver(from, start, end);
  }

  peerEnded(): void {
    this.#reader.end();
  }

  /** CONNECT was answered by 200. */
  answered(): void {
    this.#outbox.unlimited();
  }

  /** CONNECT was answered otherwise: the stream's end follows. */
  refused(detail: string): void {
    this.#dead = detail;
  }

  /** The peer wants no more of what is written. */
  writeNoMore(): void {
    this.#setUndelivered(false);
    this.#outbox.clear();
  }

  /** Window or room came back. */
  pump(): void {
    this.#outbox.pump();
  }

  /** The stream is over. @param detail null: both directions had ended */
  closed(detail: string | null): void {
    this.#stream.tunnel.loop.cancel(this.#giveUp);
    this.#setUndelivered(false);
    this.#reader.stop();
    this.#outbox.clear();
    if (detail === null) this.#left = true;
    this.#dead ??= detail;
    if (this.#handler !== null) this.#tellLater();
  }

  /** Perhaps it died of a call of the handler's own. */
  #tellLater(): void {
    this.#stream.tunnel.loop.later(() => this.#tellDeath());
  }

  #tellDeath(): void {
    if (this.#left || this.#dead === null) return;
    this.#left = true;
    this.#handler?.onClosed(this.#dead);
  }

  // ---- reader and outbox ----

  onBytes(from: NativeBuffer, start: number, end: number): void {
    try {
      if (!this.#left) this.#handler?.onData(from, start, end);
    } catch (error) {
      this.#onFault(error);
    }
  }

  onBytesEnd(): void {
    try {
      if (!this.#left) this.#handler?.onEnd();
    } catch (error) {
      this.#onFault(error);
    }
    this.#stream.readEnd();
  }

  /** What a handler lets out costs its stream, not the tunnel. */
  #onFault(error: unknown): void {
    const { loop } = this.#stream.tunnel;
    loop.later(() => {
      throw error;
    });
    this.#stream.abort('internal error', ErrorCode.INTERNAL_ERROR);
  }

  onBacklogTaken(): void {
    this.#stream.lastActivity = this.#stream.tunnel.loop.now;
    this.#stream.tunnel.connection.giveCredit();
  }

  onOutboxDrain(): void {
    try {
      if (!this.#left) this.#handler?.onDrain();
    } catch (error) {
      this.#onFault(error);
    }
  }

  onOutboxEnd(): void {
    this.#setUndelivered(false);
    this.#stream.sentEnd();
    if (this.#giveUp.armed) this.#stream.tunnel.loop.arm(this.#giveUp, LINGER_MS);
  }
}
