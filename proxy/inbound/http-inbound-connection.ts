import type { ConnectionAttributes, RequestDecider } from '../../policy/types.ts';
import type { DataPlane } from '../connection/data-plane.ts';
import { openServerSession } from '../connection/http-sessions.ts';
import type { ConnectionRecord, Flags } from '../connection/record.ts';
import type { LiveConnection } from '../connection/table.ts';
import type { RequestHandler, ServerExchange, ServerSession } from '../http/exchange.ts';
import { formatClientCertificate } from '../http/forwarding/client-certificate.ts';
import { FloodGuard } from '../protocol/flood-guard.ts';
import type { RequestHead } from '../protocol/http-head.ts';
import type { Channel } from '../reactor/channel.ts';
import { LiveList } from '../reactor/live-list.ts';
import { Timer } from '../reactor/timers.ts';
import type { ApplicationPlace } from './application-pools.ts';
import { attributesOf, type InboundFacts, openRecord, whyCut } from './inbound-facts.ts';
import { InboundRequest, noteHead, type RequestOrigin, rawPath, recordOf } from './inbound-request.ts';
import type { InboundServices } from './services.ts';

/** A connection that comes while inbound drains is left alone for so long: told at once to go, whoever opened it would take that for a failure. */
const LAME_DUCK_MS = 1_000;

/**
 * Forged tokens in 10 s after which a connection takes no new requests; those of others that are under way on it go on, and whoever sends more opens
 * another. A peer that goes on all the same is cut off when it has brought so many since.
 */
const MAX_FORGERIES = 100;
const FORGERY_INTERVAL_MS = 10_000;
const MAX_FORGERIES_AFTER = 1_000;

/**
 * An HTTP connection of a peer, of either path. It is not decided itself: each of its requests is. While it lives its peer must be trusted, and
 * its requests under way are decided again whenever something that they depend on changes.
 */
export class HttpInboundConnection implements LiveConnection, RequestHandler, RequestOrigin {
  readonly record: ConnectionRecord;
  listIndex = -1;
  readonly attributes: ConnectionAttributes;
  readonly application: ApplicationPlace;
  readonly clientCertificate: string | null;
  decider: RequestDecider | null;
  readonly #plane: DataPlane;
  readonly #services: InboundServices;
  readonly #facts: InboundFacts;
  readonly #requests = new LiveList<InboundRequest>();
  readonly #channel: Channel;
  readonly #session: ServerSession;
  /** Armed where it came while inbound drains. */
  #leave: Timer | null = null;
  /** Made by the first forged token. */
  #forgeries: FloodGuard | null = null;
  #forgeriesAfter = 0;
  #over = false;

  constructor(
    plane: DataPlane,
    services: InboundServices,
    facts: InboundFacts,
    application: ApplicationPlace,
    channel: Channel,
  ) {
    this.#plane = plane;
    this.#services = services;
    this.#facts = facts;
    this.application = application;
    this.record = openRecord(plane, facts);
    this.record.protocol = 'http';
    this.attributes = attributesOf(facts);
    this.clientCertificate = this.#describePeer();
    plane.table.add(this);
    this.decider = services.authorizer.forConnection(this.attributes);
    this.#channel = channel;
    this.#session = openServerSession(plane, application.protocol, channel, this);
    // Its first bytes were awaited while the drain began.
    if (plane.table.draining) this.#session.drain();
    else if (plane.table.drainingInbound) this.#leaveSoon();
  }

  #leaveSoon(): void {
    this.#leave = new Timer(() => this.drain());
    this.#plane.loop.arm(this.#leave, LAME_DUCK_MS);
  }

  #describePeer(): string | null {
    const { peer } = this.#facts;
    if (peer === null) return null;
    const by = this.#plane.tls.identity?.spiffeId ?? '';
    return formatClientCertificate({ by, hash: peer.fingerprint, subject: peer.subject, uri: peer.spiffe.uri });
  }

  // ---- from the session ----

  onRequest(exchange: ServerExchange): void {
    // In HTTP/1 the answer itself says that it is the last, so that no request is lost.
    if (this.#plane.table.drainingInbound && this.application.protocol === 'http/1') this.#session.drain();
    const request = new InboundRequest(this.#plane, this.#services, this, exchange);
    this.#requests.add(request);
    request.admit();
  }

  onRejected({ status, detail, head }: { status: number; detail: string; head: RequestHead | null }): void {
    this.#plane.metrics.httpRejected(status);
    const record = recordOf(this.#plane, this.record);
    if (head !== null) {
      noteHead(record, head);
      record.path = rawPath(head.target);
    }
    record.status = status;
    record.end('DPE', detail);
  }

  onSessionEnd(detail: string): void {
    this.#end('-', detail);
  }

  onForgery(): void {
    this.#forgeries ??= new FloodGuard(MAX_FORGERIES, FORGERY_INTERVAL_MS);
    if (this.#forgeriesAfter === 0 && !this.#forgeries.hit(this.#plane.loop.now)) return;
    const detail = 'a flood of forged tokens';
    if (this.#forgeriesAfter++ === 0) this.#session.drain();
    // Not from within: the request is about to be answered.
    else if (this.#forgeriesAfter > MAX_FORGERIES_AFTER)
      this.#plane.loop.later(() => this.terminate('PROTOCOL', detail));
  }

  onOver(request: InboundRequest): void {
    this.#requests.delete(request);
  }

  // ---- life ----

  bytesForward(): number {
    return this.#channel.bytesRead;
  }

  bytesBack(): number {
    return this.#channel.bytesWritten;
  }

  reconsider(): void {
    if (this.#over) return;
    const cut = whyCut(this.#plane, this.#services.authorizer, this.#facts);
    if (cut !== null) {
      this.terminate(cut.flags, cut.detail);
      return;
    }
    this.decider = this.#services.authorizer.forConnection(this.attributes);
    for (const request of this.#requests.all()) request.reconsider();
  }

  terminate(flags: Flags, detail: string): void {
    if (this.#over) return;
    // First told, so that what follows from ending its requests does not end it under another name.
    this.#end(flags, detail);
    for (const request of this.#requests.all()) request.terminate(detail);
    this.#session.close(detail);
  }

  drain(): void {
    this.#session.drain();
  }

  /** The one way out. */
  #end(flags: Flags, detail: string): void {
    if (this.#over) return;
    this.#over = true;
    if (this.#leave !== null) this.#plane.loop.cancel(this.#leave);
    this.#plane.table.delete(this);
    this.record.end(flags, detail, this.bytesForward(), this.bytesBack());
  }
}
