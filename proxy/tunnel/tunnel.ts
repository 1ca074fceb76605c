import { type ConnectionEvents, type ConnectionOptions, Http2Connection } from '../http2/connection.ts';
import type { StagingPool } from '../http2/staging.ts';
import { TlsTransport } from '../http2/transport.ts';
import type { TlsSession } from '../native/tls-session.ts';
import type { HeaderList } from '../protocol/hpack/header-list.ts';
import type { Loop } from '../reactor/loop.ts';
import { type StreamOwner, TunnelStream } from './stream.ts';

const MIB = 1024 * 1024;
/** Receive window of the whole tunnel … */
const TUNNEL_WINDOW = 16 * MIB;
/** … which is given back on receipt unless the streams together hold this much. */
const MAX_TUNNEL_BACKLOG = 16 * MIB;
const MAX_FRAME = MIB;
const MAX_HEADER_BYTES = 16_384;
const MAX_HEADERS = 128;
const CHECK_MS = 5_000;
const OPENING_MS = 10_000;
const PING_AFTER_MS = 30_000;
const WRITE_STALL_MS = 30_000;
/** A newcomer avoids the tunnel for so long after a stream in it was last seen to be bulk. */
const BULK_MEMORY_MS = 2_000;

export interface TunnelEvents {
  /** Server only: a CONNECT arrived; answer by `stream.accept` or `stream.refuse`, now or later. */
  onRequest(stream: TunnelStream, headers: HeaderList): void;
  /** A stream is gone, or the peer allows more; there may be room for another. */
  onStreamEnd(): void;
  /** No new streams on this tunnel. */
  onDraining(): void;
  /** Once, after all streams were told; everything is released right after. */
  onClosed(reason: string): void;
}

export interface TunnelOptions {
  readonly maxStreams: number;
  readonly idleMs: number;
  /** A stream's receive window at first: what is held for an application that does not read. Bytes. */
  readonly streamWindow: number;
  /** A stream without a byte for so long is ended. */
  readonly streamIdleMs: number;
  readonly staging: StagingPool;
}

/** One HTTP/2 connection over mutual TLS between two sidecars: HBONE. Owns the descriptor and the TLS session from the moment it is made. */
export class Tunnel implements ConnectionEvents<TunnelStream> {
  readonly loop: Loop;
  readonly isClient: boolean;
  readonly connection: Http2Connection<TunnelStream>;
  readonly streamIdleMs: number;
  readonly #tls: TlsSession;
  readonly #events: TunnelEvents;
  #bulkUntil = 0;

  constructor(
    loop: Loop,
    fd: number,
    tls: TlsSession,
    role: 'client' | 'server',
    options: TunnelOptions,
    events: TunnelEvents,
  ) {
    this.loop = loop;
    this.isClient = role === 'client';
    this.streamIdleMs = options.streamIdleMs;
    this.#tls = tls;
    this.#events = events;
    const transport = new TlsTransport(loop, fd, tls);
    this.connection = new Http2Connection(loop, transport, role, connectionOptions(options, this.isClient), this);
  }

  get streamCount(): number {
    return this.connection.streamCount;
  }

  get draining(): boolean {
    return this.connection.draining;
  }

  get closed(): boolean {
    return this.connection.closed;
  }

  /** Whether a small request placed here now would wait behind a bulk flow. */
  get bulk(): boolean {
    return this.loop.now < this.#bulkUntil;
  }

  get hasRoomForStream(): boolean {
    return this.connection.room > 0;
  }

  /** Whether bytes wait for the socket to take them. */
  get hasUnsent(): boolean {
    return this.connection.output.hasUnsent;
  }

  streams(): readonly TunnelStream[] {
    return this.connection.streams();
  }

  noteBulk(): void {
    this.#bulkUntil = this.loop.now + BULK_MEMORY_MS;
  }

  /** Client: opens a CONNECT stream; `hasRoomForStream` must hold. */
  open(headers: HeaderList, owner: StreamOwner): TunnelStream {
    const stream = this.connection.open((id, sendWindow) => new TunnelStream(this, id, sendWindow));
    stream.owner = owner;
    this.connection.output.sendHeaders(stream.id, headers, false);
    return stream;
  }

  /** No new streams; closes when the last one has ended. */
  drain(): void {
    this.connection.drain();
  }

  /** The session, for tickets and facts; not after `closed`. */
  get tls(): TlsSession {
    return this.#tls;
  }

  /** Ends the tunnel and every stream in it. @param code GOAWAY to send first; -1: none, and TCP is reset where bytes would be lost. */
  close(reason: string, code: number): void {
    this.connection.close(reason, code);
  }

  // ---- from the connection and its streams ----

  newStream(id: number, sendWindow: number): TunnelStream {
    return new TunnelStream(this, id, sendWindow);
  }

  onRequest(stream: TunnelStream, headers: HeaderList): void {
    this.#events.onRequest(stream, headers);
  }

  onRoom(): void {
    this.#events.onStreamEnd();
  }

  onDraining(): void {
    this.#events.onDraining();
  }

  onClosed(reason: string): void {
    this.#events.onClosed(reason);
  }
}

function connectionOptions(options: TunnelOptions, isClient: boolean): ConnectionOptions {
  const { maxStreams, streamWindow, idleMs, staging } = options;
  return {
    maxStreams,
    streamWindow,
    connectionWindow: TUNNEL_WINDOW,
    maxBacklog: MAX_TUNNEL_BACKLOG,
    maxFrame: MAX_FRAME,
    headers: { blockBytes: MAX_HEADER_BYTES, listBytes: MAX_HEADER_BYTES, fields: MAX_HEADERS },
    floods: { resets: 4_000, trifles: 400 },
    checkMs: CHECK_MS,
    openingMs: OPENING_MS,
    // The server waits longer, so that the client, which knows what it needs, closes first.
    idleMs: isClient ? idleMs : idleMs * 2,
    pingAfterMs: PING_AFTER_MS,
    writeStallMs: WRITE_STALL_MS,
    staging,
  };
}
