import type { NativeBuffer } from '../../native/memory.ts';
import type { LocalReply, ResponseHead, Trailers } from '../../protocol/http-head.ts';
import { type BodyFraming, CHUNKED, NO_BODY, RAW, UNTIL_CLOSE } from '../../protocol/http1/framing.ts';
import { localResponse } from '../../protocol/http1/local-response.ts';
import type { Http1RequestHead } from '../../protocol/http1/request-head.ts';
import { Http1ResponseHead } from '../../protocol/http1/response-head.ts';
import type { Channel } from '../../reactor/channel.ts';
import type { RequestEvents, ServerExchange } from '../exchange.ts';
import type { BodyWriter } from './body-writer.ts';
import { wireBuffer, writeBytes } from './wire.ts';

export type Fault = 'disconnect' | 'protocol' | 'timeout';

/** What an exchange needs of its session. */
export interface ExchangeCarrier {
  readonly channel: Channel;
  readonly writer: BodyWriter;
  /** Whether the connection may carry another request after this one, as far as that is known when the response begins. */
  mayPersist(): boolean;
  /** The request's body is wanted (again). */
  onListening(): void;
  onPaused(): void;
  /** 101, or a 2xx of CONNECT, was sent. */
  onRaw(): void;
  /** The response is complete; `closes`: it said that it is the last. */
  onAnswered(closes: boolean): void;
  /** Raw: no more will be written. */
  onRawFinished(): void;
  /** The response cannot be completed. */
  onAborted(detail: string): void;
  /** Something passed in the response's direction. */
  touch(): void;
  /** Runs `task` later in this turn. */
  later(task: () => void): void;
}

const KEEP_ALIVE_LINE = 'Connection: keep-alive\r\n\r\n';

/** One request on an HTTP/1 connection, and the writing of its response. */
export class Http1ServerExchange implements ServerExchange {
  readonly head: Http1RequestHead;
  readonly bodyless: boolean;
  readonly #carrier: ExchangeCarrier;
  /** Null until somebody listens. */
  events: RequestEvents | null = null;
  /** 100 was sent: the client may be sending its body. */
  continued = false;
  #paused = false;
  #responded = false;
  #raw = false;
  #closes = false;
  /** Raw: the response's direction has ended. */
  #rawFinished = false;
  /** The response is complete, or the connection is gone. */
  #over = false;
  /** What nobody listened to. */
  #missed: { readonly detail: string; readonly fault: Fault; readonly status: number } | null = null;

  constructor(carrier: ExchangeCarrier, head: Http1RequestHead, bodyless: boolean) {
    this.#carrier = carrier;
    this.head = head;
    this.bodyless = bodyless;
  }

  get responded(): boolean {
    return this.#responded;
  }

  /** Who takes the request's body now. */
  get listener(): RequestEvents | null {
    return this.#paused ? null : this.events;
  }

  receive(events: RequestEvents): void {
    this.events = events;
    const missed = this.#missed;
    if (missed !== null) {
      const { detail, fault, status } = missed;
      this.#carrier.later(() => events.onRequestAborted(detail, fault, status));
    } else if (!this.#paused) this.#carrier.onListening();
  }

  /** Of the session: whoever asked is gone, or is treated so. @param status of the response that the session has sent; 0: none */
  breakOff(detail: string, fault: Fault, status: number): void {
    if (this.#over) return;
    this.#over = true;
    if (this.events === null) this.#missed = { detail, fault, status };
    else this.events.onRequestAborted(detail, fault, status);
  }

  get congested(): boolean {
    return !this.#over && this.#carrier.channel.congested;
  }

  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    if (!this.#over) this.#carrier.onPaused();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (!this.#over && this.events !== null) this.#carrier.onListening();
  }

  informational(head: ResponseHead): void {
    if (this.#over || this.#responded || this.head.version === 'http/1.0' || head.status === 101) return;
    if (head.status === 100) this.continued = true;
    this.#writeHead(own(head), NO_BODY, false);
  }

  respond(head: ResponseHead, ends: boolean): void {
    if (this.#over || this.#responded) return;
    const { status } = head;
    this.#raw = status === 101 || (this.head.method === 'CONNECT' && status >= 200 && status <= 299);
    const framing = this.#framing(head, ends);
    if (framing === null) {
      this.abort('a response with a length and without a body');
      return;
    }
    this.#responded = true;
    // Who is refused a CONNECT may have sent, unasked, what is no HTTP.
    const refused = this.head.method === 'CONNECT' && !this.#raw;
    this.#closes = !this.#raw && (refused || framing === UNTIL_CLOSE || !this.#carrier.mayPersist());
    this.#writeHead(own(head), framing, this.#closes);
    this.#carrier.writer.begin(framing);
    if (this.#raw) this.#carrier.onRaw();
    else if (ends) this.#complete();
  }

  /** RFC 9112, section 6.3. @returns null where the head contradicts itself */
  #framing({ status, contentLength }: ResponseHead, ends: boolean): BodyFraming | null {
    if (this.#raw) return RAW;
    if (this.head.method === 'HEAD' || status === 204 || status === 304) return NO_BODY;
    if (contentLength !== null) {
      if (ends && contentLength > 0) return null;
      return contentLength === 0 ? NO_BODY : { kind: 'length', length: contentLength };
    }
    if (ends) return { kind: 'length', length: 0 };
    return this.head.version === 'http/1.0' ? UNTIL_CLOSE : CHUNKED;
  }

  #writeHead(head: Http1ResponseHead, framing: BodyFraming, closes: boolean): void {
    const wire = wireBuffer(head.encodedBytes() + KEEP_ALIVE_LINE.length);
    const directive = head.status === 101 ? 'upgrade' : closes ? 'close' : 'keep-alive';
    let end = head.encode(wire.bytes, 0, framing, directive);
    if (directive === 'keep-alive' && this.head.version === 'http/1.0') {
      // In HTTP/1.0 a connection that stays must be said to, in place of the empty line.
      end += wire.bytes.latin1Write(KEEP_ALIVE_LINE, end - 2) - 2;
    }
    this.#carrier.channel.write(wire, 0, end);
    this.#carrier.touch();
  }

  write(from: NativeBuffer, start: number, end: number): void {
    if (this.#over || !this.#responded || this.#rawFinished) return;
    if (!this.#carrier.writer.write(from, start, end)) this.abort('a response longer than its Content-Length');
    else this.#carrier.touch();
  }

  finish(trailers: Trailers | null): void {
    if (this.#over || !this.#responded || this.#rawFinished) return;
    if (this.#raw) {
      this.#rawFinished = true;
      this.#carrier.onRawFinished();
    } else if (this.#carrier.writer.finish(trailers)) this.#complete();
    else this.abort('a response shorter than its Content-Length');
  }

  reply(response: LocalReply): void {
    if (this.#over || this.#responded) return;
    this.#responded = true;
    this.#closes = this.head.method === 'CONNECT' || !this.#carrier.mayPersist();
    const keepAlive = this.head.version === 'http/1.0';
    const headRequest = this.head.method === 'HEAD';
    writeBytes(this.#carrier.channel, localResponse(response, { headRequest, close: this.#closes, keepAlive }));
    this.#complete();
  }

  #complete(): void {
    this.#over = true;
    this.#carrier.onAnswered(this.#closes);
  }

  abort(detail: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#carrier.onAborted(detail);
  }
}

/** @throws TypeError where the head is of another version: both sides of an exchange speak the same. */
function own(head: ResponseHead): Http1ResponseHead {
  if (head instanceof Http1ResponseHead) return head;
  throw new TypeError('an HTTP/1 request is answered by the head of an HTTP/1 response');
}
