import type { CertificateResponse, WorkloadRegistration } from '../mesh/push.ts';
import type { SpiffeId } from '../mesh/spiffe-id.ts';
import type { SidecarStatus } from './admin/status.ts';
import type { AuthorityDescription } from './ca/authority-description.ts';
import type { RotationPhase } from './ca/authority-state.ts';
import type { CreatedJoinToken, NewJoinToken } from './ca/new-join-token.ts';
import type { Revocation } from './ca/revocation.ts';
import type { AwaitAcknowledgement } from './ca/rotation.ts';
import type { Enforcement } from './push/enforcement.ts';
import type { SidecarStream } from './push/sidecar-stream.ts';
import type { RegisteredWorkload } from './registry/registrations.ts';
import type { Handler } from './server/api.ts';
import type { PeerIdentity } from './server/peer-identity.ts';
import type { IssuedServerCertificate } from './server/server-certificate.ts';
import type { ServerCredentials } from './server/tls-listener.ts';
import type { ManifestSource } from './source/manifest-source.ts';

/**
 * What differs between one machine and a cluster. The control plane is composed of one platform and of parts that do not know which: on one machine
 * a folder of manifests, a CA and join tokens in a data directory; on Kubernetes the API server, a CA in a Secret that replicas share, and service
 * account tokens.
 */
export interface Platform {
  readonly source: ManifestSource;
  readonly authority: Authority;
  /** Whether there cannot be sidecars of an earlier life of this process. */
  readonly isNew: boolean;
  readonly revocations: RevocationList;
  readonly tokens: BearerTokens;
  /** Whether a client certificate without a token beside it, shown from this canonical address, is proof enough for the next one. */
  renewsByCertificate(peer: PeerIdentity, peerAddress: string): boolean;
  readonly admission: WorkloadAdmission;
  /** Makes join tokens. @throws PosternError ERR_TOKEN_REQUEST, ERR_TOKEN_LIMIT, and where it cannot be stored */
  readonly joinTokens: { create(request: NewJoinToken): CreatedJoinToken | Promise<CreatedJoinToken> };
  /** DNS names by which sidecars reach the control plane, besides the configured ones. */
  readonly serverNames: readonly string[];
  /** Workloads known before a restart. */
  readonly remembered: readonly RegisteredWorkload[];
  /** So that they are known after a restart. @throws PosternError where they could not be saved. */
  saveWorkloads(workloads: readonly RegisteredWorkload[]): void;
  /** Makes the labels of a join token those that the identity may register with. @throws PosternError; nothing is bound then. */
  bindLabels(identity: string, labels: { readonly [key: string]: string }): void;
  /** The roots are others than before, or in another order: puts them where those find them who do not have them yet. Never throws. */
  publishRoots(): void;
  /** The source has changed. */
  sourceChanged(): void;
  /** The control plane shows another certificate from now on. */
  useCredentials(credentials: ServerCredentials): void;
  /** Requests of port 15012 besides those of sidecars. */
  routes(plane: RunningControlPlane): { readonly [route: string]: Handler };
  /** Waits until the sidecars of other replicas have acknowledged these roots, or `signal` aborts. */
  awaitTrustElsewhere: AwaitAcknowledgement;
  /** Who leads, where that is not this process; null: nobody known. For messages. */
  leader(): string | null;
  /** Sidecars connected to other replicas, for `postern status`; what cannot be found out is left out and said in `missing`. */
  sidecarsElsewhere(): Promise<{ readonly sidecars: readonly SidecarStatus[]; readonly missing: readonly string[] }>;
  /** Begins what needs the running control plane. @throws PosternError */
  start(plane: RunningControlPlane): Promise<void>;
  /** Facts for the log line at the start. */
  describe(): { readonly [fact: string]: string };
  /** Ends everything and frees it. Safe to call twice, and where it was never started. */
  close(): Promise<void>;
}

/**
 * A certificate authority.
 *
 * ALWAYS: `roots[0]` is the root whose intermediate issues now; a sidecar whose chain does not end in it renews.
 * NEVER is a root dropped while an unexpired leaf of it can exist.
 */
export interface Authority {
  readonly trustDomain: string;
  /** Longest lifetime of a leaf. */
  readonly maxTtlSeconds: number;
  /** PEM, one certificate an entry. */
  readonly roots: readonly string[];
  readonly rotationPhase: RotationPhase;
  /** Unix time, milliseconds, after which `finishRotation` may drop the old root; null unless a rotation is activated. */
  readonly retiringLeavesExpireBy: number | null;
  /** Called after each change of `roots`, their order included, whoever made it. Returns what takes the listener off. */
  onRootsChanged(listener: () => void): () => void;
  /** For the identity that the caller has proven. Synchronous: what it signs with is in memory. @throws PosternError */
  issueWorkload(request: {
    readonly csr: string;
    readonly namespace: string;
    readonly serviceAccount: string;
    readonly ttlSeconds?: number | undefined;
  }): CertificateResponse;
  issueServer(request: {
    readonly spiffeId: string;
    readonly dnsNames?: readonly string[];
    readonly ipAddresses?: readonly string[];
    readonly ttlSeconds?: number;
  }): IssuedServerCertificate;
  /** The steps of a rotation, see `ca/rotation.ts`. @throws PosternError ERR_CA_ROTATION, and where the step cannot be stored. */
  beginRotation(): void | Promise<void>;
  activateRotation(): void | Promise<void>;
  finishRotation(): void | Promise<void>;
  describe(): AuthorityDescription;
  close(): void;
}

/** What is revoked. Reading is synchronous and asked for each connection; a change counts once it is stored. */
export interface RevocationList {
  add(subject: string): Revocation | Promise<Revocation>;
  /** Whether it was revoked. */
  remove(subject: string): boolean | Promise<boolean>;
  /** Oldest first. */
  list(): readonly Revocation[];
  isRevoked(subject: { readonly spiffeId: string | null; readonly serial: string }): boolean;
  onChange(listener: () => void): () => void;
}

/** What a bearer token proves. */
export interface ProvenToken {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Labels that the identity may register with, by the token's word; empty: none were named. */
  readonly labels: { readonly [key: string]: string };
}

export interface TokenCircumstances {
  /** SHA-256 of the public key that a certificate is wanted for. */
  readonly publicKeyHash: string;
  /** Canonical address of the TCP peer. */
  readonly peerAddress: string;
  /** The client certificate shown beside the token, already judged good; null where none was. */
  readonly peer: PeerIdentity | null;
}

/** Verifies the proof of identity that a sidecar shows for a certificate. */
export interface BearerTokens {
  /**
   * @throws ApiError 401 where the token proves nothing (`token-unknown`, `token-used`, `token-expired`, `token-refused`), 403 where it does not fit the
   * circumstances (`pod-mismatch`, `address-not-allowed`, `identity-reserved`), 503 where that cannot be found out now (`token-unverified`) or may be
   * so soon (`entry-unknown`).
   */
  redeem(token: string, circumstances: TokenCircumstances): ProvenToken | Promise<ProvenToken>;
}

/** Decides whether the sidecar that opened a stream may stand for a workload, and what is known of that workload. */
export interface WorkloadAdmission {
  /**
   * @throws ApiError 403 `identity-mismatch`, `label-mismatch`, `address-not-allowed`, `pod-mismatch`, `entry-mismatch`; 503 `pod-unknown` where it may
   * be known soon.
   */
  admit(
    workload: WorkloadRegistration,
    facts: { readonly identity: SpiffeId; readonly peerAddress: string },
  ): RegisteredWorkload | Promise<RegisteredWorkload>;
}

/** What a platform may ask of the control plane that runs on it. */
export interface RunningControlPlane {
  /** Connected sidecars. */
  streams(): readonly SidecarStream[];
  /** How far they are with each policy, by key `<Kind>/<namespace>/<name>`. */
  enforcement(): ReadonlyMap<string, Enforcement>;
  /** Of the control plane's own certificate, as it is now. */
  credentials(): ServerCredentials;
  /** As `AwaitAcknowledgement`, of the sidecars of all replicas. */
  awaitTrust: AwaitAcknowledgement;
  /**
   * This process alone may change what there is one of (the root) until `term` aborts. On one machine that is the life of the process.
   */
  lead(term: AbortSignal): void;
}
