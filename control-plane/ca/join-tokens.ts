import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import { type FileOperations, readFileBounded, removeTemporaryFiles, writeFileAtomic } from '../../mesh/atomic-file.ts';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';
import { isControlPlane } from './control-plane-identity.ts';
import { checkClaims, type JoinClaims, type JoinTokenRecord, parseJoinToken } from './join-token-record.ts';

export const TOKEN_LIMITS = {
  defaultTtlSeconds: 600,
  maxTtlSeconds: 86_400,
  /** Tokens that are remembered, used and expired ones included. */
  count: 10_000,
  /** An expired token stays known this long, so that its bearer is told that it has expired rather than that it never was. Milliseconds. */
  rememberMs: 3_600_000,
  /** A sidecar may lose the answer to its redemption; it may ask again with the same key for this long. Milliseconds. */
  retryMs: 60_000,
} as const;

const PREFIX = 'postern-join-';
/** The prefix and 32 bytes in base64url. */
const FORM = /^postern-join-[A-Za-z0-9_-]{43}$/;
const FILE = /^([0-9a-f]{64})\.json$/;
const MAX_FILE_BYTES = 32 * 1024;

export interface NewJoinToken {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** 1 to 86400; default 600. */
  readonly ttlSeconds?: number | undefined;
  readonly labels?: { readonly [key: string]: string } | undefined;
}

export interface CreatedJoinToken {
  /** The secret; shown once. */
  readonly token: string;
  /** Names the token in logs and listings without showing it. */
  readonly id: string;
  /** Unix time, milliseconds. */
  readonly expiresAt: number;
}

/**
 * One-use tokens by which workloads prove who they are when they first join. One small file a token, `<dataDir>/join-tokens`, so that a redemption
 * costs one small atomic write however many there are. Everything is synchronous: nothing can come between the check of a token and its mark as used.
 *
 * NEVER is a redemption answered before it is on disk; a crash in between burns the token for every key but the one that redeemed it.
 * Looked up by SHA-256, so the time a lookup takes tells nothing about a token.
 */
export class JoinTokens {
  readonly #directory: string;
  readonly #clock: () => number;
  readonly #operations: FileOperations;
  /** By the SHA-256 of the token, hexadecimal. */
  readonly #records = new Map<string, JoinTokenRecord>();

  private constructor(dataDir: string, clock: () => number, operations: FileOperations) {
    this.#directory = join(dataDir, 'join-tokens');
    this.#clock = clock;
    this.#operations = operations;
  }

  /**
   * The caller holds the data directory's lock.
   *
   * @throws PosternError ERR_TOKENS_DAMAGED naming the file
   */
  static open(dataDir: string, clock: () => number, operations: FileOperations = fs): JoinTokens {
    const tokens = new JoinTokens(dataDir, clock, operations);
    tokens.#load();
    return tokens;
  }

  /** @throws PosternError ERR_TOKEN_REQUEST, ERR_TOKEN_LIMIT, ERR_DISK_FULL, ERR_FILE_WRITE */
  create(request: NewJoinToken): CreatedJoinToken {
    const ttlSeconds = request.ttlSeconds ?? TOKEN_LIMITS.defaultTtlSeconds;
    if (!Number.isSafeInteger(ttlSeconds) || ttlSeconds < 1 || ttlSeconds > TOKEN_LIMITS.maxTtlSeconds) {
      throw badRequest(`a join token lives from 1 to ${TOKEN_LIMITS.maxTtlSeconds} seconds, not ${ttlSeconds}`);
    }
    const { namespace, serviceAccount, labels = {} } = request;
    if (isControlPlane(request)) {
      throw badRequest(`no join token can be made: ${namespace}/${serviceAccount} is the control plane's own identity`);
    }
    let claims: JoinClaims;
    try {
      claims = checkClaims({ namespace, serviceAccount, labels });
    } catch (error) {
      throw badRequest(`no join token can be made: ${messageOf(error)}`);
    }
    this.prune();
    if (this.#records.size >= TOKEN_LIMITS.count) {
      const message = `there are ${TOKEN_LIMITS.count} join tokens already: wait until some have expired, or give them a shorter life`;
      throw new PosternError('ERR_TOKEN_LIMIT', message, { exitCode: EXIT.temporary });
    }
    const token = PREFIX + randomBytes(32).toString('base64url');
    const hash = hashOf(token);
    const expiresAt = this.#clock() + ttlSeconds * 1000;
    this.#store(hash, { version: 1, ...claims, expiresAt, used: null });
    return { token, id: idOf(hash), expiresAt };
  }

  /**
   * Uses the token up, in favour of the holder of one key (`publicKeyHash` of readCsr).
   *
   * @throws PosternError `token-unknown`, `token-used`, `token-expired`; ERR_DISK_FULL or ERR_FILE_WRITE where the use cannot be recorded: it is not used then.
   */
  redeem(token: string, publicKeyHash: string): JoinClaims {
    const hash = FORM.test(token) ? hashOf(token) : '';
    const record = this.#records.get(hash);
    if (record === undefined) {
      throw refusal('token-unknown', 'the join token is not known here: make a new one with postern token create');
    }
    const now = this.#clock();
    const id = idOf(hash);
    if (record.used !== null) {
      const isRetry = record.used.publicKeyHash === publicKeyHash && now - record.used.at <= TOKEN_LIMITS.retryMs;
      if (!isRetry)
        throw refusal('token-used', `join token ${id} has been used: make a new one with postern token create`);
    } else {
      if (now >= record.expiresAt) {
        throw refusal('token-expired', `join token ${id} has expired: make a new one with postern token create`);
      }
      this.#store(hash, { ...record, used: { at: now, publicKeyHash } });
    }
    const { namespace, serviceAccount, labels } = record;
    return { namespace, serviceAccount, labels };
  }

  /** Forgets tokens that expired long ago. Best effort: what cannot be removed is tried again. */
  prune(): void {
    const horizon = this.#clock() - TOKEN_LIMITS.rememberMs;
    for (const [hash, { expiresAt }] of this.#records) {
      if (expiresAt > horizon) continue;
      try {
        this.#operations.rmSync(this.#path(hash), { force: true });
        this.#records.delete(hash);
      } catch {
        return;
      }
    }
  }

  #load(): void {
    fs.mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    removeTemporaryFiles(this.#directory, this.#operations);
    for (const name of fs.readdirSync(this.#directory)) {
      const hash = FILE.exec(name)?.[1];
      if (hash === undefined) continue;
      const path = this.#path(hash);
      try {
        this.#records.set(hash, parseJoinToken(readFileBounded(path, MAX_FILE_BYTES).toString('utf8')));
      } catch (error) {
        const message = `${path} is damaged (${messageOf(error)}): remove it; its join token will not be accepted any more`;
        throw new PosternError('ERR_TOKENS_DAMAGED', message, { cause: error, exitCode: EXIT.dataError });
      }
    }
    this.prune();
  }

  #store(hash: string, record: JoinTokenRecord): void {
    writeFileAtomic(this.#path(hash), `${JSON.stringify(record)}\n`, { operations: this.#operations });
    this.#records.set(hash, record);
  }

  #path(hash: string): string {
    return join(this.#directory, `${hash}.json`);
  }
}

const hashOf = (token: string): string => createHash('sha256').update(token).digest('hex');

const idOf = (hash: string): string => hash.slice(0, 12);

const badRequest = (message: string): PosternError =>
  new PosternError('ERR_TOKEN_REQUEST', message, { exitCode: EXIT.usage });

const refusal = (code: string, message: string): PosternError =>
  new PosternError(code, message, { exitCode: EXIT.noPermission });
