import { asObject, asString, field, isAbsent, isList, stringMap } from '../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';
import type { Findings, Path } from '../../policy/validate/findings.ts';

/** Pods as the injector reads them: JSON objects whose shape was checked once (`checkShape`); what is missing reads as empty. */

export type ContainerList = 'initContainers' | 'containers';

export interface PodContainer {
  readonly list: ContainerList;
  readonly name: string;
  /** Within the pod. */
  readonly path: Path;
  readonly object: JsonObject;
}

/** What the injector relies on in everything after it: maps are maps, lists are lists, and containers have names of their own. */
export function checkShape(pod: JsonObject, findings: Findings): void {
  const metadata = findings.object(field(pod, 'metadata'), ['metadata']);
  findings.stringMap(field(metadata, 'labels'), ['metadata', 'labels']);
  findings.stringMap(field(metadata, 'annotations'), ['metadata', 'annotations']);
  const spec = findings.object(field(pod, 'spec'), ['spec']);
  if (spec === null) {
    findings.error(['spec'], 'spec is missing: this is no pod');
    return;
  }
  const names = new Set<string>();
  for (const list of ['initContainers', 'containers'] as const) checkNamed(spec, list, names, findings);
  checkNamed(spec, 'volumes', new Set(), findings);
  if (containersOf(pod).every((container) => container.list !== 'containers')) {
    findings.error(['spec', 'containers'], 'spec.containers is empty: there is nothing to stand beside');
  }
}

function checkNamed(spec: JsonObject, list: string, names: Set<string>, findings: Findings): void {
  for (const [index, item] of findings.items(field(spec, list), ['spec', list]).entries()) {
    const path = ['spec', list, index];
    const name = asString(field(asObject(item), 'name')) ?? '';
    if (name === '') findings.error(path, `${list}[${index}] must be a map with a name`);
    else if (names.has(name)) findings.error([...path, 'name'], `the name ${JSON.stringify(name)} stands twice`);
    names.add(name);
  }
}

export function specOf(pod: JsonObject): JsonObject {
  return asObject(field(pod, 'spec')) ?? {};
}

export function metadataOf(pod: JsonObject): JsonObject {
  return asObject(field(pod, 'metadata')) ?? {};
}

export function labelsOf(pod: JsonObject): ReadonlyMap<string, string> {
  return stringMap(field(metadataOf(pod), 'labels'));
}

export function annotationsOf(pod: JsonObject): ReadonlyMap<string, string> {
  return stringMap(field(metadataOf(pod), 'annotations'));
}

/** Maps of a list within the spec. */
export function itemsOf(pod: JsonObject, list: ContainerList | 'volumes'): readonly JsonObject[] {
  return objectsIn(field(specOf(pod), list));
}

/** The maps of a list; empty where it is none. */
export function objectsIn(value: JsonValue | undefined): readonly JsonObject[] {
  return (isList(value) ? value : []).map((item) => asObject(item)).filter((item) => item !== null);
}

/** In the order in which the kubelet starts them. */
export function containersOf(pod: JsonObject): readonly PodContainer[] {
  return (['initContainers', 'containers'] as const).flatMap((list) =>
    itemsOf(pod, list).map((object, index) => ({
      list,
      name: asString(field(object, 'name')) ?? '',
      path: ['spec', list, index],
      object,
    })),
  );
}

/** A field of the security context that counts for a container, and where it stands: its own before the pod's. */
export function effectiveSecurity(
  pod: JsonObject,
  container: PodContainer,
  key: string,
): { readonly value: JsonValue; readonly path: Path } | null {
  const own = field(asObject(field(container.object, 'securityContext')), key);
  if (!isAbsent(own)) return { value: own, path: [...container.path, 'securityContext', key] };
  const shared = field(asObject(field(specOf(pod), 'securityContext')), key);
  return isAbsent(shared) ? null : { value: shared, path: ['spec', 'securityContext', key] };
}

/** The ports that a container declares: TCP alone. */
export function tcpPortsOf(
  container: PodContainer,
): readonly { readonly name: string; readonly port: number; readonly path: Path }[] {
  const ports = field(container.object, 'ports');
  if (!isList(ports)) return [];
  return ports.flatMap((entry, index) => {
    const object = asObject(entry);
    const port = field(object, 'containerPort');
    if (typeof port !== 'number' || (asString(field(object, 'protocol')) ?? 'TCP') !== 'TCP') return [];
    return [{ name: asString(field(object, 'name')) ?? '', port, path: [...container.path, 'ports', index] }];
  });
}
