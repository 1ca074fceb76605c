import type { NativeBuffer } from '../native/memory.ts';
import type { LocalReply, RequestHead, ResponseHead, Trailers } from '../protocol/http-head.ts';

/**
 * One request with its response, seen from the two sessions that carry it, whatever version they speak: a server session (towards whoever asks)
 * makes `ServerExchange`s, a client session (towards whoever answers) makes `ClientExchange`s. Both sides of an exchange speak the same
 * version: heads and trailers of one are handed to the other as they are.
 *
 * Bodies are pushed: bytes are valid during the call only and all are taken. After a call that left `congested` true the producer is paused
 * (`pause` of its exchange) and resumed at `onDrain`.
 */

/** Why whoever asked is heard no more. `evicted`: what was held of the request for a slow reader kept a whole connection waiting. */
export type AbortFault = 'disconnect' | 'protocol' | 'timeout' | 'evicted';

/** What comes from whoever asks, after its head. */
export interface RequestEvents {
  onRequestBody(from: NativeBuffer, start: number, end: number): void;
  /** The request is complete. Not called where `bodyless`. */
  onRequestEnd(trailers: Trailers | null): void;
  /** `congested` is not true any more. */
  onResponseDrain(): void;
  /**
   * Whoever asked is gone, or broke the protocol within the body; nothing follows, the exchange is over. `status`: of the response that the session has
   * sent by itself; 0: none.
   */
  onRequestAborted(detail: string, fault: AbortFault, status: number): void;
}

/** A request as it came; answer it by `respond … finish`, or by `reply`, exactly once. */
export interface ServerExchange {
  readonly head: RequestHead;
  /** The head is all there is of the request. */
  readonly bodyless: boolean;
  /** Who hears of the rest of the request from now on; until then the body waits. */
  receive(events: RequestEvents): void;
  /** A 1xx response but 101, any number of them before `respond`; left out for HTTP/1.0. */
  informational(head: ResponseHead): void;
  /**
   * The response's head. `ends`: and there is no body. After 101, or a 2xx of CONNECT, both directions carry raw bytes: the request's as
   * `onRequestBody` (then `onRequestEnd` at its end of input), the response's as `write` (then `finish`).
   */
  respond(head: ResponseHead, ends: boolean): void;
  write(from: NativeBuffer, start: number, end: number): void;
  /** The end of the body. What is left of the request, if it is not complete, is not wanted. */
  finish(trailers: Trailers | null): void;
  /** A complete response of our own, only before `respond`. */
  reply(response: LocalReply): void;
  /** A response that cannot be completed: the connection (HTTP/1) or stream (HTTP/2) is reset, so that nobody takes it for whole. */
  abort(detail: string): void;
  readonly congested: boolean;
  /** The request's body. */
  pause(): void;
  resume(): void;
}

/** Where a server session's requests go. */
export interface RequestHandler {
  /** The session has checked the head against its grammar and limits. An exception becomes a 500 and a log line. */
  onRequest(exchange: ServerExchange): void;
  /** A request was refused by the codec or a limit (400, 408, 413, 414, 431, 501, 505 …) and has been answered; `head` where there was one. */
  onRejected(rejected: { readonly status: number; readonly detail: string; readonly head: RequestHead | null }): void;
  /** No exchange is under way and none will come; the channel was released. */
  onSessionEnd(detail: string): void;
}

/** A connection of whoever asks. */
export interface ServerSession {
  /** Exchanges under way. */
  readonly active: number;
  /** The response under way is the last (Connection: close), or GOAWAY; ends when none is left. */
  drain(): void;
  /** Ends at once; exchanges hear `onRequestAborted`. */
  close(detail: string): void;
}

export interface ExchangeFailure {
  /** `refused`: the other side says it has not processed it (REFUSED_STREAM, GOAWAY), or nothing of it was sent; `reset`: the connection or stream ended; `protocol`: the response broke the grammar or a limit; `timeout`; `evicted`: what was held of the response for a slow reader kept a whole connection waiting. */
  readonly kind: 'refused' | 'reset' | 'protocol' | 'timeout' | 'evicted';
  readonly detail: string;
}

/** What comes from whoever answers. */
export interface ResponseEvents {
  /** A 1xx response but 101. */
  onInformational(head: ResponseHead): void;
  /** `ends`: there is no body, and `onResponseEnd` is not called. */
  onResponse(head: ResponseHead, ends: boolean): void;
  onResponseBody(from: NativeBuffer, start: number, end: number): void;
  onResponseEnd(trailers: Trailers | null): void;
  /** `congested` is not true any more. */
  onRequestDrain(): void;
  /** Once, in place of what is left; the exchange is over. */
  onFailed(failure: ExchangeFailure): void;
}

export interface ClientExchange {
  write(from: NativeBuffer, start: number, end: number): void;
  finish(trailers: Trailers | null): void;
  /** The exchange is not wanted any more; no event follows. HTTP/1 closes its connection, HTTP/2 resets the stream. */
  abort(detail: string): void;
  readonly congested: boolean;
  /** The response's body. */
  pause(): void;
  resume(): void;
}

/** A connection to whoever answers. */
export interface ClientSession {
  /** How many exchanges may be begun now: HTTP/1 one or none; none where it is retiring or closed. */
  readonly room: number;
  readonly active: number;
  /** When it last had none, of the loop's clock. */
  readonly idleSince: number;
  /** Sends the head; `ends`: it is the whole request. `room` must be above 0. Events come later than the return. */
  begin(head: RequestHead, ends: boolean, events: ResponseEvents): ClientExchange;
  /** No new exchanges; ends when none is left. */
  retire(): void;
  close(detail: string): void;
}

export interface ClientSessionOwner {
  /** An exchange has ended, or the peer allows more: `room` may have grown. */
  onRoom(session: ClientSession): void;
  /** Once; its exchanges have heard `onFailed`. */
  onSessionEnd(session: ClientSession, detail: string): void;
}
