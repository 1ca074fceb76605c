import type { WorkloadProtocol } from '../../mesh/resources.ts';
import { asObject, asString, field, stringMap } from '../../policy/json.ts';
import type { JsonObject, JsonValue, Manifest } from '../../policy/types.ts';
import { canonicalAddress } from '../addresses.ts';
import { listOf, memoized, metadataOf, numberOf, strings } from './objects.ts';

/** A pod of a cluster, as its source slims it. What is known of a workload that is a pod comes from here, never from its sidecar. */
export interface PodObject {
  /** `<namespace>/<name>`, as its workload is called. */
  readonly workload: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly labels: { readonly [key: string]: string };
  readonly serviceAccount: string;
  /** How its ports are reached: NONE where there is no sidecar, and on the network of the node, where nothing is intercepted. */
  readonly protocol: WorkloadProtocol;
  readonly hostNetwork: boolean;
  /** Canonical; of each family at most one. */
  readonly addresses: readonly string[];
  /** TCP ports that have a name. */
  readonly ports: { readonly [name: string]: number };
  /** It has an address and neither succeeded nor failed. */
  readonly running: boolean;
  readonly ready: boolean;
  readonly terminating: boolean;
  /** All containers but the sidecar have ended for good. */
  readonly ended: boolean;
  readonly manifest: Manifest;
}

const PHASES = ['Pending', 'Running'];
/** Each is there where the sidecar of that mesh was injected. */
const POSTERN_STATUS = 'postern.dev/status';
const ISTIO_STATUS = 'sidecar.istio.io/status';

export const readPod = memoized((manifest, spec): PodObject => {
  const { namespace, name, object } = manifest;
  const metadata = metadataOf(manifest);
  const status = asObject(field(object, 'status'));
  const hostNetwork = field(spec, 'hostNetwork') === true;
  const addresses = listOf(field(status, 'podIPs')).flatMap(readAddress);
  return {
    workload: `${namespace}/${name}`,
    namespace,
    name,
    uid: asString(field(metadata, 'uid')) ?? '',
    labels: strings(field(metadata, 'labels')),
    serviceAccount: asString(field(spec, 'serviceAccountName')) ?? 'default',
    protocol: hostNetwork ? 'NONE' : protocolOf(stringMap(field(metadata, 'annotations'))),
    hostNetwork,
    addresses,
    ports: namedPorts(spec),
    running: PHASES.includes(asString(field(status, 'phase')) ?? '') && addresses.length > 0,
    ready: field(status, 'ready') === true,
    terminating: asString(field(metadata, 'deletionTimestamp')) !== null,
    ended: field(status, 'ended') === true,
    manifest,
  };
});

function protocolOf(annotations: ReadonlyMap<string, string>): WorkloadProtocol {
  if (annotations.has(POSTERN_STATUS)) return 'HBONE';
  return annotations.has(ISTIO_STATUS) ? 'ISTIO' : 'NONE';
}

/** Kubernetes writes `{ ip }`. */
function readAddress(value: JsonValue): string[] {
  const text = asString(value) ?? asString(field(asObject(value), 'ip'));
  const address = text === null ? null : canonicalAddress(text);
  return address === null ? [] : [address];
}

function namedPorts(spec: JsonObject | null): { readonly [name: string]: number } {
  const containers = [...listOf(field(spec, 'initContainers')), ...listOf(field(spec, 'containers'))];
  const ports = containers.flatMap((container) => listOf(field(asObject(container), 'ports')).map(asObject));
  return Object.fromEntries(
    ports.flatMap((port) => {
      const name = asString(field(port, 'name'));
      const number = numberOf(field(port, 'containerPort'));
      const isTcp = (asString(field(port, 'protocol')) ?? 'TCP') === 'TCP';
      return name === null || number === null || !isTcp ? [] : [[name, number]];
    }),
  );
}
