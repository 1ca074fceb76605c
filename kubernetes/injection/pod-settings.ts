import {
  type InterceptOptions,
  parseInterceptOptions,
  type RawInterceptOptions,
} from '../../mesh/intercept/options.ts';
import { quoted } from '../../policy/quoted.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';
import { type Findings, nearest } from '../../policy/validate/findings.ts';
import type { Annotation } from './annotation.ts';
import { ANNOTATIONS, PREFIX } from './annotations.ts';
import { annotationsOf } from './pod.ts';
import { quantityValue } from './quantity.ts';
import { INJECTED, type InjectionSettings } from './types.ts';

/** How one pod gets its sidecar: the mesh's settings, and what the pod's annotations change in them. */
export interface PodSettings {
  readonly image: string;
  readonly nativeSidecar: boolean;
  readonly rewriteProbes: boolean;
  /** Flags of `postern intercept apply`, as written. */
  readonly intercept: RawInterceptOptions;
  /** The same as it will be in force. */
  readonly redirected: InterceptOptions;
  /** Settings of the sidecar that annotations gave, by their keys in proxy.yaml; one level of sections at most. */
  readonly sidecar: { readonly [key: string]: JsonValue };
  readonly resources: InjectionSettings['resources'];
}

const ANNOTATION_PATH = ['metadata', 'annotations'] as const;
/** Of one annotation: ample for a thousand ports; arguments and variables of a process have room for it. */
const MAX_TEXT = 16_384;
/** Written by others on the same prefix: not for the sidecar. */
const OTHER_KEYS: readonly string[] = [INJECTED.injectKey, INJECTED.statusAnnotation];

/** Reads every annotation that concerns the injector; what is wrong or unknown is reported, with the annotation's place. */
export function readPodSettings(pod: JsonObject, settings: InjectionSettings, findings: Findings): PodSettings {
  const texts = annotationsOf(pod);
  warnOfUnknown(texts, findings);
  const intercept: { [option: string]: string } = {};
  const sidecar: { [key: string]: JsonValue } = { logLevel: settings.logLevel };
  const resources = { requests: { ...settings.resources.requests }, limits: { ...settings.resources.limits } };
  const injection: { [option: string]: JsonValue } = {};
  for (const annotation of ANNOTATIONS) {
    const value = readOne(annotation, texts, settings.understandIstioLabels, findings);
    if (value === null) continue;
    const { target } = annotation;
    if (target.to === 'intercept') intercept[target.option] = String(value);
    else if (target.to === 'resource') resources[target.kind][target.resource] = String(value);
    else if (target.to === 'injection') injection[target.option] = value;
    else put(sidecar, target.at, value);
  }
  checkTogether(sidecar, resources, findings);
  return {
    image: typeof injection.image === 'string' ? injection.image : settings.image,
    nativeSidecar: typeof injection.nativeSidecar === 'boolean' ? injection.nativeSidecar : settings.nativeSidecar,
    rewriteProbes: injection.rewriteProbes !== false,
    intercept,
    redirected: parseInterceptOptions(intercept),
    sidecar,
    resources,
  };
}

/** Null where the annotation is absent, or not readable, which is reported. */
function readOne(
  annotation: Annotation,
  texts: ReadonlyMap<string, string>,
  understandIstio: boolean,
  findings: Findings,
): JsonValue {
  const own = `${PREFIX}${annotation.name}`;
  const istio = understandIstio ? annotation.istio : null;
  const name = texts.has(own) ? own : istio !== null && texts.has(istio) ? istio : null;
  if (name === null) return null;
  const text = texts.get(name) ?? '';
  // Istio takes an empty list of exclusions for none.
  if (name === istio && text === '' && annotation.name.startsWith('exclude-')) return null;
  const reading = text.length > MAX_TEXT ? { fault: `is longer than ${MAX_TEXT} characters` } : annotation.read(text);
  if ('value' in reading) return reading.value;
  findings.error([...ANNOTATION_PATH, name], `annotation ${name}: ${reading.fault}`);
  return null;
}

function put(
  settings: { [key: string]: JsonValue },
  at: readonly [string] | readonly [string, string],
  value: JsonValue,
) {
  const [section, key] = at;
  if (key === undefined) settings[section] = value;
  else settings[section] = { ...(settings[section] as JsonObject | undefined), [key]: value };
}

/** A misspelt annotation would silently not do what its author relies on. */
function warnOfUnknown(texts: ReadonlyMap<string, string>, findings: Findings): void {
  const known = [...ANNOTATIONS.map(({ name }) => name), ...OTHER_KEYS.map((key) => key.slice(PREFIX.length))];
  for (const name of texts.keys()) {
    const own = name.slice(PREFIX.length);
    if (!name.startsWith(PREFIX) || known.includes(own)) continue;
    const near = nearest(own, known);
    const advice =
      near === null ? '`postern inject --annotations` lists those there are' : `did you mean ${PREFIX}${near}?`;
    findings.warn([...ANNOTATION_PATH, name], `annotation ${quoted(name)} is unknown and does nothing; ${advice}`);
  }
}

/** What no single annotation shows. */
function checkTogether(sidecar: JsonObject, resources: InjectionSettings['resources'], findings: Findings): void {
  const tracing = sidecar.tracing as JsonObject | undefined;
  if (tracing !== undefined && tracing.endpoint === undefined) {
    const name = `${PREFIX}tracing-sampling`;
    findings.error(
      [...ANNOTATION_PATH, name],
      `annotation ${name} has no effect without ${PREFIX}tracing-endpoint: add it, or remove this one`,
    );
  }
  for (const [resource, request] of Object.entries(resources.requests)) {
    const limit = resources.limits[resource];
    if (limit === undefined || (quantityValue(request) ?? 0) <= (quantityValue(limit) ?? Number.POSITIVE_INFINITY))
      continue;
    findings.error(
      [...ANNOTATION_PATH],
      `the sidecar's ${resource} request ${request} exceeds its limit ${limit}: set ${PREFIX}${resource}-request and ${PREFIX}${resource}-limit together`,
    );
  }
}
