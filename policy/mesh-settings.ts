import type { MeshConfigResource } from '../mesh/resources.ts';
import { asObject, asString, field, isList } from './json.ts';
import { specOf } from './selection.ts';
import type { JsonObject } from './types.ts';

/** Istio's default. */
const ROOT_NAMESPACE = 'istio-system';

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
  };
}
