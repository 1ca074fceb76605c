import type { ConnectionAttributes } from '../../policy/types.ts';
import type { DataPlane } from '../connection/data-plane.ts';
import { type Party, partyOf, serviceFacts } from '../connection/party.ts';
import type { PeerIdentity } from '../connection/peer-identity.ts';
import { ConnectionRecord, type Flags, type Transport } from '../connection/record.ts';
import type { LiveConnection } from '../connection/table.ts';
import type { Address } from '../native/socket.ts';
import { Dial } from '../reactor/dial.ts';
import type { Application } from './application.ts';
import { type Authorizer, refusalOf } from './authorizer.ts';

/** How one kind of inbound connection carries its bytes: a stream of a tunnel, or a socket. */
export interface InboundCarrier {
  bytesForward(): number;
  bytesBack(): number;
  /** The application is connected: join it. */
  join(applicationFd: number): void;
  /** Nothing was dialled, or the dial failed: tell the peer and release everything. `status` is what HTTP would answer. */
  refuse(status: 403 | 503, reason: string): void;
  /** Ends a joined connection at once. */
  cut(reason: string): void;
}

export interface InboundFacts {
  readonly target: Address;
  readonly source: Party;
  readonly from: Address;
  /** Null for a peer that did not authenticate. */
  readonly peer: PeerIdentity | null;
  readonly transport: Transport;
  readonly sni: string;
}

/**
 * One connection that came for this workload, of either path: it is registered, then decided, and only then is the application dialled. While it
 * lives it is decided again whenever something that it depends on changes.
 */
export class InboundConnection implements LiveConnection {
  readonly record: ConnectionRecord;
  readonly #plane: DataPlane;
  readonly #authorizer: Authorizer;
  readonly #carrier: InboundCarrier;
  readonly #peer: PeerIdentity | null;
  readonly #target: Address;
  readonly #attributes: ConnectionAttributes;
  #dial: Dial | null = null;
  #joined = false;
  #over = false;

  constructor(plane: DataPlane, authorizer: Authorizer, carrier: InboundCarrier, facts: InboundFacts) {
    this.#plane = plane;
    this.#authorizer = authorizer;
    this.#carrier = carrier;
    this.#peer = facts.peer;
    this.#target = facts.target;
    const own = plane.view.workloadAt(facts.target.address);
    const destination = partyOf(own, plane.tls.identity?.spiffeId ?? null);
    this.record = new ConnectionRecord(plane, 'inbound', facts.source, facts.from, destination, facts.target);
    this.record.transport = facts.transport;
    this.record.originalDestination = facts.target;
    const service = own === null ? null : plane.view.serviceServing(own.name, facts.target.port);
    this.record.service = service === null ? null : serviceFacts(service);
    this.#attributes = {
      sourcePrincipal: facts.peer?.principal ?? null,
      sourceIp: facts.from.address,
      destinationIp: facts.target.address,
      destinationPort: facts.target.port,
      sni: facts.sni,
    };
    plane.table.add(this);
  }

  /** Decides, and dials the application where that allows it. */
  admit(application: Application): void {
    if (!this.#authorizer.admit(this.record, this.#attributes)) {
      this.#refuse('DENY', 403, refusalOf(this.record.decision));
      return;
    }
    const at = application.locate(this.#target);
    if (typeof at === 'string') {
      this.#refuse('PROTOCOL', 403, at);
      return;
    }
    const { loop, config } = this.#plane;
    this.#dial = new Dial(loop, at, config.outbound.mark, config.limits.connectTimeoutMs, {
      onConnected: (fd) => {
        this.#dial = null;
        this.#joined = true;
        this.record.established();
        this.#carrier.join(fd);
      },
      onFailed: (reason) => {
        this.#dial = null;
        this.#refuse('CONNECT', 503, `application at ${at.address}:${at.port}: ${reason}`);
      },
    });
  }

  #refuse(flags: Flags, status: 403 | 503, reason: string): void {
    if (this.#over) return;
    this.end(flags, reason);
    this.#carrier.refuse(status, reason);
  }

  bytesForward(): number {
    return this.#carrier.bytesForward();
  }

  bytesBack(): number {
    return this.#carrier.bytesBack();
  }

  reconsider(): void {
    if (this.#over) return;
    const distrust = this.#peer === null ? null : this.#plane.tls.stillTrusted(this.#peer);
    if (distrust !== null) {
      this.terminate(distrust === 'revoked' ? 'CERT_REVOKED' : 'IDENTITY_ERROR', distrust);
      return;
    }
    if (this.#peer === null && this.#authorizer.mode(this.#target.port) === 'STRICT') {
      this.terminate('DENY', 'PeerAuthentication has become STRICT');
      return;
    }
    const decision = this.#authorizer.decide(this.#attributes);
    if (decision?.allowed === true) {
      this.record.decision = decision;
      return;
    }
    this.record.decision = decision;
    this.terminate('DENY', `closed by a policy change: ${refusalOf(decision)}`);
  }

  terminate(flags: Flags, detail: string): void {
    if (this.#over) return;
    if (!this.#joined) {
      this.#refuse(flags, 403, detail);
      return;
    }
    this.end(flags, detail);
    this.#carrier.cut(detail);
  }

  /** The one way out: whoever calls has released the carrier, or does so right after. */
  end(flags: Flags, detail: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#dial?.cancel();
    this.#dial = null;
    this.#plane.table.delete(this);
    this.record.end(flags, detail, this.#carrier.bytesForward(), this.#carrier.bytesBack());
  }
}
