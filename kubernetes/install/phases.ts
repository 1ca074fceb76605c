import { asString, field } from '../../policy/json.ts';
import { annotationsOf } from '../../policy/selection.ts';
import type { JsonObject } from '../../policy/types.ts';
import { identityOf } from './identity.ts';

/** On definitions of Istio's kinds that are ours: one that lacks it is the cluster's own, and never touched. */
const COMPATIBLE_ANNOTATION = 'postern.dev/schema';

/** An installation, in the order in which it is made. Removed in the contrary order: webhooks first, so that nothing hangs on who answers them. */
export interface Phases {
  readonly definitions: readonly JsonObject[];
  /** Namespace, then accounts, permissions, settings, services. */
  readonly foundation: readonly JsonObject[];
  readonly workload: readonly JsonObject[];
  /** What needs kinds of others: monitors and alerts. */
  readonly extras: readonly JsonObject[];
  /** Last: a cluster whose control plane does not start must not be left with webhooks that nobody answers. */
  readonly webhooks: readonly JsonObject[];
}

type Phase = keyof Phases;

export function phasesOf(objects: readonly JsonObject[]): Phases {
  const of = (phase: Phase): readonly JsonObject[] => objects.filter((object) => phaseOf(object) === phase);
  const foundation = of('foundation');
  const isNamespace = (object: JsonObject): boolean => identityOf(object).kind === 'Namespace';
  return {
    definitions: of('definitions'),
    foundation: [...foundation.filter(isNamespace), ...foundation.filter((object) => !isNamespace(object))],
    workload: of('workload'),
    extras: of('extras'),
    webhooks: of('webhooks'),
  };
}

function phaseOf(object: JsonObject): Phase {
  const { apiVersion, kind } = identityOf(object);
  if (kind === 'CustomResourceDefinition') return 'definitions';
  if (kind === 'MutatingWebhookConfiguration' || kind === 'ValidatingWebhookConfiguration') return 'webhooks';
  if (kind === 'Deployment') return 'workload';
  return apiVersion.startsWith('monitoring.coreos.com/') ? 'extras' : 'foundation';
}

/** Whether a definition is one of Istio's kinds, which a cluster may have by itself. */
export function isCompatibleDefinition(object: JsonObject): boolean {
  return asString(field(annotationsOf(object), COMPATIBLE_ANNOTATION)) === 'compatible';
}
