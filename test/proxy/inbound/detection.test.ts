import { describe, expect, test } from 'vitest';
import type { SniffResult } from '../../../proxy/connection/sniff.ts';
import { carriedProtocol, protocolOfAlpn } from '../../../proxy/inbound/detection.ts';
import type { PortProtocol } from '../../../proxy/inbound/port-protocols.ts';

const PORTS: { readonly [name: string]: PortProtocol } = {
  tcp: { protocol: 'opaque', version: 'http/1' },
  http: { protocol: 'http', version: 'http/1' },
  grpc: { protocol: 'http', version: 'h2' },
  undeclared: { protocol: 'sniff', version: 'http/1' },
};

/** Declaration, first bytes, what it carries. */
const TABLE: readonly (readonly [port: string, sniffed: SniffResult, carried: string])[] = [
  ['tcp', 'http/1', 'opaque'],
  ['tcp', 'h2', 'opaque'],
  ['tcp', 'silent', 'opaque'],
  ['http', 'http/1', 'http/1'],
  ['http', 'h2', 'h2'],
  ['http', 'opaque', 'http/1'],
  ['http', 'silent', 'http/1'],
  ['http', 'ended', 'http/1'],
  ['grpc', 'h2', 'h2'],
  ['grpc', 'http/1', 'http/1'],
  ['grpc', 'silent', 'h2'],
  ['grpc', 'opaque', 'http/1'],
  ['undeclared', 'http/1', 'http/1'],
  ['undeclared', 'h2', 'h2'],
  ['undeclared', 'opaque', 'opaque'],
  ['undeclared', 'silent', 'opaque'],
  ['undeclared', 'ended', 'opaque'],
];

describe('what a connection carries', () => {
  test.each(TABLE)('to a port declared %s whose first bytes are %s: %s', (port, sniffed, carried) => {
    const known = PORTS[port];
    if (known === undefined) throw new Error(port);
    expect(carriedProtocol(known, sniffed)).toBe(carried);
  });

  test.each([
    ['istio-http/1.1', 'http/1'],
    ['istio-http/1.0', 'http/1'],
    ['istio-h2', 'h2'],
    ['istio', null],
    ['istio-peer-exchange', null],
    ['h2', null],
    ['', null],
  ])('direct mutual TLS with ALPN %j declares %s', (alpn, declared) => {
    expect(protocolOfAlpn(alpn)).toBe(declared);
  });
});
