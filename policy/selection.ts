import { asObject, asString, field, isAbsent, isList, stringMap } from './json.ts';
import type { JsonObject, JsonValue, PolicyWorkload } from './types.ts';

export const DEFAULT_NAMESPACE = 'default';

/** Where an object lives and what it is called; `default` where it names no namespace, as kubectl does. */
export function nameOf(object: JsonObject): { readonly namespace: string; readonly name: string } {
  const metadata = asObject(field(object, 'metadata'));
  return {
    namespace: asString(field(metadata, 'namespace')) ?? DEFAULT_NAMESPACE,
    name: asString(field(metadata, 'name')) ?? '',
  };
}

export function specOf(object: JsonObject): JsonObject | null {
  return asObject(field(object, 'spec'));
}

/**
 * Whether a policy applies to a workload (Istio's semantics, 1.1 and 2). A policy of the root namespace applies in every namespace; its
 * selector is honoured but for PeerAuthentication, which is then ignored. A policy with a targetRef is meant for gateways, never for a sidecar.
 */
export function selects(policy: JsonObject, workload: PolicyWorkload, rootNamespace: string): boolean {
  const { namespace } = nameOf(policy);
  const isRoot = namespace === rootNamespace;
  if (!isRoot && namespace !== workload.namespace) return false;
  const spec = specOf(policy);
  if (hasTarget(spec)) return false;
  const labels = selectorLabels(policy);
  if (isRoot && labels.size > 0 && field(policy, 'kind') === 'PeerAuthentication') return false;
  for (const [key, value] of labels) {
    if (!Object.hasOwn(workload.labels, key) || workload.labels[key] !== value) return false;
  }
  return true;
}

/** Empty where the policy has no selector, or one without labels: both mean every workload. */
export function selectorLabels(policy: JsonObject): ReadonlyMap<string, string> {
  return stringMap(field(asObject(field(specOf(policy), 'selector')), 'matchLabels'));
}

function hasTarget(spec: JsonObject | null): boolean {
  const many = field(spec, 'targetRefs');
  return !isAbsent(field(spec, 'targetRef')) || (isList(many) ? many.length > 0 : !isAbsent(many));
}

export const DRY_RUN_ANNOTATION = 'istio.io/dry-run';

const TRUE = ['1', 't', 'T', 'TRUE', 'true', 'True'];
const FALSE = ['0', 'f', 'F', 'FALSE', 'false', 'False'];

/** Go's strconv.ParseBool; null where it would fail. */
export function parseGoBool(value: JsonValue | undefined): boolean | null {
  if (typeof value !== 'string') return null;
  if (TRUE.includes(value)) return true;
  return FALSE.includes(value) ? false : null;
}

export function annotationsOf(object: JsonObject): JsonObject | null {
  return asObject(field(asObject(field(object, 'metadata')), 'annotations'));
}
