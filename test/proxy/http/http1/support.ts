import type {
  ClientExchange,
  ClientSession,
  ClientSessionOwner,
  RequestEvents,
  RequestHandler,
  ResponseEvents,
  ServerExchange,
} from '../../../../proxy/http/exchange.ts';
import { Http1ClientSession } from '../../../../proxy/http/http1/client-session.ts';
import { Http1ServerSession } from '../../../../proxy/http/http1/server-session.ts';
import type { NativeBuffer } from '../../../../proxy/native/memory.ts';
import { parseRequestHead, parseResponseHead } from '../../../../proxy/protocol/http1/head-parser.ts';
import type { Http1RequestHead } from '../../../../proxy/protocol/http1/request-head.ts';
import type { Http1ResponseHead } from '../../../../proxy/protocol/http1/response-head.ts';
import type { HttpLimits } from '../../../../proxy/worker/messages.ts';
import { HTTP_LIMITS } from '../../support/http-limits.ts';
import { ManualLoop, ScriptedChannel } from '../../support/scripted-channel.ts';

/** Small, so that little is too much. */
export const LIMITS: HttpLimits = { ...HTTP_LIMITS, headerBytes: 4_096, headerCount: 20, targetBytes: 256 };

/** Lines joined by CRLF, with the empty line. */
export const head = (...lines: readonly string[]): string => `${lines.join('\r\n')}\r\n\r\n`;

export function responseHead(text: string, method = 'GET'): Http1ResponseHead {
  const bytes = Buffer.from(text, 'latin1');
  const result = parseResponseHead(bytes, 0, bytes.length, LIMITS, method);
  if (result.kind !== 'head') throw new Error(`no head: ${JSON.stringify(result)}`);
  return result.head;
}

export function requestHead(text: string): Http1RequestHead {
  const bytes = Buffer.from(text, 'latin1');
  const result = parseRequestHead(bytes, 0, bytes.length, LIMITS);
  if (result.kind !== 'head') throw new Error(`no head: ${JSON.stringify(result)}`);
  return result.head;
}

const trailersOf = (trailers: { lines(): Iterable<readonly [string, string]> } | null): string =>
  trailers === null ? '' : [...trailers.lines()].map((line) => line.join('=')).join();

/** A request at the server's side, with all that was heard of it. */
export class Asked implements RequestEvents {
  readonly exchange: ServerExchange;
  readonly events: string[] = [];
  readonly #loop: ManualLoop;
  body = '';
  /** By the session, as it told when it broke off. */
  statusSent = -1;

  constructor(exchange: ServerExchange, loop: ManualLoop) {
    this.exchange = exchange;
    this.#loop = loop;
  }

  onRequestBody(from: NativeBuffer, start: number, end: number): void {
    this.body += from.bytes.latin1Slice(start, end);
  }

  onRequestEnd(trailers: Parameters<RequestEvents['onRequestEnd']>[0]): void {
    this.events.push(`end ${trailersOf(trailers)}`.trim());
  }

  onResponseDrain(): void {
    this.events.push('drain');
  }

  onRequestAborted(detail: string, fault: string, status: number): void {
    this.events.push(`aborted ${fault}: ${detail}`);
    this.statusSent = status;
  }

  respond(text: string, body: string | null = null): void {
    this.exchange.respond(responseHead(text, this.exchange.head.method), body === null);
    if (body === null) return;
    this.write(body);
    this.exchange.finish(null);
  }

  write(text: string): void {
    const { scratch } = this.#loop;
    // Behind what may be delivered just now.
    const at = 128 * 1024;
    this.exchange.write(scratch, at, at + scratch.bytes.latin1Write(text, at));
  }
}

/** A server session between a scripted channel and a handler that notes what it hears. */
export class ServerBench implements RequestHandler {
  readonly loop = new ManualLoop();
  readonly channel = new ScriptedChannel(this.loop);
  readonly asked: Asked[] = [];
  readonly rejected: string[] = [];
  readonly ends: string[] = [];
  readonly session: Http1ServerSession;
  /** Called for each request; by default it listens and waits for the test. */
  answer: (asked: Asked) => void;

  constructor(
    limits: Partial<HttpLimits> = {},
    answer: (asked: Asked) => void = (asked) => asked.exchange.receive(asked),
  ) {
    this.answer = answer;
    this.session = new Http1ServerSession(this.loop.loop, this.channel, this, { ...LIMITS, ...limits });
  }

  onRequest(exchange: ServerExchange): void {
    const asked = new Asked(exchange, this.loop);
    this.asked.push(asked);
    this.answer(asked);
  }

  onRejected(rejected: Parameters<RequestHandler['onRejected']>[0]): void {
    this.rejected.push(`${rejected.status} ${rejected.detail}`);
  }

  onSessionEnd(detail: string): void {
    this.ends.push(detail);
  }

  /** One read, one turn. @returns what was written meanwhile */
  feed(text: string): string {
    this.channel.send(text);
    this.loop.settle();
    return this.channel.take();
  }

  request(index = 0): Asked {
    const asked = this.asked[index];
    if (asked === undefined) throw new Error(`no request ${index}`);
    return asked;
  }
}

/** A response at the client's side, with all that was heard of it. */
export class Answer implements ResponseEvents {
  readonly events: string[] = [];
  body = '';
  onEnd: () => void = () => {};

  onInformational(head: Parameters<ResponseEvents['onInformational']>[0]): void {
    this.events.push(`informational ${head.status}`);
  }

  onResponse(head: Parameters<ResponseEvents['onResponse']>[0], ends: boolean): void {
    this.events.push(`${head.status}${ends ? ' ends' : ''}`);
    if (ends) this.onEnd();
  }

  onResponseBody(from: NativeBuffer, start: number, end: number): void {
    this.body += from.bytes.latin1Slice(start, end);
  }

  onResponseEnd(trailers: Parameters<ResponseEvents['onResponseEnd']>[0]): void {
    this.events.push(`end ${trailersOf(trailers)}`.trim());
    this.onEnd();
  }

  onRequestDrain(): void {
    this.events.push('drain');
  }

  onFailed({ kind, detail }: Parameters<ResponseEvents['onFailed']>[0]): void {
    this.events.push(`failed ${kind}: ${detail}`);
  }
}

/** A client session over a scripted channel, and its owner. */
export class ClientBench implements ClientSessionOwner {
  readonly loop = new ManualLoop();
  readonly channel = new ScriptedChannel(this.loop);
  readonly ends: string[] = [];
  readonly session: ClientSession;
  rooms = 0;

  constructor(limits: Partial<HttpLimits> = {}) {
    this.session = new Http1ClientSession(this.loop.loop, this.channel, this, { ...LIMITS, ...limits });
  }

  onRoom(): void {
    this.rooms++;
  }

  onSessionEnd(_: ClientSession, detail: string): void {
    this.ends.push(detail);
  }

  /** Begins a request; `ends`: the head is all of it. */
  ask(text: string, ends = true): { readonly exchange: ClientExchange; readonly answer: Answer } {
    const answer = new Answer();
    const exchange = this.session.begin(requestHead(text), ends, answer);
    if (answer.events.length > 0) throw new Error('an event from within begin');
    return { exchange, answer };
  }

  write(exchange: ClientExchange, text: string): void {
    const { scratch } = this.loop;
    exchange.write(scratch, 0, scratch.bytes.latin1Write(text, 0));
  }

  /** One read, one turn; the request has left before. @returns what was written */
  feed(text: string): string {
    this.loop.settle();
    const written = this.channel.take();
    this.channel.send(text);
    this.loop.settle();
    return written;
  }
}
