import { createHash, randomBytes } from 'node:crypto';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';
import { isControlPlane } from './control-plane-identity.ts';
import { checkClaims, type JoinClaims, type JoinTokenRecord } from './join-token-record.ts';

export const TOKEN_LIMITS = {
  defaultTtlSeconds: 600,
  maxTtlSeconds: 86_400,
  /** Tokens that are remembered, used and expired ones included. */
  count: 10_000,
  /** An expired token stays known this long, so that its bearer is told that it has expired rather than that it never was. Milliseconds. */
  rememberMs: 3_600_000,
  /** A sidecar may lose the answer to its redemption; it may ask again with the same key for this long. Milliseconds. */
  retryMs: 60_000,
} as const;

const PREFIX = 'postern-join-';
/** The prefix and 32 bytes in base64url. */
const FORM = /^postern-join-[A-Za-z0-9_-]{43}$/;

export interface NewJoinToken {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** 1 to 86400; default 600. */
  readonly ttlSeconds?: number | undefined;
  readonly labels?: { readonly [key: string]: string } | undefined;
}

export interface CreatedJoinToken {
  /** The secret; shown once. */
  readonly token: string;
  /** Names the token in logs and listings without showing it. */
  readonly id: string;
  /** Unix time, milliseconds. */
  readonly expiresAt: number;
}

/**
 * A new token, and what is to be kept of it under its digest.
 *
 * @param now Unix time, milliseconds
 * @throws PosternError ERR_TOKEN_REQUEST
 */
export function makeJoinToken(
  request: NewJoinToken,
  now: number,
): { readonly token: string; readonly digest: string; readonly record: JoinTokenRecord } {
  const ttlSeconds = request.ttlSeconds ?? TOKEN_LIMITS.defaultTtlSeconds;
  if (!Number.isSafeInteger(ttlSeconds) || ttlSeconds < 1 || ttlSeconds > TOKEN_LIMITS.maxTtlSeconds) {
    throw badRequest(`a join token lives from 1 to ${TOKEN_LIMITS.maxTtlSeconds} seconds, not ${ttlSeconds}`);
  }
  const { namespace, serviceAccount, labels = {} } = request;
  if (isControlPlane(request)) {
    throw badRequest(`no join token can be made: ${namespace}/${serviceAccount} is the control plane's own identity`);
  }
  let claims: JoinClaims;
  try {
    claims = checkClaims({ namespace, serviceAccount, labels });
  } catch (error) {
    throw badRequest(`no join token can be made: ${messageOf(error)}`);
  }
  const token = PREFIX + randomBytes(32).toString('base64url');
  return {
    token,
    digest: digestOf(token),
    record: { version: 1, ...claims, expiresAt: now + ttlSeconds * 1000, used: null },
  };
}

/** Whether a bearer token has the form of a join token. */
export const isJoinToken = (text: string): boolean => FORM.test(text);

/** SHA-256, hexadecimal: what a token is looked up by, so that the time of a lookup tells nothing about it. */
export const digestOf = (token: string): string => createHash('sha256').update(token).digest('hex');

export const idOf = (digest: string): string => digest.slice(0, 12);

export const tooManyTokens = (count: number): PosternError => {
  const message = `there are ${count} join tokens already: wait until some have expired, or give them a shorter life`;
  return new PosternError('ERR_TOKEN_LIMIT', message, { exitCode: EXIT.temporary });
};

export const badRequest = (message: string): PosternError =>
  new PosternError('ERR_TOKEN_REQUEST', message, { exitCode: EXIT.usage });
