import { CANONICAL_NAME, CANONICAL_REVISION, firstLabel } from '../../mesh/telemetry-labels.ts';
import { asString, field } from '../../policy/json.ts';
import type { JsonObject } from '../../policy/types.ts';
import { annotationsOf, itemsOf, labelsOf, metadataOf, objectsIn } from './pod.ts';
import { INJECTED } from './types.ts';

const PROMETHEUS = 'prometheus.io/';
const DEFAULT_CONTAINER = 'kubectl.kubernetes.io/default-container';

/**
 * The workload that a pod is one of, as people know it: the Deployment rather than its ReplicaSet, the CronJob rather than one of its Jobs. Found by
 * how Kubernetes' controllers name what they make.
 */
export function workloadNameOf(pod: JsonObject): string {
  const metadata = metadataOf(pod);
  const owners = objectsIn(field(metadata, 'ownerReferences'));
  const owner = owners.find((candidate) => field(candidate, 'controller') === true) ?? null;
  const kind = asString(field(owner, 'kind')) ?? '';
  const name = asString(field(owner, 'name')) ?? '';
  if (name === '') {
    const own = asString(field(metadata, 'name')) ?? '';
    return own === '' ? (asString(field(metadata, 'generateName')) ?? '').replace(/-+$/, '') : own;
  }
  if (kind === 'ReplicaSet') {
    const hash = labelsOf(pod).get('pod-template-hash') ?? '';
    return hash !== '' && name.endsWith(`-${hash}`) ? name.slice(0, -hash.length - 1) : name;
  }
  // A CronJob's Jobs end in the minutes since 1970 of their time.
  return kind === 'Job' ? name.replace(/-[0-9]{8,10}$/, '') : name;
}

/** Labels that the pod lacks and telemetry needs. */
export function missingLabels(pod: JsonObject, workload: string): { readonly [label: string]: string } {
  const labels = labelsOf(pod);
  const first = (names: readonly string[]): string | null => firstLabel(Object.fromEntries(labels), names);
  const wanted: readonly (readonly [string, string])[] = [
    [INJECTED.workloadLabel, labelValue(workload)],
    [CANONICAL_NAME[0], first(CANONICAL_NAME) ?? labelValue(workload)],
    [CANONICAL_REVISION[0], first(CANONICAL_REVISION) ?? 'latest'],
  ];
  return Object.fromEntries(wanted.filter(([label, value]) => !labels.has(label) && value !== ''));
}

/** The labels by which the sidecar's own telemetry names its workload. */
export function telemetryLabels(pod: JsonObject): { readonly [label: string]: string } {
  const names = new Set<string>([INJECTED.workloadLabel, ...CANONICAL_NAME, ...CANONICAL_REVISION]);
  const entries = [...labelsOf(pod)].filter(([name]) => names.has(name));
  return Object.fromEntries(entries.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** Names may be longer than labels: what is cut still has to end in a letter or digit. */
function labelValue(name: string): string {
  return name
    .slice(0, 63)
    .replace(/[^A-Za-z0-9._-]/g, '-')
    .replace(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, '');
}

/**
 * Annotations that the pod lacks: where Prometheus finds the sidecar's metrics, unless the author has said anything about Prometheus; and, where the
 * sidecar comes first among the containers, which of them `kubectl logs` and `kubectl exec` are about.
 */
export function missingAnnotations(pod: JsonObject, nativeSidecar: boolean): { readonly [name: string]: string } {
  const present = annotationsOf(pod);
  const isScraped = [...present.keys()].some((name) => name.startsWith(PROMETHEUS));
  const [container] = itemsOf(pod, 'containers');
  return {
    ...(isScraped
      ? {}
      : {
          [`${PROMETHEUS}scrape`]: 'true',
          [`${PROMETHEUS}port`]: '15020',
          [`${PROMETHEUS}path`]: '/metrics',
        }),
    ...(nativeSidecar || present.has(DEFAULT_CONTAINER)
      ? {}
      : { [DEFAULT_CONTAINER]: asString(field(container ?? null, 'name')) ?? '' }),
  };
}
