import { TYPES } from '../../../kubernetes/api/resource-types.ts';
import type { ResourceType } from '../../../kubernetes/api/types.ts';
import { KINDS } from '../../../policy/kinds.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { slimEndpointSlice, slimObject, slimPod } from './slim.ts';

/** A kind that the control plane follows. */
export interface WatchedKind {
  readonly type: ResourceType;
  /** Versions in which a cluster may have the kind, best first; the type's own where there is one only. */
  readonly versions: readonly string[];
  /** What is kept of an object; null: nothing. */
  readonly slim: (object: JsonObject) => JsonObject | null;
  /** The mesh has one. */
  readonly single: boolean;
}

export const WATCHED_KINDS: readonly WatchedKind[] = [
  watched(TYPES.Service),
  { ...watched(TYPES.EndpointSlice), slim: slimEndpointSlice },
  { ...watched(TYPES.Pod), slim: slimPod },
  istio(TYPES.AuthorizationPolicy, KINDS.AuthorizationPolicy),
  istio(TYPES.PeerAuthentication, KINDS.PeerAuthentication),
  istio(TYPES.RequestAuthentication, KINDS.RequestAuthentication),
  istio(TYPES.WorkloadEntry, KINDS.WorkloadEntry),
  istio(TYPES.ServiceEntry, KINDS.ServiceEntry),
  { ...watched(TYPES.MeshConfig), single: true },
  watched(TYPES.Revocation),
];

function watched(type: ResourceType): WatchedKind {
  return { type, versions: [type.version], slim: slimObject, single: false };
}

/** A cluster that had Istio before us keeps its definitions, which may be old. */
function istio(type: ResourceType, apiVersions: readonly string[]): WatchedKind {
  return { ...watched(type), versions: apiVersions.map((one) => one.slice(one.indexOf('/') + 1)) };
}
