import { groupVersionOf } from './paths.ts';
import type { KubernetesApi, ResourceType } from './types.ts';

/**
 * The first of the versions in which the server has the kind of `type`; null: in none of them. An object is the same in each version, so that any will
 * do. @throws KubernetesError where that cannot be found out
 */
export async function servedVersion(
  api: Pick<KubernetesApi, 'discover'>,
  type: ResourceType,
  versions: readonly string[],
  signal: AbortSignal,
): Promise<ResourceType | null> {
  for (const version of versions) {
    const candidate = { ...type, version };
    const served = await api.discover(groupVersionOf(candidate), signal);
    if (served?.some(({ plural }) => plural === type.plural) === true) return candidate;
  }
  return null;
}
