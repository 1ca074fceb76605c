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

type Labels = { readonly [key: string]: string };

/** The part of a scope that all workloads of a namespace share, which is most of it: compared and hashed once for all of them. */
interface Reachable {
  readonly resources: readonly Resource[];
  readonly digest: Buffer;
}

/** A scope and the parts that it was made of. */
interface Made {
  readonly scope: Scope;
  /** Mesh-wide resources, the policies that select the workload and the keys that those need. */
  readonly own: readonly Resource[];
  readonly reachable: Reachable;
}

interface Generation {
  readonly snapshot: Snapshot | null;
  readonly scopes: Map<string, Made>;
  /** By namespace. */
  readonly reachable: Map<string, Reachable>;
}

export class ScopeCache {
  readonly #epoch: string;
  #number = 0;
  #now: Generation = newGeneration(null);
  /** Of the snapshot before: an unchanged scope keeps its object, so that nothing is pushed. */
  #before: Generation = newGeneration(null);

  /** `epoch` tells this run of the control plane from every other. */
  constructor(epoch: string) {
    this.#epoch = epoch;
  }

  scopeOf(snapshot: Snapshot, namespace: string, labels: Labels): Scope {
    if (snapshot !== this.#now.snapshot) {
      this.#before = this.#now;
      this.#now = newGeneration(snapshot);
    }
    const name = workloadClass(namespace, labels);
    const known = this.#now.scopes.get(name);
    if (known !== undefined) return known.scope;
    const own = selectedFor(snapshot, namespace, labels);
    const reachable = this.#reachable(snapshot, namespace);
    const before = this.#before.scopes.get(name);
    const same = before !== undefined && before.reachable === reachable && sameObjects(before.own, own);
    const made = same ? before : this.#make(name, own, reachable);
    this.#now.scopes.set(name, made);
    return made.scope;
  }

  #reachable(snapshot: Snapshot, namespace: string): Reachable {
    const known = this.#now.reachable.get(namespace);
    if (known !== undefined) return known;
    const resources = reachableFrom(snapshot, namespace);
    const before = this.#before.reachable.get(namespace);
    const same = before !== undefined && sameObjects(before.resources, resources);
    const reachable = same ? before : { resources, digest: digest(resources) };
    this.#now.reachable.set(namespace, reachable);
    return reachable;
  }

  #make(name: string, own: readonly Resource[], reachable: Reachable): Made {
    this.#number += 1;
    const content = createHash('sha256').update(digest(own)).update(reachable.digest).digest('base64url');
    const version = `${this.#epoch}.${this.#number}.${content.slice(0, DIGEST_LENGTH)}`;
    const resources = new Map([...own, ...reachable.resources].map((resource) => [keyOf(resource), resource]));
    return { scope: { workloadClass: name, version, resources }, own, reachable };
  }
}

function newGeneration(snapshot: Snapshot | null): Generation {
  return { snapshot, scopes: new Map(), reachable: new Map() };
}

/** Of the content, whatever the order. */
function digest(resources: readonly Resource[]): Buffer {
  const hash = createHash('sha256');
  for (const one of resources.map(hashOf).sort(Buffer.compare)) hash.update(one);
  return hash.digest();
}

function sameObjects(a: readonly Resource[], b: readonly Resource[]): boolean {
  return a.length === b.length && a.every((resource, index) => resource === b[index]);
}

function selectedFor(snapshot: Snapshot, namespace: string, labels: Labels): readonly Resource[] {
  const { mesh } = snapshot;
  const namespaces = new Set([mesh.rootNamespace, namespace]);
  const selected = [...namespaces]
    .flatMap((candidate) => snapshot.policies.get(candidate) ?? [])
    .filter(({ object }) => selects(object, { namespace, labels }, mesh.rootNamespace));
  const policies = selected.map(({ resource }) => resource);
  // Several policies may need one issuer's keys.
  const jwks = new Set(selected.flatMap((policy) => policy.jwks));
  return [mesh, snapshot.trustBundle, snapshot.revocations, ...policies, ...jwks];
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
