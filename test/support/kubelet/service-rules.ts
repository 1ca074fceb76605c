import type { JsonObject } from '../../../policy/types.ts';
import { at, nameOf, namespaceOf, objectsAt, textAt, textsAt } from '../kubernetes/objects.ts';
import { SERVICE_NETWORK } from './node-network.ts';

/** One port of a service, and the pods that answer there. */
interface Forward {
  readonly address: string;
  readonly port: number;
  /** `address:port`; may be empty. */
  readonly targets: readonly string[];
}

/** What kube-proxy writes, as a file for nft(8): connections to a service's address go to one of its endpoints at random. IPv4 and TCP only. */
export function serviceRules(
  services: readonly JsonObject[],
  slices: readonly JsonObject[],
  api: { readonly address: string; readonly port: number },
): string {
  const forwards: readonly Forward[] = [
    { address: '10.96.0.1', port: 443, targets: [`${api.address}:${api.port}`] },
    ...services.flatMap((service) => forwardsOf(service, slices)),
  ];
  const rules = forwards.filter(({ targets }) => targets.length > 0).map(ruleOf);
  const unanswered = `ip daddr ${SERVICE_NETWORK} reject with icmp type port-unreachable`;
  return [
    'table ip services',
    'delete table ip services',
    'table ip services {',
    ` chain pods { type nat hook prerouting priority -100; ${rules.join('; ')}; }`,
    ` chain node { type nat hook output priority -100; ${rules.join('; ')}; }`,
    ` chain through { type filter hook forward priority 0; ${unanswered}; }`,
    ` chain out { type filter hook output priority 0; ${unanswered}; }`,
    '}',
    '',
  ].join('\n');
}

function forwardsOf(service: JsonObject, slices: readonly JsonObject[]): readonly Forward[] {
  const address = textAt(service, 'spec', 'clusterIP');
  if (!/^\d+\.\d+\.\d+\.\d+$/.test(address) || address === '10.96.0.1') return [];
  const own = slices.filter(
    (slice) =>
      namespaceOf(slice) === namespaceOf(service) &&
      textAt(slice, 'metadata', 'labels', 'kubernetes.io/service-name') === nameOf(service) &&
      textAt(slice, 'addressType') === 'IPv4',
  );
  return objectsAt(service, 'spec', 'ports').map((port) => ({
    address,
    port: Number(at(port, 'port')),
    targets: own.flatMap((slice) => targetsOf(slice, textAt(port, 'name'))),
  }));
}

function targetsOf(slice: JsonObject, portName: string): readonly string[] {
  const port = objectsAt(slice, 'ports').find((one) => textAt(one, 'name') === portName);
  if (port === undefined) return [];
  return objectsAt(slice, 'endpoints')
    .filter((endpoint) => at(endpoint, 'conditions', 'ready') === true)
    .flatMap((endpoint) => textsAt(endpoint, 'addresses').map((one) => `${one}:${Number(at(port, 'port'))}`));
}

function ruleOf({ address, port, targets }: Forward): string {
  const map = targets.map((target, index) => `${index} : ${target.replace(':', ' . ')}`).join(', ');
  return `ip daddr ${address} tcp dport ${port} dnat ip to numgen random mod ${targets.length} map { ${map} }`;
}

/** The file /etc/hosts of a pod: cluster DNS by other means. Headless services name their pods. */
export function hostsFile(
  namespace: string,
  pod: { readonly name: string; readonly address: string },
  services: readonly JsonObject[],
  slices: readonly JsonObject[],
): string {
  const lines = services.flatMap((service) => {
    const [name, home] = [nameOf(service), namespaceOf(service)];
    const names = [`${name}.${home}`, `${name}.${home}.svc`, `${name}.${home}.svc.cluster.local`];
    const all = [...(home === namespace ? [name] : []), ...names].join(' ');
    const address = textAt(service, 'spec', 'clusterIP');
    if (address !== 'None') return address === '' ? [] : [`${address} ${all}`];
    return forwardsOf({ ...service, spec: { clusterIP: '0.0.0.0', ports: at(service, 'spec', 'ports') ?? [] } }, slices)
      .flatMap(({ targets }) => targets)
      .map((target) => `${target.split(':')[0]} ${all}`);
  });
  return ['127.0.0.1 localhost', '::1 localhost', `${pod.address} ${pod.name}`, ...new Set(lines), ''].join('\n');
}
