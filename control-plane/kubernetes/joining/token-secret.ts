import { asObject, asString, field, isAbsent } from '../../../policy/json.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { type JoinTokenRecord, parseJoinToken } from '../../ca/join-token-record.ts';

const TYPE = 'postern.dev/join-token';
const DIGEST = 'digest';
const RECORD = 'record.json';

/**
 * Names of all Secrets that join tokens can be in: rights over objects are granted by their full names, and over more than these the control plane has
 * none. So many tokens there may be at a time.
 */
export const SECRET_NAMES: readonly string[] = Array.from({ length: 256 }, (_, byte) =>
  secretName(byte.toString(16).padStart(2, '0')),
);

export interface TokenSecret {
  readonly name: string;
  /** Of the token, see `digestOf`. */
  readonly digest: string;
  readonly record: JoinTokenRecord;
  readonly uid: string;
  readonly resourceVersion: string;
  /** Somebody has deleted it, and something (a finalizer) keeps the object: it could be deleted again. */
  readonly isDeleting: boolean;
}

/** Where the token of this digest is, if anywhere. */
export function secretName(digest: string): string {
  return `postern-join-token-${digest.slice(0, 2)}`;
}

export function tokenSecret(digest: string, record: JoinTokenRecord): JsonObject {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      name: secretName(digest),
      labels: { 'app.kubernetes.io/managed-by': 'postern', 'postern.dev/join-token': 'true' },
    },
    type: TYPE,
    immutable: true,
    data: { [DIGEST]: encode(digest), [RECORD]: encode(JSON.stringify(record)) },
  };
}

/** Null: it is not the Secret of a join token, or not as we write it. */
export function readTokenSecret(object: JsonObject): TokenSecret | null {
  const metadata = asObject(field(object, 'metadata'));
  const [name, uid, resourceVersion] = ['name', 'uid', 'resourceVersion'].map((key) => asString(field(metadata, key)));
  const data = asObject(field(object, 'data'));
  const [digest, text] = [DIGEST, RECORD].map((key) => decode(asString(field(data, key))));
  if (field(object, 'type') !== TYPE || !name || !uid || !resourceVersion || !digest || !text) return null;
  try {
    const isDeleting = !isAbsent(field(metadata, 'deletionTimestamp'));
    return { name, digest, record: parseJoinToken(text), uid, resourceVersion, isDeleting };
  } catch {
    return null;
  }
}

const encode = (text: string): string => Buffer.from(text, 'utf8').toString('base64');
const decode = (text: string | null): string => Buffer.from(text ?? '', 'base64').toString('utf8');
