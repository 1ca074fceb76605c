import { KubernetesClient } from '../kubernetes/api/client.ts';
import { inCluster, isInCluster } from '../kubernetes/api/in-cluster.ts';
import { fromKubeconfig } from '../kubernetes/api/kubeconfig-connection.ts';

export interface ClusterFlags {
  readonly kubeconfig?: string;
  readonly context?: string;
}

/**
 * The cluster that the flags name: by kubeconfig as kubectl finds it, in a pod without one by its service account. Whoever opens it closes it.
 *
 * @throws PosternError ERR_KUBERNETES_CREDENTIALS
 */
export function openCluster({ kubeconfig, context }: ClusterFlags): KubernetesClient {
  const named = kubeconfig !== undefined || context !== undefined || (process.env.KUBECONFIG ?? '') !== '';
  return new KubernetesClient(!named && isInCluster() ? inCluster() : fromKubeconfig({ path: kubeconfig, context }));
}
