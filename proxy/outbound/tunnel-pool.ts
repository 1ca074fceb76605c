import type { DataPlane } from '../connection/data-plane.ts';
import { TUNNEL_OUTLIVES_CERTIFICATE_MS } from '../connection/mesh-tls.ts';
import type { PeerIdentity } from '../connection/peer-identity.ts';
import type { Flags } from '../connection/record.ts';
import { ErrorCode } from '../http2/frames.ts';
import type { TlsFacts, TlsSession, TlsTicket } from '../native/tls-session.ts';
import type { Endpoint } from '../protocol/destinations.ts';
import type { HeaderList } from '../protocol/hpack/header-list.ts';
import { Dial } from '../reactor/dial.ts';
import { Timer } from '../reactor/timers.ts';
import { TlsHandshake } from '../reactor/tls-handshake.ts';
import type { StreamOwner, TunnelStream } from '../tunnel/stream.ts';
import { Tunnel } from '../tunnel/tunnel.ts';

/** Tunnels to one workload: bulk flows everywhere, or a peer that allows no streams, must not make one of each connection. */
const MAX_TUNNELS = 128;
/** How long a ticket waits for the next handshake, which is as long as the server takes it. */
const TICKET_MS = 600_000;
/** Connections that wait for one tunnel to be made. */
const MAX_WAITING = 10_000;

/** Somebody who wants a stream. */
export interface StreamSeeker {
  readonly headers: HeaderList;
  readonly owner: StreamOwner;
  /** The stream is open (its CONNECT is on the way); attach the socket. */
  onStream(stream: TunnelStream, tls: TlsFacts): void;
  /** There is no tunnel: the endpoint refused, or is not who it should be. */
  onNoTunnel(flags: Flags, reason: string): void;
}

/**
 * Tunnels to other sidecars, shared by all streams to one destination workload. ALWAYS: a tunnel's peer has shown the identity that the registry
 * expects of it. NEVER: more than one tunnel to a workload is being made at a time, however many connections ask at once.
 */
export class TunnelPool {
  readonly #plane: DataPlane;
  readonly #groups = new Map<string, TunnelGroup>();

  constructor(plane: DataPlane) {
    this.#plane = plane;
  }

  /** @returns a way to give up while no stream has been given. */
  seek(endpoint: Endpoint, seeker: StreamSeeker): () => void {
    const at = endpoint.tunnel;
    const identity = endpoint.workload.identity;
    if (at === null || identity === null) throw new Error(`${endpoint.name} has no tunnel or identity`);
    const key = `${at.address}|${at.port}|${identity}`;
    let group = this.#groups.get(key);
    if (group === undefined) {
      group = new TunnelGroup(this.#plane, at, identity, () => this.#groups.delete(key));
      this.#groups.set(key, group);
    }
    return group.seek(seeker);
  }

  /** Our certificate was rotated: new streams go to new tunnels, the old ones drain. */
  rotate(): void {
    for (const group of [...this.#groups.values()]) group.rotate();
  }

  /** The trust bundle or the revocations changed. */
  reconsider(): void {
    for (const group of [...this.#groups.values()]) group.reconsider();
  }

  drain(): void {
    this.rotate();
  }

  /** Whether bytes of streams that are over wait in a tunnel for the socket to take them. */
  get hasUnsent(): boolean {
    for (const group of this.#groups.values()) if (group.hasUnsent) return true;
    return false;
  }
}

interface Member {
  readonly tunnel: Tunnel;
  readonly peer: PeerIdentity;
  readonly facts: TlsFacts;
  readonly tls: TlsSession;
  /** Of the contexts that its handshake used. */
  readonly generation: number;
}

class TunnelGroup {
  readonly #plane: DataPlane;
  readonly #at: { readonly address: string; readonly port: number };
  readonly #identity: string;
  readonly #onEmpty: () => void;
  readonly #members = new Set<Member>();
  readonly #waiting = new Set<StreamSeeker>();
  /** Cancels what is being made; null iff nothing is. */
  #making: { cancel(): void } | null = null;
  #ticket: TlsTicket | null = null;
  #ticketGeneration = 0;
  /** Armed while nothing but the ticket is left. */
  readonly #forget = new Timer(() => this.#drop());

  constructor(plane: DataPlane, at: { address: string; port: number }, identity: string, onEmpty: () => void) {
    this.#plane = plane;
    this.#at = at;
    this.#identity = identity;
    this.#onEmpty = onEmpty;
  }

  seek(seeker: StreamSeeker): () => void {
    const member = this.#place();
    if (member !== null) {
      this.#give(member, seeker);
      return () => {};
    }
    if (this.#waiting.size >= MAX_WAITING) {
      this.#plane.loop.later(() => seeker.onNoTunnel('CONNECT', 'too many connections wait for this tunnel'));
      return () => {};
    }
    this.#waiting.add(seeker);
    this.#make();
    return () => this.#waiting.delete(seeker);
  }

  /** The tunnel for a newcomer: one without bulk flows if there is any; null: make a new one. */
  #place(): Member | null {
    let bulk: Member | null = null;
    for (const member of this.#members) {
      if (!member.tunnel.hasRoomForStream) continue;
      if (!member.tunnel.bulk) return member;
      bulk = member;
    }
    return this.#members.size < MAX_TUNNELS ? null : bulk;
  }

  #give(member: Member, seeker: StreamSeeker): void {
    const stream = member.tunnel.open(seeker.headers, seeker.owner);
    if (!stream.over) seeker.onStream(stream, member.facts);
    // Opening it showed that the tunnel is lost.
    else this.#plane.loop.later(() => seeker.onNoTunnel('CONNECT', `${this.#where()}: the tunnel was lost`));
  }

  #make(): void {
    // At the limit those who wait get their stream when one ends.
    if (this.#making !== null || this.#members.size >= MAX_TUNNELS) return;
    const { loop, config } = this.#plane;
    this.#making = new Dial(loop, this.#at, config.outbound.mark, config.limits.connectTimeoutMs, {
      onConnected: (fd) => this.#handshake(fd),
      onFailed: (reason) =>
        this.#fail(
          'CONNECT',
          `${this.#where()}: ${reason}${reason === 'timeout' ? ' (is a NetworkPolicy blocking the tunnel port?)' : ''}`,
        ),
    });
  }

  #where(): string {
    return `${this.#at.address}:${this.#at.port}`;
  }

  #handshake(fd: number): void {
    const { loop, tls, config } = this.#plane;
    const { contexts, generation } = tls;
    if (contexts === null) {
      loop.close(fd);
      this.#fail('TLS_FAILURE', 'no certificate yet');
      return;
    }
    const ticket = this.#ticketGeneration === generation ? this.#ticket : null;
    this.#making = new TlsHandshake(
      loop,
      fd,
      contexts.tunnelClient,
      'client',
      config.limits.handshakeTimeoutMs,
      {
        onSecured: (secured, session) => {
          try {
            this.#secured(secured, session, generation);
          } catch (error) {
            // NEVER is a tunnel waited for that nobody makes.
            if (this.#making !== null) this.#fail('INTERNAL', 'internal error');
            throw error;
          }
        },
        onFailed: (reason) => {
          this.#plane.metrics.handshakeFailure('outbound', reason);
          this.#fail('TLS_FAILURE', `${this.#where()}: ${reason}`);
        },
      },
      ticket,
    );
  }

  #secured(fd: number, tls: TlsSession, generation: number): void {
    const check = this.#plane.tls.checkPeer(tls, this.#identity, generation);
    if (!check.ok || tls.alpn() !== 'h2') {
      const reason = check.ok ? 'the peer does not speak h2' : check.reason;
      tls.free();
      this.#plane.loop.close(fd);
      this.#plane.metrics.handshakeFailure('outbound', reason);
      this.#fail(reason === 'revoked' ? 'CERT_REVOKED' : 'IDENTITY_ERROR', `${this.#where()}: ${reason}`);
      return;
    }
    this.#making = null;
    const { limits } = this.#plane.config;
    const options = {
      maxStreams: limits.maxStreamsPerTunnel,
      idleMs: limits.tunnelIdleTimeoutMs,
      streamIdleMs: limits.idleTimeoutMs,
      streamWindow: limits.bufferBytes,
      staging: this.#plane.staging,
    };
    const expiry = new Timer(() => member.tunnel.close('its certificate expired long ago', ErrorCode.NO_ERROR));
    const tunnel = new Tunnel(this.#plane.loop, fd, tls, 'client', options, {
      onRequest: () => {},
      onStreamEnd: () => this.#serveWaiting(),
      onDraining: () => this.#keepTicket(member),
      onClosed: (reason) => {
        this.#plane.loop.cancel(expiry);
        this.#keepTicket(member);
        this.#members.delete(member);
        this.#plane.metrics.tunnels('outbound', -1);
        this.#plane.log('debug', 'tunnel closed', { to: this.#where(), peer: this.#identity, reason });
        this.#dropIfEmpty();
      },
    });
    const member: Member = { tunnel, peer: check.peer, facts: tls.facts(), tls, generation };
    this.#members.add(member);
    this.#plane.metrics.tunnels('outbound', 1);
    const own = this.#plane.tls.identity?.notAfter ?? this.#plane.unixNow();
    this.#plane.loop.arm(expiry, own - this.#plane.unixNow() + TUNNEL_OUTLIVES_CERTIFICATE_MS);
    this.#serveWaiting();
    // The certificate was rotated meanwhile: those who waited have their streams, nobody else gets one.
    if (generation !== this.#plane.tls.generation) tunnel.drain();
  }

  #serveWaiting(): void {
    for (const seeker of this.#waiting) {
      const member = this.#place();
      if (member === null) {
        this.#make();
        return;
      }
      this.#waiting.delete(seeker);
      this.#give(member, seeker);
    }
  }

  #fail(flags: Flags, reason: string): void {
    this.#making = null;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const seeker of waiting) seeker.onNoTunnel(flags, reason);
    this.#dropIfEmpty();
  }

  #dropIfEmpty(): void {
    if (this.#members.size > 0 || this.#waiting.size > 0 || this.#making !== null) return;
    if (this.#ticket !== null && !this.#forget.armed) this.#plane.loop.arm(this.#forget, TICKET_MS);
    if (this.#ticket !== null) return;
    this.#plane.loop.cancel(this.#forget);
    this.#onEmpty();
  }

  #drop(): void {
    if (this.#members.size > 0 || this.#waiting.size > 0 || this.#making !== null) return;
    this.#ticket?.free();
    this.#ticket = null;
    this.#onEmpty();
  }

  /** For the next handshake, while the context that the ticket belongs to is in force. */
  #keepTicket(member: Member): void {
    const { generation } = member;
    // A ticket shows the certificate, and stands for the trust, of the handshake that it comes from.
    const ticket = generation === this.#plane.tls.generation ? member.tls.takeTicket() : null;
    if (ticket === null) return;
    this.#ticket?.free();
    this.#ticket = ticket;
    this.#ticketGeneration = generation;
  }

  rotate(): void {
    this.#ticket?.free();
    this.#ticket = null;
    this.#ticketGeneration = 0;
    this.#dropIfEmpty();
    for (const member of [...this.#members]) member.tunnel.drain();
  }

  get hasUnsent(): boolean {
    for (const { tunnel } of this.#members) if (tunnel.hasUnsent) return true;
    return false;
  }

  reconsider(): void {
    for (const member of [...this.#members]) {
      const reason = this.#plane.tls.stillTrusted(member.peer);
      if (reason !== null) member.tunnel.close(reason, ErrorCode.NO_ERROR);
    }
  }
}
