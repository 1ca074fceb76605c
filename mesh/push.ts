import type { RejectedResource, Resource, ResourceKey } from './resources.ts';

/**
 * The API of the control plane on port 15012, HTTP/1.1 over TLS 1.3 with JSON bodies:
 *
 *   POST /v1/certificates   `CertificateRequest`  → `CertificateResponse`; proof is `Authorization: Bearer <join token>`, or a valid client certificate
 *   POST /v1/stream         `StreamRequest`       → `application/x-ndjson`, one `ServerMessage` a line, for as long as both live; client certificate
 *   POST /v1/ack            `AckRequest`          → 204; client certificate of the same identity as the stream's
 *   GET  /v1/trust-bundle                         → `application/x-pem-file`; anyone
 *
 * Errors are `ErrorResponse` with 400, 401, 403, 404, 409, 413, 429 or 503. Peers refuse bodies over `LIMITS`.
 */

/**
 * Header of the stream's answer: `address:port` of the replica itself that serves it, where several stand behind one address. Acknowledgements go there,
 * because no other replica knows what was sent on the stream.
 */
export const REPLICA_HEADER = 'postern-replica';

export const LIMITS = {
  /** Bytes of a request's JSON body. */
  requestBytes: 256 * 1024,
  /** Bytes of one line of the stream. */
  lineBytes: 64 * 1024 * 1024,
  /** The server sends a heartbeat this often; a client that has heard nothing for three of them reconnects. Milliseconds. */
  heartbeatMs: 2_000,
} as const;

export interface CertificateRequest {
  /** PKCS #10, PEM. Its subject and extensions are ignored: only the public key is taken, and its signature must hold. */
  readonly csr: string;
  /** Must be the identity proven, where given. */
  readonly spiffeId?: string;
  /** Wanted lifetime; the CA bounds it. */
  readonly ttlSeconds?: number;
}

export interface CertificateResponse {
  /** PEM: leaf first, then the intermediate. */
  readonly chain: string;
  /** PEM of all roots trusted now. */
  readonly roots: readonly string[];
  readonly spiffeId: string;
  /** Unix time, milliseconds. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly serial: string;
}

/** The workload that a sidecar stands beside; registered for as long as its stream is open. */
export interface WorkloadRegistration {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly labels: { readonly [key: string]: string };
  /** IP addresses; empty: the address that the control plane sees. */
  readonly addresses: readonly string[];
  /** Where the tunnel listens, where not on `TUNNEL_PORT` of the first address. */
  readonly tunnel: { readonly address: string; readonly port: number } | null;
  /** Named ports, for services whose targetPort is a name. */
  readonly ports: { readonly [name: string]: number };
}

export interface StreamRequest {
  readonly workload: WorkloadRegistration;
  readonly proxyVersion: string;
  /** What the sidecar already holds from an earlier stream; null: send everything. */
  readonly resume: { readonly version: string } | null;
}

export type ServerMessage =
  | {
      readonly type: 'delta';
      /** Opaque; what a client says it holds when it resumes, and acknowledges. */
      readonly version: string;
      /** True: whatever is not in `upserts` is to be dropped. */
      readonly full: boolean;
      readonly upserts: readonly Resource[];
      readonly removes: readonly ResourceKey[];
    }
  | { readonly type: 'heartbeat' }
  /** The control plane is going away or this stream's certificate has expired: reconnect, with a new certificate where `renew`. */
  | { readonly type: 'goodbye'; readonly reason: string; readonly renew: boolean };

export interface AckRequest {
  /** `name` of the registered workload. */
  readonly workload: string;
  readonly version: string;
  readonly rejected: readonly RejectedResource[];
}

export interface ErrorResponse {
  readonly error: string;
  /** Stable, e.g. `token-used`, `token-expired`, `identity-mismatch`, `revoked`, `bad-csr`, `workload-conflict`. */
  readonly code: string;
}
