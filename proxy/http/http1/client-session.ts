import type { NativeBuffer } from '../../native/memory.ts';
import type { RequestHead, Trailers } from '../../protocol/http-head.ts';
import {
  type BodyFraming,
  CHUNKED,
  type HeadResult,
  type HeadStatus,
  NO_BODY,
  type ParsedHead,
  RAW,
} from '../../protocol/http1/framing.ts';
import { parseResponseHead } from '../../protocol/http1/head-parser.ts';
import { Http1RequestHead } from '../../protocol/http1/request-head.ts';
import type { Http1ResponseHead } from '../../protocol/http1/response-head.ts';
import type { Channel, ChannelHandler } from '../../reactor/channel.ts';
import type { Loop } from '../../reactor/loop.ts';
import { Timer } from '../../reactor/timers.ts';
import type { HttpLimits } from '../../worker/messages.ts';
import type {
  ClientExchange,
  ClientSession,
  ClientSessionOwner,
  ExchangeFailure,
  ResponseEvents,
} from '../exchange.ts';
import { BodyWriter } from './body-writer.ts';
import { Http1ClientExchange, type RequestCarrier } from './client-exchange.ts';
import { MessageReader } from './message-reader.ts';
import { payload, takePayload } from './payload.ts';
import { wireBuffer } from './wire.ts';

/** 1xx responses before the final one. */
const MAX_INFORMATIONAL = 32;
/** The session towards whoever asked watches over the same idleness, and comes first: it knows by which name it goes. */
const IDLE_GRACE_MS = 1_000;

/** Schemes whose credentials a server takes for the connection's, not the request's (RFC 4559, section 6): who comes next on it would be taken for this caller. */
const CONNECTION_CREDENTIALS = /(?:^|,)\s*(?:ntlm|negotiate)(?:\s|$)/i;

/** `idle`: no request is under way; `head`: of its response; `body`; `raw`: no HTTP any more. */
type Phase = 'idle' | 'head' | 'body' | 'raw' | 'over';

/**
 * An HTTP/1 connection to whoever answers (RFC 9112): one request at a time. ALWAYS: it carries another only after a response that was complete, that
 * allows it, and whose request was sent in full and left no credentials on the connection. NEVER are bytes taken for a response that came before their
 * request had left.
 */
export class Http1ClientSession
  extends MessageReader<Http1ResponseHead>
  implements ClientSession, ChannelHandler, RequestCarrier
{
  readonly writer: BodyWriter;
  readonly #owner: ClientSessionOwner;
  #phase: Phase = 'idle';
  /** Null iff idle or over. */
  #exchange: Http1ClientExchange | null = null;
  /** The response under way allows another request after it. */
  #persists = false;
  /** The connection is this caller's from now on. */
  #claimed = false;
  #informational = 0;
  /** `channel.bytesWritten` before the request under way. */
  #sentBefore = 0;
  #retiring = false;
  /** Raw: the other side has ended its direction. */
  #answerEnded = false;
  #idleSince: number;
  /** Armed by a request where it is not armed anyway; sleeps at most `#patienceMs`. So most requests arm none. */
  readonly #timer = new Timer(() => this.#checkTime());
  /** 0: no request has a deadline. */
  readonly #patienceMs: number;
  #lastActivity: number;
  /** When the request was sent in full; infinite before. */
  #writtenAt = Number.POSITIVE_INFINITY;

  /** Takes the channel over. */
  constructor(loop: Loop, channel: Channel, owner: ClientSessionOwner, limits: HttpLimits) {
    super(loop, channel, limits);
    this.writer = new BodyWriter(channel);
    this.#owner = owner;
    const { streamIdleTimeoutMs, requestTimeoutMs } = limits;
    const [a, b] = [streamIdleTimeoutMs || requestTimeoutMs, requestTimeoutMs || streamIdleTimeoutMs];
    this.#patienceMs = Math.min(a, b);
    this.#idleSince = loop.now;
    this.#lastActivity = loop.now;
    channel.attach(this);
  }

  get room(): number {
    return this.#phase === 'idle' && !this.#retiring && !this.channel.retiring ? 1 : 0;
  }

  get active(): number {
    return this.#exchange === null ? 0 : 1;
  }

  get idleSince(): number {
    return this.#idleSince;
  }

  protected get over(): boolean {
    return this.#phase === 'over';
  }

  // ---- the request ----

  /** @throws Error where there is no room; TypeError where the head is of another version; RangeError where it cannot be sent */
  begin(head: RequestHead, ends: boolean, events: ResponseEvents): ClientExchange {
    if (this.room === 0) throw new Error('the connection has no room for a request');
    if (!(head instanceof Http1RequestHead)) throw new TypeError('an HTTP/1 connection carries HTTP/1 requests');
    const framing = requestFraming(head, ends);
    const wire = wireBuffer(head.encodedBytes());
    const end = head.encode(wire.bytes, 0, framing, ends && head.upgrade !== null ? 'upgrade' : 'keep-alive');
    const exchange = new Http1ClientExchange(this, head, ends, events);
    const credentials = head.get('authorization');
    this.#claimed = credentials !== null && CONNECTION_CREDENTIALS.test(credentials);
    this.#exchange = exchange;
    this.#phase = 'head';
    this.#informational = 0;
    this.#sentBefore = this.channel.bytesWritten;
    this.#writtenAt = ends ? this.loop.now : Number.POSITIVE_INFINITY;
    this.channel.write(wire, 0, end);
    this.writer.begin(framing);
    this.touch();
    if (this.#patienceMs > 0 && !this.#timer.armed) this.loop.arm(this.#timer, this.#patienceMs);
    return exchange;
  }

  onRequestWritten(): void {
    this.#writtenAt = this.loop.now;
    this.touch();
  }

  onRawFinished(): void {
    if (this.#answerEnded) this.#retireNow('');
    else this.channel.end();
  }

  onBadRequestBody(detail: string): void {
    // Not from within: whoever writes does not expect it to be over.
    const exchange = this.#exchange;
    this.channel.abort(detail);
    exchange?.release();
    this.loop.later(() => {
      if (this.#exchange === exchange) this.#fail('protocol', detail);
    });
  }

  onAbandoned(detail: string): void {
    this.channel.abort(detail);
    this.#enterOver();
    this.#owner.onSessionEnd(this, detail);
  }

  onPaused(): void {
    if (this.#phase === 'body' || this.#phase === 'raw') this.channel.pause();
  }

  onResumed(): void {
    this.proceed();
  }

  touch(): void {
    this.#lastActivity = this.loop.now;
  }

  // ---- the response ----

  override onData(from: NativeBuffer, start: number, end: number): void {
    this.touch();
    if (this.#exchange === null) {
      this.channel.abort('bytes without a request');
      this.#enterOver();
      this.#owner.onSessionEnd(this, 'the peer sent bytes without a request');
    } else if (this.#phase === 'head' && this.#nothingSent()) {
      this.#fail('refused', 'the peer sent bytes before the request');
    } else super.onData(from, start, end);
  }

  #nothingSent(): boolean {
    return this.channel.bytesWritten === this.#sentBefore;
  }

  protected reads(): 'head' | 'body' | 'nothing' {
    if (this.#phase === 'head') return 'head';
    if (this.#phase === 'idle' || this.#phase === 'over') return 'nothing';
    return this.#exchange?.paused === false ? 'body' : 'nothing';
  }

  protected parseHead(bytes: Buffer, start: number, end: number, seen: number): HeadResult<Http1ResponseHead> {
    return parseResponseHead(bytes, start, end, this.limits, this.#exchange?.head.method ?? '', seen);
  }

  /** The idle timeout watches over it. */
  protected onHeadBegun(): void {}

  protected onBadHead(_status: HeadStatus, reason: string): void {
    this.#fail('protocol', reason);
  }

  protected onHead({ head, framing, keepAlive }: ParsedHead<Http1ResponseHead>, more: boolean): void {
    const exchange = this.#exchange;
    if (exchange === null) return;
    if (head.status < 200 && head.status !== 101) {
      if (++this.#informational > MAX_INFORMATIONAL) this.#fail('protocol', 'too many 1xx responses');
      else exchange.events.onInformational(head);
      return;
    }
    this.#persists = keepAlive && !this.#claimed;
    if (framing === RAW) this.#becomeRaw(exchange, head);
    else if (framing === NO_BODY) this.#complete(exchange, head, null, more);
    else {
      this.body.begin(framing);
      this.#phase = 'body';
      exchange.events.onResponse(head, false);
    }
  }

  #becomeRaw(exchange: Http1ClientExchange, head: Http1ResponseHead): void {
    if (head.status === 101 && head.upgrade !== exchange.head.upgrade) {
      this.#fail('protocol', '101 to a protocol that was not asked for');
      return;
    }
    this.#phase = 'raw';
    this.body.begin(RAW);
    this.writer.begin(RAW);
    exchange.becomeRaw();
    exchange.events.onResponse(head, false);
  }

  protected onBodyBytes(from: NativeBuffer, start: number, end: number): number {
    const exchange = this.#exchange;
    if (exchange === null) return end;
    const after = takePayload(this.body, from.bytes, start, end);
    const { start: first, end: last } = payload;
    if (last > first) exchange.events.onResponseBody(from, first, last);
    // Whoever took it may have ended the exchange.
    if (this.#exchange !== exchange) return end;
    if (this.body.failure !== null) this.#fail('protocol', this.body.failure);
    else if (this.body.done) this.#complete(exchange, null, this.body.trailers, after < end);
    return after;
  }

  /**
   * The response is whole. The session is free, or over, before anybody hears of it: who does may begin the next request at once.
   * @param head where there is no body
   * @param excess bytes came behind it: somebody reads its end elsewhere than we do
   */
  #complete(exchange: Http1ClientExchange, head: Http1ResponseHead | null, trailers: Trailers | null, excess: boolean) {
    const reusable = this.#persists && exchange.written && !excess && !this.#retiring && !this.channel.retiring;
    exchange.release();
    this.#exchange = null;
    if (reusable) {
      this.#phase = 'idle';
      this.#idleSince = this.loop.now;
      this.channel.resume();
    } else {
      this.#enterOver();
      if (exchange.written && !excess) this.channel.finish();
      else this.channel.abort('the response came before the end of the request, or with more behind it');
    }
    try {
      if (head !== null) exchange.events.onResponse(head, true);
      else exchange.events.onResponseEnd(trailers);
    } finally {
      if (!reusable) this.#owner.onSessionEnd(this, '');
      else if (this.room > 0) this.#owner.onRoom(this);
    }
  }

  onEnd(): void {
    const exchange = this.#exchange;
    if (exchange === null) this.#retireNow('the peer closed the connection');
    else if (this.#phase === 'raw') {
      this.#answerEnded = true;
      exchange.events.onResponseEnd(null);
      if (this.#exchange === exchange && exchange.written) this.#retireNow('');
    } else if (this.#phase === 'body') {
      this.body.endOfInput();
      if (this.body.failure !== null) this.#fail('reset', this.body.failure);
      else this.#complete(exchange, null, null, false);
    } else this.#lose('the peer closed the connection');
  }

  onDrain(): void {
    this.touch();
    this.#exchange?.events.onRequestDrain();
  }

  onClosed(detail: string): void {
    if (this.#exchange !== null) this.#lose(detail);
    else if (!this.over) {
      this.#enterOver();
      this.#owner.onSessionEnd(this, detail);
    }
  }

  // ---- time ----

  #checkTime(): void {
    if (this.#exchange === null) return;
    const { streamIdleTimeoutMs, requestTimeoutMs } = this.limits;
    const never = Number.POSITIVE_INFINITY;
    const idle = streamIdleTimeoutMs === 0 ? never : this.#lastActivity + streamIdleTimeoutMs + IDLE_GRACE_MS;
    const late = requestTimeoutMs === 0 || this.#phase === 'raw' ? never : this.#writtenAt + requestTimeoutMs;
    const left = Math.min(idle, late) - this.loop.now;
    if (left > 0) this.loop.arm(this.#timer, Math.min(left, this.#patienceMs));
    else if (late <= idle) this.#fail('timeout', `no complete response within ${requestTimeoutMs} ms`);
    else this.#fail('timeout', `no byte for ${streamIdleTimeoutMs} ms`);
  }

  // ---- ends ----

  retire(): void {
    this.#retiring = true;
    if (this.#phase === 'idle') this.#retireNow('retired');
  }

  close(detail: string): void {
    if (this.#exchange !== null) this.#fail('reset', detail);
    else if (!this.over) {
      this.channel.abort(detail);
      this.#enterOver();
      this.#owner.onSessionEnd(this, detail);
    }
  }

  /** Idle, or raw after both ends. */
  #retireNow(detail: string): void {
    if (this.over) return;
    this.channel.finish();
    this.#exchange?.release();
    this.#enterOver();
    this.#owner.onSessionEnd(this, detail);
  }

  /** The connection went away under a request. What broke off within a response must not be asked for again: it may have been answered. */
  #lose(detail: string): void {
    if (this.partial) this.#fail('protocol', `${detail}, within the head of a response`);
    else this.#fail(this.#phase === 'head' && this.#nothingSent() ? 'refused' : 'reset', detail);
  }

  #fail(kind: ExchangeFailure['kind'], detail: string): void {
    const exchange = this.#exchange;
    if (exchange === null) return;
    this.channel.abort(detail);
    exchange.release();
    this.#enterOver();
    try {
      exchange.events.onFailed({ kind, detail });
    } finally {
      this.#owner.onSessionEnd(this, detail);
    }
  }

  #enterOver(): void {
    this.#phase = 'over';
    this.#exchange = null;
    this.drop();
    this.loop.cancel(this.#timer);
  }
}

/** RFC 9112, section 6.3. */
function requestFraming({ contentLength }: Http1RequestHead, ends: boolean): BodyFraming {
  if (ends) return NO_BODY;
  return contentLength === null ? CHUNKED : { kind: 'length', length: contentLength };
}
