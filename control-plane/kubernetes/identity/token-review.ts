import { asObject, asString, field, isList } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';

/** Whom a service account token belongs to. */
export interface TokenSubject {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly pod: { readonly name: string; readonly uid: string };
}

export const POD_NAME = 'authentication.kubernetes.io/pod-name';
export const POD_UID = 'authentication.kubernetes.io/pod-uid';

// Kubernetes: names of service accounts and namespaces are DNS names, without colons.
const USER = /^system:serviceaccount:([a-z0-9.-]{1,253}):([a-z0-9.-]{1,253})$/;

/**
 * Reads the answer to a TokenReview.
 *
 * @returns null where the token proves no pod of a service account for this audience. An API server that says nothing of audiences knows none
 * (authentication.k8s.io/v1, TokenReviewStatus.audiences): then the token may be one for anybody.
 */
export function readTokenReview(review: JsonObject, audience: string): TokenSubject | null {
  const status = asObject(field(review, 'status'));
  if (field(status, 'authenticated') !== true) return null;
  if (!stringsOf(field(status, 'audiences')).includes(audience)) return null;
  const user = asObject(field(status, 'user'));
  const [, namespace, serviceAccount] = USER.exec(asString(field(user, 'username')) ?? '') ?? [];
  const extra = asObject(field(user, 'extra'));
  const name = only(field(extra, POD_NAME));
  const uid = only(field(extra, POD_UID));
  if (namespace === undefined || serviceAccount === undefined || name === null || uid === null) return null;
  return { namespace, serviceAccount, pod: { name, uid } };
}

/**
 * What a token says of itself, with nothing verified: good for finding the pod that the token's bearer must be besides having proven it in another way.
 * Null where it is not the token of a pod.
 */
export function readClaimsUnverified(token: string): TokenSubject | null {
  try {
    const [, payload = ''] = token.split('.');
    const claims: JsonValue = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
    const object = asObject(claims);
    const [, namespace, serviceAccount] = USER.exec(asString(field(object, 'sub')) ?? '') ?? [];
    const pod = asObject(field(asObject(field(object, 'kubernetes.io')), 'pod'));
    const name = asString(field(pod, 'name'));
    const uid = asString(field(pod, 'uid'));
    if (namespace === undefined || serviceAccount === undefined || name === null || uid === null) return null;
    return { namespace, serviceAccount, pod: { name, uid } };
  } catch {
    return null;
  }
}

/** The one text of a list of one. */
function only(value: JsonValue | undefined): string | null {
  const [text, ...others] = stringsOf(value);
  return text === undefined || text === '' || others.length > 0 ? null : text;
}

const stringsOf = (value: JsonValue | undefined): readonly string[] =>
  isList(value) && value.every((item) => typeof item === 'string') ? (value as readonly string[]) : [];
