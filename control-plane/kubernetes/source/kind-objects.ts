import { standInFor } from '../../../policy/fail-closed.ts';
import { pathText, validateObject } from '../../../policy/index.ts';
import { asObject, asString, field } from '../../../policy/json.ts';
import { isManifestKind, titleOf } from '../../../policy/kinds.ts';
import type { JsonObject, Manifest, Problem } from '../../../policy/types.ts';
import { ClusterManifest } from './cluster-manifest.ts';

/** One object, and what has become of it. */
interface Entry {
  /** As the cluster has it now. */
  readonly received: Manifest;
  /** The last admissible one, or what stands in for it; null: nothing. */
  readonly inForce: Manifest | null;
  /** Whether `inForce` was admissible itself. */
  readonly good: boolean;
  readonly problems: readonly Problem[];
}

/**
 * The objects of one kind, judged. One that is not admissible leaves the last good one of its name in force; where there is none,
 * `standInFor` says what is. Pure; one owner, who feeds it.
 */
export class KindObjects {
  readonly #kind: string;
  readonly #validated: boolean;
  readonly #single: boolean;
  readonly #entries = new Map<string, Entry>();
  /** Of a kind of which there may be one: those that are too many. */
  #surplus: ReadonlyMap<string, Problem> = new Map();

  /** @param options.single The mesh has one of this kind: the oldest counts. */
  constructor(kind: string, options: { readonly single: boolean }) {
    this.#kind = kind;
    this.#validated = isManifestKind(kind);
    this.#single = options.single;
  }

  /** @param object null: it is gone */
  set(key: string, object: JsonObject | null): void {
    const before = this.#entries.get(key) ?? null;
    if (object === null) this.#entries.delete(key);
    else this.#entries.set(key, this.#judge(key, object, before));
    if (this.#single) this.#findSurplus();
  }

  /** In force. */
  get manifests(): readonly Manifest[] {
    const manifests: Manifest[] = [];
    for (const [key, { inForce }] of this.#entries) {
      if (inForce !== null && !this.#surplus.has(key)) manifests.push(inForce);
    }
    return manifests;
  }

  /** As the cluster has them, admissible or not. */
  get received(): readonly Manifest[] {
    return [...this.#entries.values()].map(({ received }) => received);
  }

  get problems(): readonly Problem[] {
    return [...[...this.#entries.values()].flatMap(({ problems }) => problems), ...this.#surplus.values()];
  }

  /** In force, by key. */
  get(key: string): Manifest | null {
    return this.#entries.get(key)?.inForce ?? null;
  }

  /** Why the object of this key is refused as it is now; null: it is accepted, or not there. */
  errorOf(key: string): string | null {
    const surplus = this.#surplus.get(key)?.message;
    const error = this.#entries.get(key)?.problems.find(({ severity }) => severity === 'error')?.message;
    return error ?? surplus ?? null;
  }

  #judge(key: string, object: JsonObject, before: Entry | null): Entry {
    const received = new ClusterManifest(this.#kind, key, object);
    if (!this.#validated) return { received, inForce: received, good: true, problems: [] };
    const problems = validateObject(object).map(
      ({ path, severity, message }): Problem =>
        problemOf(received, severity, path.length === 0 ? message : `${pathText(path)}: ${message}`),
    );
    if (!problems.some(({ severity }) => severity === 'error'))
      return { received, inForce: received, good: true, problems };
    // An object that was deleted and made anew is another one, whatever its name.
    if (before?.good === true && uidOf(before.received) === uidOf(received)) {
      const said = problemOf(received, 'warning', 'until it is put right, its last admissible version stays in force');
      return { received, inForce: before.inForce, good: true, problems: [...problems, said] };
    }
    const { object: standIn, consequence } = standInFor(kindOf(this.#kind), object);
    const inForce = standIn === null ? null : new ClusterManifest(this.#kind, key, standIn);
    return { received, inForce, good: false, problems: [...problems, problemOf(received, 'warning', consequence)] };
  }

  /** @returns complaints that were not there before. */
  #findSurplus(): void {
    const before = this.#surplus;
    const [first, ...others] = [...this.#entries]
      .filter(([, { inForce }]) => inForce !== null)
      .sort((a, b) => (rankOf(a) < rankOf(b) ? -1 : 1));
    const message = `there can be one ${this.#kind}, and the oldest counts, ${first?.[0] ?? ''}: remove one of the two`;
    this.#surplus = new Map(
      others.map(([key, { received }]) => [key, before.get(key) ?? problemOf(received, 'error', message)]),
    );
  }
}

/** The same order at each replica: what is admissible before what stands in for others, then by age, then by name. */
function rankOf([key, { received, good }]: readonly [string, Entry]): string {
  const created = asString(field(asObject(field(received.object, 'metadata')), 'creationTimestamp')) ?? '';
  return `${good ? 'a' : 'b'} ${created} ${key}`;
}

function uidOf({ object }: Manifest): string | null {
  return asString(field(asObject(field(object, 'metadata')), 'uid'));
}

function kindOf(kind: string) {
  if (!isManifestKind(kind)) throw new RangeError(`${kind} is not a kind that is validated`);
  return kind;
}

function problemOf(manifest: Manifest, severity: Problem['severity'], message: string): Problem {
  return { severity, message, location: manifest.locate([]), resource: titleOf(manifest) };
}
