import { asObject, asString, field } from '../../policy/json.ts';
import { quoted } from '../../policy/quoted.ts';
import type { JsonObject } from '../../policy/types.ts';
import type { Findings, Path } from '../../policy/validate/findings.ts';
import { annotationsOf, labelsOf, specOf } from './pod.ts';
import { INJECTED, type InjectionSettings } from './types.ts';

export type Selected =
  /** `asked`: the pod itself says so, not only its namespace. */
  { readonly inject: true; readonly asked: boolean } | { readonly inject: false; readonly reason: string };

const ISTIO_POD_KEY = 'sidecar.istio.io/inject';
const ISTIO_NAMESPACE_LABEL = 'istio-injection';

/** Written by the kubelet on the pods that it shows for its manifest files: the API server refuses to change those. */
const MIRROR_ANNOTATION = 'kubernetes.io/config.mirror';

/**
 * Whether a pod gets a sidecar. What cannot have one never does; else the pod's own word (label or annotation) counts before its namespace's, and
 * Postern's before Istio's. Values other than those there are, and a label and an annotation that contradict each other, are errors.
 */
export function selectPod(
  pod: JsonObject,
  namespaceLabels: { readonly [key: string]: string },
  settings: Pick<InjectionSettings, 'understandIstioLabels'>,
  findings: Findings,
): Selected {
  const impossible = whyImpossible(pod);
  const own = wordOfPod(pod, INJECTED.injectKey, { enabled: true, disabled: false }, findings);
  if (impossible !== null) return { inject: false, reason: impossible };
  const word =
    own ??
    (settings.understandIstioLabels ? wordOfPod(pod, ISTIO_POD_KEY, { true: true, false: false }, findings) : null);
  if (word !== null) {
    return word ? { inject: true, asked: true } : { inject: false, reason: 'the pod says that it wants no sidecar' };
  }
  const keys = [INJECTED.injectKey, ...(settings.understandIstioLabels ? [ISTIO_NAMESPACE_LABEL] : [])];
  const label = keys.map((key) => (Object.hasOwn(namespaceLabels, key) ? namespaceLabels[key] : undefined));
  const first = label.find((value) => value !== undefined);
  if (first === 'enabled') return { inject: true, asked: false };
  const reason =
    first === undefined || first === 'disabled'
      ? `neither the pod nor its namespace has ${INJECTED.injectKey}: enabled`
      : `the namespace's label ${keys[label.indexOf(first)]} is ${quoted(first)}, neither enabled nor disabled`;
  return { inject: false, reason };
}

function whyImpossible(pod: JsonObject): string | null {
  const spec = specOf(pod);
  if (annotationsOf(pod).has(MIRROR_ANNOTATION))
    return "it is a mirror of a node's static pod, which cannot be changed";
  if (field(spec, 'hostNetwork') === true) {
    return "spec.hostNetwork is true: it shares the node's network, whose connections must not be redirected";
  }
  const os = asString(field(asObject(field(spec, 'os')), 'name')) ?? 'linux';
  return os === 'linux' ? null : `spec.os.name is ${quoted(os)}: connections can be redirected on Linux alone`;
}

/** Of the label and the annotation of one name; null where there is neither, or their words make no sense, which is reported. */
function wordOfPod(
  pod: JsonObject,
  key: string,
  words: { readonly [word: string]: boolean },
  findings: Findings,
): boolean | null {
  const written: readonly (readonly [Path, string | undefined])[] = [
    [['metadata', 'labels', key], labelsOf(pod).get(key)],
    [['metadata', 'annotations', key], annotationsOf(pod).get(key)],
  ];
  const read = written.flatMap(([path, text]) => {
    if (text === undefined) return [];
    const value = Object.hasOwn(words, text) ? words[text] : undefined;
    if (value !== undefined) return [value];
    findings.error(path, `${key} must be ${Object.keys(words).join(' or ')}, not ${quoted(text)}`);
    return [];
  });
  if (new Set(read).size > 1) {
    findings.error(
      ['metadata', 'annotations', key],
      `${key} says one thing as label and another as annotation: remove one`,
    );
  }
  return read[0] ?? null;
}
