import { join } from 'node:path';
import type { Logger } from 'pino';
import { readFileBounded, writeFileAtomic } from '../../mesh/atomic-file.ts';
import { messageOf, PosternError } from '../../mesh/errors.ts';
import { Debounce } from '../debounce.ts';

/** The text of each file in force, by path, so that a file that is bad at the next start has a last good version too. */
export interface LastGood {
  /** Empty where there is none. */
  load(): ReadonlyMap<string, string>;
  /** Soon; the last one wins. */
  save(texts: ReadonlyMap<string, string>): void;
  /** Writes what is to be written. */
  flush(): void;
}

const MAX_FILE_BYTES = 1024 * 1024 * 1024;
const QUIET_MS = 500;
const MAX_MS = 5_000;

/**
 * `<dataDir>/last-good-manifests.json`. A convenience for bad days only: where it cannot be written or read that is said, and everything goes on.
 */
export class LastGoodFile implements LastGood {
  readonly #path: string;
  readonly #log: Pick<Logger, 'warn' | 'error'>;
  readonly #debounce: Debounce;
  #pending: ReadonlyMap<string, string> | null = null;

  constructor(dataDir: string, log: Pick<Logger, 'warn' | 'error'>) {
    this.#path = join(dataDir, 'last-good-manifests.json');
    this.#log = log;
    this.#debounce = new Debounce(QUIET_MS, MAX_MS, () => this.flush());
  }

  load(): ReadonlyMap<string, string> {
    try {
      const value: unknown = JSON.parse(readFileBounded(this.#path, MAX_FILE_BYTES).toString('utf8'));
      return parse(value);
    } catch (error) {
      if (error instanceof PosternError && error.code === 'ERR_FILE_MISSING') return new Map();
      this.#log.warn(
        `the last good manifests cannot be read, so files that are bad now have none: ${messageOf(error)}`,
      );
      return new Map();
    }
  }

  save(texts: ReadonlyMap<string, string>): void {
    this.#pending = texts;
    this.#debounce.trigger();
  }

  flush(): void {
    this.#debounce.stop();
    const texts = this.#pending;
    this.#pending = null;
    if (texts === null) return;
    try {
      writeFileAtomic(this.#path, `${JSON.stringify({ version: 1, files: Object.fromEntries(texts) })}\n`);
    } catch (error) {
      this.#log.error(`the last good manifests could not be saved; what is in force stays so: ${messageOf(error)}`);
    }
  }
}

function parse(value: unknown): ReadonlyMap<string, string> {
  const files = typeof value === 'object' && value !== null && 'files' in value ? value.files : null;
  if (typeof files !== 'object' || files === null) throw new Error('it holds no files');
  return new Map(Object.entries(files).flatMap(([path, text]) => (typeof text === 'string' ? [[path, text]] : [])));
}
