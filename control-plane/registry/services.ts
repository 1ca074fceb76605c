import type { ServiceEndpoint, ServiceResource } from '../../mesh/resources.ts';
import type { EndpointSliceObject, SliceEndpoint } from './endpoint-slices.ts';
import type { ServiceObject, ServicePortObject } from './objects.ts';
import { portProtocol } from './port-protocol.ts';
import { fromAddress, type KnownWorkload, type WorkloadDirectory } from './workloads.ts';

/** The cluster's DNS domain, part of Istio's `destination_service`; not the trust domain. */
const DNS_DOMAIN = 'svc.cluster.local';

type Ports = Record<string, number>;

/**
 * @param slices those of the service
 * @param candidates the workloads of its namespace that a selector finds by itself
 * @param directory takes in what only the slices know of
 */
export function serviceResource(
  service: ServiceObject,
  slices: readonly EndpointSliceObject[],
  candidates: readonly KnownWorkload[],
  directory: WorkloadDirectory,
): ServiceResource {
  const found = new Map<string, Ports>();
  for (const { endpoint, slice } of serving(slices)) {
    const workload = workloadBehind(endpoint, directory);
    if (workload === null) continue;
    // A pod of two families is in two slices: it is one endpoint all the same.
    const ports = found.get(workload.name) ?? {};
    for (const { name, port } of service.ports) {
      const target = slice.ports.get(name);
      if (target !== undefined) ports[String(port)] ??= target;
    }
    found.set(workload.name, ports);
  }
  for (const workload of candidates) {
    if (found.has(workload.name) || !isSubset(service.selector, workload.labels)) continue;
    found.set(workload.name, targetPorts(service.ports, workload));
  }
  return {
    kind: 'Service',
    name: `${service.namespace}/${service.name}`,
    namespace: service.namespace,
    hostname: `${service.name}.${service.namespace}.${DNS_DOMAIN}`,
    addresses: service.addresses,
    ports: servicePorts(service.ports),
    endpoints: sortedEndpoints(found),
  };
}

/** The ready ones; where there are none, those that end and serve until then. */
function serving(
  slices: readonly EndpointSliceObject[],
): readonly { readonly endpoint: SliceEndpoint; readonly slice: EndpointSliceObject }[] {
  const all = slices.flatMap((slice) => slice.endpoints.map((endpoint) => ({ endpoint, slice })));
  const ready = all.filter(({ endpoint }) => endpoint.ready);
  return ready.length > 0 ? ready : all.filter(({ endpoint }) => endpoint.draining);
}

/**
 * Null: a pod that is not known, or not at this address. NEVER is a pod taken for a plaintext address: news of it may be on the way, and then it is to
 * be reached by mutual TLS.
 */
function workloadBehind(endpoint: SliceEndpoint, directory: WorkloadDirectory): KnownWorkload | null {
  if (endpoint.pod === null) return directory.at(endpoint.address) ?? directory.add(fromAddress(endpoint, ''));
  const pod = directory.workloads.get(endpoint.pod);
  return pod?.origin === 'pod' && pod.addresses.includes(endpoint.address) ? pod : null;
}

export function servicePorts(ports: readonly ServicePortObject[]): ServiceResource['ports'] {
  return ports.map(({ name, port, appProtocol }) => ({ name, port, protocol: portProtocol(name, appProtocol) }));
}

/** In one order whatever the order of what they were made of: replicas of the control plane tell the same. Those without a port are none. */
export function sortedEndpoints(found: ReadonlyMap<string, Ports>): readonly ServiceEndpoint[] {
  return [...found]
    .filter(([, ports]) => Object.keys(ports).length > 0)
    .map(([workload, ports]) => ({ workload, ports }))
    .sort((a, b) => (a.workload < b.workload ? -1 : 1));
}

/** Ports of the workload by port of the service, but for named ones that it does not have. */
export function targetPorts(ports: readonly ServicePortObject[], workload: KnownWorkload): Ports {
  const targets: Ports = {};
  for (const port of ports) {
    const target = targetPort(port, workload);
    if (target !== null) targets[String(port.port)] = target;
  }
  return targets;
}

/** Null: the workload has no port of the name the service targets. */
function targetPort(port: ServicePortObject, workload: KnownWorkload): number | null {
  if (workload.origin === 'entry') {
    const named = namedPort(workload, port.name);
    if (named !== null) return named;
  }
  return typeof port.target === 'number' ? port.target : namedPort(workload, port.target);
}

/** Own properties only: names come from manifests and from peers. */
function namedPort({ ports }: Pick<KnownWorkload, 'ports'>, name: string): number | null {
  return Object.hasOwn(ports, name) ? (ports[name] ?? null) : null;
}

/** An empty selector selects nothing: such a service's endpoints are managed elsewhere. */
function isSubset(selector: { readonly [key: string]: string }, labels: { readonly [key: string]: string }): boolean {
  const wanted = Object.entries(selector);
  return wanted.length > 0 && wanted.every(([key, value]) => labels[key] === value);
}

/** Whose a service is, and who else sees it. */
export interface Visibility {
  readonly namespace: string;
  readonly exportTo: readonly string[];
}

/** Whether every namespace sees it. */
export function isExportedToAll({ exportTo }: Visibility): boolean {
  return exportTo.length === 0 || exportTo.includes('*');
}

/** Whether a service is visible to the workloads of a namespace, by `exportTo` or `networking.istio.io/exportTo`. */
export function isExportedTo(service: Visibility, namespace: string): boolean {
  if (isExportedToAll(service)) return true;
  return service.exportTo.some((target) => (target === '.' ? namespace === service.namespace : target === namespace));
}
