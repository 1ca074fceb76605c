import { asObject, asString, field, isList, stringMap } from '../../policy/json.ts';
import { readExtensionProviders, readPathNormalization } from '../../policy/mesh-settings.ts';
import type { JsonObject, JsonValue, Manifest } from '../../policy/types.ts';
import { canonicalAddress } from '../addresses.ts';
import type { MeshSettings } from '../config.ts';

/** The kinds that are not policies, read into what the registry needs of them. Every manifest here has passed `validateManifest`. */

export interface ServiceObject {
  readonly name: string;
  readonly namespace: string;
  /** Canonical virtual IPs. */
  readonly addresses: readonly string[];
  /** Empty: no endpoints (Kubernetes leaves them to somebody else then). */
  readonly selector: { readonly [key: string]: string };
  readonly ports: readonly ServicePortObject[];
  /** Istio's `networking.istio.io/exportTo`, split; empty where the annotation is absent. */
  readonly exportTo: readonly string[];
}

export interface ServicePortObject {
  readonly name: string;
  readonly port: number;
  readonly appProtocol: string | null;
  readonly target: number | string;
}

export interface WorkloadEntryObject {
  readonly name: string;
  readonly namespace: string;
  /** Canonical. */
  readonly address: string;
  readonly labels: { readonly [key: string]: string };
  readonly serviceAccount: string | null;
  readonly ports: { readonly [name: string]: number };
  /** Istio's label `networking.istio.io/tunnel: http`: a sidecar with a tunnel stands there, whichever replica it is connected to. */
  readonly hasTunnel: boolean;
  /** Nobody tells of a machine that its application has ended. */
  readonly ended: false;
  /** Unix time, milliseconds; 0 where the object does not say. */
  readonly createdAt: number;
  readonly manifest: Manifest;
}

/** Manifests are immutable: each is read once, however many snapshots it is part of. */
export function memoized<T>(read: (manifest: Manifest, spec: JsonObject | null) => T): (manifest: Manifest) => T {
  const known = new WeakMap<Manifest, { readonly value: T }>();
  return (manifest) => {
    const before = known.get(manifest);
    if (before !== undefined) return before.value;
    const value = read(manifest, asObject(field(manifest.object, 'spec')));
    known.set(manifest, { value });
    return value;
  };
}

export const readService = memoized((manifest, spec): ServiceObject => {
  const external = field(spec, 'type') === 'ExternalName';
  const annotations = stringMap(field(metadataOf(manifest), 'annotations'));
  return {
    name: manifest.name,
    namespace: manifest.namespace,
    addresses: external ? [] : virtualAddresses(spec),
    selector: external ? {} : strings(field(spec, 'selector')),
    ports: listOf(field(spec, 'ports')).flatMap(readServicePort),
    exportTo: (annotations.get('networking.istio.io/exportTo') ?? '')
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== ''),
  };
});

/** `clusterIPs`, else `clusterIP`; `None` and absence mean a headless service. */
function virtualAddresses(spec: JsonObject | null): string[] {
  const many = listOf(field(spec, 'clusterIPs'));
  const texts = many.length > 0 ? many : [field(spec, 'clusterIP') ?? ''];
  return texts.flatMap((text) => canonicalAddress(asString(text) ?? '') ?? []);
}

/** The mesh carries TCP: ports of other transports do not exist for it. */
function readServicePort(value: JsonValue): ServicePortObject[] {
  const object = asObject(value);
  const port = numberOf(field(object, 'port'));
  if (port === null || (asString(field(object, 'protocol')) ?? 'TCP') !== 'TCP') return [];
  const target = field(object, 'targetPort');
  return [
    {
      name: asString(field(object, 'name')) ?? '',
      port,
      appProtocol: asString(field(object, 'appProtocol')),
      target: asString(target) ?? numberOf(target) ?? port,
    },
  ];
}

export const readWorkloadEntry = memoized((manifest, spec): WorkloadEntryObject => {
  const ports = Object.entries(asObject(field(spec, 'ports')) ?? {});
  // Istio merges both, the object's own labels winning.
  const labels = { ...strings(field(spec, 'labels')), ...strings(field(metadataOf(manifest), 'labels')) };
  return {
    name: manifest.name,
    namespace: manifest.namespace,
    address: canonicalAddress(asString(field(spec, 'address')) ?? '') ?? '',
    labels,
    serviceAccount: asString(field(spec, 'serviceAccount')),
    ports: Object.fromEntries(ports.flatMap(([name, port]) => (typeof port === 'number' ? [[name, port]] : []))),
    hasTunnel: tunnels(labels),
    ended: false,
    createdAt: createdAt(manifest),
    manifest,
  };
});

/** Whether labels of a WorkloadEntry, or of an endpoint within a ServiceEntry, say that a tunnel ends there (HBONE, as in Istio's ambient mode). The label is a list. */
export const tunnels = (labels: { readonly [key: string]: string }): boolean =>
  labels['networking.istio.io/tunnel']?.split(',').includes('http') === true;

/** The settings that a MeshConfig manifest names; the others stay as configured. */
export const readMeshConfig = memoized((_manifest, spec): Partial<MeshSettings> => {
  const aliases = field(spec, 'trustDomainAliases');
  const rootNamespace = asString(field(spec, 'rootNamespace'));
  const outbound = field(asObject(field(spec, 'outboundTrafficPolicy')), 'mode');
  const action = field(spec, 'defaultAction');
  const pathNormalization = readPathNormalization(spec);
  const providers = field(spec, 'extensionProviders');
  return {
    ...(isList(aliases) ? { trustDomainAliases: aliases.filter((alias) => typeof alias === 'string') } : {}),
    ...(rootNamespace === null ? {} : { rootNamespace }),
    ...(outbound === 'ALLOW_ANY' || outbound === 'REGISTRY_ONLY' ? { outboundTrafficPolicy: outbound } : {}),
    ...(action === 'ALLOW' || action === 'DENY' ? { defaultAction: action } : {}),
    ...(pathNormalization === null ? {} : { pathNormalization }),
    ...(isList(providers) ? { extensionProviders: readExtensionProviders(providers) } : {}),
  };
});

/** Unix time, milliseconds; 0 where the object does not say. In a cluster it is the API server's word. */
export function createdAt(manifest: Manifest): number {
  const time = Date.parse(asString(field(metadataOf(manifest), 'creationTimestamp')) ?? '');
  return Number.isNaN(time) ? 0 : time;
}

export function metadataOf({ object }: Manifest): JsonObject | null {
  return asObject(field(object, 'metadata'));
}

export function listOf(value: JsonValue | undefined): readonly JsonValue[] {
  return isList(value) ? value : [];
}

export function strings(value: JsonValue | undefined): { readonly [key: string]: string } {
  return Object.fromEntries(stringMap(value));
}

export function numberOf(value: JsonValue | undefined): number | null {
  return typeof value === 'number' ? value : null;
}
