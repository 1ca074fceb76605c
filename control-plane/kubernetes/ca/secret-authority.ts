import type { Logger } from 'pino';
import { TYPES } from '../../../kubernetes/api/resource-types.ts';
import { messageOf } from '../../../mesh/errors.ts';
import type { CertificateResponse } from '../../../mesh/push.ts';
import { type AuthorityDescription, describeGenerations } from '../../ca/authority-description.ts';
import type { RotationPhase } from '../../ca/authority-state.ts';
import { activated, begun, checkRootsValid, expectPhase, finished, isoTime } from '../../ca/authority-steps.ts';
import { createGeneration, LIFETIMES, type Lifetimes } from '../../ca/generation.ts';
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
import type { Authority } from '../../platform.ts';
import type { IssuedServerCertificate } from '../../server/server-certificate.ts';
import { Complaints } from '../complaints.ts';
import { openSecret } from './open-secret.ts';
import { Rounds } from './rounds.ts';
import type { SharedAuthority } from './secret-contents.ts';
import { SecretRecord } from './secret-record.ts';
import { type ObjectApi, type ObjectWatch, SharedObject } from './shared-object.ts';
import { STATE_CONFIG_MAP } from './trust-state.ts';

export interface SecretAuthorityOptions {
  readonly api: ObjectApi;
  /** Of the Secret and of the ConfigMap beside it. */
  readonly namespace: string;
  /** Default `postern-ca`. */
  readonly secret?: string;
  readonly trustDomain: string;
  /** Unix time, milliseconds. */
  readonly clock: () => number;
  readonly defaults?: Partial<IssuingPolicy>;
  readonly lifetimes?: Lifetimes;
  /** The signal of this replica's term as the leader; null while another leads. */
  readonly term: () => AbortSignal | null;
  /** Tells of changes at once; without it they are found by reading every `pollMs`. */
  readonly watch?: ObjectWatch;
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>;
  /** Milliseconds between two confirmations by the API; default 10 s. */
  readonly pollMs?: number;
  /**
   * How much longer than the longest leaf an old root is kept, milliseconds: for a write that takes its time and for replicas whose clock is ahead.
   * Default 5 minutes.
   */
  readonly slackMs?: number;
  /** How long a start waits for other replicas to put back a Secret that has been there, milliseconds; default 30 s. */
  readonly restoreMs?: number;
}

const ROUND_MS = 10_000;
const SLACK_MS = 5 * 60_000;
const RESTORE_MS = 30_000;
/**
 * The mesh's CA in a Secret that all replicas share: each issues with what it holds in memory, the leader alone writes.
 *
 * ALWAYS: leaf.notAfter ≤ (time at which the API last confirmed the CA that is held) + maxTtl. So an old root may go at its retirement + maxTtl + slack,
 * with no write for each leaf, whatever a replica does that is cut off from the API.
 */
export class SecretAuthority implements Authority {
  readonly trustDomain: string;
  /** Whether this start made the CA. */
  readonly isNew: boolean;
  readonly #options: SecretAuthorityOptions;
  readonly #policy: IssuingPolicy;
  readonly #where: string;
  readonly #record: SecretRecord;
  readonly #rounds: Rounds;
  readonly #listeners = new Set<(roots: readonly string[]) => void>();

  private constructor(
    options: SecretAuthorityOptions,
    objects: { readonly secret: SharedObject; readonly state: SharedObject },
    opened: { readonly held: SharedAuthority; readonly askedAt: number; readonly isNew: boolean },
  ) {
    const { trustDomain, clock, lifetimes = LIFETIMES, slackMs = SLACK_MS, term, log } = options;
    this.trustDomain = trustDomain;
    this.isNew = opened.isNew;
    this.#options = options;
    this.#policy = issuingPolicy(options.defaults);
    this.#where = objects.secret.where;
    const complaints = new Complaints(log);
    const { maxTtlSeconds } = this.#policy;
    const onRootsChanged = (): void => this.#announceRoots();
    const recordOptions = {
      ...objects,
      trustDomain,
      clock,
      lifetimes,
      maxTtlSeconds,
      slackMs,
      term,
      log,
      onRootsChanged,
    };
    this.#record = new SecretRecord(recordOptions, opened, complaints);
    this.#rounds = new Rounds({
      everyMs: options.pollMs ?? ROUND_MS,
      round: async () => {
        if (await this.#record.refresh()) this.#rounds.ring();
      },
      onError: (error) =>
        complaints.raise('api', `the CA could not be confirmed by the API server: ${messageOf(error)}`, 'warn'),
    });
  }

  /**
   * Loads the CA; makes it where there has never been one in this namespace.
   *
   * @throws PosternError ERR_CA_CONFIG, ERR_CA_DAMAGED, ERR_CA_TRUST_DOMAIN, ERR_CA_LOST, ERR_CA_EXPIRED; KubernetesError
   */
  static async open(options: SecretAuthorityOptions): Promise<SecretAuthority> {
    const { api, namespace, clock, lifetimes = LIFETIMES, trustDomain, log } = options;
    const { maxTtlSeconds } = issuingPolicy(options.defaults);
    const name = options.secret ?? 'postern-ca';
    const secret = new SharedObject({ api, type: TYPES.Secret, namespace, name, clock });
    const state = new SharedObject({ api, type: TYPES.ConfigMap, namespace, name: STATE_CONFIG_MAP, clock });
    const create = () => createGeneration(1, trustDomain, clock(), lifetimes);
    const restoreMs = options.restoreMs ?? RESTORE_MS;
    const opened = await openSecret({ secret, state, trustDomain, create, maxTtlSeconds, restoreMs, log });
    checkRootsValid(opened.held.generations, clock(), {
      location: secret.where,
      remedy: `delete it and ${state.where}, restart the control plane and then all workloads`,
    });
    const authority = new SecretAuthority(options, { secret, state }, opened);
    authority.#rounds.start();
    options.watch?.start(() => authority.#rounds.ring());
    return authority;
  }

  get maxTtlSeconds(): number {
    return Math.max(this.#policy.maxTtlSeconds, this.#record.held.maxTtlSeconds);
  }

  get roots(): readonly string[] {
    return this.#record.held.generations.map(({ root }) => root.pem);
  }

  get rotationPhase(): RotationPhase {
    return this.#record.held.state.rotation;
  }

  get retiringLeavesExpireBy(): number | null {
    const { rotation, generations } = this.#record.held.state;
    return rotation === 'activated' ? (generations[1]?.leavesExpireBy ?? null) : null;
  }

  /** Unix time, milliseconds, at which the API last confirmed the CA that is held. */
  get confirmedAt(): number {
    return this.#record.confirmedAt;
  }

  onRootsChanged(listener: (roots: readonly string[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** @throws PosternError ERR_BAD_CSR, ERR_SPIFFE_ID, ERR_CA_EXPIRED */
  issueWorkload(request: WorkloadRequest): CertificateResponse {
    return answerWorkload(this, request, this.#issue);
  }

  issueServer(request: ServerRequest): IssuedServerCertificate {
    return answerServer(this, request, this.#issue);
  }

  /** Step 1: a new root is trusted beside the one that issues. */
  async beginRotation(): Promise<void> {
    const { clock, lifetimes = LIFETIMES } = this.#options;
    await this.#change((held) => {
      expectPhase(held.state, 'none');
      const id = Math.max(...held.generations.map((generation) => generation.id)) + 1;
      return { ...held, ...begun(held, createGeneration(id, this.trustDomain, clock(), lifetimes)) };
    });
  }

  /** Step 2: the new root issues from now on, in each replica as soon as it hears of it. */
  async activateRotation(): Promise<void> {
    const { clock, slackMs = SLACK_MS } = this.#options;
    await this.#change((held) => ({ ...held, ...activated(held, clock() + held.maxTtlSeconds * 1000 + slackMs) }));
  }

  /** Step 3: the old root is dropped and its keys are gone from the Secret. */
  async finishRotation(): Promise<void> {
    await this.#change((held) => ({ ...held, ...finished(held, this.#options.clock()) }));
  }

  describe(): AuthorityDescription {
    const { state, generations } = this.#record.held;
    return describeGenerations(state, generations, this.#record.leavesEnd, this.#policy.ttlSeconds);
  }

  close(): void {
    this.#rounds.stop();
    void this.#options.watch?.stop();
    this.#listeners.clear();
  }

  readonly #issue = (subject: LeafSubject, ttlSeconds: number | undefined): IssuedLeaf => {
    const { intermediate } = this.#record.issuing;
    const now = this.#options.clock();
    const ownEnd = intermediate.certificate.notAfter;
    const confirmedEnd = this.#record.confirmedAt + this.#leafLimitMs;
    const facts = {
      issuer: intermediate.issuer,
      chain: intermediate.pem,
      latestEnd: Math.min(ownEnd, confirmedEnd),
      endReason:
        ownEnd <= confirmedEnd
          ? `the intermediate certificate in ${this.#where} ended at ${isoTime(ownEnd)} and was not renewed: check the clock, which says ${isoTime(now)}, and the log of the leading control plane`
          : `the API server has not confirmed ${this.#where} since ${isoTime(this.#record.confirmedAt)}: see the log of this control plane`,
      policy: { ...this.#policy, maxTtlSeconds: this.#leafLimitMs / 1000 },
      now,
    };
    return issueLeaf(facts, subject, ttlSeconds);
  };

  get #leafLimitMs(): number {
    return Math.min(this.#policy.maxTtlSeconds, this.#record.held.maxTtlSeconds) * 1000;
  }

  #change(step: (held: SharedAuthority) => SharedAuthority): Promise<void> {
    // Whatever came of it, what is stored is looked at once more: an answer may have been lost after the write.
    return this.#rounds.exclusive(() => this.#record.change(step)).finally(() => this.#rounds.ring());
  }

  #announceRoots(): void {
    const { roots } = this;
    for (const listener of this.#listeners) listener(roots);
  }
}
