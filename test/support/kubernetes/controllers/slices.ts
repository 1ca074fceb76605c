import { isIPv6 } from 'node:net';
import type { JsonObject, JsonValue } from '../../../../policy/types.ts';
import { at, isDeleting, nameOf, namespaceOf, objectsAt, textAt, textsAt, uidOf } from '../objects.ts';

/** The slices of a service, without their metadata: one for each family and set of ports, since ports of one name may be others on other pods. */
export function slicesOf(service: JsonObject, pods: readonly JsonObject[]): readonly JsonObject[] {
  const families = textsAt(service, 'spec', 'ipFamilies');
  return (families.length === 0 ? ['IPv4'] : families).flatMap((family) => {
    const groups = new Map<string, { readonly ports: readonly JsonValue[]; readonly endpoints: JsonObject[] }>();
    for (const pod of pods) {
      const addresses = addressesOf(pod, family);
      if (addresses.length === 0) continue;
      const ports = portsOf(service, pod);
      const group = groups.get(JSON.stringify(ports)) ?? { ports, endpoints: [] };
      group.endpoints.push(endpoint(service, pod, addresses));
      groups.set(JSON.stringify(ports), group);
    }
    // A service without pods has an empty slice all the same.
    const all = groups.size === 0 ? [{ ports: [], endpoints: [] }] : [...groups.values()];
    return all.map((group) => ({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      addressType: family,
      ...group,
    }));
  });
}

function addressesOf(pod: JsonObject, family: string): readonly string[] {
  return objectsAt(pod, 'status', 'podIPs')
    .map((one) => textAt(one, 'ip'))
    .filter((ip) => isIPv6(ip) === (family === 'IPv6'));
}

/** `ready` is false for a pod that terminates, but where the service publishes what is not ready too; `serving` is the pod's own readiness. */
function endpoint(service: JsonObject, pod: JsonObject, addresses: readonly string[]): JsonObject {
  const serving = isReady(pod);
  const terminating = isDeleting(pod);
  const ready = at(service, 'spec', 'publishNotReadyAddresses') === true || (serving && !terminating);
  const node = textAt(pod, 'spec', 'nodeName');
  const hostname = textAt(pod, 'spec', 'hostname');
  return {
    addresses,
    conditions: { ready, serving, terminating },
    ...(hostname === '' || textAt(pod, 'spec', 'subdomain') !== nameOf(service) ? {} : { hostname }),
    targetRef: { kind: 'Pod', namespace: namespaceOf(pod), name: nameOf(pod), uid: uidOf(pod) },
    ...(node === '' ? {} : { nodeName: node }),
  };
}

const isReady = (pod: JsonObject): boolean =>
  objectsAt(pod, 'status', 'conditions').some((condition) => condition.type === 'Ready' && condition.status === 'True');

function portsOf(service: JsonObject, pod: JsonObject): readonly JsonValue[] {
  return objectsAt(service, 'spec', 'ports').flatMap((port) => {
    const number = targetOf(port, pod);
    if (number === null) return [];
    const protocol = textAt(port, 'appProtocol');
    return [
      {
        name: textAt(port, 'name'),
        port: number,
        protocol: textAt(port, 'protocol') || 'TCP',
        ...(protocol === '' ? {} : { appProtocol: protocol }),
      },
    ];
  });
}

/** A named port is looked for in the pod's containers; where it is not found, the pod does not have it. */
function targetOf(port: JsonObject, pod: JsonObject): number | null {
  const target = at(port, 'targetPort') ?? at(port, 'port');
  if (typeof target === 'number') return target;
  const containers = [...objectsAt(pod, 'spec', 'containers'), ...objectsAt(pod, 'spec', 'initContainers')];
  const found = containers.flatMap((one) => objectsAt(one, 'ports')).find((one) => textAt(one, 'name') === target);
  const number = at(found, 'containerPort');
  return typeof number === 'number' ? number : null;
}
