import { createHash } from 'node:crypto';
import { keyOf, type Resource, type SelfResource } from '../../mesh/resources.ts';
import { selects } from '../../policy/index.ts';
import { Layer, Layers } from './layer.ts';
import { isExportedTo, isExportedToAll } from './services.ts';
import type { Snapshot, SnapshotService } from './snapshot.ts';
import { type Standing, workloadClass } from './workload-class.ts';

/**
 * What one class of workloads (same namespace, same labels, ended or not) may know. Immutable. Its version names its content: the digest survives a
 * restart of the control plane and is the same at every replica, the epoch and number find the scope among those remembered.
 */
export interface Scope {
  readonly workloadClass: string;
  readonly version: string;
  /** `own`: itself, the mesh-wide resources, the policies that select it and the keys that those need. */
  readonly resources: Layers;
}

interface Generation {
  readonly snapshot: Snapshot | null;
  readonly scopes: Map<string, Scope>;
  readonly byNamespace: Map<string, Layer>;
  everybody: Layer | null;
}

export class ScopeCache {
  readonly #epoch: string;
  #number = 0;
  #now: Generation = newGeneration(null);
  /** Of the snapshot before: an unchanged layer and scope keep their object, so that nothing is pushed. */
  #before: Generation = newGeneration(null);

  /** `epoch` tells this run of the control plane from every other. */
  constructor(epoch: string) {
    this.#epoch = epoch;
  }

  scopeOf(snapshot: Snapshot, standing: Standing): Scope {
    if (snapshot !== this.#now.snapshot) {
      this.#before = this.#now;
      this.#now = newGeneration(snapshot);
    }
    const name = workloadClass(standing);
    const known = this.#now.scopes.get(name);
    if (known !== undefined) return known;
    const before = this.#before.scopes.get(name);
    const own = unchanged(before?.resources.own, new Layer(ownResources(snapshot, standing, before)));
    const layers = new Layers(own, this.#ofNamespace(snapshot, standing.namespace), this.#everybody(snapshot));
    const isSame = before?.resources.list.every((layer, index) => layer === layers.list[index]) === true;
    const scope = before !== undefined && isSame ? before : this.#make(name, layers);
    this.#now.scopes.set(name, scope);
    return scope;
  }

  #ofNamespace(snapshot: Snapshot, namespace: string): Layer {
    const known = this.#now.byNamespace.get(namespace);
    if (known !== undefined) return known;
    const made = new Layer(namespaceResources(snapshot, namespace, this.#everybody(snapshot)));
    const layer = unchanged(this.#before.byNamespace.get(namespace), made);
    this.#now.byNamespace.set(namespace, layer);
    return layer;
  }

  #everybody(snapshot: Snapshot): Layer {
    const before = this.#before.everybody ?? undefined;
    this.#now.everybody ??= unchanged(before, new Layer(commonResources(snapshot)));
    return this.#now.everybody;
  }

  #make(name: string, resources: Layers): Scope {
    this.#number += 1;
    const hash = createHash('sha256');
    for (const layer of resources.list) hash.update(layer.digest);
    const content = hash.digest('base64url').slice(0, DIGEST_LENGTH);
    const version = `${this.#epoch}.${this.#number}.${content}`;
    return { workloadClass: name, version, resources };
  }
}

function newGeneration(snapshot: Snapshot | null): Generation {
  return { snapshot, scopes: new Map(), byNamespace: new Map(), everybody: null };
}

function unchanged(before: Layer | undefined, made: Layer): Layer {
  return before?.holdsSame(made) === true ? before : made;
}

function ownResources(snapshot: Snapshot, standing: Standing, before: Scope | undefined): Iterable<Resource> {
  const { mesh } = snapshot;
  const namespaces = new Set([mesh.rootNamespace, standing.namespace]);
  const selected = [...namespaces]
    .flatMap((candidate) => snapshot.policies.get(candidate) ?? [])
    .filter(({ object }) => selects(object, standing, mesh.rootNamespace));
  const policies = selected.map(({ resource }) => resource);
  // The same class, so the same text.
  const self = before?.resources.get('Self/self') ?? selfResource(standing);
  return [self, mesh, snapshot.trustBundle, snapshot.revocations, ...policies, ...selected.flatMap(({ jwks }) => jwks)];
}

/** In one order of labels, whatever theirs. */
function selfResource({ labels, ended }: Standing): SelfResource {
  const sorted = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  return { kind: 'Self', name: 'self', labels: Object.fromEntries(sorted), ended };
}

/** Services that every namespace sees, and the workloads behind them. */
function commonResources(snapshot: Snapshot): Iterable<Resource> {
  return withEndpoints(
    snapshot,
    snapshot.services.filter(({ visibility }) => isExportedToAll(visibility)),
  );
}

/** Services that are visible to some namespaces, this one among them, with the workloads behind them; and all workloads of its own. */
function namespaceResources(snapshot: Snapshot, namespace: string, everybody: Layer): Iterable<Resource> {
  const services = snapshot.services.filter(
    ({ visibility }) => !isExportedToAll(visibility) && isExportedTo(visibility, namespace),
  );
  const found = withEndpoints(snapshot, services);
  for (const workload of snapshot.workloadsByNamespace.get(namespace) ?? []) found.add(workload);
  return [...found].filter((resource) => !everybody.resources.has(keyOf(resource)));
}

function withEndpoints(snapshot: Snapshot, services: readonly SnapshotService[]): Set<Resource> {
  const found = new Set<Resource>();
  for (const { resource } of services) {
    found.add(resource);
    for (const { workload } of resource.endpoints) {
      const endpoint = snapshot.workloads.get(workload);
      if (endpoint !== undefined) found.add(endpoint);
    }
  }
  return found;
}

/** 192 bits. */
const DIGEST_LENGTH = 32;

/** The digest of a version of this or an earlier run. */
export function digestOf(version: string): string {
  return version.slice(version.lastIndexOf('.') + 1);
}
