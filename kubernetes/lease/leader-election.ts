import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { messageOf } from '../../mesh/errors.ts';
import type { JsonObject } from '../../policy/types.ts';
import { isReason } from '../api/errors.ts';
import { TYPES } from '../api/resource-types.ts';
import type { KubernetesApi, ObjectName } from '../api/types.ts';
import { claimed, type LeaseClaim, type LeaseRecord, readLease, released } from './lease-record.ts';
import { Term } from './term.ts';

export interface LeaseTimings {
  /** How long others wait after they saw the last renewal. */
  readonly leaseMs: number;
  /** When the holder gives up; shorter than `leaseMs`. */
  readonly renewDeadlineMs: number;
  /** Between two attempts; up to a fifth is added, so that replicas do not keep step. */
  readonly retryMs: number;
  /** How long the work of a term may take to end before the lease is given back unasked for. */
  readonly settleMs: number;
}

/** Those of Kubernetes' own controllers. */
const LEASE_TIMINGS: LeaseTimings = {
  leaseMs: 15_000,
  renewDeadlineMs: 10_000,
  retryMs: 2_000,
  settleMs: 5_000,
};

const JITTER = 0.2;

export interface LeaderElectionOptions {
  readonly api: Pick<KubernetesApi, 'get' | 'create' | 'replace'>;
  readonly lease: ObjectName;
  /** `holderIdentity`: no two processes ever have the same, a restarted one neither. */
  readonly identity: string;
  /**
   * What the leader does, until `term.signal` aborts; settles when nothing of it is under way any more. There is NEVER a second term before that. Where
   * it rejects the term ends, and another begins with the next attempt.
   */
  readonly lead: (term: Term) => Promise<void>;
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>;
  readonly timings?: Partial<LeaseTimings>;
  /** Monotonic clock, milliseconds. */
  readonly now?: () => number;
  readonly random?: () => number;
}

/** Elects one of several processes by a Lease, as Kubernetes' own controllers do (client-go's leaderelection). */
export class LeaderElection {
  readonly #options: LeaderElectionOptions;
  readonly #timings: LeaseTimings;
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #stopping = new AbortController();
  #running: Promise<void> | null = null;
  /** As last seen, and when it was first seen so, on our clock: whether it has run out is counted from there. */
  #seen: { readonly record: LeaseRecord; readonly at: number } | null = null;
  #term: Term | null = null;
  /** Of the last term; null: it has settled. */
  #work: Promise<void> | null = null;
  #complaint: string | null = null;

  constructor(options: LeaderElectionOptions) {
    this.#options = options;
    this.#timings = { ...LEASE_TIMINGS, ...options.timings };
    this.#now = options.now ?? (() => performance.now());
    this.#random = options.random ?? Math.random;
    if (this.#timings.renewDeadlineMs >= this.#timings.leaseMs) {
      throw new RangeError('the holder of a lease must give up before others may take it: renewDeadlineMs < leaseMs');
    }
  }

  /** Whether we lead, by the clock. */
  get isLeader(): boolean {
    return this.#term?.lasts === true;
  }

  /** Who held the lease when it was last seen; null: nobody, or it has not been seen. */
  get holder(): string | null {
    const holder = this.#seen?.record.holder ?? '';
    return holder === '' ? null : holder;
  }

  start(): void {
    this.#running ??= this.#run(this.#stopping.signal);
  }

  /** Ends the term, waits for its work, and gives the lease back, so that another may take it at once. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const led = this.isLeader;
    this.#term?.end();
    await this.#running;
    if (!led) return;
    if (await this.#settled()) await this.#release();
    else this.#options.log.warn('the work of the leader does not end: the lease is left to run out');
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#attempt(signal);
      const pauseMs = this.#timings.retryMs * (1 + JITTER * this.#random());
      await sleep(pauseMs, null, { signal }).catch(() => {});
    }
  }

  async #attempt(signal: AbortSignal): Promise<void> {
    const term = this.#term;
    if (term !== null && !term.lasts)
      this.#lost('its term is over, it could not be renewed in time or its work failed');
    // While the work of a lost term goes on, somebody else had better lead.
    if (this.#term === null && this.#work !== null) return;
    // Half of what a term lasts, so that one request that hangs does not cost the term.
    const deadline = AbortSignal.timeout(this.#timings.renewDeadlineMs / 2);
    try {
      await this.#takeOrRenew(AbortSignal.any([signal, deadline]));
      this.#complaint = null;
    } catch (error) {
      if (!signal.aborted) this.#complain(error);
    }
  }

  async #takeOrRenew(signal: AbortSignal): Promise<void> {
    // The holder knows what it wrote last, and mostly nobody else has written since.
    const known = this.#term === null ? null : (this.#seen?.record ?? null);
    if (known !== null && (await this.#write(known, signal))) return;
    const found = await this.#read(signal);
    if (found !== null && !this.#mayTake(found)) {
      if (this.#term !== null) this.#lost(`${found.holder === '' ? 'nobody' : found.holder} holds it`);
      return;
    }
    await this.#write(found, signal);
  }

  async #read(signal: AbortSignal): Promise<LeaseRecord | null> {
    try {
      return this.#observe(await this.#options.api.get(TYPES.Lease, this.#options.lease, signal));
    } catch (error) {
      if (isReason(error, 'NotFound')) return null;
      throw error;
    }
  }

  #observe(object: JsonObject): LeaseRecord {
    const record = readLease(object);
    const before = this.#seen;
    // Others may touch the object's labels or annotations: that renews nothing.
    const renewed =
      before === null ||
      before.record.holder !== record.holder ||
      before.record.renewTime !== record.renewTime ||
      before.record.transitions !== record.transitions;
    this.#seen = { record, at: renewed ? this.#now() : before.at };
    return record;
  }

  #mayTake(record: LeaseRecord): boolean {
    if (record.holder === '' || record.holder === this.#options.identity) return true;
    const leaseMs = record.durationSeconds === null ? this.#timings.leaseMs : record.durationSeconds * 1000;
    return this.#now() - (this.#seen?.at ?? this.#now()) >= leaseMs;
  }

  /** @returns false where somebody else has written meanwhile. */
  async #write(before: LeaseRecord | null, signal: AbortSignal): Promise<boolean> {
    const { api, lease } = this.#options;
    const sentAt = this.#now();
    const object = claimed(before, this.#claim());
    try {
      const written =
        before === null
          ? await api.create(TYPES.Lease, lease.namespace, object, { signal })
          : await api.replace(TYPES.Lease, lease, object, { signal });
      this.#observe(written);
    } catch (error) {
      if (isReason(error, 'Conflict', 'AlreadyExists', 'NotFound')) return false;
      throw error;
    }
    this.#held(sentAt);
    return true;
  }

  #claim(): LeaseClaim {
    const { lease, identity } = this.#options;
    return { ...lease, identity, durationMs: this.#timings.leaseMs, now: new Date() };
  }

  #held(sentAt: number): void {
    if (this.#term?.lasts === true) {
      this.#term.renewed(sentAt);
      return;
    }
    if (this.#term !== null) this.#lost('its renewal came too late');
    // The lease is ours, though we may not use it: the next attempt will see.
    if (this.#work !== null || this.#stopping.signal.aborted) return;
    const term = new Term(sentAt, this.#timings.renewDeadlineMs, this.#now);
    if (!term.lasts) return;
    this.#term = term;
    const { log, lead, identity, lease } = this.#options;
    log.info({ lease: lease.name, identity }, 'this replica leads');
    this.#work = Promise.resolve()
      .then(() => lead(term))
      .catch((error: unknown) => {
        // Whoever holds the lease is to do the work: it is begun anew, here or elsewhere.
        log.error({ err: error }, 'the work of the leader failed; it is begun anew');
        term.end();
      })
      .finally(() => {
        this.#work = null;
      });
  }

  #lost(why: string): void {
    this.#term?.end();
    this.#term = null;
    this.#options.log.warn({ lease: this.#options.lease.name }, `this replica leads no longer: ${why}`);
  }

  /** Whether the work ended in time. */
  async #settled(): Promise<boolean> {
    if (this.#work === null) return true;
    const over = new AbortController();
    const late = sleep(this.#timings.settleMs, false, { signal: over.signal }).catch(() => false);
    const settled = await Promise.race([this.#work.then(() => true), late]);
    over.abort();
    return settled;
  }

  async #release(): Promise<void> {
    const { lease, log } = this.#options;
    const signal = AbortSignal.timeout(this.#timings.settleMs);
    try {
      if (await this.#giveBack(this.#seen?.record ?? null, signal)) return;
      // A renewal that was given up may have been stored all the same.
      if (await this.#giveBack(await this.#read(signal), signal)) return;
      log.warn(
        { lease: lease.name },
        'the lease could not be given back, it runs out by itself: others write it as well',
      );
    } catch (error) {
      log.warn({ lease: lease.name }, `the lease could not be given back, it runs out by itself: ${messageOf(error)}`);
    }
  }

  /** @returns false where it has been written meanwhile; true also where it is not ours. */
  async #giveBack(record: LeaseRecord | null, signal: AbortSignal): Promise<boolean> {
    const { api, lease, identity } = this.#options;
    if (record?.holder !== identity) return true;
    try {
      await api.replace(TYPES.Lease, lease, released(record, this.#claim()), { signal });
      return true;
    } catch (error) {
      if (isReason(error, 'Conflict')) return false;
      throw error;
    }
  }

  /** Each complaint once: attempts follow each other every few seconds. */
  #complain(error: unknown): void {
    const message = messageOf(error);
    if (message === this.#complaint) return;
    this.#complaint = message;
    this.#options.log.warn(`the lease ${this.#options.lease.name} could not be read or written: ${message}`);
  }
}
