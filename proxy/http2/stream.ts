import type { NativeBuffer } from '../native/memory.ts';
import type { HeaderList } from '../protocol/hpack/header-list.ts';

/**
 * What a connection knows of a stream: its windows and what comes for it. Two kinds implement it: streams of a tunnel, joined to sockets or
 * channels, and exchanges of HTTP.
 */
export interface Http2Stream {
  readonly id: number;
  /** What the peer lets it send; the connection adds to it, whoever sends DATA takes from it. */
  sendWindow: number;
  /** When bytes last went either way, of the loop's clock. */
  lastActivity: number;
  /** The peer has got something for it: to reset it is no sign of an attack. */
  readonly joined: boolean;
  /** Both sides have ended as far as HTTP/2 goes (RFC 9113, 5.1: closed), though bytes may still wait for a slow reader. */
  readonly endedOnWire: boolean;
  /** Bytes held for a reader that does not take them. */
  readonly backlogBytes: number;
  /** A header block: request, response or trailers; null: larger than was allowed. */
  onHeaders(headers: HeaderList | null, ends: boolean): void;
  /** Bytes `[start, end)` of the peer's, valid during the call only. */
  deliver(from: NativeBuffer, start: number, end: number): void;
  /** Padding, which counts against the windows (RFC 9113, 6.9.1). */
  onPadding(bytes: number): void;
  /** END_STREAM on DATA. */
  onPeerEnd(): void;
  onPeerReset(code: number): void;
  /** The connection is gone. */
  onConnectionLost(reason: string): void;
  /** Window or room came back. */
  unstall(): void;
  /** What it holds for its reader keeps the whole connection waiting: ends it by RST_STREAM. */
  evict(detail: string): void;
  /** The peer broke the rules with it: ends it by RST_STREAM. */
  fail(detail: string, code: number): void;
  /** Every few seconds: ends it where it has been silent for too long. */
  check(now: number): void;
}
