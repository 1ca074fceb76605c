import type { Logger } from 'pino';
import { TYPES } from '../../../kubernetes/api/resource-types.ts';
import { EXIT, messageOf, PosternError } from '../../../mesh/errors.ts';
import type { CertificateResponse } from '../../../mesh/push.ts';
import type { JsonObject } from '../../../policy/types.ts';
import type { AuthorityDescription } from '../../ca/authority-description.ts';
import type { RotationPhase } from '../../ca/authority-state.ts';
import { isoTime } from '../../ca/authority-steps.ts';
import {
  answerServer,
  answerWorkload,
  type IssuedLeaf,
  issueLeaf,
  type LeafSubject,
  type ServerRequest,
  type WorkloadRequest,
} from '../../ca/issue-leaf.ts';
import { type IssuingPolicy, issuingPolicy } from '../../ca/issuing-policy.ts';
import type { AwaitAcknowledgement } from '../../ca/rotation.ts';
import type { Authority } from '../../platform.ts';
import type { IssuedServerCertificate } from '../../server/server-certificate.ts';
import { Complaints } from '../complaints.ts';
import { describeRoots, phaseOf } from './external-description.ts';
import { type ExternalIssuer, readExternalIssuer } from './external-issuer.ts';
import { announced, moved, pruned, type RootOffer, rootsInOrder } from './external-trust.ts';
import { Rounds } from './rounds.ts';
import { type ObjectApi, type ObjectWatch, SharedObject } from './shared-object.ts';
import { readTrustState, STATE_CONFIG_MAP, type TrustState, writeTrustState } from './trust-state.ts';

export interface ExternalAuthorityOptions {
  readonly api: ObjectApi;
  /** Of the Secret, and of the ConfigMap `postern-ca-state` that replicas agree by. */
  readonly namespace: string;
  /** Name of the `kubernetes.io/tls` Secret. */
  readonly secret: string;
  readonly trustDomain: string;
  /** Unix time, milliseconds. */
  readonly clock: () => number;
  readonly defaults?: Partial<IssuingPolicy>;
  /** The signal of this replica's term as the leader; null while another leads. */
  readonly term: () => AbortSignal | null;
  /** Of the sidecars of all replicas. Asked by the leader when the Secret has another root. */
  readonly awaitAcknowledgement: AwaitAcknowledgement;
  /** Tell of changes of the Secret and of the ConfigMap at once; without them they are found by reading every `pollMs`. */
  readonly watches?: readonly ObjectWatch[];
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>;
  /** Milliseconds; default 10 s. */
  readonly pollMs?: number;
  /** How long a new root is announced before it is asked who trusts it, milliseconds; default 30 s: sidecars may be on their way to another replica. */
  readonly settleMs?: number;
  /** Longest wait for sidecars to trust a new root, milliseconds; default 5 minutes. Then it issues all the same. */
  readonly acknowledgementWaitMs?: number;
  /** As in `SecretAuthority`; default 5 minutes. */
  readonly slackMs?: number;
}

const ROUND_MS = 10_000;
const SETTLE_MS = 30_000;
const WAIT_MS = 5 * 60_000;
const SLACK_MS = 5 * 60_000;

/**
 * A CA whose intermediate comes from outside (cert-manager, Vault) in a Secret that Postern only reads.
 *
 * Another intermediate of the same root issues at once. Another root is announced first; the old intermediate, kept in memory, goes on issuing until every
 * sidecar trusts the new root or the wait is over. The leader writes down which root issues, and the other replicas follow.
 *
 * ALWAYS: leaf.notAfter ≤ (time at which the API last confirmed which root issues) + maxTtl; an old root is trusted until then, and some slack more.
 */
export class ExternalAuthority implements Authority {
  readonly trustDomain: string;
  /** Rotations happen outside: for `RootRotation` there never is one. `describe()` says how far a change of the root is. */
  readonly rotationPhase: RotationPhase = 'none';
  readonly retiringLeavesExpireBy = null;
  readonly #options: ExternalAuthorityOptions;
  readonly #policy: IssuingPolicy;
  readonly #secret: SharedObject;
  readonly #stateObject: SharedObject;
  readonly #rounds: Rounds;
  readonly #complaints: Complaints;
  readonly #stop = new AbortController();
  readonly #listeners = new Set<(roots: readonly string[]) => void>();
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
  #asking = false;
  #confirmedAt: number;
  #roots: readonly string[] = [];

  private constructor(
    options: ExternalAuthorityOptions,
    parts: { readonly secret: SharedObject; readonly state: SharedObject },
    read: { readonly issuer: ExternalIssuer; readonly state: TrustState | null; readonly askedAt: number },
  ) {
    this.trustDomain = options.trustDomain;
    this.#options = options;
    this.#policy = issuingPolicy(options.defaults);
    this.#secret = parts.secret;
    this.#stateObject = parts.state;
    this.#complaints = new Complaints(options.log);
    this.#latest = read.issuer;
    this.#issuers.set(read.issuer.root.fingerprint, read.issuer);
    this.#state = read.state;
    this.#confirmedAt = read.askedAt;
    this.#rounds = new Rounds({
      everyMs: options.pollMs ?? ROUND_MS,
      round: () => this.#round(),
      onError: (error) =>
        this.#complaints.raise('api', `the CA could not be confirmed by the API server: ${messageOf(error)}`, 'warn'),
    });
    this.#settle();
  }

  /** @throws PosternError ERR_CA_CONFIG, ERR_CA_EXTERNAL, ERR_CA_DAMAGED, ERR_CA_TRUST_DOMAIN; KubernetesError */
  static async open(options: ExternalAuthorityOptions): Promise<ExternalAuthority> {
    const { api, namespace, clock, trustDomain } = options;
    const secret = new SharedObject({ api, type: TYPES.Secret, namespace, name: options.secret, clock });
    const state = new SharedObject({ api, type: TYPES.ConfigMap, namespace, name: STATE_CONFIG_MAP, clock });
    const { object } = await secret.read();
    if (object === null) {
      const message = `${secret.where} is missing: make it, e.g. by a Certificate of cert-manager with isCA: true, or set another one as the external CA`;
      throw new PosternError('ERR_CA_EXTERNAL', message, { exitCode: EXIT.noInput });
    }
    const issuer = readExternalIssuer(object, clock(), secret.where);
    const stored = await state.read();
    const authority = new ExternalAuthority(
      options,
      { secret, state },
      {
        issuer,
        state: stored.object === null ? null : readTrustState(stored.object, trustDomain, state.where),
        askedAt: stored.askedAt,
      },
    );
    authority.#rounds.start();
    for (const watch of options.watches ?? []) watch.start(() => authority.#rounds.ring());
    return authority;
  }

  get maxTtlSeconds(): number {
    return Math.max(this.#policy.maxTtlSeconds, this.#state?.maxTtlSeconds ?? 0);
  }

  get roots(): readonly string[] {
    return this.#roots;
  }

  onRootsChanged(listener: (roots: readonly string[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** @throws PosternError ERR_BAD_CSR, ERR_SPIFFE_ID, ERR_CA_EXPIRED; ERR_CA_WAITING where sidecars do not trust the only root yet that could issue */
  issueWorkload(request: WorkloadRequest): CertificateResponse {
    return answerWorkload(this, request, (subject, ttl) => {
      const issuer = this.#issuers.get(this.#issuing());
      if (issuer === undefined) throw this.#waiting();
      return this.#issue(issuer, subject, ttl);
    });
  }

  issueServer(request: ServerRequest): IssuedServerCertificate {
    const issuer = this.#issuers.get(this.#issuing()) ?? this.#latest;
    return answerServer(this, request, (subject, ttl) => this.#issue(issuer, subject, ttl));
  }

  beginRotation(): never {
    throw this.#external();
  }

  activateRotation(): never {
    throw this.#external();
  }

  finishRotation(): never {
    throw this.#external();
  }

  describe(): AuthorityDescription {
    const roots = describeRoots({
      roots: this.#roots,
      issuing: this.#issuing(),
      leavesEnd: this.#confirmedAt + this.maxTtlSeconds * 1000,
      state: this.#state,
      issuers: this.#issuers,
    });
    const { trustDomain } = this;
    return { trustDomain, rotation: phaseOf(roots), leafTtlSeconds: this.#policy.ttlSeconds, roots };
  }

  close(): void {
    this.#stop.abort();
    this.#rounds.stop();
    for (const watch of this.#options.watches ?? []) void watch.stop();
    this.#listeners.clear();
  }

  /** Fingerprint of the root that is to issue; this process may not have its key. */
  #issuing(): string {
    const { fingerprint } = this.#latest.root;
    return this.#state === null || this.#ownMove === fingerprint ? fingerprint : this.#state.issuing;
  }

  #issue(issuer: ExternalIssuer, subject: LeafSubject, ttlSeconds: number | undefined): IssuedLeaf {
    const now = this.#options.clock();
    const limitMs = Math.min(this.#policy.maxTtlSeconds, this.#state?.maxTtlSeconds ?? Number.POSITIVE_INFINITY) * 1000;
    const confirmedEnd = this.#confirmedAt + limitMs;
    const endReason =
      issuer.notAfter <= confirmedEnd
        ? `the CA certificate of ${this.#secret.where} ended at ${isoTime(issuer.notAfter)}, and the clock says ${isoTime(now)}: look at what fills that Secret`
        : `the API server has not confirmed ${this.#stateObject.where} since ${isoTime(this.#confirmedAt)}: see the log of this control plane`;
    const facts = {
      issuer: issuer.issuer,
      chain: issuer.chain,
      latestEnd: Math.min(issuer.notAfter, confirmedEnd),
      endReason,
      policy: { ...this.#policy, maxTtlSeconds: limitMs / 1000 },
      now,
    };
    return issueLeaf(facts, subject, ttlSeconds);
  }

  async #round(): Promise<void> {
    const secret = await this.#secret.read();
    const stored = await this.#stateObject.read();
    this.#complaints.settle('api', 'the API server confirms the CA again');
    this.#takeSecret(secret.object);
    if (this.#takeState(stored.object)) this.#confirmedAt = stored.askedAt;
    this.#settle();
    const term = this.#term();
    if (term === null) return;
    await this.#lead(stored.object, term);
    this.#settle();
  }

  #takeSecret(object: JsonObject | null): void {
    try {
      if (object === null) throw new PosternError('ERR_CA_EXTERNAL', `${this.#secret.where} is gone`);
      const issuer = readExternalIssuer(object, this.#options.clock(), this.#secret.where);
      this.#complaints.settle('secret', `${this.#secret.where} is in order again`);
      if (issuer.certificate.fingerprint === this.#latest.certificate.fingerprint) return;
      this.#latest = issuer;
      this.#issuers.set(issuer.root.fingerprint, issuer);
      this.#options.log.info(`${this.#secret.where} has a new CA certificate, to ${isoTime(issuer.notAfter)}`);
    } catch (error) {
      this.#complaints.raise('secret', `${messageOf(error)}. What was read before stays in use`, 'error');
    }
  }

  /** Whether what is known of the state is what is stored. One that was deleted stays in memory, and the leader writes it again. */
  #takeState(object: JsonObject | null): boolean {
    if (object === null) return this.#state === null;
    try {
      this.#state = readTrustState(object, this.trustDomain, this.#stateObject.where);
      this.#complaints.settle('state', `${this.#stateObject.where} is in order again`);
      return true;
    } catch (error) {
      this.#complaints.raise('state', `${messageOf(error)}. What was read before stays in force`, 'error');
      return false;
    }
  }

  /** What follows from Secret and state: whether the move is due without a leader, and which roots are trusted. */
  #settle(): void {
    const { clock, acknowledgementWaitMs = WAIT_MS, log } = this.#options;
    const { fingerprint } = this.#latest.root;
    const now = clock();
    if (this.#issuing() === fingerprint) this.#pendingSince = null;
    else this.#pendingSince ??= now;
    const old = this.#issuers.get(this.#issuing());
    const overdue = this.#pendingSince !== null && now - this.#pendingSince > 2 * acknowledgementWaitMs;
    const ending =
      this.#pendingSince !== null && old !== undefined && old.notAfter <= now + this.#policy.ttlSeconds * 1000;
    if (overdue || ending) {
      this.#ownMove = fingerprint;
      this.#pendingSince = null;
      log.warn(
        `the new root of ${this.#secret.where} issues here from now on: ${ending ? 'the old one ends' : 'no leader has said so for a long time'}`,
      );
    }
    const roots = rootsInOrder(this.#state, offerOf(this.#latest), this.#issuing());
    const changed = roots.join('') !== this.#roots.join('');
    this.#roots = roots;
    if (changed) for (const listener of this.#listeners) listener(roots);
  }

  async #lead(read: JsonObject | null, term: AbortSignal): Promise<void> {
    const { clock, acknowledgementWaitMs = WAIT_MS, settleMs = SETTLE_MS, slackMs = SLACK_MS } = this.#options;
    const offer = offerOf(this.#latest);
    const now = clock();
    const { trustDomain, maxTtlSeconds } = this;
    const trustedUntil = now + maxTtlSeconds * 1000 + slackMs;
    const waitedMs = this.#pendingSince === null ? 0 : now - this.#pendingSince;
    let next = announced(this.#state, offer, { trustDomain, maxTtlSeconds });
    if (this.#ownMove === offer.fingerprint || waitedMs >= acknowledgementWaitMs) {
      if (waitedMs > 0)
        this.#options.log.warn('not every sidecar has confirmed the new root in time: it issues all the same');
      next = moved(next, offer.fingerprint, trustedUntil);
    }
    next = pruned(next, { now, offered: offer.fingerprint, trustedUntil });
    if (next !== this.#state || read === null) await this.#store(read, next, term);
    if (this.#pendingSince !== null && waitedMs >= settleMs) this.#ask(acknowledgementWaitMs - waitedMs, term);
  }

  /** Asks whether the new root is trusted everywhere, beside the rounds. */
  #ask(timeoutMs: number, term: AbortSignal): void {
    if (this.#asking || timeoutMs <= 0) return;
    this.#asking = true;
    const { fingerprint } = this.#latest.root;
    const signal = AbortSignal.any([AbortSignal.timeout(timeoutMs), term, this.#stop.signal]);
    this.#options
      .awaitAcknowledgement(this.#roots, signal)
      .then(({ missing }) => {
        if (missing.length > 0 || signal.aborted) return;
        return this.#rounds.exclusive(() => this.#move(fingerprint, term));
      })
      .catch((error: unknown) => this.#options.log.warn(`the new root could not take over yet: ${messageOf(error)}`))
      // Asked again in the next round, which comes in time: an answer that comes at once must not make a circle.
      .finally(() => {
        this.#asking = false;
      });
  }

  async #move(fingerprint: string, term: AbortSignal): Promise<void> {
    const { clock, slackMs = SLACK_MS, log } = this.#options;
    const { object } = await this.#stateObject.read();
    if (term.aborted || !this.#takeState(object) || this.#state === null) return;
    // Asked about a root that is not the one any more.
    if (fingerprint !== this.#latest.root.fingerprint) return;
    await this.#store(object, moved(this.#state, fingerprint, clock() + this.maxTtlSeconds * 1000 + slackMs), term);
    log.info(`every connected sidecar trusts the new root of ${this.#secret.where}: it issues from now on`);
    this.#settle();
  }

  /** @throws KubernetesError Conflict where another wrote in between: the next round decides again */
  async #store(read: JsonObject | null, next: TrustState, term: AbortSignal): Promise<void> {
    const content = { data: writeTrustState(next) };
    if (read === null) await this.#stateObject.create(content, term);
    else await this.#stateObject.replace(read, content, term);
    this.#state = next;
  }

  #term(): AbortSignal | null {
    const term = this.#options.term();
    return term?.aborted === true ? null : term;
  }

  #waiting(): PosternError {
    const message = `the root of ${this.#secret.where} is new: it issues when all sidecars trust it, and this control plane has no key of the one before`;
    return new PosternError('ERR_CA_WAITING', message, { exitCode: EXIT.temporary });
  }

  #external(): PosternError {
    const message = `the CA comes from ${this.#secret.where}: replace it there; a new root is announced to all sidecars before it issues, and the old one goes by itself`;
    return new PosternError('ERR_CA_EXTERNAL', message, { exitCode: EXIT.usage });
  }
}

const offerOf = ({ root, rootPem }: ExternalIssuer): RootOffer => ({ pem: rootPem, fingerprint: root.fingerprint });
