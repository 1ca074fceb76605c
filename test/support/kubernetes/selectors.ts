import { stringMap } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { at, labelsOf, nameOf, namespaceOf, objectsAt, textAt, textsAt } from './objects.ts';
import { badRequest } from './status.ts';

/** Whether an object is selected. */
export type Selector = (object: JsonObject) => boolean;
type Labels = ReadonlyMap<string, string>;
type Requirement = (labels: Labels) => boolean;

const EVERYTHING: Selector = () => true;
const KEY = '[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?';
const SET = new RegExp(`^(${KEY})\\s+(in|notin)\\s*\\(([^)]*)\\)$`);
const EQUALITY = new RegExp(`^(${KEY})\\s*(==|=|!=)\\s*([A-Za-z0-9._-]*)$`);
const PRESENCE = new RegExp(`^(!?)\\s*(${KEY})$`);

/** `a=b,c!=d,e in (f,g),h,!i` (apimachinery, `pkg/labels`). @throws ApiFailure 400. */
export function labelSelector(text: string): Selector {
  if (text.trim() === '') return EVERYTHING;
  const requirements = text.split(/,(?![^(]*\))/).map((part) => requirement(part.trim(), text));
  return (object) => {
    const labels = labelsOf(object);
    return requirements.every((holds) => holds(labels));
  };
}

function requirement(part: string, all: string): Requirement {
  const [, setKey = '', operator, list = ''] = SET.exec(part) ?? [];
  if (operator !== undefined)
    return oneOf(
      setKey,
      list.split(',').map((one) => one.trim()),
      operator === 'in',
    );
  const [, key = '', equals, value = ''] = EQUALITY.exec(part) ?? [];
  if (equals !== undefined) return oneOf(key, [value], equals !== '!=');
  const [, not, present] = PRESENCE.exec(part) ?? [];
  if (present === undefined) throw badRequest(`unable to parse requirement: ${JSON.stringify(part)} in "${all}"`);
  return (labels) => labels.has(present) === (not === '');
}

/** An absent label is none of any values. */
const oneOf =
  (key: string, values: readonly string[], wanted: boolean): Requirement =>
  (labels) => {
    const value = labels.get(key);
    return (value !== undefined && values.includes(value)) === wanted;
  };

/** `{matchLabels, matchExpressions}` over labels; null selects nothing, an empty one everything. */
export function matchesLabels(selector: JsonValue | undefined, labels: Labels): boolean {
  for (const [key, value] of stringMap(at(selector, 'matchLabels'))) if (labels.get(key) !== value) return false;
  return objectsAt(selector, 'matchExpressions').every((expression) => {
    const value = labels.get(textAt(expression, 'key'));
    switch (textAt(expression, 'operator')) {
      case 'In':
        return value !== undefined && textsAt(expression, 'values').includes(value);
      case 'NotIn':
        return value === undefined || !textsAt(expression, 'values').includes(value);
      case 'Exists':
        return value !== undefined;
      case 'DoesNotExist':
        return value === undefined;
      default:
        return false;
    }
  });
}

const EVENT_OBJECT = ['kind', 'namespace', 'name', 'uid', 'apiVersion', 'fieldPath'];

/** Fields by which a kind may be selected, beside name and namespace. */
const FIELDS: { readonly [storage: string]: readonly string[] } = {
  '/pods': [
    'spec.nodeName',
    'spec.serviceAccountName',
    'spec.restartPolicy',
    'spec.schedulerName',
    'status.phase',
    'status.podIP',
  ],
  '/secrets': ['type'],
  '/namespaces': ['status.phase'],
  '/nodes': ['spec.unschedulable'],
  '/services': ['spec.clusterIP', 'spec.type'],
  'batch/jobs': ['status.successful'],
  'events.k8s.io/events': [
    ...EVENT_OBJECT.flatMap((name) => [`involvedObject.${name}`, `regarding.${name}`]),
    'reason',
    'type',
  ],
};

/** `metadata.name=x,status.phase!=Failed`. @throws ApiFailure 400 where the kind cannot be selected by a field. */
export function fieldSelector(text: string, storage: string): Selector {
  if (text.trim() === '') return EVERYTHING;
  const terms = text.split(',').map((part) => {
    const [, key = '', operator = '', value = ''] = /^([A-Za-z.]+)\s*(==|=|!=)\s*(.*)$/.exec(part.trim()) ?? [];
    if (key === '') throw badRequest(`invalid field selector: ${JSON.stringify(part)}`);
    const read = reader(key, storage);
    return (object: JsonObject): boolean => (read(object) === value) === (operator !== '!=');
  });
  return (object) => terms.every((holds) => holds(object));
}

function reader(key: string, storage: string): (object: JsonObject) => string {
  if (key === 'metadata.name') return nameOf;
  if (key === 'metadata.namespace') return namespaceOf;
  if (FIELDS[storage]?.includes(key) !== true) throw badRequest(`field label not supported: ${key}`);
  // An event is kept as it was written: in either of two versions, which name this field differently.
  const path = key.replace(/^involvedObject/, 'regarding').split('.');
  const other = key.replace(/^regarding/, 'involvedObject').split('.');
  return (object) => String(at(object, ...path) ?? at(object, ...other) ?? '');
}

/** The one name that a field selector asks for, if it does: RBAC takes it for the request's name. */
export function selectedName(text: string): string {
  const names = text.split(',').flatMap((part) => /^metadata\.name==?([^!=]+)$/.exec(part.trim())?.[1] ?? []);
  return names.length === 1 ? (names[0] ?? '') : '';
}
