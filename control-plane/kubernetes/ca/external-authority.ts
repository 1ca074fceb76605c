import { TYPES } from '../../../kubernetes/api/resource-types.ts';
import { EXIT, messageOf, PosternError } from '../../../mesh/errors.ts';
import type { CertificateResponse } from '../../../mesh/push.ts';
import type { AuthorityDescription } from '../../ca/authority-description.ts';
import type { RotationPhase } from '../../ca/authority-state.ts';
import { isoTime } from '../../ca/authority-steps.ts';
import {
  answerServer,
  answerWorkload,
  type IssuedLeaf,
  type LeafSubject,
  type ServerRequest,
  type WorkloadRequest,
} from '../../ca/issue-leaf.ts';
import { type IssuingPolicy, issuingPolicy } from '../../ca/issuing-policy.ts';
import type { AwaitAcknowledgement } from '../../ca/rotation.ts';
import { OWN_SECRET } from '../../config-kubernetes.ts';
import { Listeners } from '../../listeners.ts';
import type { Authority } from '../../platform.ts';
import type { IssuedServerCertificate } from '../../server/server-certificate.ts';
import { Complaints } from '../complaints.ts';
import { issueConfirmed } from './confirmed-leaf.ts';
import { describeRoots, phaseOf } from './external-description.ts';
import { type ExternalIssuer, readExternalIssuer } from './external-issuer.ts';
import { type ExternalReading, ExternalRecord, type ExternalRecordOptions } from './external-record.ts';
import { readPredecessor } from './predecessor.ts';
import { Rounds } from './rounds.ts';
import { type CaObjects, caObjects, presentTerm, type SharedCaOptions } from './shared-ca.ts';
import { SharedObject } from './shared-object.ts';
import { readTrustState } from './trust-state.ts';

/** `secret` is one of type `kubernetes.io/tls`. */
export interface ExternalAuthorityOptions
  extends SharedCaOptions,
    Pick<ExternalRecordOptions, 'settleMs' | 'acknowledgementWaitMs'> {
  /** Of the sidecars of all replicas. Asked by the leader when the Secret has another root. */
  readonly awaitAcknowledgement: AwaitAcknowledgement;
}

/** A CA whose intermediate comes from outside (cert-manager, Vault) in a Secret that Postern only reads. */
export class ExternalAuthority implements Authority {
  readonly trustDomain: string;
  /** Rotations happen outside: for `RootRotation` there never is one. `describe()` says how far a change of the root is. */
  readonly rotationPhase: RotationPhase = 'none';
  readonly retiringLeavesExpireBy = null;
  readonly #options: ExternalAuthorityOptions;
  readonly #objects: CaObjects;
  readonly #policy: IssuingPolicy;
  readonly #record: ExternalRecord;
  readonly #rounds: Rounds;
  readonly #listeners = new Listeners();
  readonly #stop = new AbortController();
  #asking = false;

  private constructor(options: ExternalAuthorityOptions, objects: CaObjects, read: ExternalReading) {
    this.trustDomain = options.trustDomain;
    this.#options = options;
    this.#objects = objects;
    this.#policy = issuingPolicy(options.defaults);
    const complaints = new Complaints(options.log);
    const onRootsChanged = (): void => this.#listeners.tell();
    this.#record = new ExternalRecord(
      { ...options, ...objects, policy: this.#policy, complaints, onRootsChanged },
      read,
    );
    this.#rounds = new Rounds({
      round: async () => {
        await this.#record.refresh();
        this.#askWhoTrusts();
      },
      everyMs: options.pollMs,
      watches: options.watches,
      complaints,
    });
  }

  /** @throws PosternError ERR_CA_CONFIG, ERR_CA_EXTERNAL, ERR_CA_DAMAGED, ERR_CA_TRUST_DOMAIN; KubernetesError */
  static async open(options: ExternalAuthorityOptions): Promise<ExternalAuthority> {
    const { api, namespace, clock, trustDomain, log } = options;
    const objects = caObjects(options);
    const { secret, state } = objects;
    const { object } = await secret.read();
    if (object === null) {
      const message = `${secret.where} is missing: make it, e.g. by a Certificate of cert-manager with isCA: true, or set another one as the external CA`;
      throw new PosternError('ERR_CA_EXTERNAL', message, { exitCode: EXIT.noInput });
    }
    const issuer = readExternalIssuer(object, clock(), secret.where);
    const { object: stateObject, askedAt } = await state.read();
    const known = stateObject === null ? null : readTrustState(stateObject, trustDomain, state.where);
    const own = new SharedObject({ api, type: TYPES.Secret, namespace, name: OWN_SECRET, clock });
    const predecessor =
      known === null || known.issuing === issuer.root.fingerprint
        ? null
        : await readPredecessor({ secret: own, trustDomain, fingerprint: known.issuing, log });
    const authority = new ExternalAuthority(options, objects, { issuer, predecessor, state: known, askedAt });
    authority.#rounds.start();
    return authority;
  }

  get maxTtlSeconds(): number {
    return this.#record.maxTtlSeconds;
  }

  get roots(): readonly string[] {
    return this.#record.roots;
  }

  onRootsChanged(listener: () => void): () => void {
    return this.#listeners.add(listener);
  }

  /** @throws PosternError ERR_BAD_CSR, ERR_SPIFFE_ID, ERR_CA_EXPIRED; ERR_CA_WAITING where sidecars do not trust the only root yet that could issue */
  issueWorkload(request: WorkloadRequest): CertificateResponse {
    return answerWorkload(this, request, (subject, ttl) => {
      const issuer = this.#record.issuers.get(this.#record.issuing);
      if (issuer === undefined) throw this.#waiting();
      return this.#issue(issuer, subject, ttl);
    });
  }

  issueServer(request: ServerRequest): IssuedServerCertificate {
    const issuer = this.#record.issuers.get(this.#record.issuing) ?? this.#record.latest;
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
    const { roots: pems, issuing, confirmedAt, state, issuers, maxTtlSeconds } = this.#record;
    const leavesEnd = confirmedAt + maxTtlSeconds * 1000;
    const roots = describeRoots({ roots: pems, issuing, leavesEnd, state, issuers });
    const { trustDomain } = this;
    return { trustDomain, rotation: phaseOf(roots), leafTtlSeconds: this.#policy.ttlSeconds, roots };
  }

  close(): void {
    this.#stop.abort();
    this.#rounds.stop();
    this.#listeners.clear();
  }

  #issue(issuer: ExternalIssuer, subject: LeafSubject, ttlSeconds: number | undefined): IssuedLeaf {
    const now = this.#options.clock();
    const { secret, state } = this.#objects;
    const from = {
      issuer: issuer.issuer,
      chain: issuer.chain,
      notAfter: issuer.notAfter,
      endReason: `the CA certificate of ${secret.where} ended at ${isoTime(issuer.notAfter)}, and the clock says ${isoTime(now)}: look at what fills that Secret`,
      confirmedAt: this.#record.confirmedAt,
      where: state.where,
      agreedTtlSeconds: this.#record.state?.maxTtlSeconds ?? null,
      policy: this.#policy,
      now,
    };
    return issueConfirmed(from, subject, ttlSeconds);
  }

  /** The leader asks whether a new root is trusted everywhere, beside the rounds. */
  #askWhoTrusts(): void {
    const term = presentTerm(this.#options);
    const { pending, roots } = this.#record;
    if (this.#asking || term === null || pending === null) return;
    this.#asking = true;
    const signal = AbortSignal.any([AbortSignal.timeout(pending.leftMs), term, this.#stop.signal]);
    this.#options
      .awaitAcknowledgement(roots, signal)
      .then(({ missing }) => {
        if (missing.length > 0 || signal.aborted) return;
        return this.#rounds.exclusive(() => this.#record.move(pending.fingerprint, term));
      })
      .catch((error: unknown) => this.#options.log.warn(`the new root could not take over yet: ${messageOf(error)}`))
      // Asked again in the next round, which comes in time: an answer that comes at once must not make a circle.
      .finally(() => {
        this.#asking = false;
      });
  }

  #waiting(): PosternError {
    const message = `the root of ${this.#objects.secret.where} is new: it issues when all sidecars trust it, and this control plane has no key of the one before`;
    return new PosternError('ERR_CA_WAITING', message, { exitCode: EXIT.temporary });
  }

  #external(): PosternError {
    const message = `the CA comes from ${this.#objects.secret.where}: replace it there; a new root is announced to all sidecars before it issues, and the old one goes by itself`;
    return new PosternError('ERR_CA_EXTERNAL', message, { exitCode: EXIT.usage });
  }
}
