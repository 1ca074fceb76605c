/** How the end of a body is found (RFC 9112, section 6.3). */
export type BodyFraming =
  /** No body follows the head. */
  | { readonly kind: 'none' }
  /** So many bytes, at least one. */
  | { readonly kind: 'length'; readonly length: number }
  | { readonly kind: 'chunked' }
  /** Of responses only: what comes until the connection ends. */
  | { readonly kind: 'until-close' }
  /** After 101, or a 2xx of CONNECT: the connection is no HTTP any more, in both directions. */
  | { readonly kind: 'raw' };

export const NO_BODY: BodyFraming = { kind: 'none' };
export const CHUNKED: BodyFraming = { kind: 'chunked' };
export const UNTIL_CLOSE: BodyFraming = { kind: 'until-close' };
export const RAW: BodyFraming = { kind: 'raw' };

/** What the next hop is told of the connection: `upgrade` writes the protocol that the head names, and goes with a head that names one only. */
export type ConnectionDirective = 'keep-alive' | 'close' | 'upgrade';

/** 400 of a response means that it broke the grammar or its limits: the session makes it a failure of kind `protocol`. */
export type HeadStatus = 400 | 413 | 414 | 431 | 501 | 505;

export interface HeadError {
  readonly kind: 'error';
  readonly status: HeadStatus;
  /** For the log, never for the peer; no byte of the message is in it. */
  readonly reason: string;
}

export interface ParsedHead<T> {
  readonly kind: 'head';
  readonly head: T;
  /** The first byte after the head. */
  readonly end: number;
  readonly framing: BodyFraming;
  /** The sender lets the connection be used again after this message (RFC 9112, section 9.3). */
  readonly keepAlive: boolean;
  /** A request that waits for 100 before it sends its body (RFC 9110, section 10.1.1); never without a body, never of HTTP/1.0. */
  readonly expectContinue: boolean;
}

export type HeadResult<T> = { readonly kind: 'incomplete' } | ParsedHead<T> | HeadError;

export const INCOMPLETE: { readonly kind: 'incomplete' } = { kind: 'incomplete' };
