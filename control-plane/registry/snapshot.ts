import type {
  JwksResource,
  MeshConfigResource,
  PolicyResource,
  Resource,
  ResourceKey,
  RevocationsResource,
  ServiceResource,
  TrustBundleResource,
  WorkloadResource,
} from '../../mesh/resources.ts';
import { compileAuthentication } from '../../policy/index.ts';
import type { CompiledAuthentication, JsonObject, Manifest, PolicyMesh, Problem } from '../../policy/types.ts';
import type { MeshSettings } from '../config.ts';
import { publicObject } from '../jwks/public-object.ts';
import { jwksNamesOf } from '../jwks/wanted-sources.ts';
import { Interner } from './content.ts';
import { memoized, readMeshConfig, readService, readWorkloadEntry, type ServiceObject } from './objects.ts';
import type { RegisteredWorkload } from './registrations.ts';
import { serviceResource } from './services.ts';
import { telemetryFields } from './telemetry.ts';
import { collectWorkloads, type KnownWorkload } from './workloads.ts';

/** Everything that decides what sidecars are told, at one moment. */
export interface RegistryInputs {
  readonly trustDomain: string;
  /** Of the configuration file; a MeshConfig manifest overrides single ones. */
  readonly settings: MeshSettings;
  readonly manifests: readonly Manifest[];
  readonly workloads: readonly RegisteredWorkload[];
  /** PEM. */
  readonly roots: readonly string[];
  readonly revoked: { readonly spiffeIds: readonly string[]; readonly serials: readonly string[] };
  /** Keys of token issuers by name of the Jwks resource; null or absent where there are none (yet). */
  readonly jwks: ReadonlyMap<string, string | null>;
}

export interface SnapshotPolicy {
  readonly resource: PolicyResource;
  readonly object: JsonObject;
  /** The keys that a RequestAuthentication needs, whether they are known or not; empty for other kinds. */
  readonly jwks: readonly JwksResource[];
}

/** One immutable view of the mesh. A resource that is the same in two snapshots is the same object. */
export interface Snapshot {
  readonly mesh: MeshConfigResource;
  readonly trustBundle: TrustBundleResource;
  readonly revocations: RevocationsResource;
  /** By namespace. */
  readonly policies: ReadonlyMap<string, readonly SnapshotPolicy[]>;
  readonly services: readonly { readonly resource: ServiceResource; readonly object: ServiceObject }[];
  /** By name. */
  readonly workloads: ReadonlyMap<string, WorkloadResource>;
  readonly workloadsByNamespace: ReadonlyMap<string, readonly WorkloadResource[]>;
  readonly resources: ReadonlyMap<ResourceKey, Resource>;
  /** What is wrong between manifests, not within one. */
  readonly problems: readonly Problem[];
}

const readJwksNames = memoized(({ kind, object }) => (kind === 'RequestAuthentication' ? jwksNamesOf(object) : []));

const readPublicObject = memoized(({ kind, object }) =>
  kind === 'RequestAuthentication' ? publicObject(object) : object,
);

/** Pure: the same inputs give equal snapshots, and `before` only lends its objects. */
export function buildSnapshot(inputs: RegistryInputs, before: Snapshot | null): Snapshot {
  const interner = new Interner(before?.resources ?? new Map());
  const ofKind = (kind: string) => inputs.manifests.filter((manifest) => manifest.kind === kind);
  const mesh = interner.intern(meshConfig(inputs));
  const policies = groupBy(
    inputs.manifests.filter(isPolicy).map((manifest) => ({
      namespace: manifest.namespace,
      resource: interner.intern(policyResource(manifest)),
      object: manifest.object,
      jwks: readJwksNames(manifest).map((name) =>
        interner.intern({ kind: 'Jwks', name, jwks: inputs.jwks.get(name) ?? null }),
      ),
    })),
    ({ namespace }) => namespace,
  );
  const entries = ofKind('WorkloadEntry').map(readWorkloadEntry);
  const { workloads: known, problems } = collectWorkloads(inputs.workloads, entries, inputs.trustDomain);
  const knownByNamespace = groupBy([...known.values()], ({ namespace }) => namespace);
  const services = ofKind('Service')
    .map(readService)
    .map((object) => ({
      object,
      resource: interner.intern(serviceResource(object, knownByNamespace.get(object.namespace) ?? [])),
    }));
  const targets = targetPorts(services.map(({ resource }) => resource));
  const authentication = authenticationOf(policies, mesh);
  const workloads = new Map<string, WorkloadResource>();
  for (const workload of known.values()) {
    const ports = [...(targets.get(workload.name) ?? []), ...Object.values(workload.ports)];
    workloads.set(workload.name, interner.intern(workloadResource(workload, ports, authentication(workload))));
  }
  const { roots, revoked } = inputs;
  return {
    mesh,
    trustBundle: interner.intern({ kind: 'TrustBundle', name: 'roots', roots }),
    revocations: interner.intern({
      kind: 'Revocations',
      name: 'revoked',
      spiffeIds: revoked.spiffeIds.toSorted(),
      serials: revoked.serials.toSorted(),
    }),
    policies,
    services,
    workloads,
    workloadsByNamespace: groupBy([...workloads.values()], ({ namespace }) => namespace),
    resources: interner.resources,
    problems,
  };
}

function meshConfig({ trustDomain, settings, manifests }: RegistryInputs): MeshConfigResource {
  const manifest = manifests.find(({ kind }) => kind === 'MeshConfig');
  const overrides = manifest === undefined ? {} : readMeshConfig(manifest);
  const { trustDomainAliases, rootNamespace, outboundTrafficPolicy, ...rest } = { ...settings, ...overrides };
  const { defaultAction, pathNormalization, extensionProviders } = rest;
  return {
    kind: 'MeshConfig',
    name: 'mesh',
    trustDomain,
    trustDomainAliases,
    rootNamespace,
    outboundTrafficPolicy,
    defaultAction,
    pathNormalization,
    extensionProviders,
  };
}

const POLICY_KINDS: readonly PolicyResource['kind'][] = [
  'AuthorizationPolicy',
  'PeerAuthentication',
  'RequestAuthentication',
];

function isPolicy({ kind }: Manifest): boolean {
  return POLICY_KINDS.some((one) => one === kind);
}

function policyResource(manifest: Manifest): PolicyResource {
  const kind = POLICY_KINDS.find((one) => one === manifest.kind) ?? 'AuthorizationPolicy';
  return { kind, name: `${manifest.namespace}/${manifest.name}`, object: readPublicObject(manifest) };
}

/** The ports of each workload that services lead to. */
function targetPorts(services: readonly ServiceResource[]): ReadonlyMap<string, ReadonlySet<number>> {
  const found = new Map<string, Set<number>>();
  for (const service of services) {
    for (const { workload, ports } of service.endpoints) {
      const known = found.get(workload) ?? new Set();
      for (const port of Object.values(ports)) known.add(port);
      found.set(workload, known);
    }
  }
  return found;
}

/** Compiles the PeerAuthentication once for all workloads that share namespace and labels. */
function authenticationOf(policies: ReadonlyMap<string, readonly SnapshotPolicy[]>, mesh: PolicyMesh) {
  const compiled = new Map<string, CompiledAuthentication>();
  return ({ namespace, labels }: KnownWorkload): CompiledAuthentication => {
    const key = workloadClass(namespace, labels);
    const known = compiled.get(key);
    if (known !== undefined) return known;
    const candidates = new Set([...(policies.get(mesh.rootNamespace) ?? []), ...(policies.get(namespace) ?? [])]);
    const objects = [...candidates].map(({ object }) => object);
    const authentication = compileAuthentication(objects, { namespace, labels }, mesh);
    compiled.set(key, authentication);
    return authentication;
  };
}

function workloadResource(
  workload: KnownWorkload,
  ports: readonly number[],
  authentication: CompiledAuthentication,
): WorkloadResource {
  const { name, namespace, instance, serviceAccount, identity, labels, addresses, protocol, tunnel } = workload;
  const candidates = new Set([...ports, ...authentication.ports]);
  return {
    kind: 'Workload',
    name,
    namespace,
    serviceAccount,
    identity,
    addresses,
    protocol,
    tunnel,
    ...telemetryFields(labels, instance),
    plaintextPorts: [...candidates].filter((port) => authentication.mode(port) === 'DISABLE').sort((a, b) => a - b),
  };
}

/** Workloads of one class are told the same. */
export function workloadClass(namespace: string, labels: { readonly [key: string]: string }): string {
  return JSON.stringify([namespace, Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))]);
}

function groupBy<T>(items: readonly T[], keyOfItem: (item: T) => string): Map<string, T[]> {
  return Map.groupBy(items, keyOfItem);
}
