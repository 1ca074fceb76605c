import type { JsonObject } from '../../../policy/types.ts';
import { apiVersionOf, type ServedType, type TypeRegistry } from './type-registry.ts';

/** What the server serves, in the form that every client understands; aggregated discovery is left to real servers, clients fall back from it. */
export class Discovery {
  readonly #types: TypeRegistry;
  readonly #version: JsonObject;

  constructor(types: TypeRegistry, version: { readonly major: number; readonly minor: number }) {
    this.#types = types;
    const { major, minor } = version;
    this.#version = {
      major: String(major),
      minor: String(minor),
      gitVersion: `v${major}.${minor}.0`,
      gitCommit: 'stand-in',
      gitTreeState: 'clean',
      buildDate: '2025-01-01T00:00:00Z',
      goVersion: 'none',
      compiler: 'none',
      platform: 'linux/amd64',
    };
  }

  /** Null where the path is none of discovery's. */
  answer(path: string): JsonObject | null {
    const [root = '', group = '', version = '', ...rest] = path.split('/').filter((part) => part !== '');
    if (rest.length > 0) return null;
    if (root === 'version' && group === '') return this.#version;
    if (root === 'api') return version === '' ? this.#core(group) : null;
    if (root !== 'apis') return null;
    if (group === '') return { kind: 'APIGroupList', apiVersion: 'v1', groups: this.#groups() };
    if (version !== '') return this.#resources(group, version);
    const found = this.#groups().find(({ name }) => name === group);
    return found === undefined ? null : { kind: 'APIGroup', apiVersion: 'v1', ...found };
  }

  #core(version: string): JsonObject | null {
    if (version !== '') return this.#resources('', version);
    return { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] };
  }

  #groups(): readonly JsonObject[] {
    return [...this.#types.groups()].flatMap(([name, versions]) => {
      if (name === '') return [];
      const listed = [...versions]
        .sort(byStability)
        .map((version) => ({ groupVersion: `${name}/${version}`, version }));
      return [{ name, versions: listed, preferredVersion: listed[0] ?? {} }];
    });
  }

  #resources(group: string, version: string): JsonObject | null {
    const types = this.#types.all().filter((type) => type.group === group && type.version === version);
    if (types.length === 0) return null;
    const resources = types.flatMap((type) => [
      resource(type),
      ...type.subresources.map((name) => subresource(type, name)),
    ]);
    return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: apiVersionOf({ group, version }), resources };
  }
}

/** v2 before v1 before v1beta1. */
function byStability(a: string, b: string): number {
  const stable = (version: string): number => (/^v\d+$/.test(version) ? 0 : 1);
  return stable(a) - stable(b) || b.localeCompare(a, 'en', { numeric: true });
}

function resource(type: ServedType): JsonObject {
  return {
    name: type.plural,
    singularName: type.singular,
    namespaced: type.namespaced,
    kind: type.kind,
    verbs: type.verbs,
    ...(type.shortNames.length === 0 ? {} : { shortNames: type.shortNames }),
    ...(type.categories.length === 0 ? {} : { categories: type.categories }),
  };
}

function subresource(type: ServedType, name: string): JsonObject {
  const base = { name: `${type.plural}/${name}`, singularName: '', namespaced: type.namespaced };
  if (name === 'token') {
    return { ...base, group: 'authentication.k8s.io', version: 'v1', kind: 'TokenRequest', verbs: ['create'] };
  }
  return { ...base, kind: type.kind, verbs: ['get', 'patch', 'update'] };
}
