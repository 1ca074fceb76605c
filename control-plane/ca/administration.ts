import type { Authority, Platform, RevocationList } from '../platform.ts';
import type { AuthorityDescription } from './authority-description.ts';
import type { CreatedJoinToken, NewJoinToken } from './new-join-token.ts';
import type { Revocation } from './revocation.ts';
import type { RootRotation, RotationProgress } from './rotation.ts';

/** What the admin socket offers; errors are PosternErrors and reach the operator as they are. */
export interface AdministrationHandlers {
  createToken(request: NewJoinToken): CreatedJoinToken | Promise<CreatedJoinToken>;
  describeAuthority(): AuthorityDescription;
  rotateRoot(report: (progress: RotationProgress) => void): Promise<void>;
  addRevocation(subject: string): Revocation | Promise<Revocation>;
  /** Whether it was revoked. */
  removeRevocation(subject: string): boolean | Promise<boolean>;
  listRevocations(): readonly Revocation[];
}

export function administrationOf(parts: {
  readonly authority: Authority;
  readonly rotation: Pick<RootRotation, 'rotate'>;
  readonly tokens: Platform['joinTokens'];
  readonly revocations: RevocationList;
}): AdministrationHandlers {
  const { authority, rotation, tokens, revocations } = parts;
  return {
    createToken: (request) => tokens.create(request),
    describeAuthority: () => authority.describe(),
    rotateRoot: (report) => rotation.rotate(report),
    addRevocation: (subject) => revocations.add(subject),
    removeRevocation: (subject) => revocations.remove(subject),
    listRevocations: () => revocations.list(),
  };
}

/** A failure as it travels over the socket: enough to make the same PosternError again in the command that asked. */
export interface AdministrationError {
  readonly error: string;
  readonly code: string;
  readonly exitCode: number;
}

/** One line of `POST /ca/rotate`; the last one is `done` or `error`. */
export type RotationLine =
  | { readonly type: 'progress'; readonly progress: RotationProgress }
  | { readonly type: 'done' }
  | ({ readonly type: 'error' } & AdministrationError);

/** `sun_path` of unix(7) has 108 bytes with the closing NUL. */
export const MAX_SOCKET_PATH_BYTES = 107;

export const ADMIN_SOCKET = 'admin.sock';
