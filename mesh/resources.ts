/**
 * What the control plane tells a sidecar. A resource is identified by `kind/name`; a later one with the same key replaces it whole.
 * Objects are immutable once made: they are shared by every snapshot that holds them.
 */

/** Mesh-wide settings; exactly one, named `mesh`. */
export interface MeshConfigResource {
  readonly kind: 'MeshConfig';
  readonly name: 'mesh';
  readonly trustDomain: string;
  readonly trustDomainAliases: readonly string[];
  readonly rootNamespace: string;
  readonly outboundTrafficPolicy: 'ALLOW_ANY' | 'REGISTRY_ONLY';
  /** What happens to inbound traffic where no ALLOW policy selects the workload: Istio's meaning, or deny. */
  readonly defaultAction: 'ALLOW' | 'DENY';
  /** How a request's path is made plain before policies and the application see it. Istio's default is BASE. */
  readonly pathNormalization: PathNormalization;
  /** External authorizers that a CUSTOM policy may name. */
  readonly extensionProviders: readonly ExtensionProvider[];
}

/** Istio's `pathNormalization.normalization`; DEFAULT is read as BASE. */
export type PathNormalization = 'NONE' | 'BASE' | 'MERGE_SLASHES' | 'DECODE_AND_MERGE_SLASHES';

export interface ExtensionProvider {
  readonly name: string;
  /** `envoyExtAuthzHttp` or `envoyExtAuthzGrpc`. */
  readonly protocol: 'http' | 'grpc';
}

/** The roots that peers' certificates must chain to; two or more during a rotation. Exactly one, named `roots`. */
export interface TrustBundleResource {
  readonly kind: 'TrustBundle';
  readonly name: 'roots';
  /** PEM, one certificate an entry. */
  readonly roots: readonly string[];
}

/** Identities and certificates that are no longer trusted. Exactly one, named `revoked`. */
export interface RevocationsResource {
  readonly kind: 'Revocations';
  readonly name: 'revoked';
  readonly spiffeIds: readonly string[];
  /** Upper-case hexadecimal without leading zeros, as OpenSSL's BN_bn2hex prints less its leading zeros. */
  readonly serials: readonly string[];
}

/** A `security.istio.io` object as its author wrote it (JSON value), already validated by the control plane. `name` is `<namespace>/<name>`. */
export interface PolicyResource {
  readonly kind: 'AuthorizationPolicy' | 'PeerAuthentication' | 'RequestAuthentication';
  readonly name: string;
  readonly object: { readonly [key: string]: unknown };
}

export const POLICY_KINDS: readonly PolicyResource['kind'][] = [
  'AuthorizationPolicy',
  'PeerAuthentication',
  'RequestAuthentication',
];

/**
 * The keys of a token issuer, as the control plane fetched them. `name` is the URI that a RequestAuthentication names (`jwksUri`), or for OIDC
 * discovery the URI of the issuer's `/.well-known/openid-configuration`. Inline keys stay in the RequestAuthentication.
 */
export interface JwksResource {
  readonly kind: 'Jwks';
  readonly name: string;
  /** RFC 7517 JWK Set as JSON text, public keys only. Null: they could never be fetched, so that every token of the issuer is refused. */
  readonly jwks: string | null;
}

/** How a workload is reached: Postern's and ztunnel's tunnel, an Istio sidecar's direct mTLS, or plaintext. */
export type WorkloadProtocol = 'HBONE' | 'ISTIO' | 'NONE';

/** A running workload. `name` is `<namespace>/<instance>`. */
/** Where HBONE listens, unless something else is said. */
export const TUNNEL_PORT = 15_008;

export interface WorkloadResource {
  readonly kind: 'Workload';
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** SPIFFE ID that the server's certificate must show; null only with protocol NONE. */
  readonly identity: string | null;
  /** IP addresses (text, no brackets). The first is the one dialled. */
  readonly addresses: readonly string[];
  readonly protocol: WorkloadProtocol;
  /** Where HBONE listens, where that is not `TUNNEL_PORT` of the address dialled. */
  readonly tunnel: { readonly address: string; readonly port: number } | null;
  /** What telemetry says of it; `unknown` where it has none. */
  readonly workloadName: string;
  readonly app: string;
  readonly version: string;
  readonly canonicalService: string;
  readonly canonicalRevision: string;
  readonly cluster: string;
  /** Effective PeerAuthentication mode by port is DISABLE here: callers must use plaintext. */
  readonly plaintextPorts: readonly number[];
  /** It is dialled at `addresses`, yet they are its node's, or another's too: NEVER is a peer, or a destination called by address, taken for it. Absent: false. */
  readonly hostNetwork?: boolean;
}

export interface ServicePort {
  readonly name: string;
  readonly port: number;
  /** `appProtocol`, else the protocol in the port's name by Istio's convention, else null: to be sniffed. */
  readonly protocol: string | null;
}

export interface ServiceEndpoint {
  /** Name of a Workload resource. */
  readonly workload: string;
  /** The workload's port for each port of the service (key: service port as a decimal string). */
  readonly ports: { readonly [servicePort: string]: number };
}

/** A `v1` Service with the endpoints its selector finds. `name` is `<namespace>/<name>`. */
export interface ServiceResource {
  readonly kind: 'Service';
  readonly name: string;
  readonly namespace: string;
  /** `<name>.<namespace>.svc.cluster.local`: the value of Istio's `destination_service`. */
  readonly hostname: string;
  /** Virtual IPs; empty for a headless service. */
  readonly addresses: readonly string[];
  readonly ports: readonly ServicePort[];
  readonly endpoints: readonly ServiceEndpoint[];
  /** CIDR blocks: connections to them at one of `ports` go on to where they were going, in a REGISTRY_ONLY mesh too. Absent: none. */
  readonly passthrough?: readonly string[];
}

/**
 * What the control plane knows of the workload that the sidecar stands beside, and may change while it runs: its word counts, not that of the
 * sidecar's settings. Exactly one, named `self`.
 */
export interface SelfResource {
  readonly kind: 'Self';
  readonly name: 'self';
  /** Policies select by these. */
  readonly labels: { readonly [key: string]: string };
  /** The application has ended for good (a Job's pod, whose other containers have all terminated): the sidecar is to drain and to end. */
  readonly ended: boolean;
}

export type Resource =
  | SelfResource
  | MeshConfigResource
  | TrustBundleResource
  | RevocationsResource
  | PolicyResource
  | JwksResource
  | WorkloadResource
  | ServiceResource;

export type ResourceKey = `${Resource['kind']}/${string}`;

export function keyOf(resource: Pick<Resource, 'kind' | 'name'>): ResourceKey {
  return `${resource.kind}/${resource.name}`;
}

/** Why a sidecar did not take a resource; the last good one of that key stays in force. */
export interface RejectedResource {
  readonly key: ResourceKey;
  readonly reason: string;
}
