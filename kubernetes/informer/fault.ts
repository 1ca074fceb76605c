import type { KubernetesError } from '../api/errors.ts';
import type { ResourceType } from '../api/types.ts';

/** Why nothing is heard of a kind. */
export interface InformerFault {
  /** As in `KubernetesError`. */
  readonly reason: string;
  readonly message: string;
}

/** What is wrong and what to do. @param namespace Empty: all are asked for. */
export function faultMessage(error: KubernetesError, type: ResourceType, namespace: string): string {
  const resource = type.group === '' ? type.plural : `${type.plural}.${type.group}`;
  switch (error.reason) {
    case 'Forbidden': {
      const rule = `apiGroups: ["${type.group}"], resources: ["${type.plural}"], verbs: ["get", "list", "watch"]`;
      const where = namespace === '' ? 'a ClusterRole' : `a Role in the namespace ${namespace}`;
      return `may not list and watch ${resource}: give the service account ${where} with ${rule} (${error.message})`;
    }
    case 'Unauthorized':
      return `${error.message}; the API server does not accept our credentials: look at the service account's token`;
    default:
      return error.message;
  }
}
