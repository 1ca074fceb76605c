import { createHash } from 'node:crypto';
import type { Logger } from 'pino';
import { KubernetesError } from '../../../kubernetes/api/errors.ts';
import { TYPES } from '../../../kubernetes/api/resource-types.ts';
import type { KubernetesApi } from '../../../kubernetes/api/types.ts';
import { messageOf } from '../../../mesh/errors.ts';
import { ApiError } from '../../api-error.ts';
import type { BearerTokens, ProvenToken, TokenCircumstances } from '../../platform.ts';
import type { PeerIdentity } from '../../server/peer-identity.ts';
import { Complaints } from '../complaints.ts';
import { Gate, GateFull } from './gate.ts';
import type { PodClaim } from './pod-check.ts';
import type { PodLookup } from './pod-lookup.ts';
import { TokenBudget } from './token-budget.ts';
import { readClaimsUnverified, readTokenReview, type TokenSubject } from './token-review.ts';

export interface ServiceAccountTokensOptions {
  readonly api: Pick<KubernetesApi, 'create'>;
  readonly pods: PodLookup;
  /** That the tokens must have been made for. */
  readonly audience: string;
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>;
  /** Milliseconds, monotonic. */
  readonly now?: () => number;
}

const TIMEOUT_MS = 5_000;
const GATE = { concurrent: 16, waiting: 256, waitMs: 5_000 } as const;
const BUDGET = { burst: 400, perSecond: 100 } as const;
/** For how long a good review counts, milliseconds: a sidecar that asks again at once costs nothing, and a pod that goes is soon known. */
const CACHE_MS = 10_000;
const MAX_CACHED = 10_000;
/** RFC 7515, section 7.1: three parts in base64url. */
const JWT = /^[\w-]+\.[\w-]+\.[\w-]+$/;

/**
 * Projected service account tokens as proof of identity: the API server says whose they are, and the pod that they were made for must be the one that asks.
 *
 * NEVER is a token kept, logged or sent anywhere but to the API server; what is remembered of it is its SHA-256.
 */
export class ServiceAccountTokens implements BearerTokens {
  readonly #options: ServiceAccountTokensOptions;
  readonly #gate = new Gate(GATE);
  readonly #now: () => number;
  readonly #budget: TokenBudget;
  readonly #complaints: Complaints;
  /** Good answers by digest of the token, oldest first. */
  readonly #reviewed = new Map<string, { readonly subject: TokenSubject; readonly at: number }>();
  readonly #asking = new Map<string, Promise<TokenSubject>>();

  constructor(options: ServiceAccountTokensOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#budget = new TokenBudget(BUDGET, this.#now);
    this.#complaints = new Complaints(options.log);
  }

  /** @throws ApiError 401 `token-refused`, 403 `pod-mismatch`, `identity-mismatch`, 503 `token-unverified` */
  async redeem(token: string, { peerAddress, peer }: TokenCircumstances): Promise<ProvenToken> {
    if (!JWT.test(token)) throw refused('this is not a service account token');
    let subject: TokenSubject;
    try {
      subject = await this.#review(token, peerAddress);
    } catch (error) {
      if (!saysNothing(error)) throw error;
      return this.#byCertificate(token, peer, peerAddress);
    }
    const { namespace, serviceAccount } = subject;
    if (peer !== null && !isSame(peer, subject)) {
      const message = `the token is one of ${namespace}/${serviceAccount}, the certificate beside it shows ${peer.spiffeId.uri}`;
      throw new ApiError(403, 'identity-mismatch', message);
    }
    const answer = await this.#options.pods.find(claimOf(subject, peerAddress));
    switch (answer.kind) {
      case 'pod':
        return { namespace, serviceAccount, labels: {} };
      case 'absent':
        throw new ApiError(403, 'pod-mismatch', `there is no pod ${namespace}/${subject.pod.name}`);
      case 'unknown':
        throw unverified(`the pod ${namespace}/${subject.pod.name} could not be asked for`);
      case 'fault':
        if (answer.fault.kind === 'early') throw unverified(answer.fault.message);
        throw new ApiError(403, 'pod-mismatch', answer.fault.message);
    }
  }

  #review(token: string, peerAddress: string): Promise<TokenSubject> {
    const digest = createHash('sha256').update(token).digest('base64');
    const known = this.#reviewed.get(digest);
    if (known !== undefined && this.#now() - known.at < CACHE_MS) return Promise.resolve(known.subject);
    const running = this.#asking.get(digest);
    if (running !== undefined) return running;
    const asked = this.#ask(token, peerAddress)
      .then((subject) => {
        this.#remember(digest, subject);
        return subject;
      })
      .finally(() => this.#asking.delete(digest));
    this.#asking.set(digest, asked);
    return asked;
  }

  async #ask(token: string, peerAddress: string): Promise<TokenSubject> {
    const { api, audience } = this.#options;
    // No reason to believe the certificate alone: whoever makes this busy must gain nothing by it, nor keep others from being verified.
    const refusal = this.#budget.refusal(peerAddress);
    if (refusal !== null) throw unverified(refusal);
    const { group, version, kind } = TYPES.TokenReview;
    const review = { apiVersion: `${group}/${version}`, kind, spec: { token, audiences: [audience] } };
    try {
      const answer = await this.#gate.run(() =>
        api.create(TYPES.TokenReview, '', review, { signal: AbortSignal.timeout(TIMEOUT_MS) }),
      );
      this.#complaints.settle('review', 'service account tokens can be verified again');
      const subject = readTokenReview(answer, audience);
      if (subject !== null) return subject;
    } catch (error) {
      throw this.#explain(error);
    }
    throw refused(
      `the API server does not say that this token is one of a pod, valid, and for the audience ${audience}`,
    );
  }

  #explain(error: unknown): unknown {
    if (error instanceof GateFull) return unverified('too many tokens are being verified');
    if (saysNothing(error)) {
      const why = isUnauthorized(error)
        ? "takes the control plane's own service account token for invalid: compare its clock with the nodes'"
        : 'does not answer';
      this.#complaints.raise('review', `service account tokens cannot be verified: the API server ${why}`, 'warn');
      return error;
    }
    // Of ours, e.g. the right to create TokenReviews is missing: for the log.
    this.#complaints.raise('review', `service account tokens cannot be verified: ${messageOf(error)}`, 'error');
    return unverified('the API server does not verify tokens for this control plane');
  }

  /**
   * While the API server cannot be asked: a valid certificate of the identity that the token names, shown by the pod that the token names as far as pods are
   * known. Certificates that are got in this way end with the last confirmation of the CA.
   */
  #byCertificate(token: string, peer: PeerIdentity | null, peerAddress: string): ProvenToken {
    const subject = readClaimsUnverified(token);
    const isProven =
      peer !== null &&
      subject !== null &&
      isSame(peer, subject) &&
      this.#options.pods.findKnown(claimOf(subject, peerAddress)) !== null;
    if (!isProven) throw unverified('the API server does not answer, or not to this control plane');
    return { namespace: subject.namespace, serviceAccount: subject.serviceAccount, labels: {} };
  }

  #remember(digest: string, subject: TokenSubject): void {
    const at = this.#now();
    this.#reviewed.delete(digest);
    this.#reviewed.set(digest, { subject, at });
    for (const [old, { at: then }] of this.#reviewed) {
      if (at - then < CACHE_MS && this.#reviewed.size <= MAX_CACHED) return;
      this.#reviewed.delete(old);
    }
  }
}

/** The token of the control plane is refused: it has expired by the API server's clock, or begins only later. */
const isUnauthorized = (error: unknown): boolean => error instanceof KubernetesError && error.status === 401;

/** No answer, one that says that the server is not well, or one to a stranger: nothing was said of the token that was to be verified. */
function saysNothing(error: unknown): boolean {
  if (isUnauthorized(error)) return true;
  if (error instanceof KubernetesError) return error.status === 0 || error.status >= 500;
  return error instanceof Error && (error.name === 'TimeoutError' || error.name === 'AbortError');
}

const isSame = ({ spiffeId }: PeerIdentity, { namespace, serviceAccount }: TokenSubject): boolean =>
  spiffeId.namespace === namespace && spiffeId.serviceAccount === serviceAccount;

const claimOf = ({ namespace, serviceAccount, pod }: TokenSubject, peerAddress: string): PodClaim => ({
  namespace,
  serviceAccount,
  name: pod.name,
  uid: pod.uid,
  peerAddress,
});

const refused = (message: string): ApiError => new ApiError(401, 'token-refused', message);

const unverified = (message: string): ApiError =>
  new ApiError(503, 'token-unverified', `the token cannot be verified now: ${message}`);
