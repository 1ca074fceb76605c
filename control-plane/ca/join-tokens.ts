import fs from 'node:fs';
import { join } from 'node:path';
import { type FileOperations, readFileBounded, removeTemporaryFiles, writeFileAtomic } from '../../mesh/atomic-file.ts';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';
import { type JoinClaims, type JoinTokenRecord, parseJoinToken } from './join-token-record.ts';
import {
  type CreatedJoinToken,
  digestOf,
  idOf,
  isJoinToken,
  makeJoinToken,
  type NewJoinToken,
  TOKEN_LIMITS,
  tooManyTokens,
} from './new-join-token.ts';

const FILE = /^([0-9a-f]{64})\.json$/;
const MAX_FILE_BYTES = 32 * 1024;

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
    const { token, digest, record } = makeJoinToken(request, this.#clock());
    this.prune();
    if (this.#records.size >= TOKEN_LIMITS.count) throw tooManyTokens(TOKEN_LIMITS.count);
    this.#store(digest, record);
    return { token, id: idOf(digest), expiresAt: record.expiresAt };
  }

  /**
   * Uses the token up, in favour of the holder of one key (`publicKeyHash` of readCsr).
   *
   * @throws PosternError `token-unknown`, `token-used`, `token-expired`; ERR_DISK_FULL or ERR_FILE_WRITE where the use cannot be recorded: it is not used then.
   */
  redeem(token: string, publicKeyHash: string): JoinClaims {
    const hash = isJoinToken(token) ? digestOf(token) : '';
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

const refusal = (code: string, message: string): PosternError =>
  new PosternError(code, message, { exitCode: EXIT.noPermission });
