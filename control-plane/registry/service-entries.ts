import { asObject, asString, field } from '../../policy/json.ts';
import type { JsonValue, Manifest } from '../../policy/types.ts';
import { canonicalAddress } from '../addresses.ts';
import { createdAt, listOf, memoized, numberOf, type ServicePortObject, strings } from './objects.ts';

/** Istio's ServiceEntry: something that is no service of the cluster, as the mesh sees it. */
export interface ServiceEntryObject {
  readonly name: string;
  readonly namespace: string;
  /** The first of its hosts, by which it is called. */
  readonly host: string;
  /** As written: addresses and CIDR blocks. */
  readonly addresses: readonly string[];
  readonly ports: readonly ServicePortObject[];
  /** Whether the registry knows who serves it; else connections go where they were going. */
  readonly isStatic: boolean;
  readonly endpoints: readonly InlineEndpoint[];
  /** Null: none. Empty: every workload of the namespace. */
  readonly selector: { readonly [key: string]: string } | null;
  readonly exportTo: readonly string[];
  /** Unix time, milliseconds; 0 where the object does not say. */
  readonly createdAt: number;
  readonly manifest: Manifest;
}

/** What a WorkloadEntry says, without a name of its own. */
export interface InlineEndpoint {
  /** Name of the workload that stands for it where its address is not known as somebody else's: no other can be called so. */
  readonly name: string;
  readonly namespace: string;
  readonly address: string;
  readonly labels: { readonly [key: string]: string };
  readonly serviceAccount: string | null;
  readonly ports: { readonly [name: string]: number };
}

export const readServiceEntry = memoized((manifest, spec): ServiceEntryObject => {
  const { name, namespace } = manifest;
  const selector = asObject(field(spec, 'workloadSelector'));
  return {
    name,
    namespace,
    host: asString(listOf(field(spec, 'hosts'))[0]) ?? name,
    addresses: texts(field(spec, 'addresses')),
    ports: listOf(field(spec, 'ports')).flatMap(readPort),
    isStatic: field(spec, 'resolution') === 'STATIC',
    endpoints: readEndpoints(manifest, listOf(field(spec, 'endpoints'))),
    selector: selector === null ? null : strings(field(selector, 'labels')),
    exportTo: texts(field(spec, 'exportTo')),
    createdAt: createdAt(manifest),
    manifest,
  };
});

function readPort(value: JsonValue): ServicePortObject[] {
  const port = asObject(value);
  const number = numberOf(field(port, 'number'));
  const protocol = asString(field(port, 'protocol')) ?? '';
  if (number === null || protocol.toUpperCase() === 'UDP') return [];
  const target = numberOf(field(port, 'targetPort')) ?? 0;
  return [
    {
      name: asString(field(port, 'name')) ?? '',
      port: number,
      appProtocol: protocol === '' ? null : protocol,
      target: target === 0 ? number : target,
    },
  ];
}

function readEndpoints(manifest: Manifest, values: readonly JsonValue[]): readonly InlineEndpoint[] {
  const { namespace, name: entry } = manifest;
  const counts = new Map<string, number>();
  return values.flatMap((value) => {
    const endpoint = asObject(value);
    const address = canonicalAddress(asString(field(endpoint, 'address')) ?? '');
    if (address === null) return [];
    const count = (counts.get(address) ?? 0) + 1;
    counts.set(address, count);
    const ports = Object.entries(asObject(field(endpoint, 'ports')) ?? {});
    return [
      {
        // No object of Kubernetes has a colon in its name.
        name: `${entry}:${address}${count === 1 ? '' : `#${count}`}`,
        namespace,
        address,
        labels: strings(field(endpoint, 'labels')),
        serviceAccount: asString(field(endpoint, 'serviceAccount')),
        ports: Object.fromEntries(ports.flatMap(([name, port]) => (typeof port === 'number' ? [[name, port]] : []))),
      },
    ];
  });
}

function texts(value: JsonValue | undefined): readonly string[] {
  return listOf(value).filter((item) => typeof item === 'string');
}
