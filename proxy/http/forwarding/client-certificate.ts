import type { Fields } from '../../protocol/http-head.ts';
import { isAdmissibleValue } from '../../protocol/http1/grammar.ts';

const HEADER = 'x-forwarded-client-cert';

/** The two ends of a mutual TLS session, as the application is told of them. */
export interface ClientCertificate {
  /** Own SPIFFE ID. */
  readonly by: string;
  /** SHA-256 of the client's leaf (DER), lower-case hexadecimal. */
  readonly hash: string;
  /** Subject of the leaf (RFC 2253); mostly empty. */
  readonly subject: string;
  /** SPIFFE ID of the client. */
  readonly uri: string;
}

/**
 * One element of X-Forwarded-Client-Cert in the order and form of Istio's sidecars (Envoy: By, Hash, Subject, URI; the subject is always there).
 * @throws RangeError where the subject cannot stand in a header
 */
export function formatClientCertificate({ by, hash, subject, uri }: ClientCertificate): string {
  const element = `By=${by};Hash=${hash};Subject="${subject}";URI=${uri}`;
  if (!isAdmissibleValue(element)) throw new RangeError('a certificate whose subject has control or wide characters');
  return element;
}

/**
 * ALWAYS: what the application finds in the header comes from this hop's TLS session. Istio's default appends to what the client sent; here that is
 * removed, since every workload in the mesh could say anything in it.
 *
 * @param element of `formatClientCertificate`; null: the peer showed no certificate, and there is no header
 */
export function setClientCertificate(head: Fields, element: string | null): void {
  if (element === null) head.remove(HEADER);
  else head.put(HEADER, element);
}
