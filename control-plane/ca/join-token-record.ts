import { LABEL_KEY, LABEL_VALUE, MAX_LABELS } from '../../mesh/labels.ts';
import { parseSpiffeId } from '../../mesh/spiffe-id.ts';
import { objectOf } from './json.ts';

/** One token as it is kept: its file is `<SHA-256 of the token>.json`. The token itself is nowhere on disk. */
export interface JoinTokenRecord {
  readonly version: 1;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly labels: { readonly [key: string]: string };
  /** Unix time, milliseconds. */
  readonly expiresAt: number;
  /** Who has redeemed it, and when; null before. */
  readonly used: { readonly at: number; readonly publicKeyHash: string } | null;
}

/** What a redeemed token proves. */
export interface JoinClaims {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Labels that the workload must have; empty: any. */
  readonly labels: { readonly [key: string]: string };
}

/** @throws Error that says which name or label cannot be. */
export function checkClaims(claims: JoinClaims): JoinClaims {
  const { namespace, serviceAccount } = claims;
  // The trust domain plays no part here; the other two must be able to stand in an identity.
  if (parseSpiffeId(`spiffe://any/ns/${namespace}/sa/${serviceAccount}`) === null) {
    throw new Error(`${JSON.stringify(`${namespace}/${serviceAccount}`)} cannot be a namespace and a service account`);
  }
  const labels = Object.entries(claims.labels);
  if (labels.length > MAX_LABELS) throw new Error(`more than ${MAX_LABELS} labels`);
  for (const [key, value] of labels) {
    if (!LABEL_KEY.test(key) || !LABEL_VALUE.test(value)) {
      throw new Error(`${JSON.stringify(`${key}=${value}`)} is not a Kubernetes label`);
    }
  }
  return { namespace, serviceAccount, labels: Object.fromEntries(labels) };
}

/** @throws Error that says what is wrong, for the caller to name the file. */
export function parseJoinToken(text: string): JoinTokenRecord {
  const value: unknown = JSON.parse(text);
  const { version, namespace, serviceAccount, labels, expiresAt, used } = objectOf(value);
  if (version !== 1) throw new Error('"version" must be 1');
  if (typeof namespace !== 'string' || typeof serviceAccount !== 'string') throw new Error('it names no workload');
  const claims = checkClaims({ namespace, serviceAccount, labels: stringsOf(objectOf(labels)) });
  return { version, ...claims, expiresAt: timeOf(expiresAt), used: used === null ? null : parseUse(objectOf(used)) };
}

function parseUse({ at, publicKeyHash }: { readonly [key: string]: unknown }): JoinTokenRecord['used'] {
  if (typeof publicKeyHash !== 'string') throw new Error('"used" names no key');
  return { at: timeOf(at), publicKeyHash };
}

function stringsOf(value: { readonly [key: string]: unknown }): { readonly [key: string]: string } {
  const entries = Object.entries(value).map(([key, text]): [string, string] => {
    if (typeof text !== 'string') throw new Error('labels must be strings');
    return [key, text];
  });
  return Object.fromEntries(entries);
}

function timeOf(value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw new Error('a time in milliseconds was expected');
  return value;
}
