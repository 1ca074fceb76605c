import { asObject, asString, field } from '../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';
import { canonicalAddress } from '../addresses.ts';
import { listOf, memoized, metadataOf, numberOf, strings } from './objects.ts';

/** Who serves a service, or a part of them, as the cluster tells (`discovery.k8s.io/v1`). */
export interface EndpointSliceObject {
  /** `<namespace>/<name>` of the service. */
  readonly service: string;
  readonly namespace: string;
  /** Port of the endpoints by name of the service's port. TCP only. */
  readonly ports: ReadonlyMap<string, number>;
  readonly endpoints: readonly SliceEndpoint[];
}

export interface SliceEndpoint {
  readonly namespace: string;
  /** Canonical. Of several of one endpoint, which are interchangeable, the first. */
  readonly address: string;
  /** `<namespace>/<name>` of the pod behind the address; null: it is not a pod's. */
  readonly pod: string | null;
  readonly ready: boolean;
  /** It ends, and serves until then. */
  readonly draining: boolean;
}

const SERVICE_LABEL = 'kubernetes.io/service-name';

export const readEndpointSlice = memoized((manifest): EndpointSliceObject => {
  const { namespace, object } = manifest;
  const isIp = field(object, 'addressType') !== 'FQDN';
  const labels = strings(field(metadataOf(manifest), 'labels'));
  return {
    service: `${namespace}/${labels[SERVICE_LABEL] ?? ''}`,
    namespace,
    ports: new Map(listOf(field(object, 'ports')).flatMap(readPort)),
    endpoints: isIp ? listOf(field(object, 'endpoints')).flatMap((one) => readEndpoint(one, namespace)) : [],
  };
});

function readPort(value: JsonValue): [string, number][] {
  const port = asObject(value);
  const number = numberOf(field(port, 'port'));
  if (number === null || (asString(field(port, 'protocol')) ?? 'TCP') !== 'TCP') return [];
  return [[asString(field(port, 'name')) ?? '', number]];
}

function readEndpoint(value: JsonValue, namespace: string): SliceEndpoint[] {
  const endpoint = asObject(value);
  const address = canonicalAddress(asString(listOf(field(endpoint, 'addresses'))[0]) ?? '');
  if (address === null) return [];
  const conditions = asObject(field(endpoint, 'conditions'));
  // Absent means true for `ready`, for `serving` the same as `ready`, and for `terminating` false.
  const ready = field(conditions, 'ready') !== false;
  const serving = readFlag(conditions, 'serving') ?? ready;
  const draining = serving && readFlag(conditions, 'terminating') === true;
  return [{ namespace, address, pod: podOf(asObject(field(endpoint, 'targetRef')), namespace), ready, draining }];
}

function readFlag(conditions: JsonObject | null, name: string): boolean | null {
  const value = field(conditions, name);
  return typeof value === 'boolean' ? value : null;
}

function podOf(target: JsonObject | null, namespace: string): string | null {
  const name = asString(field(target, 'name'));
  if (field(target, 'kind') !== 'Pod' || name === null) return null;
  return `${asString(field(target, 'namespace')) ?? namespace}/${name}`;
}
