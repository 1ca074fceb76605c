import type { NativeBuffer } from '../../native/memory.ts';
import { type HeadResult, type HeadStatus, NO_BODY, type ParsedHead } from '../../protocol/http1/framing.ts';
import { parseRequestHead } from '../../protocol/http1/head-parser.ts';
import { localResponse } from '../../protocol/http1/local-response.ts';
import type { Http1RequestHead } from '../../protocol/http1/request-head.ts';
import type { Channel, ChannelHandler } from '../../reactor/channel.ts';
import type { Loop } from '../../reactor/loop.ts';
import { Timer } from '../../reactor/timers.ts';
import type { HttpLimits } from '../../worker/messages.ts';
import type { RequestHandler, ServerSession } from '../exchange.ts';
import { BodyWriter } from './body-writer.ts';
import { MessageReader } from './message-reader.ts';
import { payload, takePayload } from './payload.ts';
import { type ExchangeCarrier, type Fault, Http1ServerExchange } from './server-exchange.ts';
import { writeBytes } from './wire.ts';

/** What may come of a request's body after its response is complete, so that the connection can go on. */
const MAX_DISCARDED_BYTES = 64 * 1024;
/** How long a connection without a request stays while the sidecar drains: one that is on its way might not be safe to send again. As with HTTP/2's GOAWAY. */
const DRAIN_GRACE_MS = 1_000;

/**
 * `head`: the next request is awaited; `body`: of the request under way; `answer`: the request is complete, its response is not; `discard`: the
 * other way round; `raw`: no HTTP any more.
 */
type Phase = 'head' | 'body' | 'answer' | 'discard' | 'raw' | 'over';

/**
 * An HTTP/1 connection of whoever asks (RFC 9112): one request at a time, what is sent ahead waits.
 *
 * A client that ends its direction while it waits for a response is taken to have gone away, as Envoy, nginx and Node have it: nothing tells
 * it from one that did, and nobody does work for it in vain.
 */
export class Http1ServerSession
  extends MessageReader<Http1RequestHead>
  implements ServerSession, ChannelHandler, ExchangeCarrier
{
  readonly writer: BodyWriter;
  readonly #handler: RequestHandler;
  #phase: Phase = 'head';
  /** Null iff no request is under way. */
  #exchange: Http1ServerExchange | null = null;
  /** The request under way allows another after it. */
  #persists = true;
  /** The request under way waits for 100 before it sends its body. */
  #expects = false;
  #bodyBegun = false;
  /** Bytes of a body of known length that are still to come. */
  #bodyLeft = 0;
  #discarded = 0;
  #draining = false;
  #clientEnded = false;
  #answerEnded = false;
  readonly #timer = new Timer(() => this.#checkTime());
  /** Longest sleep of the timer: deadlines that are nearer arm it themselves, others are seen when it wakes. So a request arms none. */
  readonly #patienceMs: number;
  #lastActivity: number;
  /** When the head that has not ended yet began, or the throwing away of a body, or without a request the drain. */
  #since = 0;

  /** Takes the channel over. */
  constructor(loop: Loop, channel: Channel, handler: RequestHandler, limits: HttpLimits) {
    super(loop, channel, limits);
    this.writer = new BodyWriter(channel);
    this.#handler = handler;
    this.#patienceMs = Math.min(limits.keepAliveTimeoutMs, limits.streamIdleTimeoutMs || limits.keepAliveTimeoutMs);
    this.#lastActivity = loop.now;
    loop.arm(this.#timer, this.#patienceMs);
    channel.attach(this);
  }

  get active(): number {
    return this.#exchange === null ? 0 : 1;
  }

  protected get over(): boolean {
    return this.#phase === 'over';
  }

  // ---- what the client sends ----

  override onData(from: NativeBuffer, start: number, end: number): void {
    this.touch();
    super.onData(from, start, end);
  }

  protected reads(): 'head' | 'body' | 'nothing' {
    switch (this.#phase) {
      case 'head':
        // Who does not read its responses gets no more of them.
        return this.channel.congested ? 'nothing' : 'head';
      case 'body':
      case 'raw':
        return this.#exchange?.listener == null ? 'nothing' : 'body';
      case 'discard':
        return 'body';
      default:
        return 'nothing';
    }
  }

  protected parseHead(bytes: Buffer, start: number, end: number, seen: number): HeadResult<Http1RequestHead> {
    return parseRequestHead(bytes, start, end, this.limits, seen);
  }

  protected onHeadBegun(): void {
    this.#beginDeadline();
  }

  /** RFC 9112, section 9.2: after what cannot be understood nothing on the connection can. */
  protected onBadHead(status: HeadStatus | 408, reason: string): void {
    this.#enterOver();
    writeBytes(this.channel, closingReply(status, false));
    this.channel.finish();
    try {
      this.#handler.onRejected({ status, detail: reason, head: null });
    } finally {
      this.#handler.onSessionEnd(reason);
    }
  }

  protected onHead({ head, framing, keepAlive, expectContinue }: ParsedHead<Http1RequestHead>): void {
    const bodyless = framing === NO_BODY;
    const exchange = new Http1ServerExchange(this, head, bodyless);
    this.#exchange = exchange;
    this.#phase = bodyless ? 'answer' : 'body';
    this.#persists = keepAlive;
    this.#expects = expectContinue;
    this.#bodyBegun = false;
    this.#bodyLeft = framing.kind === 'length' ? framing.length : 0;
    if (!bodyless) this.body.begin(framing);
    try {
      this.#handler.onRequest(exchange);
    } catch (error) {
      // The loop writes it to the log.
      this.loop.later(() => {
        throw error;
      });
      if (exchange.responded) exchange.abort('internal error');
      else exchange.reply({ status: 500, headers: [], body: '' });
    }
  }

  protected onBodyBytes(from: NativeBuffer, start: number, end: number): number {
    const listener = this.#exchange?.listener ?? null;
    if (this.#phase === 'raw') {
      listener?.onRequestBody(from, start, end);
      return end;
    }
    const after = takePayload(this.body, from.bytes, start, end);
    const { start: first, end: last } = payload;
    this.#bodyBegun = true;
    this.#bodyLeft -= last - first;
    if (listener === null) this.#discarded += after - start;
    else if (last > first) listener.onRequestBody(from, first, last);
    if (!this.over) this.#checkBody();
    return after;
  }

  /** The body may be complete, or broken. Whoever took the last of it may have completed the response. */
  #checkBody(): void {
    const answered = this.#exchange === null;
    if (this.body.failure !== null) this.#breakOff(400, this.body.failure, 'protocol');
    else if (!this.body.done) {
      if (this.#discarded > MAX_DISCARDED_BYTES) this.#finish('');
    } else if (answered) this.#awaitRequest();
    else {
      this.#phase = 'answer';
      // Who paused the last of the body stops nothing any more.
      this.proceed();
      this.#exchange?.events?.onRequestEnd(this.body.trailers);
    }
  }

  onEnd(): void {
    if (this.#phase === 'raw') {
      this.#clientEnded = true;
      this.#exchange?.events?.onRequestEnd(null);
      if (this.#answerEnded) this.#finishRaw();
    } else if (this.#exchange !== null) this.#breakOff(0, 'the client closed its connection', 'disconnect');
    else this.#finish('');
  }

  onDrain(): void {
    this.touch();
    if (this.#phase === 'head') this.proceed();
    else this.#exchange?.events?.onResponseDrain();
  }

  onClosed(detail: string): void {
    this.#end(detail, 'disconnect');
  }

  // ---- what the exchange under way says ----

  mayPersist(): boolean {
    if (!this.#persists || this.#draining) return false;
    if (this.#phase !== 'body') return true;
    // Told without 100 what becomes of its request, a client may send the body or not (RFC 9110, section 10.1.1): nothing after it could be trusted.
    if (this.#expects && !this.#bodyBegun && this.#exchange?.continued === false) return false;
    return this.#bodyLeft <= MAX_DISCARDED_BYTES;
  }

  onListening(): void {
    this.proceed();
  }

  onPaused(): void {
    // While no body flows there is nothing to stop, and a client that goes away is noticed.
    if (this.#bodyBegun || this.#phase === 'raw') this.channel.pause();
  }

  onRaw(): void {
    this.#phase = 'raw';
    this.proceed();
  }

  onAnswered(closes: boolean): void {
    this.#exchange = null;
    this.touch();
    if (closes || this.#draining) this.#finish('');
    else if (this.#phase === 'body') {
      this.#phase = 'discard';
      this.#discarded = 0;
      this.#beginDeadline();
      this.proceed();
    } else this.#awaitRequest();
  }

  onRawFinished(): void {
    this.#answerEnded = true;
    if (this.#clientEnded) this.#finishRaw();
    else this.channel.end();
  }

  #finishRaw(): void {
    this.#exchange = null;
    this.#finish('');
  }

  onAborted(detail: string): void {
    this.#exchange = null;
    this.#enterOver();
    this.channel.abort(detail);
    this.#handler.onSessionEnd(detail);
  }

  touch(): void {
    this.#lastActivity = this.loop.now;
  }

  later(task: () => void): void {
    this.loop.later(task);
  }

  #awaitRequest(): void {
    this.#phase = 'head';
    this.proceed();
  }

  // ---- time ----

  #beginDeadline(): void {
    this.#since = this.loop.now;
    this.loop.arm(this.#timer, Math.min(this.limits.headersTimeoutMs, this.#patienceMs));
  }

  #checkTime(): void {
    const left = this.#deadline() - this.loop.now;
    if (left > 0) this.loop.arm(this.#timer, Math.min(left, this.#patienceMs));
    else this.#expire();
  }

  #deadline(): number {
    const { headersTimeoutMs, keepAliveTimeoutMs, streamIdleTimeoutMs } = this.limits;
    if (this.partial || this.#phase === 'discard') return this.#since + headersTimeoutMs;
    if (this.#phase === 'head')
      return this.#draining ? this.#since + DRAIN_GRACE_MS : this.#lastActivity + keepAliveTimeoutMs;
    return streamIdleTimeoutMs === 0 ? Number.POSITIVE_INFINITY : this.#lastActivity + streamIdleTimeoutMs;
  }

  #expire(): void {
    if (this.partial) this.onBadHead(408, 'the head of a request took too long');
    else if (this.#exchange === null) this.#finish(this.#draining ? 'drained' : 'idle');
    else {
      const waitsForBody = this.#phase === 'body';
      const detail = `no byte of the ${waitsForBody ? 'request' : 'response'} for ${this.limits.streamIdleTimeoutMs} ms`;
      this.#breakOff(waitsForBody ? 408 : 504, detail, 'timeout');
    }
  }

  // ---- ends ----

  drain(): void {
    if (this.#draining || this.over) return;
    this.#draining = true;
    if (this.#exchange !== null || this.partial) return;
    if (this.#phase !== 'head') {
      this.#finish('drained');
      return;
    }
    this.#since = this.loop.now;
    this.loop.arm(this.#timer, DRAIN_GRACE_MS);
  }

  close(detail: string): void {
    if (this.over) return;
    this.channel.abort(detail);
    this.#end(detail, 'disconnect');
  }

  /** Ends the request under way before its response is complete. `status`: of a last response where none has begun; 0: nobody is there to read it. */
  #breakOff(status: number, detail: string, fault: Fault): void {
    const exchange = this.#exchange;
    const answers = exchange !== null && status !== 0 && !exchange.responded;
    if (answers) writeBytes(this.channel, closingReply(status, exchange.head.method === 'HEAD'));
    if (answers || exchange === null) this.channel.finish();
    else this.channel.abort(detail);
    this.#end(detail, fault, answers ? status : 0);
  }

  /** Between two requests, or after the last. */
  #finish(detail: string): void {
    if (this.over) return;
    this.channel.finish();
    this.#end(detail, 'disconnect');
  }

  #end(detail: string, fault: Fault, status = 0): void {
    if (this.over) return;
    const exchange = this.#exchange;
    this.#exchange = null;
    this.#enterOver();
    try {
      exchange?.breakOff(detail, fault, status);
    } finally {
      this.#handler.onSessionEnd(detail);
    }
  }

  #enterOver(): void {
    this.#phase = 'over';
    this.drop();
    this.loop.cancel(this.#timer);
  }
}

/** The last response of a connection. */
function closingReply(status: number, headRequest: boolean): Buffer {
  return localResponse({ status, headers: [], body: '' }, { headRequest, close: true });
}
