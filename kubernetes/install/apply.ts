import { EXIT, PosternError } from '../../mesh/errors.ts';
import type { JsonObject } from '../../policy/types.ts';
import { isReason } from '../api/errors.ts';
import { resourceVersionOf } from '../api/object-meta.ts';
import type { KubernetesApi, ResourceType } from '../api/types.ts';
import { type Identity, identityOf, titleOf } from './identity.ts';
import type { ServedTypes } from './served-types.ts';

/** Whom the API server attributes what is installed to. */
const FIELD_MANAGER = 'postern-install';

export interface Applied {
  readonly title: string;
  readonly outcome: 'created' | 'changed' | 'unchanged';
}

/** Writes one object by server-side apply: what others have added to it (`caBundle`, annotations) stays. */
export async function applyObject(
  api: Pick<KubernetesApi, 'get' | 'patch'>,
  types: ServedTypes,
  object: JsonObject,
  options: { readonly force: boolean; readonly signal: AbortSignal },
): Promise<Applied> {
  const identity = identityOf(object);
  const title = titleOf(identity);
  const type = await types.find(identity, options.signal);
  if (type === null) throw notServed(identity);
  const before = await existing(api, type, identity, options.signal);
  try {
    const patch = { type: 'apply', body: object } as const;
    const written = await api.patch(type, identity, patch, { fieldManager: FIELD_MANAGER, ...options });
    if (before === null) return { title, outcome: 'created' };
    const changed = resourceVersionOf(before) !== resourceVersionOf(written);
    return { title, outcome: changed ? 'changed' : 'unchanged' };
  } catch (error) {
    if (!isReason(error, 'Conflict')) throw error;
    const message = `${title} has been changed by somebody else since it was installed: ${error.message}; keep their change by --set or a kustomization of your own, or give --force to take it over`;
    throw new PosternError('ERR_INSTALL_CONFLICT', message, { cause: error });
  }
}

/** Null where there is none. @throws KubernetesError */
export async function existing(
  api: Pick<KubernetesApi, 'get'>,
  type: ResourceType,
  identity: Identity,
  signal: AbortSignal,
): Promise<JsonObject | null> {
  try {
    return await api.get(type, identity, signal);
  } catch (error) {
    if (isReason(error, 'NotFound')) return null;
    throw error;
  }
}

function notServed(identity: Identity): PosternError {
  const { apiVersion, kind } = identity;
  const remedy = apiVersion.startsWith('monitoring.coreos.com/')
    ? 'install the Prometheus operator first, or leave out --component prometheus-operator'
    : 'the cluster is too old, or lacks what serves it';
  return new PosternError('ERR_NOT_SERVED', `the cluster has no ${kind} of ${apiVersion}: ${remedy}`, {
    exitCode: EXIT.unavailable,
  });
}
