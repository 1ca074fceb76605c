import { asObject, asString, field, isAbsent, isList } from './json.ts';
import { isManifestKind, kindProblem, titleOf } from './kinds.ts';
import { DEFAULT_NAMESPACE } from './selection.ts';
import type { JsonObject, JsonValue, Manifest, PathPart, Problem, SourceLocation } from './types.ts';
import { parseYaml, YAML_LIMITS, type YamlLimits } from './yaml-document.ts';

/**
 * Reads the manifests of one file: YAML or JSON, several documents, `kind: List` unwrapped. What it returns has a known kind and a name; whether
 * its content is admissible is for `validateManifest`. Of two manifests of one name the first is returned and the second reported.
 */
export function parseManifests(
  text: string,
  file: string,
  limits: YamlLimits = YAML_LIMITS,
): { readonly manifests: readonly Manifest[]; readonly problems: readonly Problem[] } {
  const { documents, problems } = parseYaml(text, file, limits);
  const collector = new ManifestCollector(problems);
  for (const document of documents) {
    // A file may end in a separator, or hold comments only.
    if (document.value !== null) collector.add(document.value, [], document.locate);
  }
  const duplicates = duplicateManifests(collector.manifests);
  const repeated = new Set(duplicates.map(({ manifest }) => manifest));
  return {
    manifests: collector.manifests.filter((manifest) => !repeated.has(manifest)),
    problems: [...collector.problems, ...duplicates.map(({ problem }) => problem)],
  };
}

type Path = readonly (string | number)[];
type Locate = (path: Path, part?: PathPart) => SourceLocation;

class ManifestCollector {
  readonly manifests: Manifest[] = [];
  readonly problems: Problem[];

  constructor(problems: readonly Problem[]) {
    this.problems = [...problems];
  }

  add(value: JsonValue, path: Path, locate: Locate): void {
    const object = asObject(value);
    if (object === null) {
      this.#error('a manifest must be a map with apiVersion, kind, metadata and spec', locate(path));
      return;
    }
    const apiVersion = asString(field(object, 'apiVersion')) ?? '';
    const kind = asString(field(object, 'kind')) ?? '';
    if (apiVersion === 'v1' && kind === 'List' && path.length === 0) {
      this.#addItems(field(object, 'items'), locate);
      return;
    }
    const problem = kindProblem(apiVersion, kind);
    if (problem !== null) {
      this.#error(problem, locate([...path, isManifestKind(kind) ? 'apiVersion' : 'kind']));
      return;
    }
    this.#addManifest(object, apiVersion, kind, (below, part) => locate([...path, ...below], part));
  }

  #addItems(items: JsonValue | undefined, locate: Locate): void {
    if (isList(items)) {
      for (const [index, item] of items.entries()) this.add(item, ['items', index], locate);
    } else if (!isAbsent(items)) {
      this.#error('items of a List must be a list', locate(['items']));
    }
  }

  #addManifest(object: JsonObject, apiVersion: string, kind: string, locate: Locate): void {
    const metadata = asObject(field(object, 'metadata'));
    const name = asString(field(metadata, 'name')) ?? '';
    if (name === '') {
      this.#error(`${kind} needs a metadata.name, a string`, locate(['metadata', 'name']));
      return;
    }
    const written = field(metadata, 'namespace');
    const namespace = isAbsent(written) ? DEFAULT_NAMESPACE : asString(written);
    if (namespace === null || namespace === '') {
      this.#error(
        `metadata.namespace of ${kind} ${name} must be a string that is not empty`,
        locate(['metadata', 'namespace']),
      );
      return;
    }
    this.manifests.push({ apiVersion, kind, namespace, name, object, locate });
  }

  #error(message: string, location: SourceLocation): void {
    this.problems.push({ severity: 'error', message, location, resource: null });
  }
}

/** What makes two manifests the same object, in whatever version. A mesh has one MeshConfig, however it is called. */
export function objectKey(manifest: Manifest): string {
  return manifest.kind === 'MeshConfig' ? manifest.kind : titleOf(manifest);
}

/**
 * Manifests that stand for an object which an earlier one stands for already. For the manifests of one file or of many.
 */
export function duplicateManifests(
  manifests: readonly Manifest[],
): readonly { readonly manifest: Manifest; readonly problem: Problem }[] {
  const first = new Map<string, Manifest>();
  return manifests.flatMap((manifest) => {
    const isMesh = manifest.kind === 'MeshConfig';
    const resource = titleOf(manifest);
    const key = objectKey(manifest);
    const earlier = first.get(key);
    if (earlier === undefined) {
      first.set(key, manifest);
      return [];
    }
    const { file, line } = earlier.locate([]);
    const what = isMesh ? 'there can be one MeshConfig; another stands' : 'the same object stands already';
    const problem: Problem = {
      severity: 'error',
      message: `${what} in ${file}:${line}: remove one of the two`,
      location: manifest.locate([]),
      resource,
    };
    return [{ manifest, problem }];
  });
}
