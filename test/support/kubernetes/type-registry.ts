import type { ResourceType } from '../../../kubernetes/api/types.ts';
import type { JsonObject } from '../../../policy/types.ts';

/** A column of a table: what `kubectl get` prints. */
export interface Column {
  readonly name: string;
  /** JSON path into the object, `.status.phase`. */
  readonly path: string;
  readonly type: string;
  /** 0 is always shown, others by `-o wide`. */
  readonly priority: number;
  readonly description?: string;
}

/** A kind in one version, as the server serves it. */
export interface ServedType extends ResourceType {
  /** Where its objects are kept; versions of one kind share it. */
  readonly storage: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly subresources: readonly string[];
  readonly verbs: readonly string[];
  /** Null: the server has columns of its own for it. */
  readonly columns: readonly Column[] | null;
  /** Of kinds that a CustomResourceDefinition brought: `openAPIV3Schema`. Null for built-in ones, whose fields are not known here. */
  readonly schema: JsonObject | null;
  readonly custom: boolean;
}

const ALL_VERBS = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'] as const;

export function servedType(type: ResourceType, rest: Partial<Omit<ServedType, keyof ResourceType>>): ServedType {
  return {
    ...type,
    storage: `${type.group}/${type.plural}`,
    singular: type.kind.toLowerCase(),
    shortNames: [],
    categories: [],
    subresources: [],
    verbs: ALL_VERBS,
    columns: null,
    schema: null,
    custom: false,
    ...rest,
  };
}

export const apiVersionOf = ({ group, version }: Pick<ResourceType, 'group' | 'version'>): string =>
  group === '' ? version : `${group}/${version}`;

/** All kinds that are served just now. */
export class TypeRegistry {
  /** By group, version and plural. */
  readonly #types = new Map<string, ServedType>();

  constructor(types: readonly ServedType[]) {
    for (const type of types) this.add(type);
  }

  add(type: ServedType): void {
    this.#types.set(`${type.group}/${type.version}/${type.plural}`, type);
  }

  /** Takes away all versions of a kind. */
  removeStorage(storage: string): void {
    for (const [key, type] of this.#types) if (type.storage === storage) this.#types.delete(key);
  }

  find(group: string, version: string, plural: string): ServedType | null {
    return this.#types.get(`${group}/${version}/${plural}`) ?? null;
  }

  /** @throws Error where the kind is not served: a test asked for it. */
  ofKind(apiVersion: string, kind: string): ServedType {
    const found = this.all().find((type) => type.kind === kind && apiVersionOf(type) === apiVersion);
    if (found === undefined) throw new Error(`the stand-in serves no ${kind} of ${apiVersion}`);
    return found;
  }

  /** Of a group and resource, in any version. */
  versionsOf(group: string, plural: string): readonly ServedType[] {
    return this.all().filter((type) => type.group === group && type.plural === plural);
  }

  all(): readonly ServedType[] {
    return [...this.#types.values()];
  }

  /** Versions by group, in the order in which they were added. */
  groups(): ReadonlyMap<string, readonly string[]> {
    const groups = new Map<string, string[]>();
    for (const { group, version } of this.#types.values()) {
      const versions = groups.get(group) ?? [];
      if (!versions.includes(version)) versions.push(version);
      groups.set(group, versions);
    }
    return groups;
  }
}
