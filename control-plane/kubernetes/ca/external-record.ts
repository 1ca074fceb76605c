import { messageOf, PosternError } from '../../../mesh/errors.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { isoTime } from '../../ca/authority-steps.ts';
import type { Complaints } from '../complaints.ts';
import { type ExternalIssuer, readExternalIssuer } from './external-issuer.ts';
import { announced, moved, pruned, type RootOffer, rootsInOrder } from './external-trust.ts';
import { type CaObjects, presentTerm, type SharedCaOptions, SLACK_MS } from './shared-ca.ts';
import { readTrustState, type TrustState, writeTrustState } from './trust-state.ts';

export interface ExternalRecordOptions
  extends Pick<SharedCaOptions, 'trustDomain' | 'clock' | 'term' | 'log' | 'slackMs'>,
    CaObjects {
  /** Lifetime of a leaf, and the longest, by this replica's settings. */
  readonly policy: { readonly ttlSeconds: number; readonly maxTtlSeconds: number };
  /** How long a new root is announced before it is asked who trusts it, milliseconds; default 30 s: sidecars may be on their way to another replica. */
  readonly settleMs?: number;
  /** Longest wait for sidecars to trust a new root, milliseconds; default 5 minutes. Then it issues all the same. */
  readonly acknowledgementWaitMs?: number;
  readonly complaints: Complaints;
  /** The roots, or their order, are others than before. */
  readonly onRootsChanged: () => void;
}

/** The external CA as a replica finds it at its start. */
export interface ExternalReading {
  readonly issuer: ExternalIssuer;
  /** What else can issue: under the root that does so now, where the Secret has another already. */
  readonly predecessor: ExternalIssuer | null;
  readonly state: TrustState | null;
  /** Unix time, milliseconds, at which the state was asked for. */
  readonly askedAt: number;
}

/** A new root that waits for the sidecars' trust. */
export interface PendingRoot {
  readonly fingerprint: string;
  /** How long they may still take, milliseconds. */
  readonly leftMs: number;
}

const SETTLE_MS = 30_000;
const WAIT_MS = 5 * 60_000;

/**
 * What this replica holds of an external CA, and its reading and writing of the state that all replicas share. Its calls must not run beside each other.
 *
 * Another intermediate of the same root issues at once. Another root is announced first; the old intermediate, kept in memory, goes on issuing until every
 * sidecar trusts the new root or the wait is over. The leader writes down which root issues, and the other replicas follow.
 */
export class ExternalRecord {
  readonly #options: ExternalRecordOptions;
  /** What the Secret last held that was good. */
  #latest: ExternalIssuer;
  /** By fingerprint of the root: the latest intermediate of each that this process has seen. */
  readonly #issuers = new Map<string, ExternalIssuer>();
  /** As stored; null before the first leader has written it. */
  #state: TrustState | null;
  /** Root that this replica went over to without the leader. */
  #ownMove: string | null = null;
  /** Unix time, milliseconds, since which the root of the Secret is not the one that issues. */
  #pendingSince: number | null = null;
  #confirmedAt: number;
  #roots: readonly string[] = [];

  constructor(options: ExternalRecordOptions, read: ExternalReading) {
    this.#options = options;
    this.#latest = read.issuer;
    for (const one of [read.predecessor, read.issuer]) if (one !== null) this.#issuers.set(one.root.fingerprint, one);
    this.#state = read.state;
    this.#confirmedAt = read.askedAt;
    this.#settle();
  }

  get latest(): ExternalIssuer {
    return this.#latest;
  }

  get issuers(): ReadonlyMap<string, ExternalIssuer> {
    return this.#issuers;
  }

  get state(): TrustState | null {
    return this.#state;
  }

  /** Unix time, milliseconds, at which the API last confirmed which root issues. */
  get confirmedAt(): number {
    return this.#confirmedAt;
  }

  /** PEM: the root that issues first. */
  get roots(): readonly string[] {
    return this.#roots;
  }

  /** Fingerprint of the root that is to issue; this process may not have its key. */
  get issuing(): string {
    const { fingerprint } = this.#latest.root;
    return this.#state === null || this.#ownMove === fingerprint ? fingerprint : this.#state.issuing;
  }

  /** Longest lifetime of a leaf that any replica may have given out, seconds. */
  get maxTtlSeconds(): number {
    return Math.max(this.#options.policy.maxTtlSeconds, this.#state?.maxTtlSeconds ?? 0);
  }

  /** The root of which it is to be asked now who trusts it; null where there is none, or it was announced too short a time ago. */
  get pending(): PendingRoot | null {
    const { settleMs = SETTLE_MS, acknowledgementWaitMs = WAIT_MS } = this.#options;
    const waitedMs = this.#waitedMs();
    if (this.#pendingSince === null || waitedMs < settleMs || waitedMs >= acknowledgementWaitMs) return null;
    return { fingerprint: this.#latest.root.fingerprint, leftMs: acknowledgementWaitMs - waitedMs };
  }

  /** Reads Secret and state and takes over what is good in them; the leader also brings the state up to date. @throws KubernetesError */
  async refresh(): Promise<void> {
    const { secret, state } = this.#options;
    const { object } = await secret.read();
    const stored = await state.read();
    this.#takeSecret(object);
    if (this.#takeState(stored.object)) this.#confirmedAt = stored.askedAt;
    this.#settle();
    const term = presentTerm(this.#options);
    if (term === null) return;
    await this.#lead(stored.object, term);
    this.#settle();
  }

  /** Every sidecar trusts the root of that fingerprint: it issues from now on, where it still is that of the Secret. @throws KubernetesError */
  async move(fingerprint: string, term: AbortSignal): Promise<void> {
    const { secret, state, log } = this.#options;
    const { object } = await state.read();
    if (term.aborted || !this.#takeState(object) || this.#state === null) return;
    if (fingerprint !== this.#latest.root.fingerprint) return;
    await this.#store(object, moved(this.#state, fingerprint, this.#trustedUntil()), term);
    log.info(`every connected sidecar trusts the new root of ${secret.where}: it issues from now on`);
    this.#settle();
  }

  #takeSecret(object: JsonObject | null): void {
    const { secret, clock, complaints, log } = this.#options;
    try {
      if (object === null) throw new PosternError('ERR_CA_EXTERNAL', `${secret.where} is gone`);
      const issuer = readExternalIssuer(object, clock(), secret.where);
      complaints.settle('secret', `${secret.where} is in order again`);
      if (issuer.certificate.fingerprint === this.#latest.certificate.fingerprint) return;
      this.#latest = issuer;
      this.#issuers.set(issuer.root.fingerprint, issuer);
      log.info(`${secret.where} has a new CA certificate, to ${isoTime(issuer.notAfter)}`);
    } catch (error) {
      complaints.raise('secret', `${messageOf(error)}. What was read before stays in use`, 'error');
    }
  }

  /** Whether what is known of the state is what is stored. One that was deleted stays in memory, and the leader writes it again. */
  #takeState(object: JsonObject | null): boolean {
    if (object === null) return this.#state === null;
    const { state, trustDomain, complaints } = this.#options;
    try {
      this.#state = readTrustState(object, trustDomain, state.where);
      complaints.settle('state', `${state.where} is in order again`);
      return true;
    } catch (error) {
      complaints.raise('state', `${messageOf(error)}. What was read before stays in force`, 'error');
      return false;
    }
  }

  /** What follows from Secret and state: whether the move is due without a leader, and which roots are trusted. */
  #settle(): void {
    const { clock, acknowledgementWaitMs = WAIT_MS, policy, secret, log, onRootsChanged } = this.#options;
    const { fingerprint } = this.#latest.root;
    const now = clock();
    if (this.issuing === fingerprint) this.#pendingSince = null;
    else this.#pendingSince ??= now;
    const old = this.#issuers.get(this.issuing);
    const overdue = this.#pendingSince !== null && now - this.#pendingSince > 2 * acknowledgementWaitMs;
    const ending = this.#pendingSince !== null && old !== undefined && old.notAfter <= now + policy.ttlSeconds * 1000;
    if (overdue || ending) {
      this.#ownMove = fingerprint;
      this.#pendingSince = null;
      log.warn(
        `the new root of ${secret.where} issues here from now on: ${ending ? 'the old one ends' : 'no leader has said so for a long time'}`,
      );
    }
    const roots = rootsInOrder(this.#state, offerOf(this.#latest), this.issuing);
    const changed = roots.join('') !== this.#roots.join('');
    this.#roots = roots;
    if (changed) onRootsChanged();
  }

  async #lead(read: JsonObject | null, term: AbortSignal): Promise<void> {
    const { trustDomain, clock, acknowledgementWaitMs = WAIT_MS, log } = this.#options;
    const offer = offerOf(this.#latest);
    const { maxTtlSeconds } = this;
    const trustedUntil = this.#trustedUntil();
    const waitedMs = this.#waitedMs();
    let next = announced(this.#state, offer, { trustDomain, maxTtlSeconds });
    if (this.#ownMove === offer.fingerprint || waitedMs >= acknowledgementWaitMs) {
      if (waitedMs > 0) log.warn('not every sidecar has confirmed the new root in time: it issues all the same');
      next = moved(next, offer.fingerprint, trustedUntil);
    }
    next = pruned(next, { now: clock(), offered: offer.fingerprint, trustedUntil });
    if (next !== this.#state || read === null) await this.#store(read, next, term);
  }

  /** @throws KubernetesError Conflict where another wrote in between: the next round decides again */
  async #store(read: JsonObject | null, next: TrustState, term: AbortSignal): Promise<void> {
    const { state } = this.#options;
    const content = { data: writeTrustState(next) };
    if (read === null) await state.create(content, term);
    else await state.replace(read, content, term);
    this.#state = next;
  }

  /** How long the root of the Secret has waited to issue, milliseconds. */
  #waitedMs(): number {
    return this.#pendingSince === null ? 0 : this.#options.clock() - this.#pendingSince;
  }

  /** End of trust in a root that stops issuing now, Unix time in milliseconds. */
  #trustedUntil(): number {
    const { clock, slackMs = SLACK_MS } = this.#options;
    return clock() + this.maxTtlSeconds * 1000 + slackMs;
  }
}

const offerOf = ({ root, rootPem }: ExternalIssuer): RootOffer => ({ pem: rootPem, fingerprint: root.fingerprint });
