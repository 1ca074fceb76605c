import { compileAuthentication } from '../../policy/index.ts';
import type { CompiledAuthentication, JsonObject } from '../../policy/types.ts';
import { classOf } from './workload-class.ts';
import type { KnownWorkload } from './workloads.ts';

/** The PeerAuthentications that may concern the workloads of one namespace, and what they come to, by labels. */
interface OfNamespace {
  readonly objects: readonly JsonObject[];
  readonly compiled: Map<string, CompiledAuthentication>;
  /** Of the same objects, by an earlier snapshot. */
  readonly earlier: ReadonlyMap<string, CompiledAuthentication>;
}

/** The effective PeerAuthentication of each workload of one snapshot: compiled once for all that share namespace and labels, and kept from snapshot to snapshot. */
export class Authentications {
  readonly #objectsOf: (namespace: string) => readonly JsonObject[];
  readonly #rootNamespace: string;
  readonly #byNamespace = new Map<string, OfNamespace>();
  #before: Authentications | null;

  /** @param objectsOf the PeerAuthentications of a namespace */
  constructor(
    objectsOf: (namespace: string) => readonly JsonObject[],
    rootNamespace: string,
    before: Authentications | null,
  ) {
    this.#objectsOf = objectsOf;
    this.#rootNamespace = rootNamespace;
    this.#before = before !== null && before.#rootNamespace === rootNamespace ? before : null;
  }

  of({ namespace, labels }: Pick<KnownWorkload, 'namespace' | 'labels'>): CompiledAuthentication {
    const { objects, compiled, earlier } = this.#of(namespace);
    const key = classOf(labels);
    const known = compiled.get(key);
    if (known !== undefined) return known;
    const mesh = { rootNamespace: this.#rootNamespace };
    const authentication = earlier.get(key) ?? compileAuthentication(objects, { namespace, labels }, mesh);
    compiled.set(key, authentication);
    return authentication;
  }

  /** All workloads have been asked for: lets go of earlier snapshots, whose workloads may be gone. */
  settle(): void {
    this.#before = null;
    for (const [namespace, one] of this.#byNamespace) this.#byNamespace.set(namespace, { ...one, earlier: new Map() });
  }

  #of(namespace: string): OfNamespace {
    const known = this.#byNamespace.get(namespace);
    if (known !== undefined) return known;
    const objects = [...new Set([this.#rootNamespace, namespace])].flatMap(this.#objectsOf);
    const before = this.#before === null ? undefined : this.#before.#byNamespace.get(namespace);
    const earlier = before !== undefined && sameObjects(before.objects, objects) ? before.compiled : new Map();
    const made = { objects, compiled: new Map(), earlier };
    this.#byNamespace.set(namespace, made);
    return made;
  }
}

function sameObjects(a: readonly JsonObject[], b: readonly JsonObject[]): boolean {
  return a.length === b.length && a.every((object, index) => object === b[index]);
}
