import type { Fields } from '../../protocol/http-head.ts';
import { setClientCertificate } from './client-certificate.ts';

/*
 * What a sidecar does to the headers of a message, besides the hop-by-hop rules of its codec (RFC 9110, 7.6.1).
 *
 * | header                    | request that comes in                          | request that goes out        | response    |
 * | ------------------------- | ---------------------------------------------- | ---------------------------- | ----------- |
 * | x-forwarded-client-cert   | of this hop's TLS session, else removed        | removed                      |             |
 * | x-request-id              | kept; a random UUID where missing              | the same                     |             |
 * | x-forwarded-proto         | kept; where missing `https` after mutual TLS, else `http` | kept; `http` where missing |   |
 * | x-forwarded-for           | kept as it is: a sidecar is no edge            | the same                     |             |
 * | traceparent, tracestate   | carried with a new parent; made where missing or malformed | the same         |             |
 * | x-postern-*               | removed                                        | removed                      | removed     |
 * | x-istio-attributes        | removed                                        | removed                      |             |
 * | x-envoy-* but for KEPT    | removed: they steer proxies or tell of peers   | removed                      | peer metadata removed |
 * | output headers of tokens  | the client's copies removed (TokenAuthenticator) |                            |             |
 *
 * What is removed from heads is removed from interim responses and from trailers, too. To many applications (CGI and its heirs) `_` and `-` are one:
 * names between proxies are known by either; of x-forwarded-* the codecs refuse the other spelling.
 */

/** What gateways tell applications; it steers nothing. */
const KEPT: ReadonlySet<string> = new Set([
  'x-envoy-external-address',
  'x-envoy-original-path',
  'x-envoy-original-host',
  'x-envoy-attempt-count',
]);

const LETTER_X = 120;

function folded(name: string): string {
  return name.includes('_') ? name.replaceAll('_', '-') : name;
}

/** Whether a request header (in lower case) is between proxies, so that neither side may send it through a sidecar. */
export function isInternalHeader(header: string): boolean {
  if (header.charCodeAt(0) !== LETTER_X) return false;
  const name = folded(header);
  if (name.startsWith('x-envoy-')) return !KEPT.has(name);
  return name.startsWith('x-postern-') || name === 'x-istio-attributes';
}

const RESPONSE_INTERNAL = ['x-envoy-peer-metadata', 'x-envoy-peer-metadata-id', 'x-envoy-decorator-operation'];

/** A response must not tell an Istio sidecar who answered, nor look like an answer of our own. */
export function isInternalResponseHeader(header: string): boolean {
  if (header.charCodeAt(0) !== LETTER_X) return false;
  const name = folded(header);
  return name.startsWith('x-postern-') || RESPONSE_INTERNAL.includes(name);
}

/** A request from a peer, before tokens and policies are looked at. @param clientCertificate of `formatClientCertificate`; null: none was shown */
export function editInboundRequest(head: Fields, clientCertificate: string | null): void {
  head.removeWhere(isInternalHeader, LETTER_X);
  setClientCertificate(head, clientCertificate);
  if (!head.has('x-forwarded-proto')) head.put('x-forwarded-proto', clientCertificate === null ? 'http' : 'https');
}

/** A request of the application. */
export function editOutboundRequest(head: Fields): void {
  head.removeWhere(isInternalHeader, LETTER_X);
  setClientCertificate(head, null);
  if (!head.has('x-forwarded-proto')) head.put('x-forwarded-proto', 'http');
}

/** Of either direction; what tokens say is for whoever verifies them to remove. */
export function editRequestTrailers(trailers: Fields): void {
  trailers.removeWhere(isInternalHeader, LETTER_X);
  setClientCertificate(trailers, null);
}

/** A head, an interim one too, or trailers. */
export function editResponse(fields: Fields): void {
  fields.removeWhere(isInternalResponseHeader, LETTER_X);
}

/**
 * @param traceparent what the next hop shall see (W3C Trace Context, 3.2)
 * @param carried the caller's trace goes on; where it does not, its `tracestate` belongs to nothing (3.3.1.1)
 */
export function setTraceContext(head: Fields, traceparent: string, carried: boolean): void {
  if (!carried || head.get('traceparent') !== traceparent) head.put('traceparent', traceparent);
  if (!carried) head.remove('tracestate');
}
