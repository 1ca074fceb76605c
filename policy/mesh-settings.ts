import type { ExtensionProvider, MeshConfigResource, PathNormalization } from '../mesh/resources.ts';
import { asObject, asString, field, isList } from './json.ts';
import { specOf } from './selection.ts';
import type { JsonObject, JsonValue } from './types.ts';

/** Istio's default. */
const ROOT_NAMESPACE = 'istio-system';
const DEFAULT_PATH_NORMALIZATION: PathNormalization = 'BASE';

/** The mesh settings of a MeshConfig that `validateObject` has found free of errors, or the defaults where there is none. */
export function meshSettings(meshConfig: JsonObject | null, trustDomain: string): MeshConfigResource {
  return readMeshSettings(meshConfig === null ? {} : (specOf(meshConfig) ?? {}), trustDomain);
}

/** The same from the settings themselves: what stands below `spec`. */
export function readMeshSettings(settings: JsonObject, trustDomain: string): MeshConfigResource {
  const aliases = field(settings, 'trustDomainAliases');
  const outbound = field(asObject(field(settings, 'outboundTrafficPolicy')), 'mode');
  return {
    kind: 'MeshConfig',
    name: 'mesh',
    trustDomain,
    trustDomainAliases: isList(aliases) ? aliases.filter((alias) => typeof alias === 'string') : [],
    rootNamespace: asString(field(settings, 'rootNamespace')) ?? ROOT_NAMESPACE,
    outboundTrafficPolicy: outbound === 'REGISTRY_ONLY' ? 'REGISTRY_ONLY' : 'ALLOW_ANY',
    defaultAction: field(settings, 'defaultAction') === 'DENY' ? 'DENY' : 'ALLOW',
    pathNormalization: readPathNormalization(settings) ?? DEFAULT_PATH_NORMALIZATION,
    extensionProviders: readExtensionProviders(field(settings, 'extensionProviders')),
  };
}

const MODES: readonly PathNormalization[] = ['NONE', 'BASE', 'MERGE_SLASHES', 'DECODE_AND_MERGE_SLASHES'];

/** The `pathNormalization.normalization` among the settings; null where there is none. */
export function readPathNormalization(settings: JsonObject | null): PathNormalization | null {
  const written = field(asObject(field(settings, 'pathNormalization')), 'normalization');
  if (written === 'DEFAULT') return DEFAULT_PATH_NORMALIZATION;
  return MODES.find((mode) => mode === written) ?? null;
}

/** The kinds of extension provider that decide on requests, and what they speak. Istio has others, for telemetry. */
export const AUTHORIZERS: { readonly [kind: string]: ExtensionProvider['protocol'] } = {
  envoyExtAuthzHttp: 'http',
  envoyExtAuthzGrpc: 'grpc',
};

/** The external authorizers among Istio's `extensionProviders`. */
export function readExtensionProviders(value: JsonValue | undefined): readonly ExtensionProvider[] {
  if (!isList(value)) return [];
  return value.flatMap((item) => {
    const provider = asObject(item);
    const name = asString(field(provider, 'name'));
    const kind = Object.keys(provider ?? {}).find((key) => Object.hasOwn(AUTHORIZERS, key));
    const protocol = kind === undefined ? undefined : AUTHORIZERS[kind];
    return name === null || protocol === undefined ? [] : [{ name, protocol }];
  });
}
