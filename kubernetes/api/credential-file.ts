import { readFileBounded } from '../../mesh/atomic-file.ts';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';

/** The kubelet replaces a projected token long before it expires; a minute is what client libraries use. */
export const REREAD_MS = 60_000;
const MAX_BYTES = 1024 * 1024;
/** RFC 6750, section 2.1, and nothing that could end a header line. */
const TOKEN = /^[\x21-\x7e]{1,65536}$/;

/** A file that somebody else replaces now and then: read again at most each minute. NEVER quoted in a message: it may hold a secret. */
export class CredentialFile {
  readonly #path: string;
  readonly #what: string;
  readonly #now: () => number;
  #text: string | null = null;
  #readAt = 0;
  #doubted = false;

  /** @param what What the file is, for messages. @param now Monotonic clock, milliseconds. */
  constructor(path: string, what: string, now: () => number = () => performance.now()) {
    this.#path = path;
    this.#what = what;
    this.#now = now;
  }

  /** What was read last stays where the file cannot be read for a while. @throws PosternError ERR_KUBERNETES_CREDENTIALS */
  read(): string {
    if (this.#text !== null && !this.#doubted && this.#now() - this.#readAt < REREAD_MS) return this.#text;
    try {
      this.#text = readFileBounded(this.#path, MAX_BYTES).toString('utf8').trim();
    } catch (error) {
      if (this.#text === null) {
        throw credentialsError(`the ${this.#what} cannot be read: ${messageOf(error)}`, error);
      }
    }
    this.#readAt = this.#now();
    this.#doubted = false;
    return this.#text;
  }

  /** The next reading asks the disk. */
  doubt(): void {
    this.#doubted = true;
  }
}

export function credentialsError(message: string, cause?: unknown): PosternError {
  return new PosternError('ERR_KUBERNETES_CREDENTIALS', message, {
    ...(cause === undefined ? {} : { cause }),
    exitCode: EXIT.config,
  });
}

/** @param where Where the token comes from, for the message. @throws PosternError ERR_KUBERNETES_CREDENTIALS */
export function checkedToken(text: string, where: string): string {
  const token = text.trim();
  if (!TOKEN.test(token)) throw credentialsError(`${where} is not a token: it is empty, too long, or has blanks in it`);
  return token;
}
