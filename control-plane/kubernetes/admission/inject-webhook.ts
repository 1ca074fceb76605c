import { inject } from '../../../kubernetes/injection/inject.ts';
import { diff, jsonPatch } from '../../../kubernetes/injection/json-patch.ts';
import type { InjectionSettings } from '../../../kubernetes/injection/types.ts';
import { ApiError } from '../../api-error.ts';
import { type AdmissionAnswer, type AdmissionRequest, ALLOWED, findingText } from './admission-review.ts';
import type { Reviewed } from './webhook-server.ts';

export interface InjectWebhookOptions {
  readonly settings: InjectionSettings;
  /** Postern's version, for the status annotation of pods. */
  readonly version: string;
  /** Labels of a namespace as they are now; null where it is not known (yet). May ask the API server: within a few seconds. */
  readonly namespaceLabels: (
    namespace: string,
  ) => { readonly [key: string]: string } | null | Promise<{ readonly [key: string]: string } | null>;
}

/** Answers `/inject`: pods that are created get their sidecar. Whatever else is sent passes unchanged. */
export function injectWebhook(options: InjectWebhookOptions): (request: AdmissionRequest) => Promise<Reviewed> {
  return async (request) => {
    const { kind, operation, subResource, object } = request;
    const isPod = kind.group === '' && kind.kind === 'Pod' && subResource === '';
    if (!isPod || operation !== 'CREATE') return { outcome: 'allowed', answer: ALLOWED };
    if (object === null) throw new ApiError(400, 'bad-request', 'request.object is missing: there is no pod');
    const namespaceLabels = await options.namespaceLabels(request.namespace);
    // Without them it is not known whether the pod is to be in the mesh: the API server's failurePolicy decides.
    if (namespaceLabels === null) {
      throw new ApiError(503, 'namespace-unknown', `the labels of namespace ${request.namespace} are not known yet`);
    }
    const { version, settings } = options;
    const injection = inject(object, { namespaceLabels, workload: null, version }, settings);
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
