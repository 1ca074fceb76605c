import { asObject, field } from '../../policy/json.ts';
import type { JsonObject } from '../../policy/types.ts';
import { type Finding, Findings } from '../../policy/validate/findings.ts';
import { initContainer, sidecarContainer, volumes } from './containers.ts';
import { checkHazards, otherMesh } from './hazards.ts';
import { missingAnnotations, missingLabels, telemetryLabels, workloadNameOf } from './names.ts';
import { checkShape, containersOf, itemsOf, metadataOf, specOf } from './pod.ts';
import { type PodSettings, readPodSettings } from './pod-settings.ts';
import { rewriteProbes, warnOfLifecycleHooks } from './probes.ts';
import { warnOfUnproven } from './redirection.ts';
import { selectPod } from './selection.ts';
import { sidecarSettings } from './sidecar-settings.ts';
import { INJECTED, type InjectionSettings } from './types.ts';
import { withdraw } from './withdraw.ts';

/** What is known of a pod besides itself. */
export interface InjectionContext {
  readonly namespaceLabels: { readonly [key: string]: string };
  /** Name of the Deployment, StatefulSet, … whose template this is; null: found from the pod's owner. */
  readonly workload: string | null;
  /** Postern's version, for the status annotation. */
  readonly version: string;
}

export type Injection =
  | { readonly outcome: 'injected'; readonly pod: JsonObject; readonly warnings: readonly Finding[] }
  /** `warnings`: what its author should know all the same. */
  | { readonly outcome: 'skipped'; readonly reason: string; readonly warnings: readonly Finding[] }
  /** `errors` is not empty; paths are within the pod. */
  | { readonly outcome: 'refused'; readonly errors: readonly Finding[]; readonly warnings: readonly Finding[] };

/** Larger settings would not fit into the environment of a process (128 KiB for one variable, MAX_ARG_STRLEN). Bytes. */
const MAX_SETTINGS_BYTES = 96 * 1024;

/**
 * Gives a pod (or the template of one) its sidecar. Pure: the same pod and settings give the same pod, and `inject` of what it returned changes
 * nothing. Of the author's containers nothing but probes is touched. Takes any JSON object and never throws for what is wrong with it.
 */
export function inject(given: JsonObject, context: InjectionContext, settings: InjectionSettings): Injection {
  const findings = new Findings();
  checkShape(given, findings);
  if (hasErrors(findings)) return refused(findings);
  const { pod, wasInjected } = withdraw(given);
  const selected = selectPod(pod, context.namespaceLabels, settings, findings);
  if (hasErrors(findings)) return refused(findings);
  if (!selected.inject) return { outcome: 'skipped', reason: selected.reason, warnings: findings.all };
  const other = otherMesh(pod);
  if (other !== null && !wasInjected && !selected.asked) {
    const reason = `it has a sidecar of ${other} already, and one pod has one: it stays in that mesh`;
    findings.warn(['spec', 'containers'], `not injected: ${reason}`);
    return { outcome: 'skipped', reason, warnings: findings.all };
  }
  if (other !== null) {
    findings.error(
      ['spec', 'containers'],
      `the pod has a sidecar of ${other} as well, and one pod can have one: switch off ${other}'s injection for it, or label it ${INJECTED.injectKey}: disabled`,
    );
  }
  const podSettings = readPodSettings(pod, settings, findings);
  if (podSettings.nativeSidecar && !settings.nativeSidecar) {
    findings.warn(
      ['metadata', 'annotations'],
      'a native sidecar is asked for in a mesh that is set up without: on Kubernetes older than 1.29 the pod would never start',
    );
  }
  warnOfUnproven(podSettings, findings);
  checkHazards(pod, findings);
  const injected = compose(pod, podSettings, context, settings, findings);
  if (hasErrors(findings)) return refused(findings);
  return { outcome: 'injected', pod: injected, warnings: findings.all };
}

function hasErrors(findings: Findings): boolean {
  return findings.all.some(({ severity }) => severity === 'error');
}

function refused({ all }: Findings): Injection {
  return {
    outcome: 'refused',
    errors: all.filter(({ severity }) => severity === 'error'),
    warnings: all.filter(({ severity }) => severity === 'warning'),
  };
}

function compose(
  pod: JsonObject,
  podSettings: PodSettings,
  context: InjectionContext,
  settings: InjectionSettings,
  findings: Findings,
): JsonObject {
  const { lists, probes } = turnProbes(pod, podSettings, findings);
  const metadata = metadataOf(pod);
  const labels = {
    ...asObject(field(metadata, 'labels')),
    ...missingLabels(pod, context.workload ?? workloadNameOf(pod)),
  };
  const annotations = {
    ...asObject(field(metadata, 'annotations')),
    ...missingAnnotations(pod, podSettings.nativeSidecar),
    [INJECTED.statusAnnotation]: statusOf(podSettings, context.version),
  };
  const text = sidecarSettings(podSettings, settings, telemetryLabels({ metadata: { labels } }), probes);
  if (Buffer.byteLength(text) > MAX_SETTINGS_BYTES) {
    findings.error(
      ['spec'],
      `the sidecar's settings would be larger than ${MAX_SETTINGS_BYTES} bytes: shorten the annotations, or the probes' paths and headers`,
    );
  }
  const placed = place(lists, initContainer(podSettings, settings), sidecarContainer(podSettings, settings, text), {
    native: podSettings.nativeSidecar,
    findings,
  });
  return {
    ...pod,
    metadata: { ...metadata, labels, annotations },
    spec: { ...specOf(pod), ...placed, volumes: [...itemsOf(pod, 'volumes'), ...volumes(settings)] },
  };
}

interface ContainerLists {
  readonly initContainers: readonly JsonObject[];
  readonly containers: readonly JsonObject[];
}

function turnProbes(pod: JsonObject, { redirected, rewriteProbes: wanted }: PodSettings, findings: Findings) {
  if (wanted) warnOfLifecycleHooks(pod, redirected, findings);
  const probes: JsonObject[] = [];
  const lists: { readonly [list in keyof ContainerLists]: JsonObject[] } = { initContainers: [], containers: [] };
  for (const container of containersOf(pod)) {
    const turned = wanted ? rewriteProbes(container, redirected, findings) : null;
    probes.push(...(turned?.probes ?? []));
    lists[container.list].push(turned?.container ?? container.object);
  }
  return { lists, probes };
}

/**
 * Native: redirection, then the sidecar, then everything else, which starts once the sidecar is ready. Otherwise the sidecar runs only when all
 * init containers have ended, so that they come before the redirection: their connections would lead nowhere after it.
 */
function place(
  lists: ContainerLists,
  init: JsonObject,
  sidecar: JsonObject,
  { native, findings }: { readonly native: boolean; readonly findings: Findings },
): JsonObject {
  if (native) return { initContainers: [init, sidecar, ...lists.initContainers], containers: lists.containers };
  if (lists.initContainers.length > 0) {
    findings.warn(
      ['spec', 'initContainers'],
      'without a native sidecar init containers run before the redirection: what they say is neither encrypted nor decided by policies',
    );
  }
  return { initContainers: [...lists.initContainers, init], containers: [sidecar, ...lists.containers] };
}

/** Read by people and by `postern check`; that it is there at all tells the control plane that the pod has a sidecar. */
function statusOf({ image, nativeSidecar }: PodSettings, version: string): string {
  const containers = nativeSidecar
    ? { initContainers: [INJECTED.initContainer, INJECTED.sidecar], containers: [] }
    : { initContainers: [INJECTED.initContainer], containers: [INJECTED.sidecar] };
  return JSON.stringify({ version, image, ...containers, volumes: [INJECTED.tokenVolume, INJECTED.trustVolume] });
}
