import fs from 'node:fs';
import { join } from 'node:path';
import { type FileOperations, readFileBounded, writeFileAtomic } from '../../mesh/atomic-file.ts';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';
import { Listeners } from '../listeners.ts';
import type { RevocationList } from '../platform.ts';
import { objectOf } from './json.ts';
import { parseSubject, type Revocation } from './revocation.ts';

export interface RevocationsOptions {
  readonly dataDir: string;
  readonly clock: () => number;
  /** Longest lifetime of a certificate: after that a revoked serial has expired by itself. */
  readonly maxTtlSeconds: number;
  readonly operations?: FileOperations;
}

export const MAX_REVOCATIONS = 10_000;

const MAX_FILE_BYTES = 32 * 1024 * 1024;

/**
 * The mesh's revocation list, `<dataDir>/revocations.json`. A change is on disk before it is in force and before listeners hear of it.
 * Identities stay revoked until they are taken off; serials are dropped when their certificate cannot be valid any more.
 */
export class Revocations implements RevocationList {
  readonly #options: RevocationsOptions;
  readonly #path: string;
  readonly #listeners = new Listeners();
  /** By `kind value`. */
  #entries: ReadonlyMap<string, Revocation>;

  private constructor(options: RevocationsOptions) {
    this.#options = options;
    this.#path = join(options.dataDir, 'revocations.json');
    this.#entries = new Map(load(this.#path).map((entry) => [keyOf(entry), entry]));
  }

  /**
   * The caller holds the data directory's lock.
   *
   * @throws PosternError ERR_REVOCATIONS_DAMAGED: a list that cannot be read must not count as an empty one.
   */
  static open(options: RevocationsOptions): Revocations {
    const revocations = new Revocations(options);
    revocations.prune();
    return revocations;
  }

  /** @throws PosternError ERR_REVOCATION_SUBJECT, ERR_REVOCATION_LIMIT, ERR_DISK_FULL, ERR_FILE_WRITE */
  add(text: string): Revocation {
    const subject = parseSubject(text);
    const known = this.#entries.get(keyOf(subject));
    // A serial is counted from its latest revocation; for an identity the first date is the one worth keeping.
    if (known?.kind === 'spiffeId') return known;
    this.prune();
    if (known === undefined && this.#entries.size >= MAX_REVOCATIONS) {
      const message =
        `${MAX_REVOCATIONS} revocations are in force already: take some off with postern revoke --undo, ` +
        'or replace the root with postern ca rotate';
      throw new PosternError('ERR_REVOCATION_LIMIT', message, { exitCode: EXIT.temporary });
    }
    const added: Revocation = { ...subject, revokedAt: this.#options.clock() };
    this.#replace(new Map(this.#entries).set(keyOf(added), added));
    return added;
  }

  /** Whether it was revoked. */
  remove(text: string): boolean {
    const key = keyOf(parseSubject(text));
    const entries = new Map(this.#entries);
    if (!entries.delete(key)) return false;
    this.#replace(entries);
    return true;
  }

  /** Oldest first. */
  list(): readonly Revocation[] {
    return [...this.#entries.values()].sort((a, b) => a.revokedAt - b.revokedAt);
  }

  isRevoked(subject: { readonly spiffeId: string | null; readonly serial: string }): boolean {
    const { spiffeId, serial } = subject;
    if (this.#entries.has(keyOf({ kind: 'serial', value: serial }))) return true;
    return spiffeId !== null && this.#entries.has(keyOf({ kind: 'spiffeId', value: spiffeId }));
  }

  /** Called after each change. Returns what takes the listener off. */
  onChange(listener: () => void): () => void {
    return this.#listeners.add(listener);
  }

  /** Drops serials of certificates that have expired. A full disk only puts it off. */
  prune(): void {
    const horizon = this.#options.clock() - this.#options.maxTtlSeconds * 1000;
    const kept = [...this.#entries].filter(([, { kind, revokedAt }]) => kind === 'spiffeId' || revokedAt > horizon);
    if (kept.length === this.#entries.size) return;
    try {
      this.#replace(new Map(kept));
    } catch (error) {
      if (!(error instanceof PosternError)) throw error;
    }
  }

  #replace(entries: ReadonlyMap<string, Revocation>): void {
    const text = JSON.stringify({ version: 1, revocations: [...entries.values()] }, null, 1);
    writeFileAtomic(this.#path, `${text}\n`, { operations: this.#options.operations ?? fs });
    this.#entries = entries;
    this.#listeners.tell();
  }
}

const keyOf = ({ kind, value }: Pick<Revocation, 'kind' | 'value'>): string => `${kind} ${value}`;

function load(path: string): Revocation[] {
  try {
    const value: unknown = JSON.parse(readFileBounded(path, MAX_FILE_BYTES).toString('utf8'));
    return parseList(value);
  } catch (error) {
    if (error instanceof PosternError && error.code === 'ERR_FILE_MISSING') return [];
    const message =
      `${path} is damaged (${messageOf(error)}): restore it from a backup; ` +
      'or move it away and revoke again what must stay revoked, before you start';
    throw new PosternError('ERR_REVOCATIONS_DAMAGED', message, { cause: error, exitCode: EXIT.dataError });
  }
}

function parseList(value: unknown): Revocation[] {
  const { version, revocations } = objectOf(value);
  if (version !== 1 || !Array.isArray(revocations)) throw new Error('not a list of revocations of version 1');
  if (revocations.length > MAX_REVOCATIONS) throw new Error(`more than ${MAX_REVOCATIONS} revocations`);
  return revocations.map((entry: unknown) => {
    const { kind, value: text, revokedAt } = objectOf(entry);
    if (typeof text !== 'string' || typeof revokedAt !== 'number' || !Number.isSafeInteger(revokedAt)) {
      throw new Error('a revocation without value or date');
    }
    const subject = parseSubject(text);
    if (subject.kind !== kind || subject.value !== text) throw new Error(`not a revocation: ${JSON.stringify(text)}`);
    return { ...subject, revokedAt };
  });
}
