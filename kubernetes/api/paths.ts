import { KubernetesError } from './errors.ts';
import type { ObjectName, ResourceType, Selection } from './types.ts';

/** Where the API serves things: `/api/v1/...` for the core group, `/apis/<group>/<version>/...` for the others. */

export function groupVersionPath(groupVersion: string): string {
  const parts = groupVersion.split('/').map(segment);
  return parts.length === 1 ? `/api/${parts[0]}` : `/apis/${parts.join('/')}`;
}

export function groupVersionOf({ group, version }: ResourceType): string {
  return group === '' ? version : `${group}/${version}`;
}

/** Of all objects of a type, or of those of one namespace. */
export function collectionPath(type: ResourceType, namespace: string | undefined): string {
  const base = groupVersionPath(groupVersionOf(type));
  if (namespace === undefined || namespace === '') return `${base}/${type.plural}`;
  if (!type.namespaced) throw badName(`${type.kind} has no namespace, and ${namespace} was named`);
  return `${base}/namespaces/${segment(namespace)}/${type.plural}`;
}

export function objectPath(type: ResourceType, { namespace, name }: ObjectName): string {
  if (type.namespaced && namespace === '') throw badName(`${type.kind} ${name} needs a namespace`);
  return `${collectionPath(type, namespace)}/${segment(name)}`;
}

/** With those parameters that have a value; empty ones are left out. */
export function withQuery(path: string, parameters: { readonly [name: string]: string | undefined }): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== '') query.set(name, value);
  }
  return query.size === 0 ? path : `${path}?${query}`;
}

export function selectionQuery({ labelSelector, fieldSelector }: Selection): {
  readonly [name: string]: string | undefined;
} {
  return { labelSelector, fieldSelector };
}

/** Names come from tokens and from manifests: NEVER does one lead to another path. */
function segment(text: string): string {
  if (text === '' || text === '.' || text === '..' || text.length > 253 || !/^[A-Za-z0-9._:-]+$/.test(text)) {
    throw badName(`${JSON.stringify(text.slice(0, 100))} is not the name of a Kubernetes object`);
  }
  return encodeURIComponent(text);
}

function badName(message: string): KubernetesError {
  return new KubernetesError('BadRequest', 0, message);
}
