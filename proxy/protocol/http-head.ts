/**
 * The head of a message (RFC 9110, section 6) as everything above the codecs sees it. Strings hold one byte a character (latin1). It owns its
 * bytes: it may be kept and sent again. Only end-to-end fields are here: those of one connection (Connection and what it names, Keep-Alive,
 * Proxy-Connection, TE but for `trailers`, Transfer-Encoding, Upgrade, Content-Length) belong to the codec, which reads and writes them.
 */
export interface Fields {
  /** The value of the field; of several lines joined with `, ` (RFC 9110, 5.3). Null where there is none. `name` in lower case. */
  get(name: string): string | null;
  /** Each line's value by itself, in order; the crumbs of an HTTP/2 request's cookie (RFC 9113, 8.2.3) are one. */
  all(name: string): readonly string[];
  has(name: string): boolean;
  /** Drops every line of that name. */
  remove(name: string): void;
  /**
   * Drops every line whose name (in lower case) the predicate holds for. @param initial a small letter, by its code: names that begin with another are
   * kept unasked
   */
  removeWhere(predicate: (name: string) => boolean, initial?: number): void;
  /** Replaces every line of that name by one. `value` must be admissible (RFC 9110, 5.5): no CR, LF, NUL. @throws RangeError where it is not. */
  set(name: string, value: string): void;
  /** As `set`, of a name and value that are known to be admissible: our own literals, and what was checked when it was made. */
  put(name: string, value: string): void;
  /** Every line, names in lower case. */
  lines(): Iterable<readonly [name: string, value: string]>;
}

export type HttpVersion = 'http/1.0' | 'http/1.1' | 'h2';

export interface RequestHead extends Fields {
  readonly version: HttpVersion;
  readonly method: string;
  /** Path and query as they are sent on: `/a?x=1`, `*` of OPTIONS, or empty for CONNECT. The authority and scheme of an absolute form have been taken out. */
  readonly target: string;
  setTarget(target: string): void;
  /** Host or :authority, port and all; never empty but in HTTP/1.0. */
  readonly authority: string;
  /** What the client asks to change to (`websocket`), in lower case; null where it does not. HTTP/1.1 only. */
  readonly upgrade: string | null;
  /** Content-Length where it is given; null for none or unknown. */
  readonly contentLength: number | null;
  /** Bytes of the head as it was received; in HTTP/2 the decoded size. */
  readonly receivedBytes: number;
}

export interface ResponseHead extends Fields {
  readonly version: HttpVersion;
  /** 100 to 599. */
  readonly status: number;
  readonly contentLength: number | null;
  readonly receivedBytes: number;
}

/** Fields after the body. */
export type Trailers = Fields;

/** A response that the sidecar makes itself. */
export interface LocalReply {
  readonly status: number;
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Text; UTF-8. */
  readonly body: string;
}
