import type { WorkloadResource } from './resources.ts';

type Labels = { readonly [key: string]: string };
type TelemetryFields = Pick<
  WorkloadResource,
  'workloadName' | 'app' | 'version' | 'canonicalService' | 'canonicalRevision' | 'cluster'
>;

/** Istio's labels by which telemetry tells workloads apart: of each list the first that is there, and not empty, counts. */
export const CANONICAL_NAME = ['service.istio.io/canonical-name', 'app.kubernetes.io/name', 'app'] as const;
export const CANONICAL_REVISION = [
  'service.istio.io/canonical-revision',
  'app.kubernetes.io/version',
  'version',
] as const;
const WORKLOAD_NAME = ['postern.dev/workload', 'service.istio.io/workload-name', 'app'] as const;

/** Istio's name for the cluster where none is configured. */
const CLUSTER = 'Kubernetes';
const UNKNOWN = 'unknown';

/** First label that is present and not empty. */
export function firstLabel(labels: Labels, keys: readonly string[]): string | null {
  for (const key of keys) {
    const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
    if (value !== undefined && value !== '') return value;
  }
  return null;
}

/** What metrics and logs say of a workload, and its sidecar of itself: Istio's labels, in Istio's order of preference. */
export function telemetryFields(labels: Labels, instance: string): TelemetryFields {
  const workloadName = firstLabel(labels, WORKLOAD_NAME) ?? instance;
  return {
    workloadName,
    app: firstLabel(labels, ['app']) ?? UNKNOWN,
    version: firstLabel(labels, ['version']) ?? UNKNOWN,
    canonicalService: firstLabel(labels, CANONICAL_NAME) ?? workloadName,
    canonicalRevision: firstLabel(labels, CANONICAL_REVISION) ?? 'latest',
    cluster: CLUSTER,
  };
}
