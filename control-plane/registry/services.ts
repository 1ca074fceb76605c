import type { ServiceEndpoint, ServiceResource } from '../../mesh/resources.ts';
import type { ServiceObject, ServicePortObject } from './objects.ts';
import { portProtocol } from './port-protocol.ts';
import type { KnownWorkload } from './workloads.ts';

/** The cluster's DNS domain, part of Istio's `destination_service`; not the trust domain. */
const DNS_DOMAIN = 'svc.cluster.local';

export function serviceResource(service: ServiceObject, candidates: readonly KnownWorkload[]): ServiceResource {
  return {
    kind: 'Service',
    name: `${service.namespace}/${service.name}`,
    namespace: service.namespace,
    hostname: `${service.name}.${service.namespace}.${DNS_DOMAIN}`,
    addresses: service.addresses,
    ports: service.ports.map(({ name, port, appProtocol }) => ({
      name,
      port,
      protocol: portProtocol(name, appProtocol),
    })),
    endpoints: candidates.flatMap((workload) => endpoint(service, workload)),
  };
}

function endpoint(service: ServiceObject, workload: KnownWorkload): ServiceEndpoint[] {
  if (!isSubset(service.selector, workload.labels)) return [];
  const ports: Record<string, number> = {};
  for (const port of service.ports) {
    const target = targetPort(port, workload);
    if (target !== null) ports[String(port.port)] = target;
  }
  return Object.keys(ports).length === 0 ? [] : [{ workload: workload.name, ports }];
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
function namedPort({ ports }: KnownWorkload, name: string): number | null {
  return Object.hasOwn(ports, name) ? (ports[name] ?? null) : null;
}

/** An empty selector selects nothing: such a service's endpoints are managed elsewhere. */
function isSubset(selector: { readonly [key: string]: string }, labels: { readonly [key: string]: string }): boolean {
  const wanted = Object.entries(selector);
  return wanted.length > 0 && wanted.every(([key, value]) => labels[key] === value);
}

/** Whether a service is visible to the workloads of a namespace, by `networking.istio.io/exportTo`. */
export function isExportedTo(service: ServiceObject, namespace: string): boolean {
  if (service.exportTo.length === 0) return true;
  return service.exportTo.some((target) => {
    if (target === '*') return true;
    if (target === '.') return namespace === service.namespace;
    return target === namespace;
  });
}
