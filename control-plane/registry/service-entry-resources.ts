import type { ServiceResource } from '../../mesh/resources.ts';
import { titleOf } from '../../policy/kinds.ts';
import type { Problem } from '../../policy/types.ts';
import { canonicalAddress } from '../addresses.ts';
import type { ServicePortObject } from './objects.ts';
import type { PodObject } from './pods.ts';
import type { InlineEndpoint, ServiceEntryObject } from './service-entries.ts';
import { servicePorts, sortedEndpoints, targetPorts, type Visibility } from './services.ts';
import { fromEntry, type KnownWorkload, type WorkloadDirectory } from './workloads.ts';

type Ports = Record<string, number>;

export interface ServiceEntrySources {
  readonly entries: readonly ServiceEntryObject[];
  /** Those of the cluster: what is theirs no entry may take. */
  readonly services: readonly ServiceResource[];
  readonly pods: readonly PodObject[];
  readonly directory: WorkloadDirectory;
  readonly trustDomain: string;
}

export interface ServiceEntryResources {
  readonly resources: readonly { readonly resource: ServiceResource; readonly visibility: Visibility }[];
  readonly problems: readonly Problem[];
}

/**
 * The services that ServiceEntries stand for, named `<namespace>/<first host>`. An entry that anybody may write in a namespace of his own takes nothing
 * from others: neither the name of a service nor an address that belongs to a service, to a node, or to a workload of another namespace.
 */
export function serviceEntryResources(sources: ServiceEntrySources): ServiceEntryResources {
  const problems: Problem[] = [];
  const names = new Map(sources.services.map(({ name }) => [name, `Service ${name}`]));
  const holders = new Map(
    sources.services.flatMap(({ name, addresses }) => addresses.map((address) => [address, `Service ${name}`])),
  );
  const resources = sources.entries.toSorted(byAge).flatMap((entry) => {
    const name = `${entry.namespace}/${entry.host}`;
    const taken = names.get(name);
    if (taken !== undefined) {
      problems.push(problem(entry, ['spec', 'hosts'], `${entry.host} is ${taken} already: this entry is left out`));
      return [];
    }
    names.set(name, titleOf(entry.manifest));
    const addresses = entry.isStatic ? takeAddresses(entry, holders, sources.directory, problems) : [];
    const resource: ServiceResource = {
      kind: 'Service',
      name,
      namespace: entry.namespace,
      hostname: entry.host,
      addresses,
      ports: servicePorts(entry.ports),
      endpoints: entry.isStatic ? sortedEndpoints(endpoints(entry, sources)) : [],
      ...(entry.isStatic ? {} : { passthrough: entry.addresses }),
    };
    return [{ resource, visibility: entry }];
  });
  return { resources, problems };
}

/** The entry's addresses that are nobody else's; they are the entry's from now on. */
function takeAddresses(
  entry: ServiceEntryObject,
  holders: Map<string, string>,
  directory: WorkloadDirectory,
  problems: Problem[],
): readonly string[] {
  return entry.addresses.flatMap(singleAddress).filter((address) => {
    const holder = holders.get(address) ?? foreignHolder(address, entry, directory);
    if (holder === null) {
      holders.set(address, titleOf(entry.manifest));
      return true;
    }
    const message = `the address ${address} belongs to ${holder}: it is left out here; give this entry one of its own`;
    problems.push(problem(entry, ['spec', 'addresses'], message));
    return false;
  });
}

function foreignHolder(address: string, entry: ServiceEntryObject, directory: WorkloadDirectory): string | null {
  if (directory.isNode(address)) return 'a node of the cluster';
  const workload = directory.at(address);
  if (workload === null || workload.namespace === entry.namespace) return null;
  const claimed = directory.entryOf(workload);
  // Of two that only claim an address the older has it, as among ServiceEntries.
  return claimed !== null && entry.createdAt < claimed.createdAt ? null : `the workload ${workload.name}`;
}

function endpoints(entry: ServiceEntryObject, sources: ServiceEntrySources): ReadonlyMap<string, Ports> {
  const { directory, trustDomain } = sources;
  const found = new Map<string, Ports>();
  for (const inline of entry.endpoints) {
    const workload = directory.at(inline.address) ?? directory.add(fromEntry(inline, trustDomain));
    if (workload !== null && !found.has(workload.name)) found.set(workload.name, inlinePorts(entry.ports, inline));
  }
  if (entry.selector === null) return found;
  for (const workload of selected(entry, entry.selector, sources)) {
    found.set(workload.name, targetPorts(entry.ports, workload));
  }
  return found;
}

function inlinePorts(ports: readonly ServicePortObject[], { ports: own }: InlineEndpoint): Ports {
  return Object.fromEntries(
    ports.flatMap(({ name, port, target }) => {
      const number = Object.hasOwn(own, name) ? own[name] : target;
      return typeof number === 'number' ? [[String(port), number]] : [];
    }),
  );
}

/** Workloads of the entry's namespace; pods as long as they are ready, for no slice tells of them here. */
function selected(
  { namespace }: ServiceEntryObject,
  selector: { readonly [key: string]: string },
  { directory, pods }: ServiceEntrySources,
): readonly KnownWorkload[] {
  const wanted = Object.entries(selector);
  const ready = pods
    .filter((pod) => pod.namespace === namespace && pod.ready && !pod.terminating && !pod.ended)
    .flatMap((pod) => directory.workloads.get(pod.workload) ?? []);
  return [...directory.selectable.filter((one) => one.namespace === namespace), ...ready].filter(({ labels }) =>
    wanted.every(([key, value]) => labels[key] === value),
  );
}

/** Of an address, or a block of just one. */
function singleAddress(text: string): string[] {
  const [address = '', prefix] = text.split('/');
  const canonical = canonicalAddress(address);
  if (canonical === null) return [];
  const isSingle = prefix === undefined || prefix === (address.includes(':') ? '128' : '32');
  return isSingle ? [canonical] : [];
}

function problem(entry: ServiceEntryObject, path: readonly string[], message: string): Problem {
  return {
    severity: 'error',
    message,
    location: entry.manifest.locate(path),
    resource: titleOf(entry.manifest),
  };
}

/** Oldest first: who comes later cannot take what is an entry's already. */
function byAge(a: ServiceEntryObject, b: ServiceEntryObject): number {
  if (a.createdAt !== b.createdAt) return a.createdAt - b.createdAt;
  return `${a.namespace}/${a.name}` < `${b.namespace}/${b.name}` ? -1 : 1;
}
