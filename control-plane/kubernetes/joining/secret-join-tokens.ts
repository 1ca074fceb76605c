import type { Logger } from 'pino';
import { isReason } from '../../../kubernetes/api/errors.ts';
import { TYPES } from '../../../kubernetes/api/resource-types.ts';
import type { KubernetesApi } from '../../../kubernetes/api/types.ts';
import { messageOf } from '../../../mesh/errors.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { ApiError } from '../../api-error.ts';
import type { JoinClaims } from '../../ca/join-token-record.ts';
import {
  badRequest,
  type CreatedJoinToken,
  digestOf,
  idOf,
  makeJoinToken,
  type NewJoinToken,
  TOKEN_LIMITS,
  tooManyTokens,
} from '../../ca/new-join-token.ts';
import type { BearerTokens, ProvenToken, TokenCircumstances } from '../../platform.ts';
import { Complaints } from '../complaints.ts';
import { Gate } from '../identity/gate.ts';
import { TokenBudget } from '../identity/token-budget.ts';
import type { Machines } from './machines.ts';
import { readTokenSecret, SECRET_NAMES, secretName, type TokenSecret, tokenSecret } from './token-secret.ts';

export interface SecretJoinTokensOptions {
  readonly api: Pick<KubernetesApi, 'get' | 'create' | 'delete'>;
  /** Of the control plane, where the Secrets are. */
  readonly namespace: string;
  readonly machines: Pick<Machines, 'isReserved' | 'requireOne'>;
  /** Unix time, milliseconds. */
  readonly clock: () => number;
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>;
}

const TIMEOUT_MS = 5_000;
/** For making one, which may find many Secrets taken. */
const CREATE_TIMEOUT_MS = 12_000;
const GATE = { concurrent: 8, waiting: 64, waitMs: 5_000 } as const;
const BUDGET = { burst: 200, perSecond: 20 } as const;

interface Use {
  readonly publicKeyHash: string;
  readonly claims: JoinClaims;
  /** Unix time, milliseconds. */
  readonly at: number;
}

/**
 * One-use join tokens of machines outside of the cluster, good at every replica: each is a Secret with its digest.
 *
 * ALWAYS: a token is used by deleting its Secret as it was read, so that the API server lets one use of it succeed, whichever replicas try. One that
 * cannot prove anything here and now (no WorkloadEntry, a pod's address) is not used up by it.
 * NEVER is the token itself stored, logged or sent anywhere. An answer that gets lost between us and the API server burns it.
 */
export class SecretJoinTokens implements BearerTokens {
  readonly #options: SecretJoinTokensOptions;
  readonly #gate = new Gate(GATE);
  readonly #budget = new TokenBudget(BUDGET);
  readonly #complaints: Complaints;
  /** Uses at this replica by digest, oldest first: a sidecar that has lost the answer may ask again with the same key. */
  readonly #uses = new Map<string, Use>();
  /** Redemptions that go on, by digest. */
  readonly #running = new Map<string, Promise<JoinClaims>>();

  constructor(options: SecretJoinTokensOptions) {
    this.#options = options;
    this.#complaints = new Complaints(options.log);
  }

  /** @throws PosternError ERR_TOKEN_REQUEST, ERR_TOKEN_LIMIT; KubernetesError where it cannot be stored */
  async create(request: NewJoinToken): Promise<CreatedJoinToken> {
    const { clock, machines } = this.#options;
    if (machines.isReserved(request)) {
      const { namespace } = request;
      throw badRequest(`no join token can be made for the namespace ${namespace}: its identities are for pods only`);
    }
    const signal = AbortSignal.timeout(CREATE_TIMEOUT_MS);
    const tried = new Set<string>();
    while (tried.size < SECRET_NAMES.length) {
      const { token, digest, record } = makeJoinToken(request, clock());
      if (tried.has(secretName(digest))) continue;
      tried.add(secretName(digest));
      const isStored = await this.#store(tokenSecret(digest, record), signal);
      if (isStored) return { token, id: idOf(digest), expiresAt: record.expiresAt };
    }
    throw tooManyTokens(SECRET_NAMES.length);
  }

  /**
   * @throws ApiError 401 `token-unknown`, `token-used`, `token-expired`; 403 `identity-reserved`, `address-not-allowed`; 503 `entry-unknown`,
   * `token-unverified`
   */
  async redeem(token: string, circumstances: TokenCircumstances): Promise<ProvenToken> {
    const digest = digestOf(token);
    // Whoever asks again while the first question is under way is told what has become of it.
    for (let running = this.#running.get(digest); running !== undefined; running = this.#running.get(digest)) {
      await running.catch(() => {});
    }
    const redeemed = this.#redeem(digest, circumstances).finally(() => this.#running.delete(digest));
    this.#running.set(digest, redeemed);
    const { namespace, serviceAccount } = await redeemed;
    // Labels of a machine are those of its WorkloadEntry.
    return { namespace, serviceAccount, labels: {} };
  }

  /** For the leader: deletes those that have expired. @throws KubernetesError */
  async prune(signal: AbortSignal): Promise<void> {
    const { api, clock, namespace } = this.#options;
    for (const name of SECRET_NAMES) {
      const secret = await this.#read(name, signal);
      if (secret === null || secret.record.expiresAt > clock()) continue;
      const { uid } = secret;
      await api.delete(TYPES.Secret, { namespace, name }, { uid, signal });
    }
  }

  async #redeem(digest: string, { publicKeyHash, peerAddress }: TokenCircumstances): Promise<JoinClaims> {
    const { clock, log, machines } = this.#options;
    const use = this.#uses.get(digest);
    if (use !== undefined) {
      const isRetry = use.publicKeyHash === publicKeyHash && clock() - use.at <= TOKEN_LIMITS.retryMs;
      if (!isRetry) throw used(digest);
      machines.requireOne(use.claims, use.claims.labels, peerAddress);
      return use.claims;
    }
    const secret = await this.#find(digest, peerAddress);
    const { namespace, serviceAccount, labels } = secret.record;
    const claims = { namespace, serviceAccount, labels };
    machines.requireOne(claims, labels, peerAddress);
    await this.#use(digest, secret);
    this.#remember(digest, { publicKeyHash, claims, at: clock() });
    log.info({ id: idOf(digest), namespace, serviceAccount, peerAddress }, 'a join token has been used');
    return claims;
  }

  async #find(digest: string, peerAddress: string): Promise<TokenSecret> {
    const refusal = this.#budget.refusal(peerAddress);
    if (refusal !== null) throw unverified(refusal);
    const secret = await this.#ask((signal) => this.#read(secretName(digest), signal), null);
    if (secret === null || secret.digest !== digest) {
      const message = 'the join token is not known: it was never made here, has been used, or has expired';
      throw new ApiError(401, 'token-unknown', message);
    }
    if (secret.isDeleting || secret.record.used !== null) throw used(digest);
    if (this.#options.clock() >= secret.record.expiresAt) {
      throw new ApiError(401, 'token-expired', `join token ${idOf(digest)} has expired`);
    }
    return secret;
  }

  /** @throws ApiError `token-used` where somebody else was faster */
  async #use(digest: string, { name, uid, resourceVersion }: TokenSecret): Promise<void> {
    const { api, namespace } = this.#options;
    const isOurs = await this.#ask(
      (signal) => api.delete(TYPES.Secret, { namespace, name }, { uid, resourceVersion, signal }),
      false,
    );
    if (!isOurs) throw used(digest);
  }

  /** @param otherwise the answer where the object is not as it was read */
  async #ask<T>(question: (signal: AbortSignal) => Promise<T>, otherwise: T): Promise<T> {
    try {
      const answer = await this.#gate.run(() => question(AbortSignal.timeout(TIMEOUT_MS)));
      this.#complaints.settle('api', 'join tokens can be verified again');
      return answer;
    } catch (error) {
      if (isReason(error, 'Conflict')) return otherwise;
      this.#complaints.raise('api', `join tokens cannot be verified: ${messageOf(error)}`, 'error');
      throw unverified('the API server could not be asked');
    }
  }

  /** Null: there is none. @throws KubernetesError */
  async #read(name: string, signal: AbortSignal): Promise<TokenSecret | null> {
    const { api, namespace } = this.#options;
    try {
      return readTokenSecret(await api.get(TYPES.Secret, { namespace, name }, signal));
    } catch (error) {
      if (isReason(error, 'NotFound')) return null;
      throw error;
    }
  }

  /** Whether there was none of its name. @throws KubernetesError */
  async #store(secret: JsonObject, signal: AbortSignal): Promise<boolean> {
    const { api, namespace } = this.#options;
    try {
      await api.create(TYPES.Secret, namespace, secret, { signal });
      return true;
    } catch (error) {
      if (isReason(error, 'AlreadyExists')) return false;
      throw error;
    }
  }

  #remember(digest: string, use: Use): void {
    this.#uses.set(digest, use);
    for (const [old, { at }] of this.#uses) {
      if (use.at - at <= TOKEN_LIMITS.retryMs) return;
      this.#uses.delete(old);
    }
  }
}

const used = (digest: string): ApiError =>
  new ApiError(401, 'token-used', `join token ${idOf(digest)} has been used: make a new one with postern token create`);

const unverified = (message: string): ApiError =>
  new ApiError(503, 'token-unverified', `the join token cannot be verified now: ${message}`);
