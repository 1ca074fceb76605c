import { asObject, field, isAbsent, isList } from '../json.ts';
import type { JsonObject } from '../types.ts';
import type { Findings, Path } from './findings.ts';

const SPEC = ['spec'];
const MAX_LABEL_VALUE = 63;
const MAX_TARGETS = 16;

/** Kinds that a targetRef may name, by API group. */
const TARGET_KINDS: { readonly [group: string]: readonly string[] } = {
  '': ['Service'],
  core: ['Service'],
  'networking.istio.io': ['ServiceEntry'],
  'gateway.networking.k8s.io': ['Gateway', 'GatewayClass'],
};

/** The ways in which a policy says what it applies to. `targets`: whether the kind has targetRef and targetRefs. */
export function validateSelection(spec: JsonObject, targets: boolean, findings: Findings): void {
  validateSelector(spec, findings);
  if (!targets) return;
  const single = field(spec, 'targetRef');
  if (!isAbsent(single))
    validateTarget(findings.object(single, [...SPEC, 'targetRef']), [...SPEC, 'targetRef'], findings);
  const many = findings.items(field(spec, 'targetRefs'), [...SPEC, 'targetRefs'], MAX_TARGETS);
  for (const [index, target] of many.entries()) {
    const path = [...SPEC, 'targetRefs', index];
    if (target === null) findings.error(path, 'a target must not be null');
    else validateTarget(findings.object(target, path), path, findings);
  }
  const given = [!isAbsent(field(spec, 'selector')), !isAbsent(single), many.length > 0];
  if (given.filter(Boolean).length > 1) {
    findings.error(SPEC, 'only one of selector, targetRef and targetRefs may be given');
  } else if (given[1] || given[2]) {
    findings.warn(SPEC, 'a policy with a target applies to gateways; sidecars ignore it');
  }
}

function validateSelector(spec: JsonObject, findings: Findings): void {
  const path = [...SPEC, 'selector'];
  const selector = findings.object(field(spec, 'selector'), path, ['matchLabels']);
  if (selector === null) return;
  const labelsPath = [...path, 'matchLabels'];
  const labels = findings.object(field(selector, 'matchLabels'), labelsPath);
  if (Object.keys(labels ?? {}).length === 0) {
    findings.warn(path, 'a selector without labels is the same as none: the policy applies to every workload');
  }
  findings.stringMap(labels, labelsPath);
  for (const [key, value] of Object.entries(labels ?? {})) {
    const at = [...labelsPath, key];
    if (key === '') findings.error(at, 'the key of a label must not be empty', 'key');
    const hasStar = key.includes('*');
    if (hasStar || (typeof value === 'string' && value.includes('*'))) {
      const part = hasStar ? 'key' : 'value';
      findings.error(at, 'labels are matched exactly: "*" is not allowed in a key or value', part);
    }
    if (typeof value === 'string' && value.length > MAX_LABEL_VALUE) {
      findings.error(at, `the value of a label has at most ${MAX_LABEL_VALUE} characters`);
    }
  }
}

function validateTarget(target: JsonObject | null, path: Path, findings: Findings): void {
  if (target === null) return;
  findings.onlyFields(target, path, ['group', 'kind', 'name', 'namespace']);
  const text = (name: string): string => {
    const value = field(target, name);
    return typeof value === 'string' ? value : '';
  };
  findings.requiredString(field(target, 'name'), [...path, 'name'], 'a target needs a name');
  if (field(target, 'namespace') !== '' && !isAbsent(field(target, 'namespace'))) {
    findings.error([...path, 'namespace'], 'a target is in the namespace of the policy: remove its namespace');
  }
  const kinds = Object.hasOwn(TARGET_KINDS, text('group')) ? TARGET_KINDS[text('group')] : undefined;
  if (!kinds?.includes(text('kind'))) {
    findings.error(
      path,
      'a target is a Service, a ServiceEntry (networking.istio.io), or a Gateway or GatewayClass (gateway.networking.k8s.io)',
    );
  }
}

/** Whether the policy has a selector with labels. */
export function hasSelectorLabels(spec: JsonObject): boolean {
  const labels = field(asObject(field(spec, 'selector')), 'matchLabels');
  return !isList(labels) && Object.keys(asObject(labels) ?? {}).length > 0;
}
