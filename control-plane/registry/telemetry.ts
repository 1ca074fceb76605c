import type { WorkloadResource } from '../../mesh/resources.ts';
import { CANONICAL_NAME, CANONICAL_REVISION } from '../../mesh/telemetry-labels.ts';

type Labels = { readonly [key: string]: string };
type TelemetryFields = Pick<
  WorkloadResource,
  'workloadName' | 'app' | 'version' | 'canonicalService' | 'canonicalRevision' | 'cluster'
>;

/** Istio's name for the cluster where none is configured. */
const CLUSTER = 'Kubernetes';
const UNKNOWN = 'unknown';

/** First label that is present and not empty. */
function first(labels: Labels, ...keys: readonly string[]): string | null {
  for (const key of keys) {
    const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
    if (value !== undefined && value !== '') return value;
  }
  return null;
}

/** What metrics and logs say of a workload: Istio's labels, in Istio's order of preference. */
export function telemetryFields(labels: Labels, instance: string): TelemetryFields {
  const workloadName = first(labels, 'postern.dev/workload', 'service.istio.io/workload-name', 'app') ?? instance;
  return {
    workloadName,
    app: first(labels, 'app') ?? UNKNOWN,
    version: first(labels, 'version') ?? UNKNOWN,
    canonicalService: first(labels, ...CANONICAL_NAME) ?? workloadName,
    canonicalRevision: first(labels, ...CANONICAL_REVISION) ?? 'latest',
    cluster: CLUSTER,
  };
}
