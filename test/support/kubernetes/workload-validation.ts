import { stringMap } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { at, objectsAt, textAt } from './objects.ts';
import { matchesLabels } from './selectors.ts';
import { type Cause, required, unsupported, wrong } from './status.ts';

export function podCauses(object: JsonObject, before: JsonObject | null): readonly Cause[] {
  const causes = podSpecCauses(at(object, 'spec'), 'spec');
  if (before !== null && JSON.stringify(containerNames(before)) !== JSON.stringify(containerNames(object))) {
    causes.push(forbidden('spec.containers', 'pod updates may not add or remove containers'));
  }
  return causes;
}

export function deploymentCauses(object: JsonObject): readonly Cause[] {
  const causes = podSpecCauses(at(object, 'spec', 'template', 'spec'), 'spec.template.spec');
  const selector = at(object, 'spec', 'selector');
  if (selector === undefined) return [required('spec.selector'), ...causes];
  if (!matchesLabels(selector, stringMap(at(object, 'spec', 'template', 'metadata', 'labels')))) {
    causes.push(wrong('spec.template.metadata.labels', null, '`selector` does not match template `labels`'));
  }
  return causes;
}

export function serviceCauses(object: JsonObject): readonly Cause[] {
  const ports = objectsAt(object, 'spec', 'ports');
  const needsPorts =
    textAt(object, 'spec', 'type') !== 'ExternalName' && textAt(object, 'spec', 'clusterIP') !== 'None';
  if (ports.length === 0 && needsPorts) return [required('spec.ports')];
  return ports.flatMap((port, index) =>
    ports.length > 1 && textAt(port, 'name') === '' ? [required(`spec.ports[${index}].name`)] : [],
  );
}

function podSpecCauses(spec: JsonValue | undefined, field: string): Cause[] {
  const causes: Cause[] = [];
  if (objectsAt(spec, 'containers').length === 0) causes.push(required(`${field}.containers`));
  const names = new Set<string>();
  const volumes = new Set(objectsAt(spec, 'volumes').map((volume) => textAt(volume, 'name')));
  for (const container of [...objectsAt(spec, 'initContainers'), ...objectsAt(spec, 'containers')]) {
    const name = textAt(container, 'name');
    if (name === '') causes.push(required(`${field}.containers[].name`));
    if (names.has(name)) causes.push(duplicate(`${field}.containers[].name`, name));
    names.add(name);
    for (const mount of objectsAt(container, 'volumeMounts')) {
      const volume = textAt(mount, 'name');
      if (volumes.has(volume)) continue;
      const message = `Not found: ${JSON.stringify(volume)}`;
      causes.push({ reason: 'FieldValueNotFound', message, field: `${field}.containers[].volumeMounts[].name` });
    }
  }
  return causes;
}

const duplicate = (field: string, value: string): Cause => ({
  reason: 'FieldValueDuplicate',
  message: `Duplicate value: ${JSON.stringify(value)}`,
  field,
});

const forbidden = (field: string, why: string): Cause => ({
  reason: 'FieldValueForbidden',
  message: `Forbidden: ${why}`,
  field,
});

const containerNames = (object: JsonObject): readonly string[] =>
  objectsAt(object, 'spec', 'containers').map((container) => textAt(container, 'name'));

export function endpointSliceCauses(object: JsonObject): readonly Cause[] {
  const type = textAt(object, 'addressType');
  return ['IPv4', 'IPv6', 'FQDN'].includes(type) ? [] : [unsupported('addressType', type, ['FQDN', 'IPv4', 'IPv6'])];
}
