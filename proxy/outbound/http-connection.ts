import type { DataPlane } from '../connection/data-plane.ts';
import { type HttpProtocol, openServerSession } from '../connection/http-sessions.ts';
import { isGrpc } from '../connection/local-reply.ts';
import { type Party, partyOf } from '../connection/party.ts';
import { ConnectionRecord, type Flags } from '../connection/record.ts';
import { RequestRecord } from '../connection/request-record.ts';
import { type SniffResult, SocketSniff } from '../connection/sniff.ts';
import type { LiveConnection } from '../connection/table.ts';
import type { RequestHandler, ServerExchange, ServerSession } from '../http/exchange.ts';
import { type Address, resetOnClose } from '../native/socket.ts';
import type { RequestHead } from '../protocol/http-head.ts';
import type { Channel } from '../reactor/channel.ts';
import { SocketEnd } from '../reactor/ends.ts';
import { LiveList } from '../reactor/live-list.ts';
import { SocketChannel } from '../reactor/socket-channel.ts';
import type { HttpDestination } from './http-destination.ts';
import { OutboundRequest } from './http-request.ts';

/** What an HTTP connection of the application is made of. */
export interface HttpConnectionParts {
  readonly source: Party;
  readonly from: Address;
  readonly originalDestination: Address;
  readonly destination: HttpDestination;
  /** Null: HTTP by declaration; the first bytes tell the version. */
  readonly version: HttpProtocol | null;
}

/**
 * One HTTP connection of the application; each of its requests goes its own way. Owns the application's socket from the moment it is made.
 */
export class HttpOutboundConnection implements LiveConnection, RequestHandler {
  readonly record: ConnectionRecord;
  listIndex = -1;
  readonly #plane: DataPlane;
  readonly #destination: HttpDestination;
  readonly #requests = new LiveList<OutboundRequest>();
  readonly #forget = (request: OutboundRequest): void => {
    this.#requests.delete(request);
  };
  readonly #openedAt: number;
  /** -1 once the channel owns it. */
  #fd: number;
  #version: HttpProtocol = 'http/1';
  #sniff: SocketSniff | null = null;
  #channel: Channel | null = null;
  #session: ServerSession | null = null;
  #draining = false;
  #over = false;

  constructor(plane: DataPlane, fd: number, parts: HttpConnectionParts) {
    this.#plane = plane;
    this.#fd = fd;
    this.#openedAt = plane.loop.now;
    const { source, from, originalDestination, destination, version } = parts;
    this.#destination = destination;
    destination.users++;
    this.record = new ConnectionRecord(plane, 'outbound', source, from, partyOf(null, null), originalDestination);
    this.record.protocol = 'http';
    this.record.originalDestination = originalDestination;
    this.record.service = destination.service;
    plane.table.add(this);
    if (version === null) this.#awaitFirstBytes();
    else this.#begin(version);
  }

  // ---- the version ----

  #awaitFirstBytes(): void {
    const { loop, config } = this.#plane;
    this.#sniff = new SocketSniff(loop, this.#fd, config.http.headersTimeoutMs, (first) => this.#onFirstBytes(first));
  }

  #onFirstBytes(first: SniffResult): void {
    this.#sniff = null;
    const { loop, config } = this.#plane;
    if (first === 'ended') this.terminate('-', '');
    else if (first === 'failed') this.terminate('INTERNAL', 'internal error');
    else if (first !== 'silent') {
      // It was declared to be HTTP: what is not, is answered with 400 by the session.
      this.#begin(first === 'h2' ? 'h2' : 'http/1');
    } else if (loop.now - this.#openedAt < config.http.keepAliveTimeoutMs) this.#awaitFirstBytes();
    else this.terminate('IDLE', 'no request came');
  }

  #begin(version: HttpProtocol): void {
    this.#version = version;
    const channel = new SocketChannel(this.#plane.loop, new SocketEnd(this.#fd));
    this.#fd = -1;
    this.#channel = channel;
    const session = openServerSession(this.#plane, version, channel, this);
    this.#session = session;
    if (this.#draining) session.drain();
  }

  // ---- its requests ----

  onRequest(exchange: ServerExchange): void {
    const record = this.#recordOf(exchange.head);
    const request = new OutboundRequest(this.#plane, this.#destination, this.#version, exchange, record, this.#forget);
    this.#requests.add(request);
    request.start();
  }

  #recordOf(head: RequestHead | null): RequestRecord {
    const { source, from, to, originalDestination } = this.record;
    const record = new RequestRecord(this.#plane, 'outbound', source, from, partyOf(null, null), to);
    record.service = this.#destination.service;
    record.originalDestination = originalDestination;
    if (head === null) return record;
    record.version = head.version;
    record.method = head.method;
    const query = head.target.indexOf('?');
    record.path = query < 0 ? head.target : head.target.slice(0, query);
    record.authority = head.authority;
    record.userAgent = head.get('user-agent');
    record.grpc = isGrpc(head);
    return record;
  }

  onRejected({ status, detail, head }: { status: number; detail: string; head: RequestHead | null }): void {
    this.#plane.metrics.httpRejected(status);
    const record = this.#recordOf(head);
    record.status = status;
    record.end('DPE', detail);
  }

  onSessionEnd(detail: string): void {
    this.#finish('-', detail);
  }

  // ---- life ----

  bytesForward(): number {
    return this.#channel?.bytesRead ?? 0;
  }

  bytesBack(): number {
    return this.#channel?.bytesWritten ?? 0;
  }

  /** What the policies say concerns the inbound side; connections to endpoints that are not trusted any more end in their pools. */
  reconsider(): void {}

  drain(): void {
    this.#draining = true;
    if (this.#session !== null) this.#session.drain();
    else this.terminate('DRAIN', 'no request had come');
  }

  terminate(flags: Flags, detail: string): void {
    if (this.#over) return;
    // First told, so that what follows from ending its requests does not end it under another name.
    this.#finish(flags, detail);
    for (const request of this.#requests.all()) request.abort('LR', detail);
    this.#session?.close(detail);
  }

  /** The one way out. */
  #finish(flags: Flags, detail: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#sniff?.cancel();
    this.#sniff = null;
    if (this.#fd >= 0) {
      if (flags !== '-') resetOnClose(this.#fd);
      this.#plane.loop.close(this.#fd);
      this.#fd = -1;
    }
    this.#destination.users--;
    this.#plane.table.delete(this);
    this.record.end(flags, detail, this.bytesForward(), this.bytesBack());
  }
}
