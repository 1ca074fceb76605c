import type { Http2Connection } from '../../http2/connection.ts';
import { ErrorCode, errorCodeName } from '../../http2/frames.ts';
import { type ByteSink, PushReader } from '../../http2/push-reader.ts';
import type { Http2Stream } from '../../http2/stream.ts';
import { StreamInbox } from '../../http2/stream-inbox.ts';
import { type OutboxEvents, StreamOutbox } from '../../http2/stream-outbox.ts';
import type { NativeBuffer } from '../../native/memory.ts';
import type { HeaderList } from '../../protocol/hpack/header-list.ts';
import type { Trailers } from '../../protocol/http-head.ts';
import { readTrailers } from './field-rules.ts';
import { Http2Fields, trailerList } from './fields.ts';

export type HttpConnection = Http2Connection<ExchangeStream>;

/** What a stream's receive window grows to while its reader keeps up. Bytes. */
const MAX_STREAM_WINDOW = 1024 * 1024;

/** `lost`: the connection is gone; `fault`: the peer broke the protocol; `evicted`: its reader was too slow for all others. */
export type BreakKind = 'refused' | 'reset' | 'lost' | 'fault' | 'timeout' | 'evicted';

/**
 * A request with its response as a stream (RFC 9113, section 8.1): what is the same on both sides. ALWAYS: the body that comes agrees with its
 * content-length, and whoever listens hears of the end exactly once, never from within a call of its own.
 */
export abstract class ExchangeStream implements Http2Stream, ByteSink, OutboxEvents {
  readonly id: number;
  sendWindow: number;
  lastActivity: number;
  protected readonly connection: HttpConnection;
  protected readonly outbox: StreamOutbox;
  readonly #inbox: StreamInbox;
  readonly #reader: PushReader;
  /** Of the message that comes: what is left of its content-length; null: it has none. */
  #bodyLeft: number | null = null;
  #trailers: Trailers | null = null;
  #headRead = false;
  #peerEnded = false;
  /** The peer's message was delivered to its end. */
  #delivered = false;
  #paused = false;
  #over = false;

  constructor(connection: HttpConnection, id: number, sendWindow: number) {
    const { loop, output, streamWindow } = connection;
    this.connection = connection;
    this.id = id;
    this.sendWindow = sendWindow;
    this.lastActivity = loop.now;
    this.#inbox = new StreamInbox(output, id, streamWindow, MAX_STREAM_WINDOW);
    this.#reader = new PushReader(loop, this.#inbox, this);
    this.outbox = new StreamOutbox(loop, output, this, this, Number.POSITIVE_INFINITY);
  }

  get over(): boolean {
    return this.#over;
  }

  get peerEnded(): boolean {
    return this.#peerEnded;
  }

  /** The reader has paused and bytes wait for it: it is not the peer that is silent. */
  protected get held(): boolean {
    return this.#paused && this.#inbox.bytes > 0;
  }

  get endedOnWire(): boolean {
    return this.#peerEnded && this.outbox.endSent;
  }

  get backlogBytes(): number {
    return this.#inbox.bytes;
  }

  abstract readonly joined: boolean;

  // ---- the two sides ----

  /** The message's first header block, or its next where `onHead` said there is one. @returns whether the head is complete */
  protected abstract onHead(headers: HeaderList | null, ends: boolean): boolean;
  protected abstract onBody(from: NativeBuffer, start: number, end: number): void;
  protected abstract onMessageEnd(trailers: Trailers | null): void;
  protected abstract onDrained(): void;
  /** The stream is over before it was complete: tell whoever listens. */
  protected abstract onBroken(kind: BreakKind, detail: string): void;

  // ---- from the connection ----

  onHeaders(headers: HeaderList | null, ends: boolean): void {
    if (this.#over) return;
    this.lastActivity = this.connection.loop.now;
    if (this.#peerEnded) this.fault('HEADERS after the end', ErrorCode.STREAM_CLOSED);
    else if (!this.#headRead) this.#headRead = this.onHead(headers, ends);
    else this.#onTrailers(headers, ends);
  }

  #onTrailers(headers: HeaderList | null, ends: boolean): void {
    const lines =
      headers === null ? 'trailers are larger than allowed' : readTrailers(headers, !this.connection.isClient);
    if (typeof lines === 'string') this.fault(lines, ErrorCode.PROTOCOL_ERROR);
    else if (!ends) this.fault('a second head', ErrorCode.PROTOCOL_ERROR);
    else {
      this.#trailers = new Http2Fields(lines);
      this.onPeerEnd();
    }
  }

  /** What the head says of the body. @param length null: unknown */
  protected expectBody(length: number | null): void {
    this.#bodyLeft = length;
  }

  deliver(from: NativeBuffer, start: number, end: number): void {
    if (this.#over) return;
    const length = end - start;
    if (this.#peerEnded) this.fault('DATA after the end', ErrorCode.STREAM_CLOSED);
    else if (!this.#headRead) this.fault('DATA before the head', ErrorCode.PROTOCOL_ERROR);
    else if (!this.#inbox.receive(length)) this.fault('more than the window', ErrorCode.FLOW_CONTROL_ERROR);
    else if (this.#bodyLeft !== null && length > this.#bodyLeft) {
      this.fault('the body is longer than its content-length', ErrorCode.PROTOCOL_ERROR);
    } else {
      if (this.#bodyLeft !== null) this.#bodyLeft -= length;
      this.lastActivity = this.connection.loop.now;
      this.#reader.deliver(from, start, end);
    }
  }

  onPadding(bytes: number): void {
    if (this.#over || this.#peerEnded) return;
    this.#inbox.receive(bytes);
    this.#inbox.credit(bytes);
  }

  onPeerEnd(): void {
    if (this.#over) return;
    if (this.#peerEnded || !this.#headRead) this.fault('an end out of place', ErrorCode.STREAM_CLOSED);
    else if (this.#bodyLeft !== null && this.#bodyLeft > 0) {
      this.fault('the body is shorter than its content-length', ErrorCode.PROTOCOL_ERROR);
    } else {
      this.noteEnd(false);
      this.#reader.end();
    }
  }

  /** The peer's message has ended. @param withHead there was nothing but its head, which was told */
  protected noteEnd(withHead: boolean): void {
    this.#headRead = true;
    this.#peerEnded = true;
    this.#inbox.ended = true;
    this.#delivered = withHead;
  }

  onPeerReset(code: number): void {
    if (this.#over) return;
    if (code === ErrorCode.NO_ERROR && this.#peerEnded && this.connection.isClient) {
      // RFC 9113, 8.1: it has answered and wants no more of us; the answer is still delivered.
      this.outbox.clear();
      this.onOutboxEnd();
      return;
    }
    this.break(code === ErrorCode.REFUSED_STREAM ? 'refused' : 'reset', resetDetail(code), -1);
  }

  onConnectionLost(reason: string): void {
    if (this.#over) return;
    if (this.#peerEnded && this.connection.isClient) {
      // The answer is complete but for what its reader has not taken yet.
      this.outbox.clear();
      this.settle();
    } else this.break('lost', reason, -1);
  }

  unstall(): void {
    if (!this.#over) this.outbox.pump();
  }

  evict(detail: string): void {
    this.break('evicted', detail, ErrorCode.CANCEL);
  }

  fail(detail: string, code: number): void {
    this.break('fault', detail, code);
  }

  abstract check(now: number): void;

  // ---- reader and outbox ----

  onBytes(from: NativeBuffer, start: number, end: number): void {
    try {
      this.onBody(from, start, end);
    } catch (error) {
      this.onListenerFault(error);
    }
  }

  onBytesEnd(): void {
    if (this.#over) return;
    try {
      this.onMessageEnd(this.#trailers);
    } catch (error) {
      this.onListenerFault(error);
    }
    this.#delivered = true;
    this.settle();
  }

  onBacklogTaken(): void {
    this.lastActivity = this.connection.loop.now;
    this.connection.giveCredit();
  }

  onOutboxDrain(): void {
    if (this.#over) return;
    try {
      this.onDrained();
    } catch (error) {
      this.onListenerFault(error);
    }
  }

  onOutboxEnd(): void {
    if (this.#over) return;
    this.lastActivity = this.connection.loop.now;
    if (this.connection.isClient) {
      this.settle();
      return;
    }
    // RFC 9113, 8.1: the response is complete, the rest of the request is not wanted.
    if (!this.#peerEnded) this.connection.output.sendReset(this.id, ErrorCode.NO_ERROR);
    this.end();
  }

  /** Ends where both messages are complete and delivered. */
  protected settle(): void {
    if (this.#delivered && this.outbox.endSent) this.end();
  }

  // ---- for whoever carries the exchange ----

  write(from: NativeBuffer, start: number, end: number): void {
    if (!this.#over) this.outbox.write(from.bytes, start, end);
  }

  finish(trailers: Trailers | null): void {
    if (this.#over) return;
    const list = trailers === null ? null : trailerList(trailers);
    this.outbox.end(list === null || list.length === 0 ? null : list);
  }

  get congested(): boolean {
    return this.outbox.congested;
  }

  pause(): void {
    this.#paused = true;
    this.#reader.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#reader.resume();
  }

  protected openReader(): void {
    this.#reader.open();
  }

  // ---- ends ----

  /** The peer broke the protocol within this stream. */
  protected fault(detail: string, code: number): void {
    this.break('fault', detail, code);
    this.connection.notePeerFault();
  }

  /** @param code RST_STREAM to send; -1: none */
  protected break(kind: BreakKind, detail: string, code: number): void {
    if (this.#over) return;
    if (code >= 0) this.connection.output.sendReset(this.id, code);
    this.end();
    this.onBroken(kind, detail);
  }

  /** Nothing of it is left on the connection. */
  protected end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#reader.stop();
    this.outbox.clear();
    this.#inbox.clear();
    this.connection.forget(this);
  }

  /** What whoever listens lets out costs this exchange, not the connection; the loop reports it. */
  protected onListenerFault(error: unknown): void {
    this.connection.loop.later(() => {
      throw error;
    });
    this.break('fault', 'internal error', ErrorCode.INTERNAL_ERROR);
  }
}

function resetDetail(code: number): string {
  return `peer reset the stream: ${errorCodeName(code)}`;
}
