import type { HttpProtocol } from '../connection/http-sessions.ts';
import type { SniffResult } from '../connection/sniff.ts';
import type { PortProtocol } from './port-protocols.ts';

/**
 * What a connection to a port carries, of what is declared and what its first bytes are. On a declared HTTP port everything is HTTP: what is not
 * will be refused as such. Where nothing is declared, only what is HTTP beyond doubt is.
 */
export function carriedProtocol(port: PortProtocol, sniffed: SniffResult): HttpProtocol | 'opaque' {
  if (port.protocol === 'opaque') return 'opaque';
  if (sniffed === 'http/1' || sniffed === 'h2') return sniffed;
  if (port.protocol === 'sniff') return 'opaque';
  // Of bytes that are no HTTP the answer of HTTP/1.1 can be read by more peers.
  return sniffed === 'opaque' ? 'http/1' : port.version;
}

/** Istio's names of what a client of direct mutual TLS will speak; null where it does not say (`istio` stands for bytes of any kind). */
export function protocolOfAlpn(alpn: string): HttpProtocol | null {
  if (alpn === 'istio-h2') return 'h2';
  return alpn === 'istio-http/1.1' || alpn === 'istio-http/1.0' ? 'http/1' : null;
}
