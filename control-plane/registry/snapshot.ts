import {
  type JwksResource,
  type MeshConfigResource,
  POLICY_KINDS,
  type PolicyResource,
  type Resource,
  type ResourceKey,
  type RevocationsResource,
  type ServiceResource,
  type TrustBundleResource,
  type WorkloadResource,
} from '../../mesh/resources.ts';
import type { JsonObject, Manifest, Problem } from '../../policy/types.ts';
import type { MeshSettings } from '../config.ts';
import { publicObject } from '../jwks/public-object.ts';
import { jwksNamesOf } from '../jwks/wanted-sources.ts';
import { Authentications } from './authentications.ts';
import { Interner } from './content.ts';
import { readEndpointSlice } from './endpoint-slices.ts';
import { memoized, readMeshConfig, readService, readWorkloadEntry, type WorkloadEntryObject } from './objects.ts';
import { type PodObject, readPod } from './pods.ts';
import type { RegisteredWorkload } from './registrations.ts';
import { type RevokedSubjects, revokedByManifests, unitedSubjects } from './revoked.ts';
import { readServiceEntry } from './service-entries.ts';
import { serviceEntryResources } from './service-entry-resources.ts';
import { serviceResource, type Visibility } from './services.ts';
import { workloadResource } from './workload-resources.ts';
import { WorkloadDirectory } from './workloads.ts';

/** Everything that decides what sidecars are told, at one moment. */
export interface RegistryInputs {
  readonly trustDomain: string;
  /** Of the configuration file; a MeshConfig manifest overrides single ones. */
  readonly settings: MeshSettings;
  readonly manifests: readonly Manifest[];
  readonly workloads: readonly RegisteredWorkload[];
  /** PEM. */
  readonly roots: readonly string[];
  /** Beside those that manifests name. */
  readonly revoked: RevokedSubjects;
  /** Keys of token issuers by name of the Jwks resource; null or absent where there are none (yet). */
  readonly jwks: ReadonlyMap<string, string | null>;
}

export interface SnapshotPolicy {
  readonly resource: PolicyResource;
  readonly object: JsonObject;
  /** The keys that a RequestAuthentication needs, whether they are known or not; empty for other kinds. */
  readonly jwks: readonly JwksResource[];
}

export interface SnapshotService {
  readonly resource: ServiceResource;
  readonly visibility: Visibility;
}

/** One immutable view of the mesh. A resource that is the same in two snapshots is the same object. */
export interface Snapshot {
  readonly mesh: MeshConfigResource;
  readonly trustBundle: TrustBundleResource;
  readonly revocations: RevocationsResource;
  /** By namespace. */
  readonly policies: ReadonlyMap<string, readonly SnapshotPolicy[]>;
  readonly services: readonly SnapshotService[];
  /** By name. */
  readonly workloads: ReadonlyMap<string, WorkloadResource>;
  readonly workloadsByNamespace: ReadonlyMap<string, readonly WorkloadResource[]>;
  /** All pods of the cluster by workload name, finished ones too. */
  readonly pods: ReadonlyMap<string, PodObject>;
  /** All WorkloadEntries by workload name, those too that are left out. */
  readonly entries: ReadonlyMap<string, WorkloadEntryObject>;
  readonly authentications: Authentications;
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
  const byKind = groupBy(inputs.manifests, ({ kind }) => kind);
  const mesh = interner.intern(meshConfig(inputs, byKind.get('MeshConfig')?.[0]));
  const policies = groupBy(snapshotPolicies(inputs, interner), ({ resource }) => namespaceOf(resource.name));
  const pods = (byKind.get('Pod') ?? []).map(readPod);
  const entries = (byKind.get('WorkloadEntry') ?? []).map(readWorkloadEntry);
  const { trustDomain, workloads: registered, roots, revoked } = inputs;
  const directory = new WorkloadDirectory({ pods, registered, entries, trustDomain });
  const { services, problems } = snapshotServices(byKind, pods, directory, trustDomain, interner);
  const authentications = new Authentications(
    (namespace) => peerAuthentications(policies.get(namespace) ?? []),
    mesh.rootNamespace,
    before?.authentications ?? null,
  );
  const targets = portsServed(services);
  const workloads = new Map<string, WorkloadResource>();
  for (const workload of directory.workloads.values()) {
    const shared = directory.isShared(workload);
    const resource = workloadResource(workload, targets.get(workload.name), authentications.of(workload), shared);
    workloads.set(workload.name, interner.intern(resource));
  }
  authentications.settle();
  return {
    mesh,
    trustBundle: interner.intern({ kind: 'TrustBundle', name: 'roots', roots }),
    revocations: interner.intern({
      kind: 'Revocations',
      name: 'revoked',
      ...unitedSubjects(revoked, revokedByManifests(byKind.get('Revocation') ?? [])),
    }),
    policies,
    services,
    workloads,
    workloadsByNamespace: groupBy([...workloads.values()], ({ namespace }) => namespace),
    pods: new Map(pods.map((pod) => [pod.workload, pod])),
    entries: new Map(entries.map((entry) => [`${entry.namespace}/${entry.name}`, entry])),
    authentications,
    resources: interner.resources,
    problems: [...directory.problems, ...problems],
  };
}

function snapshotPolicies({ manifests, jwks }: RegistryInputs, interner: Interner): readonly SnapshotPolicy[] {
  return manifests.filter(isPolicy).map((manifest) => ({
    resource: interner.intern(policyResource(manifest)),
    object: manifest.object,
    jwks: readJwksNames(manifest).map((name) => interner.intern({ kind: 'Jwks', name, jwks: jwks.get(name) ?? null })),
  }));
}

/** The cluster's services, and those that ServiceEntries stand for. */
function snapshotServices(
  byKind: ReadonlyMap<string, readonly Manifest[]>,
  pods: readonly PodObject[],
  directory: WorkloadDirectory,
  trustDomain: string,
  interner: Interner,
): { readonly services: readonly SnapshotService[]; readonly problems: readonly Problem[] } {
  const slices = groupBy((byKind.get('EndpointSlice') ?? []).map(readEndpointSlice), ({ service }) => service);
  const candidates = groupBy(directory.selectable, ({ namespace }) => namespace);
  const own = (byKind.get('Service') ?? []).map(readService).map((service) => {
    const { namespace, name } = service;
    const ofService = slices.get(`${namespace}/${name}`) ?? [];
    const resource = serviceResource(service, ofService, candidates.get(namespace) ?? [], directory);
    return { resource: interner.intern(resource), visibility: service };
  });
  const services = own.map(({ resource }) => resource);
  const entries = (byKind.get('ServiceEntry') ?? []).map(readServiceEntry);
  const { resources, problems } = serviceEntryResources({ entries, services, pods, directory, trustDomain });
  const others = resources.map(({ resource, visibility }) => ({ resource: interner.intern(resource), visibility }));
  return { services: [...own, ...others], problems };
}

function meshConfig({ trustDomain, settings }: RegistryInputs, manifest: Manifest | undefined): MeshConfigResource {
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

function isPolicy({ kind }: Manifest): boolean {
  return POLICY_KINDS.some((one) => one === kind);
}

/** The same object for the same manifest, so that its text is made once. */
const policyResource = memoized((manifest): PolicyResource => {
  const kind = POLICY_KINDS.find((one) => one === manifest.kind) ?? 'AuthorizationPolicy';
  return { kind, name: `${manifest.namespace}/${manifest.name}`, object: readPublicObject(manifest) };
});

function peerAuthentications(policies: readonly SnapshotPolicy[]): readonly JsonObject[] {
  return policies.flatMap(({ resource, object }) => (resource.kind === 'PeerAuthentication' ? [object] : []));
}

/** The ports of each workload that services lead to. */
function portsServed(services: readonly SnapshotService[]): ReadonlyMap<string, ReadonlySet<number>> {
  const found = new Map<string, Set<number>>();
  for (const { resource } of services) {
    for (const { workload, ports } of resource.endpoints) {
      const known = found.get(workload) ?? new Set();
      for (const port of Object.values(ports)) known.add(port);
      found.set(workload, known);
    }
  }
  return found;
}

function namespaceOf(name: string): string {
  return name.slice(0, name.indexOf('/'));
}

function groupBy<T>(items: readonly T[], keyOfItem: (item: T) => string): Map<string, T[]> {
  return Map.groupBy(items, keyOfItem);
}
