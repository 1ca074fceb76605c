import { isDeepStrictEqual } from 'node:util';
import { asObject } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { at, listAt, nameOf, objectsAt, textAt, textsAt } from './objects.ts';
import { badRequest, type Cause, invalid, required, unsupported, wrong } from './status.ts';
import type { ServedType } from './type-registry.ts';

const ALWAYS_KNOWN: readonly string[] = ['apiVersion', 'kind', 'metadata'];

/**
 * An object of a custom kind as its structural schema has it: unknown fields pruned, defaults filled in, values checked. Built-in kinds pass
 * unchanged. CEL rules (`x-kubernetes-validations`) are not looked at.
 * @throws ApiFailure 422 for a value that the schema refuses, 400 for an unknown field where validation is `Strict`.
 */
export function schemaChecked(
  { schema, ...type }: ServedType,
  object: JsonObject,
  fieldValidation: string,
  warn: (text: string) => void,
): JsonObject {
  if (schema === null) return object;
  const unknown: string[] = [];
  const { apiVersion = '', kind = '', metadata = {} } = object;
  const pruned = asObject(prune(object, schema, '', unknown) ?? null) ?? {};
  if (unknown.length > 0 && fieldValidation === 'Strict') {
    const texts = unknown.map((path) => `unknown field "${path}"`).join(', ');
    throw badRequest(
      `${type.kind} in version "${type.version}" cannot be handled as a ${type.kind}: strict decoding error: ${texts}`,
    );
  }
  if (fieldValidation !== 'Ignore') for (const path of unknown) warn(`unknown field "${path}"`);
  const causes: Cause[] = [];
  validate(pruned, schema, '', causes);
  if (causes.length > 0) throw invalid({ ...type, schema }, nameOf(object), causes);
  return { apiVersion, kind, metadata, ...pruned };
}

const join = (path: string, name: string): string => (path === '' ? name : `${path}.${name}`);
const preserves = (schema: JsonObject): boolean => schema['x-kubernetes-preserve-unknown-fields'] === true;

function prune(value: JsonValue, schema: JsonObject, path: string, unknown: string[]): JsonValue {
  if (Array.isArray(value)) {
    const items = asObject(at(schema, 'items') ?? null);
    return items === null ? value : value.map((one, index) => prune(one, items, `${path}[${index}]`, unknown));
  }
  const object = asObject(value);
  const properties = asObject(at(schema, 'properties') ?? null) ?? {};
  const additional = at(schema, 'additionalProperties');
  if (object === null || textAt(schema, 'type') !== 'object') return value;
  const result: { [name: string]: JsonValue } = {};
  for (const [name, inner] of Object.entries(object)) {
    const known = Object.hasOwn(properties, name) ? asObject(properties[name]) : asObject(additional ?? null);
    if (path === '' && ALWAYS_KNOWN.includes(name)) result[name] = inner;
    else if (known !== null) result[name] = prune(inner, known, join(path, name), unknown);
    else if (preserves(schema) || additional === true || schema['x-kubernetes-embedded-resource'] === true)
      result[name] = inner;
    else unknown.push(join(path, name));
  }
  for (const [name, property] of Object.entries(properties)) {
    const fallback = at(property, 'default');
    if (fallback !== undefined && result[name] === undefined) result[name] = fallback;
  }
  return result;
}

const TYPES: { readonly [type: string]: (value: JsonValue) => boolean } = {
  object: (value) => asObject(value) !== null,
  array: (value) => Array.isArray(value),
  string: (value) => typeof value === 'string',
  boolean: (value) => typeof value === 'boolean',
  integer: (value) => Number.isInteger(value),
  number: (value) => typeof value === 'number',
};

function goType(value: JsonValue): string {
  if (Array.isArray(value)) return 'array';
  if (value !== null && typeof value === 'object') return 'object';
  return Number.isInteger(value) ? 'integer' : value === null ? 'null' : typeof value;
}

function validate(value: JsonValue, schema: JsonObject, path: string, causes: Cause[]): void {
  if (value === null && schema.nullable === true) return;
  const type = textAt(schema, 'type');
  if (schema['x-kubernetes-int-or-string'] === true) {
    if (typeof value !== 'string' && !Number.isInteger(value))
      causes.push(wrong(path, value, `${path} in body must be of type integer or string`));
  } else if (type !== '' && TYPES[type]?.(value) === false) {
    const hint = `${path} in body must be of type ${type}: ${JSON.stringify(goType(value))}`;
    causes.push({
      reason: 'FieldValueTypeInvalid',
      message: `Invalid value: ${JSON.stringify(goType(value))}: ${hint}`,
      field: path,
    });
    return;
  }
  validateScalar(value, schema, path, causes);
  validateCombined(value, schema, path, causes);
  if (Array.isArray(value)) validateList(value, schema, path, causes);
  const object = asObject(value);
  if (object !== null) validateObject(object, schema, path, causes);
}

function validateObject(object: JsonObject, schema: JsonObject, path: string, causes: Cause[]): void {
  for (const name of textsAt(schema, 'required')) {
    if (!Object.hasOwn(object, name)) causes.push(required(join(path, name)));
  }
  const properties = asObject(at(schema, 'properties') ?? null) ?? {};
  const additional = asObject(at(schema, 'additionalProperties') ?? null);
  for (const [name, inner] of Object.entries(object)) {
    if (path === '' && ALWAYS_KNOWN.includes(name)) continue;
    const known = Object.hasOwn(properties, name) ? asObject(properties[name]) : additional;
    if (known !== null) validate(inner, known, join(path, name), causes);
  }
}

function validateList(list: readonly JsonValue[], schema: JsonObject, path: string, causes: Cause[]): void {
  const { minItems, maxItems } = schema;
  if (typeof minItems === 'number' && list.length < minItems)
    causes.push(wrong(path, list.length, `${path} in body should have at least ${minItems} items`));
  if (typeof maxItems === 'number' && list.length > maxItems) {
    causes.push({
      reason: 'FieldValueTooMany',
      message: `Too many: ${list.length}: must have at most ${maxItems} items`,
      field: path,
    });
  }
  const items = asObject(at(schema, 'items') ?? null);
  if (items !== null) for (const [index, one] of list.entries()) validate(one, items, `${path}[${index}]`, causes);
}

function validateScalar(value: JsonValue, schema: JsonObject, path: string, causes: Cause[]): void {
  const allowed = listAt(schema, 'enum');
  if (allowed.length > 0 && !allowed.some((one) => isDeepStrictEqual(one, value))) {
    causes.push(unsupported(path, value, allowed.map(String)));
  }
  const { pattern, minLength, maxLength, minimum, maximum } = schema;
  if (typeof value === 'string') {
    if (typeof pattern === 'string' && !new RegExp(pattern, 'u').test(value))
      causes.push(wrong(path, value, `${path} in body should match '${pattern}'`));
    if (typeof minLength === 'number' && value.length < minLength)
      causes.push(wrong(path, value, `${path} in body should be at least ${minLength} chars long`));
    if (typeof maxLength === 'number' && value.length > maxLength) {
      causes.push({
        reason: 'FieldValueTooLong',
        message: `Too long: may not be more than ${maxLength} bytes`,
        field: path,
      });
    }
  }
  if (typeof value !== 'number') return;
  if (typeof minimum === 'number' && value < minimum)
    causes.push(wrong(path, value, `${path} in body should be greater than or equal to ${minimum}`));
  if (typeof maximum === 'number' && value > maximum)
    causes.push(wrong(path, value, `${path} in body should be less than or equal to ${maximum}`));
}

function holds(value: JsonValue, schema: JsonObject, path: string): boolean {
  const causes: Cause[] = [];
  validate(value, schema, path, causes);
  return causes.length === 0;
}

function validateCombined(value: JsonValue, schema: JsonObject, path: string, causes: Cause[]): void {
  for (const one of objectsAt(schema, 'allOf')) validate(value, one, path, causes);
  const [any, single] = [objectsAt(schema, 'anyOf'), objectsAt(schema, 'oneOf')];
  const shown = goType(value);
  if (any.length > 0 && !any.some((one) => holds(value, one, path)))
    causes.push(wrong(path, shown, `${path} in body must validate at least one schema (anyOf)`));
  if (single.length > 0 && single.filter((one) => holds(value, one, path)).length !== 1)
    causes.push(wrong(path, shown, `${path} in body must validate one and only one schema (oneOf)`));
  const not = asObject(at(schema, 'not') ?? null);
  if (not !== null && holds(value, not, path))
    causes.push(wrong(path, shown, `${path} in body must not validate the schema (not)`));
}
