import { join } from 'node:path';
import type { Logger } from 'pino';
import { readFileBounded, writeFileAtomic } from '../../mesh/atomic-file.ts';
import { messageOf, PosternError } from '../../mesh/errors.ts';
import { asObject, asString, field } from '../../policy/json.ts';
import { parseKeySet } from '../../policy/jwt/key-set.ts';
import type { JsonValue } from '../../policy/types.ts';

export interface StoredKeySet {
  readonly text: string;
  /** Unix time, milliseconds, of the last success. */
  readonly fetchedAt: number;
}

const MAX_FILE_BYTES = 256 * 1024 * 1024;

/**
 * `<dataDir>/jwks.json`: the keys that were fetched last, public all of them, so that a control plane that starts while a provider is down takes
 * nobody's keys away. Only a copy: one that is missing or damaged costs a fetch.
 */
export class KeySetFile {
  readonly #path: string;
  readonly #log: Logger;

  constructor(dataDir: string, log: Logger) {
    this.#path = join(dataDir, 'jwks.json');
    this.#log = log;
  }

  load(): ReadonlyMap<string, StoredKeySet> {
    let value: JsonValue;
    try {
      value = JSON.parse(readFileBounded(this.#path, MAX_FILE_BYTES).toString('utf8'));
    } catch (error) {
      const missing = error instanceof PosternError && error.code === 'ERR_FILE_MISSING';
      if (!missing) {
        this.#log.warn({ path: this.#path }, `the stored keys of issuers cannot be read: ${messageOf(error)}`);
      }
      return new Map();
    }
    const found = new Map<string, StoredKeySet>();
    for (const [name, stored] of Object.entries(asObject(field(asObject(value), 'keySets')) ?? {})) {
      const text = asString(field(asObject(stored), 'jwks'));
      const fetchedAt = field(asObject(stored), 'fetchedAt');
      const usable = text !== null && typeof parseKeySet(text) !== 'string' && typeof fetchedAt === 'number';
      if (usable) found.set(name, { text, fetchedAt });
    }
    return found;
  }

  /** @throws PosternError ERR_DISK_FULL, ERR_FILE_WRITE */
  save(keySets: ReadonlyMap<string, StoredKeySet>): void {
    const entries = [...keySets].map(([name, { text, fetchedAt }]) => [name, { jwks: text, fetchedAt }]);
    writeFileAtomic(this.#path, `${JSON.stringify({ version: 1, keySets: Object.fromEntries(entries) })}\n`);
  }
}
