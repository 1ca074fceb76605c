import { asObject, asString, field, isList } from '../../policy/json.ts';
import { DEFAULT_NAMESPACE } from '../../policy/selection.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';

/** A pod, or the template of pods, within a document. */
export interface PodTemplate {
  readonly kind: string;
  readonly namespace: string;
  /** Of the object; empty where the cluster will make one up. */
  readonly name: string;
  /** Where it stands in the document. */
  readonly path: readonly (string | number)[];
  readonly pod: JsonObject;
}

/** Where each kind has its pods, and the API group that it is of. */
const KINDS: { readonly [kind: string]: { readonly group: string; readonly path: readonly string[] } } = {
  Pod: { group: '', path: [] },
  ReplicationController: { group: '', path: ['spec', 'template'] },
  Deployment: { group: 'apps', path: ['spec', 'template'] },
  ReplicaSet: { group: 'apps', path: ['spec', 'template'] },
  StatefulSet: { group: 'apps', path: ['spec', 'template'] },
  DaemonSet: { group: 'apps', path: ['spec', 'template'] },
  Job: { group: 'batch', path: ['spec', 'template'] },
  CronJob: { group: 'batch', path: ['spec', 'jobTemplate', 'spec', 'template'] },
};

/** The pods of a document: of the object, or of the items of a List. Empty where it is of another kind. `namespace`: of objects that name none. */
export function podTemplatesOf(
  document: JsonValue,
  namespace: string | null,
  path: readonly (string | number)[] = [],
): readonly PodTemplate[] {
  const object = asObject(document);
  const apiVersion = asString(field(object, 'apiVersion')) ?? '';
  const kind = asString(field(object, 'kind')) ?? '';
  const items = field(object, 'items');
  if (kind.endsWith('List') && isList(items)) {
    return items.flatMap((item, index) => podTemplatesOf(item, namespace, [...path, 'items', index]));
  }
  const known = Object.hasOwn(KINDS, kind) ? KINDS[kind] : undefined;
  const slash = apiVersion.indexOf('/');
  if (object === null || known === undefined || known.group !== apiVersion.slice(0, Math.max(slash, 0))) return [];
  const metadata = asObject(field(object, 'metadata'));
  const pod = known.path.reduce<JsonObject | null>((node, key) => asObject(field(node, key)), object);
  if (pod === null) return [];
  return [
    {
      kind,
      namespace: asString(field(metadata, 'namespace')) ?? namespace ?? DEFAULT_NAMESPACE,
      name: asString(field(metadata, 'name')) ?? '',
      path: [...path, ...known.path],
      pod,
    },
  ];
}
