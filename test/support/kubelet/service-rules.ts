import { isIP } from 'node:net';
import type { JsonObject } from '../../../policy/types.ts';
import { at, nameOf, namespaceOf, objectsAt, textAt, textsAt } from '../kubernetes/objects.ts';
import { SERVICE_NETWORK, SERVICE_NETWORK_6 } from './node-network.ts';

interface Family {
  /** As nft(8) calls it. */
  readonly name: 'ip' | 'ip6';
  readonly addressType: 'IPv4' | 'IPv6';
  /** Where addresses of services are. */
  readonly network: string;
  readonly reject: string;
}

const IPV4: Family = {
  name: 'ip',
  addressType: 'IPv4',
  network: SERVICE_NETWORK,
  reject: 'icmp type port-unreachable',
};
const IPV6: Family = {
  name: 'ip6',
  addressType: 'IPv6',
  network: SERVICE_NETWORK_6,
  reject: 'icmpv6 type port-unreachable',
};

interface Target {
  readonly address: string;
  readonly port: number;
}

/** One port of a service, and the pods that answer there. */
interface Forward extends Target {
  /** May be empty. */
  readonly targets: readonly Target[];
}

/** What kube-proxy writes, as a file for nft(8): connections to a service's address go to one of its endpoints of that family at random. TCP only. */
export function serviceRules(services: readonly JsonObject[], slices: readonly JsonObject[], api: Target): string {
  const forwards = (family: Family) => services.flatMap((service) => forwardsOf(service, slices, family));
  const own: Forward = { address: '10.96.0.1', port: 443, targets: [api] };
  return [...tableOf(IPV4, [own, ...forwards(IPV4)]), ...tableOf(IPV6, forwards(IPV6)), ''].join('\n');
}

function tableOf(family: Family, forwards: readonly Forward[]): readonly string[] {
  const { name, network, reject } = family;
  const rules = forwards.filter(({ targets }) => targets.length > 0).map((forward) => `${ruleOf(family, forward)};`);
  const unanswered = `${name} daddr ${network} reject with ${reject}`;
  return [
    `table ${name} services`,
    `delete table ${name} services`,
    `table ${name} services {`,
    ` chain pods { type nat hook prerouting priority -100; ${rules.join(' ')} }`,
    ` chain node { type nat hook output priority -100; ${rules.join(' ')} }`,
    ` chain through { type filter hook forward priority 0; ${unanswered}; }`,
    ` chain out { type filter hook output priority 0; ${unanswered}; }`,
    '}',
  ];
}

/** The address of the service in that family; empty where it has none. */
function addressOf(service: JsonObject, { addressType }: Family): string {
  const all = textsAt(service, 'spec', 'clusterIPs');
  const isOne = (text: string): boolean => isIP(text) === (addressType === 'IPv4' ? 4 : 6);
  return [...all, textAt(service, 'spec', 'clusterIP')].find(isOne) ?? '';
}

function forwardsOf(service: JsonObject, slices: readonly JsonObject[], family: Family): readonly Forward[] {
  const address = addressOf(service, family);
  if (address === '' || address === '10.96.0.1') return [];
  return objectsAt(service, 'spec', 'ports').map((port) => ({
    address,
    port: Number(at(port, 'port')),
    targets: targetsOf(service, slices, family, textAt(port, 'name')),
  }));
}

function targetsOf(
  service: JsonObject,
  slices: readonly JsonObject[],
  { addressType }: Family,
  portName: string,
): readonly Target[] {
  const own = slices.filter(
    (slice) =>
      namespaceOf(slice) === namespaceOf(service) &&
      textAt(slice, 'metadata', 'labels', 'kubernetes.io/service-name') === nameOf(service) &&
      textAt(slice, 'addressType') === addressType,
  );
  return own.flatMap((slice) => {
    const port = objectsAt(slice, 'ports').find((one) => textAt(one, 'name') === portName);
    if (port === undefined) return [];
    return objectsAt(slice, 'endpoints')
      .filter((endpoint) => at(endpoint, 'conditions', 'ready') === true)
      .flatMap((endpoint) =>
        textsAt(endpoint, 'addresses').map((address) => ({ address, port: Number(at(port, 'port')) })),
      );
  });
}

function ruleOf({ name }: Family, { address, port, targets }: Forward): string {
  const map = targets.map((target, index) => `${index} : ${target.address} . ${target.port}`).join(', ');
  return `${name} daddr ${address} tcp dport ${port} dnat ${name} to numgen random mod ${targets.length} map { ${map} }`;
}

/** The file /etc/hosts of a pod: cluster DNS by other means. Headless services name their pods. */
export function hostsFile(
  namespace: string,
  pod: { readonly name: string; readonly addresses: readonly string[] },
  services: readonly JsonObject[],
  slices: readonly JsonObject[],
): string {
  const lines = services.flatMap((service) => {
    const [name, home] = [nameOf(service), namespaceOf(service)];
    const names = [`${name}.${home}`, `${name}.${home}.svc`, `${name}.${home}.svc.cluster.local`];
    const all = [...(home === namespace ? [name] : []), ...names].join(' ');
    return [IPV4, IPV6].flatMap((family) => namedBy(service, slices, family)).map((address) => `${address} ${all}`);
  });
  const own = pod.addresses.map((address) => `${address} ${pod.name}`);
  return ['127.0.0.1 localhost', '::1 localhost', ...own, ...new Set(lines), ''].join('\n');
}

/** What the service's name resolves to in that family. */
function namedBy(service: JsonObject, slices: readonly JsonObject[], family: Family): readonly string[] {
  if (textAt(service, 'spec', 'clusterIP') !== 'None') {
    const address = addressOf(service, family);
    return address === '' ? [] : [address];
  }
  return objectsAt(service, 'spec', 'ports')
    .flatMap((port) => targetsOf(service, slices, family, textAt(port, 'name')))
    .map(({ address }) => address);
}
