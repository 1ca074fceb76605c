import { type Injection, inject } from '../../../kubernetes/injection/inject.ts';
import { diff, jsonPatch } from '../../../kubernetes/injection/json-patch.ts';
import { INJECTED, type InjectionSettings } from '../../../kubernetes/injection/types.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { ApiError } from '../../api-error.ts';
import { type AdmissionAnswer, type AdmissionRequest, ALLOWED, findingText } from './admission-review.ts';
import type { Reviewed } from './webhook-server.ts';

export interface InjectWebhookOptions {
  readonly settings: InjectionSettings;
  /** Postern's version, for the status annotation of pods. */
  readonly version: string;
  /** Labels of a namespace; null where they are not known (yet). `fresh`: what the API server says now, within a few seconds. */
  readonly namespaceLabels: (namespace: string, options: { readonly fresh: boolean }) => Promise<Labels | null>;
}

type Labels = { readonly [key: string]: string };

/** Answers `/inject`: pods that are created get their sidecar. Whatever else is sent passes unchanged. */
export function injectWebhook(options: InjectWebhookOptions): (request: AdmissionRequest) => Promise<Reviewed> {
  return async (request) => {
    const { kind, operation, subResource, object } = request;
    const isPod = kind.group === '' && kind.kind === 'Pod' && subResource === '';
    if (!isPod || operation !== 'CREATE') return { outcome: 'allowed', answer: ALLOWED };
    if (object === null) throw new ApiError(400, 'bad-request', 'request.object is missing: there is no pod');
    const injection = await decide(object, request.namespace, options);
    const warnings = injection.warnings.map(findingText);
    if (injection.outcome === 'skipped') return { outcome: 'skipped', answer: { ...ALLOWED, warnings } };
    if (injection.outcome === 'injected') {
      const patch = jsonPatch(diff(object, injection.pod));
      return { outcome: 'injected', answer: { ...ALLOWED, warnings, patch } };
    }
    const message = `the sidecar cannot be injected: ${injection.errors.map(findingText).join('\n')}`;
    const answer: AdmissionAnswer = {
      allowed: false,
      warnings,
      patch: null,
      refusal: { message, causes: injection.errors },
    };
    return { outcome: 'refused', answer };
  };
}

/** @throws ApiError 503 `namespace-unknown` */
async function decide(pod: JsonObject, namespace: string, options: InjectWebhookOptions): Promise<Injection> {
  const { version, settings } = options;
  const by = (namespaceLabels: Labels): Injection =>
    inject(pod, { namespaceLabels, workload: null, version }, settings);
  const known = requireLabels(await options.namespaceLabels(namespace, { fresh: false }), namespace);
  const injection = by(known);
  // The API server asks only for pods of namespaces that are enabled, or that ask themselves: what is known may be behind, and NEVER does a pod start
  // outside of the mesh for that.
  if (injection.outcome !== 'skipped' || isEnabled(known, settings)) return injection;
  return by(requireLabels(await options.namespaceLabels(namespace, { fresh: true }), namespace));
}

/** Whether the namespace is, so that it is for the pod's sake that it gets no sidecar. */
function isEnabled(labels: Labels, { understandIstioLabels }: InjectionSettings): boolean {
  const own = Object.hasOwn(labels, INJECTED.injectKey) ? labels[INJECTED.injectKey] : undefined;
  return own === 'enabled' || (own === undefined && understandIstioLabels && labels['istio-injection'] === 'enabled');
}

/** Without them it is not known whether the pod is to be in the mesh: the API server's failurePolicy decides. */
function requireLabels(labels: Labels | null, namespace: string): Labels {
  if (labels !== null) return labels;
  throw new ApiError(503, 'namespace-unknown', `the labels of namespace ${namespace} are not known yet`);
}
