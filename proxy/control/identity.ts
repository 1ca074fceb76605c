import { Backoff } from '../../mesh/backoff.ts';
import { messageOf, PosternError } from '../../mesh/errors.ts';
import type { CertificateRequest, CertificateResponse } from '../../mesh/push.ts';
import { spiffeId } from '../../mesh/spiffe-id.ts';
import { createCsr } from '../../mesh/x509/csr.ts';
import { type Clock, pause } from './clock.ts';
import type { Log } from './logging.ts';
import { isFinal, type Proof, type ProofSource, proofSource } from './proof.ts';
import { expiresAt, longestPauseMs, renewalDelayMs, spreadDelayMs } from './renewal.ts';
import { acceptSvid, generateKey, hangsOn, type Svid } from './svid.ts';

/** The part of the control plane's client that identity needs. */
export interface CertificateAuthority {
  requestCertificate(request: CertificateRequest, proof: Proof, signal: AbortSignal): Promise<CertificateResponse>;
  /** Of the mesh; asks the control plane where it is not known yet. */
  trustDomain(signal: AbortSignal): Promise<string>;
}

export interface IdentityOptions {
  readonly workload: { readonly namespace: string; readonly serviceAccount: string };
  readonly joinTokenFile: string | null;
  /** Takes the place of a join token. Default: none. */
  readonly serviceAccountTokenFile?: string | null;
  readonly ttlSeconds: number | null;
  readonly authority: CertificateAuthority;
  readonly trust: { roots(): readonly string[]; setRoots(roots: readonly string[]): void };
  readonly clock: Clock;
  readonly log: Log;
  /** A new certificate is in force. */
  readonly onSvid: (svid: Svid) => void;
}

/**
 * The workload's certificate: one key for each, in memory. What proves the identity to the control plane is `ProofSource`'s affair.
 *
 * ALWAYS: `current` only ever becomes a certificate that passed `acceptSvid`; a failed renewal leaves it as it is.
 */
export class Identity {
  readonly #options: IdentityOptions;
  readonly #stop = new AbortController();
  readonly #proofs: ProofSource;
  #current: Svid | null = null;
  #failure: string | null = null;
  /** Ends the pause before the next renewal early; null while none is waited for. */
  #hurry: ((delayMs: number, why: string) => void) | null = null;

  constructor(options: IdentityOptions) {
    this.#options = options;
    this.#proofs = proofSource(options);
  }

  get current(): Svid | null {
    return this.#current;
  }

  /** True while peers and the control plane still take the certificate. */
  get valid(): boolean {
    return this.#current !== null && expiresAt(this.#current) > this.#options.clock.now();
  }

  /** Why the last attempt gave no certificate; null where it gave one, or none was made yet. */
  get failure(): string | null {
    return this.#failure;
  }

  /**
   * Gets certificates until `close`. While the control plane is away it keeps trying.
   * @throws PosternError ERR_JOIN_REFUSED (exit 77) where the first certificate is refused for good.
   */
  async run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const svid = await this.#obtain(signal);
      if (svid === null) return;
      this.#current = svid;
      this.#failure = null;
      this.#options.onSvid(svid);
      await this.#untilRenewal(svid, signal);
    }
  }

  /** Renews soon, at a random moment, because the control plane wants it so. */
  renewSoon(why: string): void {
    if (this.#current !== null) this.#hurry?.(spreadDelayMs(this.#current, this.#options.clock.random()), why);
  }

  /** Renews soon where the chain hangs on a root that the mesh is leaving. */
  followRoots(roots: readonly string[]): void {
    if (this.#current !== null && !hangsOn(this.#current, roots)) this.renewSoon('the mesh has a new root');
  }

  close(): void {
    this.#stop.abort();
  }

  #untilRenewal(svid: Svid, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    const early = new AbortController();
    let cancel = (): void => {};
    const abort = (): void => early.abort();
    signal.addEventListener('abort', abort);
    this.#hurry = (delayMs, why) => {
      // One reason to hurry is enough: a later one must not put the renewal off.
      this.#hurry = null;
      log.info({ delayMs: Math.round(delayMs) }, `renewing the certificate soon: ${why}`);
      cancel = clock.after(delayMs, abort);
    };
    return pause(clock, renewalDelayMs(svid, clock.random()), early.signal).finally(() => {
      this.#hurry = null;
      cancel();
      signal.removeEventListener('abort', abort);
    });
  }

  /** Tries until it has one; null once closed. */
  async #obtain(signal: AbortSignal): Promise<Svid | null> {
    const { clock, log } = this.#options;
    const backoff = new Backoff({ initialMs: 100, maxMs: longestPauseMs(this.#current), random: clock.random });
    while (!signal.aborted) {
      try {
        return await this.#request(signal);
      } catch (error) {
        if (signal.aborted) return null;
        if (this.#current === null && isFinal(error)) throw error;
        this.#failure = messageOf(error);
        const delayMs = backoff.next();
        log.warn(
          { code: codeOf(error), retryInMs: Math.round(delayMs) },
          `no new certificate: ${messageOf(error)}${this.#presentState()}`,
        );
        await pause(clock, delayMs, signal);
      }
    }
    return null;
  }

  /** What a failure means for the certificate in hand: the end of a sentence for the log. */
  #presentState(): string {
    if (this.#current === null) return '';
    return this.valid ? '; the present one stays in use' : '; the present one has expired: no new tunnel is accepted';
  }

  async #request(signal: AbortSignal): Promise<Svid> {
    const { authority, workload, ttlSeconds, trust, clock } = this.#options;
    const trustDomain = await authority.trustDomain(signal);
    const id = spiffeId(trustDomain, workload.namespace, workload.serviceAccount).uri;
    const key = generateKey();
    const csr = createCsr({ ...key, spiffeId: id });
    const request = { csr, spiffeId: id, ...(ttlSeconds === null ? {} : { ttlSeconds }) };
    const proof = this.#proofs.next(this.valid ? this.#current : null);
    let response: CertificateResponse;
    try {
      response = await authority.requestCertificate(request, proof, signal);
    } catch (error) {
      throw this.#proofs.failed(proof, error);
    }
    // Roots in an answer of the control plane are as good as pushed ones: both came over a connection that the older roots vouch for.
    const svid = acceptSvid(response, { key, spiffeId: id, roots: response.roots, receivedAt: clock.now() });
    trust.setRoots(response.roots);
    return svid;
  }
}

const codeOf = (error: unknown): string => (error instanceof PosternError ? error.code : 'ERR_UNEXPECTED');
