import { X509Certificate } from 'node:crypto';
import { resolve } from 'node:path';
import { readFileBounded } from '../../mesh/atomic-file.ts';
import { messageOf } from '../../mesh/errors.ts';
import { asString, field, isAbsent } from '../../policy/json.ts';
import { credentialsError } from './credential-file.ts';
import type { KubeconfigEntry } from './kubeconfig.ts';

const MAX_FILE_BYTES = 1024 * 1024;
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;

/** Strict readings of one entry of a kubeconfig. Messages name places, NEVER values. */
export class EntryReader {
  readonly #entry: KubeconfigEntry;
  readonly #what: string;

  constructor(entry: KubeconfigEntry, kind: 'cluster' | 'user') {
    this.#entry = entry;
    this.#what = `${entry.file}: ${kind} ${entry.name}`;
  }

  get entry(): KubeconfigEntry {
    return this.#entry;
  }

  fail(message: string, cause?: unknown): never {
    throw credentialsError(`${this.#what}: ${message}`, cause);
  }

  /** What is left unread might have been meant to make things safer. */
  onlyFields(known: readonly string[]): void {
    const unknown = Object.keys(this.#entry.body).filter((name) => !known.includes(name) && name !== 'extensions');
    if (unknown.length > 0) this.fail(`${unknown.join(', ')} is not supported here: remove it, or use another entry`);
  }

  /** Refuses a setting unless it is absent, empty or false. */
  refuse(name: string, advice: string): void {
    const value = field(this.#entry.body, name);
    if (isAbsent(value) || value === false || value === '') return;
    this.fail(`${name} is refused: ${advice}`);
  }

  string(name: string): string | null {
    const value = field(this.#entry.body, name);
    if (isAbsent(value) || value === '') return null;
    return asString(value) ?? this.fail(`${name} must be a string`);
  }

  path(name: string): string | null {
    const value = this.string(name);
    return value === null ? null : resolve(this.#entry.directory, value);
  }

  /** The text of `<name>-data` (base64), else of the file `<name>`; null where neither is there. */
  text(name: string): string | null {
    const data = this.string(`${name}-data`);
    if (data !== null) {
      const compact = data.replace(/\s+/g, '');
      if (!BASE64.test(compact)) this.fail(`${name}-data is not base64`);
      return Buffer.from(compact, 'base64').toString('utf8');
    }
    const path = this.path(name);
    if (path === null) return null;
    try {
      return readFileBounded(path, MAX_FILE_BYTES).toString('utf8');
    } catch (error) {
      return this.fail(`${name}: ${messageOf(error)}`, error);
    }
  }

  /** The same of one or more certificates in PEM. */
  certificates(name: string): string | null {
    const text = this.text(name);
    if (text === null) return null;
    try {
      new X509Certificate(text);
    } catch {
      this.fail(`${name} holds no certificate in PEM`);
    }
    return text;
  }
}
