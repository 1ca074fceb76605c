import { FIXED } from '../config.ts';
import type { ServerCredentials } from './tls-listener.ts';

export interface IssuedServerCertificate extends ServerCredentials {
  /** Unix time, milliseconds. */
  readonly notBefore: number;
  readonly notAfter: number;
}

export interface ServerCertificateOptions {
  readonly issue: () => IssuedServerCertificate;
  /** Called with each new one. */
  readonly onRenewed: (credentials: IssuedServerCertificate) => void;
  /** The present one stays in use; tried again. */
  readonly onFailed: (error: unknown) => void;
}

const RETRY_MS = 10_000;
/** Never in a tight circle, however short certificates are. */
const MIN_SLEEP_MS = 500;
/** The clock may be set meanwhile; also setTimeout's limit. */
const MAX_SLEEP_MS = 60_000;

/** Keeps the control plane's own certificate fresh. Its private key is in memory only. */
export class ServerCertificate {
  readonly #options: ServerCertificateOptions;
  #current: IssuedServerCertificate;
  #timer: NodeJS.Timeout | null = null;

  /** @throws what `issue` throws */
  constructor(options: ServerCertificateOptions) {
    this.#options = options;
    this.#current = options.issue();
    this.#schedule();
  }

  get current(): IssuedServerCertificate {
    return this.#current;
  }

  /** At once, e.g. because another root issues now. */
  renew(): void {
    try {
      this.#current = this.#options.issue();
      this.#options.onRenewed(this.#current);
      this.#schedule();
    } catch (error) {
      this.#options.onFailed(error);
      this.#sleep(RETRY_MS, () => this.renew());
    }
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #schedule(): void {
    const { notBefore, notAfter } = this.#current;
    const due = notBefore + (notAfter - notBefore) * FIXED.server.renewAt;
    const left = due - Date.now();
    if (left <= MAX_SLEEP_MS) this.#sleep(Math.max(left, MIN_SLEEP_MS), () => this.renew());
    else this.#sleep(MAX_SLEEP_MS, () => this.#schedule());
  }

  #sleep(milliseconds: number, then: () => void): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = setTimeout(then, milliseconds);
    this.#timer.unref();
  }
}
