import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT } from '../native/epoll.ts';
import { AGAIN, type ByteEnd, FAILED } from './ends.ts';
import type { EventHandler, Loop } from './loop.ts';
import { Timer } from './timers.ts';

/** How much one side may bring in one turn, so that others get theirs. */
const QUANTUM = 64 * 1024;

export type RelayEnd = 'closed' | 'aborted' | 'idle';

export interface RelayEvents {
  /** Once, after both descriptors were given back. `detail` says what failed. */
  onEnd(how: RelayEnd, detail: string): void;
}

/** One direction. */
class Flow {
  readonly source: ByteEnd;
  readonly sink: ByteEnd;
  /** Null iff the sink takes everything; while it is not, the source is not read: that is the whole of the back-pressure. */
  backlog: Buffer | null = null;
  ended = false;
  /** The sink was told of the end. */
  finished = false;
  bytes = 0;

  constructor(source: ByteEnd, sink: ByteEnd) {
    this.source = source;
    this.sink = sink;
  }

  /** Bytes, or the end of them, wait for room in the sink. */
  get blocked(): boolean {
    return this.backlog !== null || (this.ended && !this.finished);
  }
}

class Side implements EventHandler {
  readonly relay: Relay;
  readonly end: ByteEnd;

  constructor(relay: Relay, end: ByteEnd) {
    this.relay = relay;
    this.end = end;
  }

  onEvents(mask: number): void {
    this.relay.onSide(this, mask);
  }

  onFault(): void {
    this.relay.close('aborted', 'internal error');
  }
}

/**
 * Carries bytes between two ends until both have ended: half-close is carried across, a failure of one aborts the other, at most QUANTUM bytes
 * are held in each direction. Owns both descriptors from the moment it is made (they are watched by the loop already).
 */
export class Relay {
  readonly #loop: Loop;
  readonly #events: RelayEvents;
  readonly #idleMs: number;
  readonly #a: Side;
  readonly #b: Side;
  readonly #ab: Flow;
  readonly #ba: Flow;
  readonly #idle = new Timer(() => this.#checkIdle());
  #lastActivity: number;
  #closed = false;

  /** @param prefix bytes that were read from `a` already, at most 64 KiB: they go to `b` before everything else */
  constructor(loop: Loop, a: ByteEnd, b: ByteEnd, idleMs: number, events: RelayEvents, prefix: Buffer | null = null) {
    this.#loop = loop;
    this.#events = events;
    this.#idleMs = idleMs;
    this.#a = new Side(this, a);
    this.#b = new Side(this, b);
    this.#ab = new Flow(a, b);
    this.#ba = new Flow(b, a);
    this.#lastActivity = loop.now;
    loop.adopt(a.fd, EPOLLIN, this.#a);
    loop.adopt(b.fd, EPOLLIN, this.#b);
    loop.arm(this.#idle, idleMs);
    if (prefix !== null && prefix.length > 0) {
      this.#ab.backlog = prefix;
      this.#ab.bytes = prefix.length;
      this.#rearm();
    }
    // Bytes that TLS read together with its handshake wake nobody.
    if (a.hasPending()) loop.later(() => this.#pumpPending(this.#ab));
    if (b.hasPending()) loop.later(() => this.#pumpPending(this.#ba));
  }

  /** Bytes carried from the first end to the second. */
  get bytesForward(): number {
    return this.#ab.bytes;
  }

  get bytesBack(): number {
    return this.#ba.bytes;
  }

  onSide(side: Side, mask: number): void {
    if (this.#closed) return;
    const [reads, writes] = side === this.#a ? [this.#ab, this.#ba] : [this.#ba, this.#ab];
    if ((mask & (EPOLLOUT | EPOLLERR | EPOLLHUP)) !== 0 && writes.blocked) this.#drain(writes);
    if (!this.#closed && (mask & (EPOLLIN | EPOLLERR | EPOLLHUP)) !== 0) this.#pump(reads);
    if (!this.#closed) this.#rearm();
  }

  #pumpPending(flow: Flow): void {
    if (this.#closed) return;
    this.#pump(flow);
    if (!this.#closed) this.#rearm();
  }

  #pump(flow: Flow): void {
    if (flow.backlog !== null || flow.ended) return;
    const scratch = this.#loop.scratch;
    let budget = QUANTUM;
    do {
      const n = flow.source.read(scratch.address, QUANTUM);
      if (n === AGAIN) return;
      this.#lastActivity = this.#loop.now;
      if (n === FAILED) {
        this.close('aborted', flow.source.failure);
        return;
      }
      if (n === 0) {
        flow.ended = true;
        this.#finish(flow);
        return;
      }
      flow.bytes += n;
      budget -= n;
      if (!this.#deliver(flow, n)) return;
    } while (flow.source.hasPending() && budget > 0);
    if (flow.source.hasPending()) this.#loop.later(() => this.#pumpPending(flow));
  }

  /** @returns whether the sink took everything. */
  #deliver(flow: Flow, length: number): boolean {
    const scratch = this.#loop.scratch;
    const taken = flow.sink.write(scratch.address, length);
    if (taken === length) return true;
    if (taken === FAILED) {
      this.close('aborted', flow.sink.failure);
      return false;
    }
    flow.backlog = Buffer.from(scratch.bytes.subarray(Math.max(0, taken), length));
    return false;
  }

  #drain(flow: Flow): void {
    const { backlog } = flow;
    if (backlog === null) {
      if (flow.ended) this.#finish(flow);
      return;
    }
    // Ends write from native memory; OpenSSL wants the same bytes again, not the same address.
    backlog.copy(this.#loop.scratch.bytes);
    const taken = flow.sink.write(this.#loop.scratch.address, backlog.length);
    if (taken === AGAIN) return;
    if (taken === FAILED) {
      this.close('aborted', flow.sink.failure);
      return;
    }
    this.#lastActivity = this.#loop.now;
    flow.backlog = taken < backlog.length ? backlog.subarray(taken) : null;
    if (flow.backlog !== null) return;
    if (flow.ended) this.#finish(flow);
    else if (flow.source.hasPending()) this.#loop.later(() => this.#pumpPending(flow));
  }

  #finish(flow: Flow): void {
    if (flow.backlog !== null || flow.finished || !flow.sink.endWrite()) return;
    flow.finished = true;
    if (this.#ab.finished && this.#ba.finished) this.close('closed', '');
  }

  #rearm(): void {
    this.#rearmSide(this.#a, this.#ab, this.#ba);
    this.#rearmSide(this.#b, this.#ba, this.#ab);
  }

  #rearmSide(side: Side, reads: Flow, writes: Flow): void {
    const mask = (reads.ended || reads.backlog !== null ? 0 : EPOLLIN) | (writes.blocked ? EPOLLOUT : 0);
    this.#loop.rearm(side.end.fd, mask);
  }

  #checkIdle(): void {
    const left = this.#lastActivity + this.#idleMs - this.#loop.now;
    if (left <= 0) this.close('idle', `no bytes for ${this.#idleMs} ms`);
    else this.#loop.arm(this.#idle, left);
  }

  /** Ends both sides at once; what is not delivered is lost. Does nothing the second time. */
  close(how: RelayEnd, detail: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#loop.cancel(this.#idle);
    this.#ab.backlog = null;
    this.#ba.backlog = null;
    for (const side of [this.#a, this.#b]) {
      side.end.release(how !== 'closed');
      this.#loop.close(side.end.fd);
    }
    this.#events.onEnd(how, detail);
  }
}
