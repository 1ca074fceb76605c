import { statSync } from 'node:fs';
import { join, normalize } from 'node:path';
import { readFileBounded } from '../../mesh/atomic-file.ts';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import { asObject, asString, field, isAbsent, isList, stringMap } from '../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';
import { parseYaml } from '../../policy/yaml-document.ts';
import { type Identity, identityOf, isSame, titleOf } from './identity.ts';
import { mergeStrategically, replaceByPointer } from './patches.ts';

/**
 * Renders kustomizations, so that nobody needs kubectl for an installation: that part of kustomize which `manifests/` uses. What is beyond it is an
 * error, never left out; a test holds the result against `kubectl kustomize`.
 */

const FIELDS = ['apiVersion', 'kind', 'resources', 'components', 'configMapGenerator', 'patches', 'labels'];
const MAX_FILE_BYTES = 1024 * 1024;
/** Kustomizations within each other. */
const MAX_DEPTH = 8;

interface Kustomization {
  readonly directory: string;
  readonly file: string;
  readonly body: JsonObject;
}

/** Several kustomizations as one, with components applied to all of it. @throws PosternError ERR_KUSTOMIZATION, ERR_FILE_* */
export function renderKustomizations(
  directories: readonly string[],
  components: readonly string[] = [],
): readonly JsonObject[] {
  const objects = directories.flatMap((directory) => render(open(directory), [], 0));
  return distinct(
    components.reduce<readonly JsonObject[]>((all, directory) => render(open(directory), all, 0), objects),
  );
}

/** @param given What a component is applied to; of a kustomization nothing. */
function render({ directory, file, body }: Kustomization, given: readonly JsonObject[], depth: number): JsonObject[] {
  if (depth > MAX_DEPTH) throw fault(file, `there are more than ${MAX_DEPTH} kustomizations within each other`);
  let objects: readonly JsonObject[] = [
    ...given,
    ...texts(body, 'resources', file).flatMap((path) => resource(join(directory, path), depth)),
  ];
  for (const path of texts(body, 'components', file)) objects = render(open(join(directory, path)), objects, depth + 1);
  objects = [...objects, ...maps(body, 'configMapGenerator', file).map((entry) => configMap(entry, directory, file))];
  for (const patch of maps(body, 'patches', file)) objects = patched(objects, patch, directory, file);
  const labels = maps(body, 'labels', file).flatMap((entry) => {
    only(entry, ['pairs'], file);
    return [...stringMap(field(entry, 'pairs'))];
  });
  return objects.map((object) => labelled(object, Object.fromEntries(labels)));
}

function resource(path: string, depth: number): readonly JsonObject[] {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true
    ? render(open(path), [], depth + 1)
    : readObjects(path);
}

function open(directory: string): Kustomization {
  const file = join(normalize(directory), 'kustomization.yaml');
  const [body, ...others] = readObjects(file);
  if (body === undefined || others.length > 0) throw fault(file, 'it must be one YAML document');
  only(body, FIELDS, file);
  return { directory, file, body };
}

function readObjects(file: string): readonly JsonObject[] {
  return readYaml(readFileBounded(file, MAX_FILE_BYTES).toString('utf8'), file).map(
    (value) => asObject(value) ?? refuse(file, 'a document is no map'),
  );
}

function readYaml(text: string, file: string): readonly JsonValue[] {
  const { documents, problems } = parseYaml(text, file);
  const problem = problems.find(({ severity }) => severity === 'error');
  if (problem !== undefined) throw fault(`${file}:${problem.location.line}`, problem.message);
  return documents.map(({ value }) => value);
}

/** A ConfigMap of whole files, its name as given. */
function configMap(entry: JsonObject, directory: string, file: string): JsonObject {
  only(entry, ['name', 'namespace', 'files', 'options'], file);
  const options = asObject(field(entry, 'options'));
  only(options ?? {}, ['disableNameSuffixHash', 'labels'], file);
  if (field(options, 'disableNameSuffixHash') !== true) throw fault(file, 'names with hashes are not understood');
  const data = texts(entry, 'files', file).map((item) => {
    const [key = '', path = key] = item.split('=');
    return [key, readFileBounded(join(directory, path), MAX_FILE_BYTES).toString('utf8')];
  });
  const labels = asObject(field(options, 'labels'));
  const metadata = { name: field(entry, 'name') ?? '', namespace: field(entry, 'namespace') ?? '' };
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: labels === null ? metadata : { ...metadata, labels },
    data: Object.fromEntries(data),
  };
}

/** A file whose objects are merged into those of the same name; or operations on the one object that is named. */
function patched(objects: readonly JsonObject[], patch: JsonObject, directory: string, file: string): JsonObject[] {
  only(patch, ['path', 'patch', 'target'], file);
  const path = asString(field(patch, 'path'));
  const target = asObject(field(patch, 'target'));
  if (path !== null && target === null) {
    return readObjects(join(directory, path)).reduce<JsonObject[]>(
      (all, part) => {
        const identity = identityOf(part);
        return change(
          all,
          (one) => isSame(one, identity),
          titleOf(identity),
          file,
          (object) => mergeStrategically(object, part),
        );
      },
      [...objects],
    );
  }
  const text = asString(field(patch, 'patch'));
  if (text === null || target === null) throw fault(file, 'a patch has a path, or a target and a patch');
  only(target, ['kind', 'name'], file);
  const [operations = null] = readYaml(text, file);
  const [kind, name] = [field(target, 'kind'), field(target, 'name')];
  return change(
    objects,
    (one) => one.kind === kind && one.name === name,
    `${kind} ${name}`,
    file,
    (object) => replaceByPointer(object, operations),
  );
}

function change(
  objects: readonly JsonObject[],
  matches: (identity: Identity) => boolean,
  what: string,
  file: string,
  by: (object: JsonObject) => JsonObject,
): JsonObject[] {
  if (!objects.some((object) => matches(identityOf(object)))) throw fault(file, `there is no ${what} to patch`);
  return objects.map((object) => (matches(identityOf(object)) ? by(object) : object));
}

function labelled(object: JsonObject, labels: JsonObject): JsonObject {
  if (Object.keys(labels).length === 0) return object;
  const metadata = asObject(field(object, 'metadata'));
  return { ...object, metadata: { ...metadata, labels: { ...asObject(field(metadata, 'labels')), ...labels } } };
}

function distinct(objects: readonly JsonObject[]): readonly JsonObject[] {
  const seen = new Set<string>();
  for (const object of objects) {
    const identity = identityOf(object);
    const key = `${identity.apiVersion} ${titleOf(identity)}`;
    if (identity.kind === '' || identity.name === '') throw fault(key, 'an object has no kind or no name');
    if (seen.has(key)) throw fault(key, 'two manifests are of this object');
    seen.add(key);
  }
  return objects;
}

function texts(body: JsonObject, key: string, file: string): readonly string[] {
  return items(body, key, file).map((item) => asString(item) ?? refuse(file, `${key} has an item that is no string`));
}

function maps(body: JsonObject, key: string, file: string): readonly JsonObject[] {
  return items(body, key, file).map((item) => asObject(item) ?? refuse(file, `${key} has an item that is no map`));
}

function items(body: JsonObject, key: string, file: string): readonly JsonValue[] {
  const value = field(body, key);
  if (isAbsent(value)) return [];
  return isList(value) ? value : refuse(file, `${key} must be a list`);
}

function only(body: JsonObject, known: readonly string[], file: string): void {
  const unknown = Object.keys(body).find((key) => !known.includes(key));
  if (unknown !== undefined) throw fault(file, `${unknown} is not understood: render it by kubectl kustomize`);
}

function refuse(file: string, what: string): never {
  throw fault(file, what);
}

function fault(file: string, what: string): PosternError {
  return new PosternError('ERR_KUSTOMIZATION', `${file}: ${what}`, { exitCode: EXIT.dataError });
}
