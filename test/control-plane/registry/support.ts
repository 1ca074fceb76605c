import { DEFAULTS } from '../../../control-plane/config.ts';
import type { RegisteredWorkload } from '../../../control-plane/registry/registrations.ts';
import type { RegistryInputs } from '../../../control-plane/registry/snapshot.ts';
import { readManifests } from '../../../control-plane/source/manifest-file.ts';
import type { WorkloadRegistration } from '../../../mesh/push.ts';
import type { JsonObject, Manifest } from '../../../policy/types.ts';

export const SETTINGS: RegistryInputs = {
  trustDomain: 'cluster.local',
  settings: DEFAULTS.mesh,
  manifests: [],
  workloads: [],
  roots: ['root'],
  revoked: { spiffeIds: [], serials: [] },
  jwks: new Map(),
};

export function manifestsOf(text: string): readonly Manifest[] {
  const { manifests, problems } = readManifests(text, 'test.yaml');
  const errors = problems.filter(({ severity }) => severity === 'error');
  if (errors.length > 0) throw new Error(errors.map(({ message }) => message).join('; '));
  return manifests;
}

export function workloadOf(name: string, more: Partial<WorkloadRegistration> = {}): RegisteredWorkload {
  const workload = {
    name,
    namespace: 'shop',
    serviceAccount: 'default',
    labels: { app: name },
    addresses: [`10.0.0.${name.length}`],
    tunnel: null,
    ports: {},
    ...more,
  };
  return { workload, identity: `spiffe://cluster.local/ns/${workload.namespace}/sa/${workload.serviceAccount}` };
}

/** An object as the cluster's source hands it on. */
export function objectOf(
  apiVersion: string,
  kind: string,
  namespace: string,
  name: string,
  rest: JsonObject,
): Manifest {
  const { metadata, ...others } = rest as { readonly [key: string]: JsonObject };
  const object = { apiVersion, kind, metadata: { name, namespace, ...metadata }, ...others };
  return { apiVersion, kind, namespace, name, object, locate: () => ({ file: `${kind}/${name}`, line: 1, column: 1 }) };
}

export interface PodParts {
  readonly namespace?: string;
  readonly labels?: JsonObject;
  readonly annotations?: JsonObject;
  readonly metadata?: JsonObject;
  readonly spec?: JsonObject;
  readonly status?: JsonObject;
}

/** A running pod at these addresses, with Postern's sidecar. */
export function podOf(name: string, ips: readonly string[], parts: PodParts = {}): Manifest {
  const { namespace = 'shop', labels = { app: name }, annotations = { 'postern.dev/status': '{}' } } = parts;
  return objectOf('v1', 'Pod', namespace, name, {
    metadata: { labels, annotations, ...parts.metadata },
    spec: { serviceAccountName: 'default', ...parts.spec },
    status: { phase: 'Running', podIPs: ips.map((ip) => ({ ip })), ready: true, ended: false, ...parts.status },
  });
}

/** An endpoint of a slice; `pod` null: it has no targetRef. */
export function endpointOf(ip: string, pod: string | null, conditions: JsonObject = { ready: true }): JsonObject {
  const target = pod === null ? {} : { targetRef: { kind: 'Pod', name: pod, namespace: 'shop' } };
  return { addresses: [ip], conditions, ...target };
}

/** A slice of the service `shop/s`. */
export function sliceOf(name: string, ports: JsonObject, ...endpoints: readonly JsonObject[]): Manifest {
  return objectOf('discovery.k8s.io/v1', 'EndpointSlice', 'shop', name, {
    metadata: { labels: { 'kubernetes.io/service-name': 's' } },
    ...({
      addressType: 'IPv4',
      ports: Object.entries(ports).map(([port, number]) => ({ name: port, port: number })),
    } as JsonObject),
    endpoints: endpoints as unknown as JsonObject,
  });
}
