import { EXIT, PosternError } from '../../mesh/errors.ts';
import { asObject, asString, field } from '../../policy/json.ts';
import type { JsonObject } from '../../policy/types.ts';
import { CLUSTER_TRUST_BUNDLE_VERSIONS, TYPES } from '../api/resource-types.ts';
import { servedVersion } from '../api/served-version.ts';
import type { KubernetesApi, ResourceType } from '../api/types.ts';
import { annotationsOf, labelsOf } from '../injection/pod.ts';
import { INJECTED } from '../injection/types.ts';
import { existing } from './apply.ts';
import { identityOf, titleOf } from './identity.ts';
import { isCompatibleDefinition, phasesOf } from './phases.ts';
import { ServedTypes } from './served-types.ts';
import { podSelector, waitFor } from './wait.ts';

export interface UninstallOptions {
  readonly api: KubernetesApi;
  /** What may have been installed, by any overlay and component. */
  readonly objects: readonly JsonObject[];
  /** What the control plane has published in every namespace. */
  readonly published: {
    readonly labels: { readonly [key: string]: string };
    readonly configMap: string;
    readonly clusterTrustBundle: string;
  };
  /** Whether the kinds go as well, and with them every policy of the cluster. */
  readonly definitions: boolean;
  /** Although pods still have sidecars. */
  readonly force: boolean;
  readonly report: (line: string) => void;
  readonly pollMs?: number;
}

const CALL_MS = 30_000;
const PODS_MS = 60_000;

/** What `manifests/` writes on everything: nothing that lacks it is ever deleted. */
const OURS = { label: 'app.kubernetes.io/part-of', value: 'postern' } as const;

/** Undoes an installation. Safe to repeat. @throws PosternError ERR_SIDECARS_LEFT while pods have sidecars */
export async function uninstall(options: UninstallOptions): Promise<void> {
  const { api, report } = options;
  if (!options.force) await requireNoSidecars(api);
  const phases = phasesOf(options.objects);
  const types = new ServedTypes(api);
  // From here on nobody's pods and policies hang on us.
  await removeAll(options, types, phases.webhooks);
  await removeAll(options, types, [...phases.extras, ...phases.workload]);
  // The leader would publish anew what is deleted under it.
  await awaitPodsGone(options, phases.workload);
  await removePublished(options);
  const [namespace, ...foundation] = phases.foundation;
  await removeAll(options, types, foundation.toReversed());
  if (namespace !== undefined) await removeAll(options, types, [namespace]);
  if (options.definitions) await removeAll(options, types, phases.definitions);
  else report('kept: the definitions of the kinds and all policies (--crds removes them)');
}

async function requireNoSidecars(api: KubernetesApi): Promise<void> {
  const namespaces = new Map<string, number>();
  await api.list(TYPES.Pod, {}, AbortSignal.timeout(CALL_MS), (pods) => {
    for (const pod of pods) {
      if (!annotationsOf(pod).has(INJECTED.statusAnnotation) || isOver(pod)) continue;
      const { namespace } = identityOf(pod);
      namespaces.set(namespace, (namespaces.get(namespace) ?? 0) + 1);
    }
  });
  if (namespaces.size === 0) return;
  const where = [...namespaces].map(([namespace, count]) => `${namespace} (${count})`).join(', ');
  const message = `pods still have sidecars, which would lose their identity within the hour: ${where}; remove the label ${INJECTED.injectKey} there and restart the workloads first, or give --force`;
  throw new PosternError('ERR_SIDECARS_LEFT', message, { exitCode: EXIT.failure });
}

/** Ended, or on its way out. */
function isOver(pod: JsonObject): boolean {
  const phase = field(asObject(field(pod, 'status')), 'phase');
  const deleted = asString(field(asObject(field(pod, 'metadata')), 'deletionTimestamp'));
  return phase === 'Succeeded' || phase === 'Failed' || deleted !== null;
}

async function removeAll(options: UninstallOptions, types: ServedTypes, objects: readonly JsonObject[]): Promise<void> {
  for (const object of objects) await removeOne(options, types, object);
}

async function removeOne({ api, report }: UninstallOptions, types: ServedTypes, object: JsonObject): Promise<void> {
  const identity = identityOf(object);
  const signal = AbortSignal.timeout(CALL_MS);
  const type = await types.find(identity, signal);
  // A kind that is not served has no objects.
  const there = type === null ? null : await existing(api, type, identity, signal);
  if (type === null || there === null) return;
  const isOurs = labelsOf(there).get(OURS.label) === OURS.value;
  if (!isOurs || (isCompatibleDefinition(object) && !isCompatibleDefinition(there))) {
    report(`${titleOf(identity)} kept: it is not of this installation`);
    return;
  }
  if (await remove(api, type, there, signal)) report(`${titleOf(identity)} deleted`);
}

/** Exactly this object, not one that has come in its place. */
async function remove(
  api: KubernetesApi,
  type: ResourceType,
  object: JsonObject,
  signal: AbortSignal,
): Promise<boolean> {
  const uid = asString(field(asObject(field(object, 'metadata')), 'uid'));
  return await api.delete(type, identityOf(object), { ...(uid === null ? {} : { uid }), signal });
}

async function awaitPodsGone(options: UninstallOptions, workloads: readonly JsonObject[]): Promise<void> {
  const { api, report, pollMs } = options;
  for (const workload of workloads) {
    const { namespace } = identityOf(workload);
    const labelSelector = podSelector(workload);
    await waitFor(
      'the control plane still runs',
      async (signal) => {
        const { items } = await api.list(TYPES.Pod, { namespace, labelSelector }, signal);
        return items.length === 0 ? { done: true } : { done: false, missing: `${items.length} pods are ending` };
      },
      {
        timeoutMs: PODS_MS,
        onProgress: (missing) => report(`waiting: ${missing}`),
        ...(pollMs === undefined ? {} : { pollMs }),
      },
    );
  }
}

async function removePublished({ api, published, report }: UninstallOptions): Promise<void> {
  const labelSelector = Object.entries(published.labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
  const selection = { labelSelector, fieldSelector: `metadata.name=${published.configMap}` };
  const { items } = await api.list(TYPES.ConfigMap, selection, AbortSignal.timeout(CALL_MS));
  for (const item of items) await remove(api, TYPES.ConfigMap, item, AbortSignal.timeout(CALL_MS));
  if (items.length > 0) report(`ConfigMap ${published.configMap} deleted in ${items.length} namespaces`);
  const signal = AbortSignal.timeout(CALL_MS);
  const type = await servedVersion(api, TYPES.ClusterTrustBundle, CLUSTER_TRUST_BUNDLE_VERSIONS, signal);
  const name = { namespace: '', name: published.clusterTrustBundle };
  if (type !== null && (await api.delete(type, name, { signal: AbortSignal.timeout(CALL_MS) }))) {
    report(`ClusterTrustBundle ${published.clusterTrustBundle} deleted`);
  }
}
