import { asObject } from '../../../policy/json.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { at, isDeleting, metaOf, nameOf, objectsAt, textAt, textsAt, timestamp, withMeta } from './objects.ts';
import { type Cause, required, wrong } from './status.ts';
import type { Change, Store } from './store.ts';
import { type Column, type ServedType, servedType, type TypeRegistry } from './type-registry.ts';

const STORAGE = 'apiextensions.k8s.io/customresourcedefinitions';
const AGE: Column = { name: 'Age', path: '.metadata.creationTimestamp', type: 'date', priority: 0 };

/** Kinds as the CustomResourceDefinitions in the store bring them, from their creation to their deletion. */
export class CustomTypes {
  readonly #store: Store;
  readonly #types: TypeRegistry;

  constructor(store: Store, types: TypeRegistry) {
    this.#store = store;
    this.#types = types;
    store.subscribe(STORAGE, (change) => this.#changed(change));
  }

  #changed({ type, entry }: Change): void {
    const definition = entry.object;
    const storage = `${textAt(definition, 'spec', 'group')}/${textAt(definition, 'spec', 'names', 'plural')}`;
    this.#types.removeStorage(storage);
    if (type === 'DELETED') {
      for (const { namespace, name } of this.#store.list(storage, null)) this.#store.remove(storage, namespace, name);
      return;
    }
    for (const served of typesOf(definition)) this.#types.add(served);
    if (type === 'ADDED' && !isDeleting(definition)) this.#establish(definition);
  }

  /** Names are accepted at once; a real server takes some milliseconds. */
  #establish(definition: JsonObject): void {
    const { generation = 1 } = metaOf(definition);
    const condition = (type: string, reason: string, message: string): JsonObject => ({
      type,
      status: 'True',
      lastTransitionTime: timestamp(),
      reason,
      message,
      observedGeneration: generation,
    });
    const status: JsonObject = {
      conditions: [
        condition('NamesAccepted', 'NoConflicts', 'no conflicts found'),
        condition('Established', 'InitialNamesAccepted', 'the initial names have been accepted'),
      ],
      acceptedNames: at(definition, 'spec', 'names') ?? {},
      storedVersions: storageVersions(definition),
    };
    this.#store.put(STORAGE, withMeta({ ...definition, status }, {}));
  }
}

const storageVersions = (definition: JsonObject): readonly string[] =>
  objectsAt(definition, 'spec', 'versions')
    .filter((version) => version.storage === true)
    .map((version) => textAt(version, 'name'));

function typesOf(definition: JsonObject): readonly ServedType[] {
  const spec = at(definition, 'spec');
  const names = at(spec, 'names');
  return objectsAt(spec, 'versions').flatMap((version) => {
    if (version.served !== true) return [];
    const schema = asObject(at(version, 'schema', 'openAPIV3Schema') ?? null);
    const type = {
      group: textAt(spec, 'group'),
      version: textAt(version, 'name'),
      kind: textAt(names, 'kind'),
      plural: textAt(names, 'plural'),
      namespaced: textAt(spec, 'scope') === 'Namespaced',
    };
    return servedType(type, {
      singular: textAt(names, 'singular') || type.kind.toLowerCase(),
      shortNames: textsAt(names, 'shortNames'),
      categories: textsAt(names, 'categories'),
      subresources: at(version, 'subresources', 'status') === undefined ? [] : ['status'],
      columns: columnsOf(version),
      schema: schema ?? {},
      custom: true,
    });
  });
}

function columnsOf(version: JsonObject): readonly Column[] {
  const columns = objectsAt(version, 'additionalPrinterColumns').map((column) => ({
    name: textAt(column, 'name'),
    path: textAt(column, 'jsonPath'),
    type: textAt(column, 'type'),
    priority: Number(at(column, 'priority') ?? 0),
    description: textAt(column, 'description'),
  }));
  return columns.length === 0 ? [AGE] : columns;
}

/** What is wrong about a CustomResourceDefinition: the commonest of upstream's checks. */
export function definitionCauses(definition: JsonObject): readonly Cause[] {
  const causes: Cause[] = [];
  const spec = at(definition, 'spec');
  const expected = `${textAt(spec, 'names', 'plural')}.${textAt(spec, 'group')}`;
  if (nameOf(definition) !== expected)
    causes.push(wrong('metadata.name', nameOf(definition), `must be spec.names.plural+"."+spec.group`));
  for (const field of ['plural', 'kind'])
    if (textAt(spec, 'names', field) === '') causes.push(required(`spec.names.${field}`));
  if (!['Namespaced', 'Cluster'].includes(textAt(spec, 'scope'))) causes.push(required('spec.scope'));
  if (storageVersions(definition).length !== 1)
    causes.push(wrong('spec.versions', '', 'must have exactly one version marked as storage version'));
  for (const [index, version] of objectsAt(spec, 'versions').entries()) {
    const field = `spec.versions[${index}].schema.openAPIV3Schema`;
    const schema = asObject(at(version, 'schema', 'openAPIV3Schema') ?? null);
    if (schema === null) causes.push(required(field, 'schemas are required'));
    else {
      if (textAt(schema, 'type') !== 'object')
        causes.push(wrong(`${field}.type`, textAt(schema, 'type'), 'must be object at the root'));
      structuralCauses(schema, field, causes);
    }
    for (const column of objectsAt(version, 'additionalPrinterColumns')) {
      if (!textAt(column, 'jsonPath').startsWith('.'))
        causes.push(
          wrong(`spec.versions[${index}].additionalPrinterColumns.jsonPath`, textAt(column, 'jsonPath'), 'is invalid'),
        );
      if (!['integer', 'number', 'string', 'boolean', 'date'].includes(textAt(column, 'type')))
        causes.push(required(`spec.versions[${index}].additionalPrinterColumns.type`));
    }
  }
  return causes;
}

/** A structural schema names the type of everything that it describes. */
function structuralCauses(schema: JsonObject, field: string, causes: Cause[]): void {
  const untyped =
    schema['x-kubernetes-int-or-string'] === true || schema['x-kubernetes-preserve-unknown-fields'] === true;
  const type = textAt(schema, 'type');
  if (type === '' && !untyped) causes.push(required(`${field}.type`, 'must not be empty for specified object fields'));
  if (type === 'array' && at(schema, 'items') === undefined)
    causes.push(required(`${field}.items`, 'must be specified'));
  if (at(schema, 'properties') !== undefined && at(schema, 'additionalProperties') !== undefined) {
    causes.push({
      reason: 'FieldValueForbidden',
      message: 'Forbidden: additionalProperties and properties are mutual exclusive',
      field: `${field}.additionalProperties`,
    });
  }
  for (const [name, property] of Object.entries(asObject(at(schema, 'properties') ?? null) ?? {})) {
    structuralCauses(asObject(property) ?? {}, `${field}.properties[${name}]`, causes);
  }
  for (const name of ['items', 'additionalProperties']) {
    const inner = asObject(at(schema, name) ?? null);
    if (inner !== null) structuralCauses(inner, `${field}.${name}`, causes);
  }
}
