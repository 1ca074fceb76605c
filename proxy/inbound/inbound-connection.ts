import type { ConnectionAttributes } from '../../policy/types.ts';
import type { DataPlane } from '../connection/data-plane.ts';
import type { ConnectionRecord, Flags } from '../connection/record.ts';
import type { LiveConnection } from '../connection/table.ts';
import { Dial } from '../reactor/dial.ts';
import type { Application } from './application.ts';
import { type Authorizer, refusalOf } from './authorizer.ts';
import { attributesOf, type InboundFacts, openRecord, whyCut } from './inbound-facts.ts';

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

/**
 * One connection that came for this workload, of either path: it is registered, then decided, and only then is the application dialled. While it
 * lives it is decided again whenever something that it depends on changes.
 */
export class InboundConnection implements LiveConnection {
  readonly record: ConnectionRecord;
  listIndex = -1;
  readonly #plane: DataPlane;
  readonly #authorizer: Authorizer;
  readonly #carrier: InboundCarrier;
  readonly #facts: InboundFacts;
  readonly #attributes: ConnectionAttributes;
  #dial: Dial | null = null;
  #joined = false;
  #over = false;

  constructor(plane: DataPlane, authorizer: Authorizer, carrier: InboundCarrier, facts: InboundFacts) {
    this.#plane = plane;
    this.#authorizer = authorizer;
    this.#carrier = carrier;
    this.#facts = facts;
    this.record = openRecord(plane, facts);
    this.#attributes = attributesOf(facts);
    plane.table.add(this);
  }

  /** Decides, and dials the application where that allows it. */
  admit(application: Application): void {
    if (!this.#authorizer.admit(this.record, this.#attributes)) {
      this.#refuse('DENY', 403, refusalOf(this.record.decision));
      return;
    }
    const at = application.locate(this.#facts.target);
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
    const cut = whyCut(this.#plane, this.#authorizer, this.#facts);
    if (cut !== null) {
      this.terminate(cut.flags, cut.detail);
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
