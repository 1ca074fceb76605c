import { createHash } from 'node:crypto';
import { keyOf, type Resource, type ResourceKey } from '../../mesh/resources.ts';
import { selects } from '../../policy/index.ts';
import { hashOf } from './content.ts';
import { isExportedTo } from './services.ts';
import { type Snapshot, workloadClass } from './snapshot.ts';

/**
 * What one class of workloads (same namespace, same labels) may know. Immutable. Its version names its content: the digest survives a restart of the
 * control plane, the epoch and number find the scope among those remembered.
 */
export interface Scope {
  readonly workloadClass: string;
  readonly version: string;
  readonly resources: ReadonlyMap<ResourceKey, Resource>;
}

export class ScopeCache {
  readonly #epoch: string;
  #number = 0;
  #snapshot: Snapshot | null = null;
  #scopes = new Map<string, Scope>();
  /** Scopes of the snapshot before: an unchanged one keeps its object, so that nothing is pushed. */
  #before = new Map<string, Scope>();
  #reachable = new Map<string, readonly Resource[]>();

  /** `epoch` tells this run of the control plane from every other. */
  constructor(epoch: string) {
    this.#epoch = epoch;
  }

  scopeOf(snapshot: Snapshot, namespace: string, labels: { readonly [key: string]: string }): Scope {
    if (snapshot !== this.#snapshot) {
      this.#snapshot = snapshot;
      this.#before = this.#scopes;
      this.#scopes = new Map();
      this.#reachable = new Map();
    }
    const name = workloadClass(namespace, labels);
    const known = this.#scopes.get(name);
    if (known !== undefined) return known;
    const scope = this.#make(name, this.#select(snapshot, namespace, labels));
    this.#scopes.set(name, scope);
    return scope;
  }

  #select(snapshot: Snapshot, namespace: string, labels: { readonly [key: string]: string }): Resource[] {
    const { mesh, policies } = snapshot;
    const namespaces = new Set([mesh.rootNamespace, namespace]);
    const selected = [...namespaces]
      .flatMap((candidate) => policies.get(candidate) ?? [])
      .filter(({ object }) => selects(object, { namespace, labels }, mesh.rootNamespace))
      .map(({ resource }) => resource);
    const reachable = this.#reachable.get(namespace) ?? reachableFrom(snapshot, namespace);
    this.#reachable.set(namespace, reachable);
    return [mesh, snapshot.trustBundle, snapshot.revocations, ...selected, ...reachable];
  }

  #make(name: string, resources: readonly Resource[]): Scope {
    const before = this.#before.get(name);
    const same =
      before !== undefined &&
      before.resources.size === resources.length &&
      resources.every((resource) => before.resources.get(keyOf(resource)) === resource);
    if (same) return before;
    const entries = resources.map((resource) => [keyOf(resource), resource] as const);
    const hash = createHash('sha256');
    for (const [, resource] of entries.toSorted(([a], [b]) => (a < b ? -1 : 1))) hash.update(hashOf(resource));
    this.#number += 1;
    return {
      workloadClass: name,
      version: `${this.#epoch}.${this.#number}.${hash.digest('base64url').slice(0, DIGEST_LENGTH)}`,
      resources: new Map(entries),
    };
  }
}

/** 192 bits. */
const DIGEST_LENGTH = 32;

/** The digest of a version of this or an earlier run. */
export function digestOf(version: string): string {
  return version.slice(version.lastIndexOf('.') + 1);
}

/** Visible services, the workloads behind them, and all workloads of the own namespace. */
function reachableFrom(snapshot: Snapshot, namespace: string): readonly Resource[] {
  const found = new Set<Resource>(snapshot.workloadsByNamespace.get(namespace) ?? []);
  for (const { object, resource } of snapshot.services) {
    if (!isExportedTo(object, namespace)) continue;
    found.add(resource);
    for (const { workload } of resource.endpoints) {
      const endpoint = snapshot.workloads.get(workload);
      if (endpoint !== undefined) found.add(endpoint);
    }
  }
  return [...found];
}
