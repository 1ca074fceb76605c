import type { FileOperations } from '../../mesh/atomic-file.ts';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import type { CertificateResponse } from '../../mesh/push.ts';
import { isTrustDomain } from '../../mesh/spiffe-id.ts';
import { Listeners } from '../listeners.ts';
import type { Authority } from '../platform.ts';
import type { IssuedServerCertificate } from '../server/server-certificate.ts';
import { type AuthorityDescription, describeGenerations } from './authority-description.ts';
import { AuthorityRecord } from './authority-record.ts';
import type { RotationPhase } from './authority-state.ts';
import { AuthorityStore } from './authority-store.ts';
import { DataDirectoryLock, prepareDataDirectory } from './data-directory.ts';
import { LIFETIMES, type Lifetimes } from './generation.ts';
import {
  answerServer,
  answerWorkload,
  type IssuedLeaf,
  issueLeaf,
  type LeafSubject,
  type ServerRequest,
  type WorkloadRequest,
} from './issue-leaf.ts';
import { type IssuingPolicy, issuingPolicy, leafLifetime } from './issuing-policy.ts';

export interface AuthorityOptions {
  readonly dataDir: string;
  readonly trustDomain: string;
  /** Unix time, milliseconds. */
  readonly clock: () => number;
  readonly defaults?: Partial<IssuingPolicy>;
  readonly lifetimes?: Lifetimes;
  /** Told what an operator should know although the CA goes on. */
  readonly onWarning?: (message: string) => void;
  readonly operations?: FileOperations;
}

/**
 * The mesh's certificate authority. Owns `<dataDir>/ca` and the lock on `dataDir` until `close`.
 *
 * ALWAYS: `roots[0]` is the root whose intermediate issues now; a sidecar whose chain does not end in it renews.
 * NEVER is a root dropped while an unexpired leaf of it can exist.
 */
export class CertificateAuthority implements Authority {
  readonly trustDomain: string;
  /** Whether this start made the CA: there are no sidecars of an earlier life then. */
  readonly isNew: boolean;
  readonly #options: AuthorityOptions;
  readonly #policy: IssuingPolicy;
  readonly #record: AuthorityRecord;
  readonly #lock: DataDirectoryLock;
  readonly #listeners = new Listeners();

  private constructor(options: AuthorityOptions, lock: DataDirectoryLock) {
    this.trustDomain = options.trustDomain;
    this.#options = options;
    this.#policy = issuingPolicy(options.defaults);
    this.#lock = lock;
    const store = new AuthorityStore(options.dataDir, options.operations);
    const recordOptions = {
      trustDomain: options.trustDomain,
      clock: options.clock,
      lifetimes: options.lifetimes ?? LIFETIMES,
      maxTtlSeconds: this.#policy.maxTtlSeconds,
      onWarning: (message: string) => options.onWarning?.(message),
    };
    store.removeStagingDirectories();
    this.isNew = !store.exists();
    this.#record = this.isNew
      ? AuthorityRecord.create(store, recordOptions)
      : AuthorityRecord.load(store, recordOptions);
  }

  /**
   * Creates the CA on the first start, loads and checks it afterwards.
   *
   * @throws PosternError ERR_CA_CONFIG, ERR_DATA_DIR, ERR_DATA_DIR_IN_USE, ERR_CA_DAMAGED, ERR_CA_PERMISSIONS, ERR_CA_TRUST_DOMAIN, ERR_CA_EXPIRED,
   * ERR_DISK_FULL: each names the file and the way out.
   */
  static open(options: AuthorityOptions): CertificateAuthority {
    if (!isTrustDomain(options.trustDomain)) {
      throw new PosternError('ERR_CA_CONFIG', `not a trust domain: ${JSON.stringify(options.trustDomain)}`, {
        exitCode: EXIT.config,
      });
    }
    prepareDataDirectory(options.dataDir);
    const lock = DataDirectoryLock.acquire(options.dataDir);
    try {
      return new CertificateAuthority(options, lock);
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  close(): void {
    this.#listeners.clear();
    this.#lock.release();
  }

  /** PEM, one certificate an entry. */
  get roots(): readonly string[] {
    return this.#record.generations.map(({ root }) => root.pem);
  }

  get rotationPhase(): RotationPhase {
    return this.#record.state.rotation;
  }

  /** Longest lifetime of a leaf. */
  get maxTtlSeconds(): number {
    return this.#policy.maxTtlSeconds;
  }

  /** Unix time, milliseconds, after which `finishRotation` may drop the old root; null unless a rotation is activated. */
  get retiringLeavesExpireBy(): number | null {
    const { rotation, generations } = this.#record.state;
    return rotation === 'activated' ? (generations[1]?.leavesExpireBy ?? null) : null;
  }

  /** Called after each change of `roots`, their order included. Returns what takes the listener off. */
  onRootsChanged(listener: () => void): () => void {
    return this.#listeners.add(listener);
  }

  /**
   * A certificate for the identity that the caller has proven.
   *
   * @throws PosternError ERR_BAD_CSR, ERR_SPIFFE_ID, ERR_CA_EXPIRED, ERR_DISK_FULL, ERR_FILE_WRITE
   */
  issueWorkload(request: WorkloadRequest): CertificateResponse {
    return answerWorkload(this, request, this.#issue);
  }

  /** For the control plane's own listener, which asks again at half of the lifetime and when `roots[0]` changes. */
  issueServer(request: ServerRequest): IssuedServerCertificate {
    return answerServer(this, request, this.#issue);
  }

  /** Step 1: a new root is trusted beside the one that issues. */
  beginRotation(): void {
    this.#record.beginRotation();
    this.#listeners.tell();
  }

  /** Step 2, once every sidecar trusts the new root: it issues from now on, and comes first. */
  activateRotation(): void {
    this.#record.activateRotation();
    this.#listeners.tell();
  }

  /** Step 3: the old root is dropped and its keys are deleted. @throws PosternError ERR_CA_ROTATION while a leaf of it may be valid. */
  finishRotation(): void {
    this.#record.finishRotation();
    this.#listeners.tell();
  }

  /** What `postern ca show` prints. */
  describe(): AuthorityDescription {
    const { state, generations, latestLeafEnd } = this.#record;
    return describeGenerations(state, generations, latestLeafEnd, this.#policy.ttlSeconds);
  }

  readonly #issue = (subject: LeafSubject, ttlSeconds: number | undefined): IssuedLeaf => {
    const { intermediate } = this.#record.issuing();
    const facts = {
      issuer: intermediate.issuer,
      chain: intermediate.pem,
      latestEnd: intermediate.certificate.notAfter,
      endReason: 'the intermediate certificate of the CA has expired and could not be renewed: see postern ca show',
      policy: this.#policy,
      now: this.#options.clock(),
    };
    const leaf = issueLeaf(facts, subject, ttlSeconds);
    // It leaves this process only once this is known.
    this.#record.reserve(leaf.notAfter, leafLifetime(this.#policy, ttlSeconds));
    return leaf;
  };
}
