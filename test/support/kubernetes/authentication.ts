import { randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';
import { ApiFailure } from './status.ts';
import { API_AUDIENCE, type ServiceAccountTokens, type User } from './tokens.ts';

export const ANONYMOUS: User = {
  username: 'system:anonymous',
  uid: '',
  groups: ['system:unauthenticated'],
  extra: {},
};

const unauthorized = (): ApiFailure => new ApiFailure('Unauthorized', 'Unauthorized');

/** Who asks: by bearer token, or by client certificate. */
export class Authentication {
  /** Of a user who may do everything. */
  readonly adminToken = randomBytes(24).toString('base64url');
  readonly #users = new Map<string, User>();
  readonly #tokens: ServiceAccountTokens;

  constructor(tokens: ServiceAccountTokens) {
    this.#tokens = tokens;
    this.addUser(this.adminToken, 'stand-in-admin', ['system:masters']);
  }

  /** A user known by a token that never ends; without groups it may do nothing but what RBAC says. */
  addUser(token: string, username: string, groups: readonly string[] = []): void {
    const user = { username, uid: '', groups: [...groups, 'system:authenticated'], extra: {} };
    this.#users.set(token, user);
  }

  /** @throws ApiFailure 401 where a token was shown and is not good. */
  user(request: IncomingMessage): User {
    const { authorization } = request.headers;
    if (authorization === undefined) return certificateUser(request) ?? ANONYMOUS;
    const [, token = ''] = /^bearer +(\S+)$/i.exec(authorization) ?? [];
    const known = this.#users.get(token);
    if (known !== undefined) return known;
    const verified = this.#tokens.verify(token);
    if (verified === null || typeof verified === 'string') throw unauthorized();
    if (!verified.audiences.includes(API_AUDIENCE)) throw unauthorized();
    return verified.user;
  }

  /** As a TokenReview asks: who it is, or why nobody. */
  review(token: string): { readonly user: User; readonly audiences: readonly string[] } | string {
    const known = this.#users.get(token);
    if (known !== undefined) return { user: known, audiences: [API_AUDIENCE] };
    return this.#tokens.verify(token) ?? 'invalid bearer token';
  }
}

function certificateUser({ socket }: IncomingMessage): User | null {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return null;
  const { subject } = socket.getPeerCertificate();
  if (subject?.CN === undefined) return null;
  const organizations: readonly string[] = [subject.O ?? []].flat();
  const username = [subject.CN].flat()[0] ?? '';
  return { username, uid: '', groups: [...organizations, 'system:authenticated'], extra: {} };
}
