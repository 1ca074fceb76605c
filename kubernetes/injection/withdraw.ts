import { asObject, field } from '../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';
import { annotationsOf, containersOf, itemsOf, metadataOf, specOf } from './pod.ts';
import { restoreProbes } from './probes.ts';
import { probesOfSidecar } from './sidecar-settings.ts';
import { INJECTED } from './types.ts';

const CONTAINERS: readonly JsonValue[] = [INJECTED.initContainer, INJECTED.sidecar];
const VOLUMES: readonly JsonValue[] = [INJECTED.tokenVolume, INJECTED.trustVolume];

export interface Withdrawn {
  /** As its author wrote it, but for labels and annotations that are only ever added where they are absent, and names of probes' ports. */
  readonly pod: JsonObject;
  readonly wasInjected: boolean;
}

/**
 * Takes an earlier injection out of a pod, so that injecting it again gives the same, whatever others did to it in between (put containers before
 * ours, added some, changed ours), and brings it up to date. The status annotation says that there was one; a pod whose author wrote that himself
 * only loses what he called by our names.
 */
export function withdraw(pod: JsonObject): Withdrawn {
  if (!annotationsOf(pod).has(INJECTED.statusAnnotation)) return { pod, wasInjected: false };
  const metadata = metadataOf(pod);
  const { [INJECTED.statusAnnotation]: _, ...annotations } = asObject(field(metadata, 'annotations')) ?? {};
  const sidecar = containersOf(pod).find(({ name }) => name === INJECTED.sidecar);
  const probes = sidecar === undefined ? [] : probesOfSidecar(sidecar.object);
  const spec: { [key: string]: JsonValue } = { ...specOf(pod) };
  for (const list of ['initContainers', 'containers', 'volumes'] as const) {
    if (field(spec, list) === undefined) continue;
    const ours = list === 'volumes' ? VOLUMES : CONTAINERS;
    const theirs = itemsOf(pod, list).filter((item) => !ours.includes(field(item, 'name') ?? null));
    spec[list] = list === 'volumes' ? theirs : theirs.map((container) => restoreProbes(container, probes));
  }
  return {
    pod: { ...pod, metadata: { ...metadata, annotations }, spec },
    wasInjected: sidecar !== undefined,
  };
}
