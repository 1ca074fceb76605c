import { PosternError } from './errors.ts';

/** `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, the only form of identity in the mesh. */
export interface SpiffeId {
  readonly uri: string;
  readonly trustDomain: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

// SPIFFE-ID standard, section 2: at most 2048 bytes; trust domain [a-z0-9.-_]+ of at most 255; path segments [a-zA-Z0-9.-_]+.
const MAX_LENGTH = 2048;
const TRUST_DOMAIN = /^[a-z0-9._-]{1,255}$/;
const SEGMENT = /^[a-zA-Z0-9._-]{1,253}$/;
const FORM = /^spiffe:\/\/([^/]+)\/ns\/([^/]+)\/sa\/([^/]+)$/;

/** Whether `name` may be a trust domain (SPIFFE-ID, section 2.1). */
export function isTrustDomain(name: string): boolean {
  return TRUST_DOMAIN.test(name);
}

const isSegment = (text: string): boolean => SEGMENT.test(text) && text !== '.' && text !== '..';

/** Reads a workload's SPIFFE ID; null where the text is not exactly of the mesh's form. Never repairs. */
export function parseSpiffeId(uri: string): SpiffeId | null {
  if (uri.length > MAX_LENGTH) return null;
  const parts = FORM.exec(uri);
  if (parts === null) return null;
  const [, trustDomain = '', namespace = '', serviceAccount = ''] = parts;
  if (!isTrustDomain(trustDomain) || !isSegment(namespace) || !isSegment(serviceAccount)) return null;
  return { uri, trustDomain, namespace, serviceAccount };
}

/** @throws PosternError ERR_SPIFFE_ID where one of the parts cannot stand in a SPIFFE ID. */
export function spiffeId(trustDomain: string, namespace: string, serviceAccount: string): SpiffeId {
  const uri = `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}`;
  const id = parseSpiffeId(uri);
  if (id === null) throw new PosternError('ERR_SPIFFE_ID', `not a SPIFFE ID: ${JSON.stringify(uri)}`);
  return id;
}
