import { readFileSync } from 'node:fs';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';
import type { CertificateRequest, CertificateResponse } from '../../mesh/push.ts';
import { spiffeId } from '../../mesh/spiffe-id.ts';
import { createCsr } from '../../mesh/x509/csr.ts';
import { Backoff } from './backoff.ts';
import { type Clock, pause } from './clock.ts';
import { ControlPlaneRefusal } from './control-plane-request.ts';
import type { Log } from './logging.ts';
import { expiresAt, longestPauseMs, renewalDelayMs, spreadDelayMs } from './renewal.ts';
import { acceptSvid, generateKey, hangsOn, type Svid } from './svid.ts';

/** What the sidecar shows to get a certificate. */
export type Proof = { readonly token: string } | { readonly svid: Svid };

/** The part of the control plane's client that identity needs. */
export interface CertificateAuthority {
  requestCertificate(request: CertificateRequest, proof: Proof, signal: AbortSignal): Promise<CertificateResponse>;
  /** Of the mesh; asks the control plane where it is not known yet. */
  trustDomain(signal: AbortSignal): Promise<string>;
}

export interface IdentityOptions {
  readonly workload: { readonly namespace: string; readonly serviceAccount: string };
  readonly joinTokenFile: string | null;
  readonly ttlSeconds: number | null;
  readonly authority: CertificateAuthority;
  readonly trust: { roots(): readonly string[]; setRoots(roots: readonly string[]): void };
  readonly clock: Clock;
  readonly log: Log;
  /** A new certificate is in force. */
  readonly onSvid: (svid: Svid) => void;
}

/** A token is a line; a file much longer than that is something else. */
const MAX_TOKEN_LENGTH = 16 * 1024;

/**
 * The workload's certificate: one key for each, in memory; the join token proves the first, the certificate in hand those that follow.
 *
 * ALWAYS: `current` only ever becomes a certificate that passed `acceptSvid`; a failed renewal leaves it as it is.
 */
export class Identity {
  readonly #options: IdentityOptions;
  readonly #stop = new AbortController();
  #current: Svid | null = null;
  /** Token that was refused: showing it again cannot help. */
  #refusedToken: string | null = null;
  /** The control plane did not take the certificate in hand as proof: the next attempt shows the token. */
  #certificateRefused = false;
  /** Ends the pause before the next renewal early; null while none is waited for. */
  #hurry: ((delayMs: number, why: string) => void) | null = null;

  constructor(options: IdentityOptions) {
    this.#options = options;
  }

  get current(): Svid | null {
    return this.#current;
  }

  /** True while peers and the control plane still take the certificate. */
  get valid(): boolean {
    return this.#current !== null && expiresAt(this.#current) > this.#options.clock.now();
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
        const delayMs = backoff.next();
        const kept = this.#current === null ? '' : '; the present one stays in use';
        log.warn(
          { code: codeOf(error), retryInMs: Math.round(delayMs) },
          `no new certificate: ${messageOf(error)}${kept}`,
        );
        await pause(clock, delayMs, signal);
      }
    }
    return null;
  }

  async #request(signal: AbortSignal): Promise<Svid> {
    const { authority, workload, ttlSeconds, trust, clock } = this.#options;
    const trustDomain = await authority.trustDomain(signal);
    const id = spiffeId(trustDomain, workload.namespace, workload.serviceAccount).uri;
    const key = generateKey();
    const csr = createCsr({ ...key, spiffeId: id });
    const request = { csr, spiffeId: id, ...(ttlSeconds === null ? {} : { ttlSeconds }) };
    const proof = this.#proof();
    let response: CertificateResponse;
    try {
      response = await authority.requestCertificate(request, proof, signal);
    } catch (error) {
      throw this.#explainRefusal(error, proof);
    }
    // Roots in an answer of the control plane are as good as pushed ones: both came over a connection that the older roots vouch for.
    const svid = acceptSvid(response, { key, spiffeId: id, roots: response.roots, receivedAt: clock.now() });
    trust.setRoots(response.roots);
    return svid;
  }

  #proof(): Proof {
    if (this.#current !== null && this.valid && !this.#certificateRefused) return { svid: this.#current };
    // One attempt with the token; should that fail, the certificate has its turn again.
    this.#certificateRefused = false;
    const token = this.#readToken();
    if (token === this.#refusedToken)
      throw this.#joinRefused('the token was refused before and the file has not changed');
    return { token };
  }

  #readToken(): string {
    const file = this.#options.joinTokenFile;
    if (file === null)
      throw this.#joinRefused(
        'controlPlane.joinTokenFile is not set, and there is no certificate to prove the identity with',
      );
    let token: string;
    try {
      token = readFileSync(file, 'utf8').trim();
    } catch (error) {
      throw this.#joinRefused(`cannot read ${file}: ${messageOf(error)}`);
    }
    if (token === '' || token.length > MAX_TOKEN_LENGTH || !/^[\x21-\x7e]+$/.test(token)) {
      throw this.#joinRefused(`${file} does not hold a join token (one line of printable characters)`);
    }
    return token;
  }

  #explainRefusal(error: unknown, proof: Proof): unknown {
    if (!(error instanceof ControlPlaneRefusal) || (error.status !== 401 && error.status !== 403)) return error;
    if ('token' in proof) {
      this.#refusedToken = proof.token;
      return this.#joinRefused(`the control plane says ${error.message} (${error.reason})`);
    }
    this.#certificateRefused = error.status === 401;
    return error;
  }

  #joinRefused(why: string): PosternError {
    const { workload, joinTokenFile } = this.#options;
    const { namespace, serviceAccount } = workload;
    return new PosternError(
      'ERR_JOIN_REFUSED',
      `no certificate for ${namespace}/${serviceAccount}: ${why}. Make a new join token with \`postern token create\` and write it to ${joinTokenFile ?? 'the file that controlPlane.joinTokenFile names'}`,
      { exitCode: EXIT.noPermission },
    );
  }
}

const isFinal = (error: unknown): boolean => error instanceof PosternError && error.code === 'ERR_JOIN_REFUSED';

const codeOf = (error: unknown): string => (error instanceof PosternError ? error.code : 'ERR_UNEXPECTED');
