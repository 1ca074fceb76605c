import { closeSync, openSync, readSync } from 'node:fs';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';
import { ControlPlaneRefusal } from './control-plane-request.ts';
import type { Svid } from './svid.ts';

/** What the sidecar shows to get a certificate: a token as bearer, a certificate on the connection, or both. */
export type Proof = { readonly token: string; readonly svid?: Svid } | { readonly svid: Svid };

/** Where proofs come from. One for the whole life of an identity, since what was refused is remembered. */
export interface ProofSource {
  /** @param valid the certificate in hand, where it can still be shown. @throws PosternError where there is nothing to show. */
  next(valid: Svid | null): Proof;
  /** The control plane did not give a certificate for `proof`. @returns what to report of it. */
  failed(proof: Proof, error: unknown): unknown;
}

export interface ProofOptions {
  readonly workload: { readonly namespace: string; readonly serviceAccount: string };
  readonly joinTokenFile: string | null;
  /** Takes the place of a join token. */
  readonly serviceAccountTokenFile?: string | null;
}

export function proofSource(options: ProofOptions): ProofSource {
  const { serviceAccountTokenFile = null } = options;
  return serviceAccountTokenFile === null ? new JoinToken(options) : new ServiceAccountToken(serviceAccountTokenFile);
}

/** A refusal that no later attempt can change, unless somebody does something. */
export const isFinal = (error: unknown): boolean => error instanceof PosternError && error.code === 'ERR_JOIN_REFUSED';

/** A token is a line; a file longer than that is something else. */
const MAX_TOKEN_LENGTH = 16 * 1024;

/** The token in `file`; null where it holds none. NEVER in an error. @throws what reading it throws */
function readToken(file: string): string | null {
  const buffer = Buffer.alloc(MAX_TOKEN_LENGTH + 2);
  const fd = openSync(file, 'r');
  let length = 0;
  try {
    for (let read = -1; read !== 0 && length < buffer.length; length += read) {
      read = readSync(fd, buffer, length, buffer.length - length, null);
    }
  } finally {
    closeSync(fd);
  }
  const token = buffer.toString('latin1', 0, length).trim();
  return token.length <= MAX_TOKEN_LENGTH && /^[\x21-\x7e]+$/.test(token) ? token : null;
}

const isUnproven = (error: unknown): error is ControlPlaneRefusal =>
  error instanceof ControlPlaneRefusal && (error.status === 401 || error.status === 403);

/** A token that serves once: it proves the first certificate, the certificate in hand those that follow. */
class JoinToken implements ProofSource {
  readonly #options: ProofOptions;
  /** Token that was refused: showing it again cannot help. */
  #refused: string | null = null;
  /** The control plane did not take the certificate in hand as proof: the next attempt shows the token. */
  #certificateRefused = false;

  constructor(options: ProofOptions) {
    this.#options = options;
  }

  next(valid: Svid | null): Proof {
    if (valid !== null && !this.#certificateRefused) return { svid: valid };
    // One attempt with the token; should that fail, the certificate has its turn again.
    this.#certificateRefused = false;
    const token = this.#read();
    if (token === this.#refused) throw this.#error('the token was refused before and the file has not changed');
    return { token };
  }

  failed(proof: Proof, error: unknown): unknown {
    if (!isUnproven(error)) return error;
    if ('token' in proof) {
      this.#refused = proof.token;
      return this.#error(`the control plane says ${error.message} (${error.reason})`);
    }
    this.#certificateRefused = error.status === 401;
    return error;
  }

  #read(): string {
    const { joinTokenFile: file } = this.#options;
    if (file === null) {
      throw this.#error(
        'controlPlane.joinTokenFile is not set, and there is no certificate to prove the identity with',
      );
    }
    let token: string | null;
    try {
      token = readToken(file);
    } catch (error) {
      throw this.#error(`cannot read ${file}: ${messageOf(error)}`);
    }
    if (token === null) throw this.#error(`${file} does not hold a join token (one line of printable characters)`);
    return token;
  }

  #error(why: string): PosternError {
    const { workload, joinTokenFile } = this.#options;
    const { namespace, serviceAccount } = workload;
    return new PosternError(
      'ERR_JOIN_REFUSED',
      `no certificate for ${namespace}/${serviceAccount}: ${why}. Make a new join token with \`postern token create\` and write it to ${joinTokenFile ?? 'the file that controlPlane.joinTokenFile names'}`,
      { exitCode: EXIT.noPermission },
    );
  }
}

/**
 * A token that the kubelet writes anew before it expires: it proves every certificate, and the certificate in hand is shown beside it. No refusal is
 * final: the next token may be better, and the control plane may hear of the pod later than the pod runs.
 */
class ServiceAccountToken implements ProofSource {
  readonly #file: string;
  /** The last attempt was refused with the certificate in hand: the next shows the token alone. */
  #tokenAlone = false;

  constructor(file: string) {
    this.#file = file;
  }

  next(valid: Svid | null): Proof {
    const alone = this.#tokenAlone;
    this.#tokenAlone = false;
    const token = this.#read();
    return valid === null || alone ? { token } : { token, svid: valid };
  }

  failed(proof: Proof, error: unknown): unknown {
    this.#tokenAlone = isUnproven(error) && 'svid' in proof;
    return error;
  }

  #read(): string {
    let token: string | null;
    try {
      token = readToken(this.#file);
    } catch (error) {
      throw unavailable(
        `cannot read ${this.#file}: ${messageOf(error)}; has the pod a projected service account token there?`,
      );
    }
    if (token === null) {
      throw unavailable(
        `${this.#file} does not hold a service account token (one line), as if the kubelet could not get one: look at the pod's Events`,
      );
    }
    return token;
  }
}

const unavailable = (message: string): PosternError =>
  new PosternError('ERR_SERVICE_ACCOUNT_TOKEN', message, { exitCode: EXIT.temporary });
