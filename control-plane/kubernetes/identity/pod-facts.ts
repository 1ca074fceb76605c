import { asObject, asString, field, isList } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { canonicalAddress } from '../../addresses.ts';

/** What a pod says of the workload in it. Labels, addresses and ports are the API server's word, never the sidecar's. */
export interface PodFacts {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly serviceAccount: string;
  readonly labels: { readonly [key: string]: string };
  /** Canonical; empty before the pod has any. */
  readonly addresses: readonly string[];
  /** It shares the node's addresses with everything else there. */
  readonly hostNetwork: boolean;
  /** It runs no more, and its addresses may be another's. */
  readonly finished: boolean;
  /** Named ports of its containers. */
  readonly ports: { readonly [name: string]: number };
}

/** Reads a Pod as `slimPod` leaves it. Null where it lacks what every pod has. */
export function readPod(object: JsonObject): PodFacts | null {
  const metadata = asObject(field(object, 'metadata'));
  const spec = asObject(field(object, 'spec'));
  const status = asObject(field(object, 'status'));
  const namespace = asString(field(metadata, 'namespace'));
  const name = asString(field(metadata, 'name'));
  const uid = asString(field(metadata, 'uid'));
  const serviceAccount = asString(field(spec, 'serviceAccountName'));
  if (namespace === null || name === null || uid === null || uid === '' || serviceAccount === null) return null;
  const phase = asString(field(status, 'phase'));
  return {
    namespace,
    name,
    uid,
    serviceAccount,
    labels: labelsOf(field(metadata, 'labels')),
    addresses: addressesOf(field(status, 'podIPs')),
    hostNetwork: field(spec, 'hostNetwork') === true,
    finished: phase === 'Succeeded' || phase === 'Failed',
    ports: portsOf(spec),
  };
}

const labelsOf = (value: JsonValue | undefined): { readonly [key: string]: string } =>
  Object.fromEntries(
    Object.entries(asObject(value) ?? {})
      .flatMap(([key, text]): [string, string][] => (typeof text === 'string' ? [[key, text]] : []))
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );

function addressesOf(value: JsonValue | undefined): readonly string[] {
  const texts = itemsOf(value).map((item) => asString(field(asObject(item), 'ip')));
  const addresses = texts.map((text) => (text === null ? null : canonicalAddress(text)));
  return [...new Set(addresses.filter((address) => address !== null))];
}

function portsOf(spec: JsonObject | null): { readonly [name: string]: number } {
  const containers = ['initContainers', 'containers'].flatMap((key) => itemsOf(field(spec, key)));
  const ports = containers.flatMap((container) => itemsOf(field(asObject(container), 'ports')));
  const named = ports.flatMap((port): [string, number][] => {
    const name = asString(field(asObject(port), 'name'));
    const number = field(asObject(port), 'containerPort');
    return name !== null && typeof number === 'number' ? [[name, number]] : [];
  });
  return Object.fromEntries(named.sort(([a], [b]) => (a < b ? -1 : 1)));
}

const itemsOf = (value: JsonValue | undefined): readonly JsonValue[] => (isList(value) ? value : []);
