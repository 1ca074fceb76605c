import type { RejectedResource } from '../../mesh/resources.ts';
import type { SidecarStream } from '../push/sidecar-stream.ts';

/** `GET /status` on the admin port. Times are RFC 3339. Nothing secret: no keys, no tokens. */
export interface ControlPlaneStatus {
  readonly trustDomain: string;
  readonly startedAt: string;
  /** Of all replicas. */
  readonly sidecars: readonly SidecarStatus[];
  /** Replicas that did not say which sidecars they have, and why. */
  readonly missingReplicas: readonly string[];
  readonly manifests: {
    readonly objects: number;
    /** Null while the source can be read. */
    readonly fault: string | null;
    /** `file:line:column: severity: message`. */
    readonly problems: readonly string[];
  };
}

export interface SidecarStatus {
  /** `<namespace>/<name>`. */
  readonly workload: string;
  readonly identity: string;
  readonly addresses: readonly string[];
  readonly peerAddress: string;
  readonly proxyVersion: string;
  readonly certificateSerial: string;
  readonly certificateExpiresAt: string;
  readonly connectedSince: string;
  readonly versionSent: string | null;
  readonly versionAcknowledged: string | null;
  readonly rejected: readonly RejectedResource[];
}

export function sidecarStatus(stream: SidecarStream): SidecarStatus {
  const { registered, certificate } = stream;
  return {
    workload: stream.name,
    identity: stream.identity,
    addresses: registered.workload.addresses,
    peerAddress: stream.peerAddress,
    proxyVersion: stream.proxyVersion,
    certificateSerial: certificate.serial,
    certificateExpiresAt: new Date(certificate.notAfter).toISOString(),
    connectedSince: new Date(stream.connectedAt).toISOString(),
    versionSent: stream.version,
    versionAcknowledged: stream.acknowledged?.version ?? null,
    rejected: stream.rejected,
  };
}

/** In the order in which they are shown. */
export function bySidecar(sidecars: readonly SidecarStatus[]): readonly SidecarStatus[] {
  return sidecars.toSorted((a, b) => (a.workload < b.workload ? -1 : 1));
}
