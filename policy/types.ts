import type { ExtensionProvider, PathNormalization } from '../mesh/resources.ts';

/** The vocabulary of the policy library: plain data in, plain data out. No I/O, no clock. */

export interface SourceLocation {
  readonly file: string;
  /** From 1. */
  readonly line: number;
  readonly column: number;
}

/** Something wrong (or doubtful) in a manifest; the message says what and what to do. */
export interface Problem {
  readonly severity: 'error' | 'warning';
  readonly message: string;
  readonly location: SourceLocation;
  /** `AuthorizationPolicy shop/deny-admin`, where it is known. */
  readonly resource: string | null;
}

/** What of a pair in a map is meant. */
export type PathPart = 'key' | 'value';

/** One YAML document as parsed: the value, and where each of its parts stands. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  /** The whole object as JSON values. */
  readonly object: JsonObject;
  /** Where the value at `path` stands (`['spec', 'rules', 0]`), or its key; the nearest enclosing one where the path does not exist. */
  locate(path: readonly (string | number)[], part?: PathPart): SourceLocation;
}

export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: JsonValue;
}

/** The mesh settings that policy semantics depend on; part of `MeshConfigResource`. */
export interface PolicyMesh {
  readonly trustDomain: string;
  readonly trustDomainAliases: readonly string[];
  readonly rootNamespace: string;
  readonly defaultAction: 'ALLOW' | 'DENY';
  readonly pathNormalization: PathNormalization;
  readonly extensionProviders: readonly ExtensionProvider[];
}

/** The destination workload. */
export interface PolicyWorkload {
  readonly namespace: string;
  readonly labels: { readonly [key: string]: string };
}

/** What a decision on a TCP connection depends on. */
export interface ConnectionAttributes {
  /** The peer's SPIFFE ID without `spiffe://`; null for a peer that did not authenticate. */
  readonly sourcePrincipal: string | null;
  /** Address of the TCP peer. */
  readonly sourceIp: string;
  readonly destinationIp: string;
  readonly destinationPort: number;
  /** Empty where there was none. */
  readonly sni: string;
}

/** What a decision on one request of a connection depends on besides the connection. Strings hold one byte a character. */
export interface RequestAttributes {
  readonly method: string;
  /** Normalised (`normalizePath`), without query and fragment. */
  readonly path: string;
  /** As received, with its `?`; empty where there is none. */
  readonly query: string;
  /** Host or :authority, port and all. */
  readonly host: string;
  /** The value of each line of that header by itself; `name` in lower case. */
  header(name: string): readonly string[];
}

/**
 * The payload of a request's verified token, as its issuer wrote it; null where it has none. Claims that hold a list in one text (`scope`,
 * `permission`, `spaceDelimitedClaims` of a RequestAuthentication) are split by the decider.
 */
export type Claims = JsonObject | null;

/** Decides the requests of one connection: what depends on the connection alone has been found once. */
export interface RequestDecider {
  decide(request: RequestAttributes, claims: Claims): Decision;
}

export type DryRunVerdict = 'allow' | 'deny' | null;

export interface Decision {
  readonly allowed: boolean;
  /** `<namespace>/<name>` of the policy that decided; null where none matched. */
  readonly policy: string | null;
  /** Index of its rule. */
  readonly rule: number | null;
  /**
   * One word for why. `custom-policy`: a CUSTOM policy matched, whose `provider` would have to be asked; as long as nobody does, that denies. A
   * CUSTOM policy whose provider the mesh does not have is a `deny-policy`.
   */
  readonly reason:
    | 'allow-policy'
    | 'deny-policy'
    | 'custom-policy'
    | 'no-allow-policy-matched'
    | 'default-allow'
    | 'default-deny';
  /** The extension provider to ask, where the reason is `custom-policy`; else null. */
  readonly provider: string | null;
  /** Names of AUDIT policies that matched. */
  readonly audit: readonly string[];
  /** What dry-run policies would have said, and which; null where there are none of that action. */
  readonly dryRun: {
    readonly allow: DryRunVerdict;
    readonly deny: DryRunVerdict;
    readonly allowPolicy: string | null;
    readonly denyPolicy: string | null;
  };
}

/** One policy and rule that were considered, and the first condition that failed. */
export interface TraceStep {
  readonly policy: string;
  readonly action: 'ALLOW' | 'DENY' | 'AUDIT';
  readonly dryRun: boolean;
  readonly rule: number | null;
  readonly matched: boolean;
  /** E.g. `from[0].source.principals`; null where it matched. */
  readonly failed: { readonly condition: string; readonly found: string; readonly wanted: string } | null;
  /** What became of a rule that does not stand as it was written, e.g. for TCP where it names attributes of HTTP. */
  readonly note: string | null;
}

export type MtlsMode = 'STRICT' | 'PERMISSIVE' | 'DISABLE';

/** Immutable; safe to share. */
export interface CompiledPolicies {
  /** Whether any policy (dry-run included) selects the workload. */
  readonly empty: boolean;
  /** Cost does not depend on the number of policies that do not concern the caller. */
  decide(attributes: ConnectionAttributes): Decision;
  explain(attributes: ConnectionAttributes): { readonly decision: Decision; readonly trace: readonly TraceStep[] };
  /** For HTTP: a decision for each request. */
  forConnection(attributes: ConnectionAttributes): RequestDecider;
  explainRequest(
    attributes: ConnectionAttributes,
    request: RequestAttributes,
    claims: Claims,
  ): { readonly decision: Decision; readonly trace: readonly TraceStep[] };
}

export interface CompiledAuthentication {
  /** Effective mode at a workload port. */
  mode(port: number): MtlsMode;
  /** Ports with a mode of their own. */
  readonly ports: readonly number[];
}
