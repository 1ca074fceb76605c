import type { CertificateResponse } from '../../../mesh/push.ts';
import { type AuthorityDescription, describeGenerations } from '../../ca/authority-description.ts';
import type { RotationPhase } from '../../ca/authority-state.ts';
import { activated, begun, checkRootsValid, expectPhase, finished, isoTime } from '../../ca/authority-steps.ts';
import { createGeneration, LIFETIMES, type Lifetimes } from '../../ca/generation.ts';
import {
  answerServer,
  answerWorkload,
  type IssuedLeaf,
  type LeafSubject,
  type ServerRequest,
  type WorkloadRequest,
} from '../../ca/issue-leaf.ts';
import { type IssuingPolicy, issuingPolicy } from '../../ca/issuing-policy.ts';
import { Listeners } from '../../listeners.ts';
import type { Authority } from '../../platform.ts';
import type { IssuedServerCertificate } from '../../server/server-certificate.ts';
import { Complaints } from '../complaints.ts';
import { issueConfirmed } from './confirmed-leaf.ts';
import { openSecret } from './open-secret.ts';
import { Rounds } from './rounds.ts';
import type { SharedAuthority } from './secret-contents.ts';
import { SecretRecord } from './secret-record.ts';
import { type CaObjects, caObjects, type SharedCaOptions, SLACK_MS } from './shared-ca.ts';

export interface SecretAuthorityOptions extends SharedCaOptions {
  readonly lifetimes?: Lifetimes;
  /** How long a start waits for other replicas to put back a Secret that has been there, milliseconds; default 30 s. */
  readonly restoreMs?: number;
}

const RESTORE_MS = 30_000;

/** The mesh's CA in a Secret that all replicas share: each issues with what it holds in memory, the leader alone writes. */
export class SecretAuthority implements Authority {
  readonly trustDomain: string;
  /** Whether this start made the CA. */
  readonly isNew: boolean;
  readonly #options: SecretAuthorityOptions;
  readonly #policy: IssuingPolicy;
  readonly #where: string;
  readonly #record: SecretRecord;
  readonly #rounds: Rounds;
  readonly #listeners = new Listeners();

  private constructor(
    options: SecretAuthorityOptions,
    objects: CaObjects,
    opened: { readonly held: SharedAuthority; readonly askedAt: number; readonly isNew: boolean },
  ) {
    const { trustDomain, lifetimes = LIFETIMES, slackMs = SLACK_MS } = options;
    this.trustDomain = trustDomain;
    this.isNew = opened.isNew;
    this.#options = options;
    this.#policy = issuingPolicy(options.defaults);
    this.#where = objects.secret.where;
    const complaints = new Complaints(options.log);
    const { maxTtlSeconds } = this.#policy;
    const onRootsChanged = (): void => this.#listeners.tell();
    const recordOptions = { ...options, ...objects, lifetimes, maxTtlSeconds, slackMs, complaints, onRootsChanged };
    this.#record = new SecretRecord(recordOptions, opened);
    this.#rounds = new Rounds({
      round: async () => {
        if (await this.#record.refresh()) this.#rounds.ring();
      },
      everyMs: options.pollMs,
      watches: options.watches,
      complaints,
    });
  }

  /**
   * Loads the CA; makes it where there has never been one in this namespace.
   *
   * @throws PosternError ERR_CA_CONFIG, ERR_CA_DAMAGED, ERR_CA_TRUST_DOMAIN, ERR_CA_LOST, ERR_CA_REPLACED, ERR_CA_EXPIRED; KubernetesError
   */
  static async open(options: SecretAuthorityOptions): Promise<SecretAuthority> {
    const { clock, lifetimes = LIFETIMES, trustDomain, log, restoreMs = RESTORE_MS } = options;
    const { maxTtlSeconds } = issuingPolicy(options.defaults);
    const objects = caObjects(options);
    const create = () => createGeneration(1, trustDomain, clock(), lifetimes);
    const opened = await openSecret({ ...objects, trustDomain, create, maxTtlSeconds, restoreMs, log });
    checkRootsValid(opened.held.generations, clock(), {
      location: objects.secret.where,
      remedy: `delete it and ${objects.state.where}, restart the control plane and then all workloads`,
    });
    const authority = new SecretAuthority(options, objects, opened);
    authority.#rounds.start();
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

  onRootsChanged(listener: () => void): () => void {
    return this.#listeners.add(listener);
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
    this.#listeners.clear();
  }

  readonly #issue = (subject: LeafSubject, ttlSeconds: number | undefined): IssuedLeaf => {
    const { issuing, confirmedAt, held } = this.#record;
    const { pem, issuer, certificate } = issuing.intermediate;
    const now = this.#options.clock();
    const from = {
      issuer,
      chain: pem,
      notAfter: certificate.notAfter,
      endReason: `the intermediate certificate in ${this.#where} ended at ${isoTime(certificate.notAfter)} and was not renewed: check the clock, which says ${isoTime(now)}, and the log of the leading control plane`,
      confirmedAt,
      where: this.#where,
      agreedTtlSeconds: held.maxTtlSeconds,
      policy: this.#policy,
      now,
    };
    return issueConfirmed(from, subject, ttlSeconds);
  };

  #change(step: (held: SharedAuthority) => SharedAuthority): Promise<void> {
    // Whatever came of it, what is stored is looked at once more: an answer may have been lost after the write.
    return this.#rounds.exclusive(() => this.#record.change(step)).finally(() => this.#rounds.ring());
  }
}
