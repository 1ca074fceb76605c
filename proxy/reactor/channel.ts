import type { NativeBuffer } from '../native/memory.ts';

/** What happens on a channel. Never called from within a call of the handler's own on the same channel, but for `onData` during `onData` of another. */
export interface ChannelHandler {
  /**
   * Bytes of the other side, `[start, end)` of `from`. They are valid during the call only and all are taken by it: what cannot be passed on
   * is kept by the handler, which pauses the channel. Mostly `from` is the loop's scratch buffer: NEVER read another descriptor from here.
   */
  onData(from: NativeBuffer, start: number, end: number): void;
  /** The other side ends its direction; no `onData` follows. Writing goes on. */
  onEnd(): void;
  /** `congested` was true and is not any more. */
  onDrain(): void;
  /** The channel is dead: reset, failed, cut or idle. Nothing follows; everything was released. `detail` is for a person. */
  onClosed(detail: string): void;
}

/**
 * A stream of bytes in both directions: an application's socket, TLS over a socket, or a stream of a tunnel. Owns what is below it. Reading begins
 * with `attach`. ALWAYS: after `finish`, `abort` or `onClosed` no event comes, and further calls do nothing.
 */
export interface Channel {
  /** Whoever takes the channel; may be called again to hand it over, from within an event, too. What was held while there was no handler comes later in this turn. */
  attach(handler: ChannelHandler): void;
  /** Takes all of the bytes, copying what it cannot pass on. Several writes of one turn leave together. Look at `congested` afterwards. */
  write(from: NativeBuffer, start: number, end: number): void;
  /** More than is good waits to be taken by the other side: whoever produces stops until `onDrain`. At most one read's worth (256 KiB) may still be written. */
  readonly congested: boolean;
  /** No more will be written; what was is still delivered. The other direction goes on. */
  end(): void;
  /** No `onData` and no `onEnd` until `resume`; at most a bounded window is held meanwhile. Takes effect at once. */
  pause(): void;
  /** Never delivers from within: what is held comes later in this turn. */
  resume(): void;
  /** Nothing more is wanted: what was written is delivered (within a second or so), then both directions end. */
  finish(): void;
  /** Ends both directions at once; the other side is told that it was not orderly. `detail` goes to the log at most. */
  abort(detail: string): void;
  /** What is below will not live long (its tunnel drains, trust changed): begin nothing new on it. */
  readonly retiring: boolean;
  readonly bytesRead: number;
  readonly bytesWritten: number;
}
