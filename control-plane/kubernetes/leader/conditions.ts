import type { Logger } from 'pino';
import { isReason } from '../../../kubernetes/api/errors.ts';
import type { KubernetesApi, ResourceType } from '../../../kubernetes/api/types.ts';
import { asObject, asString, field, isList } from '../../../policy/json.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { Reconciler } from './reconciler.ts';

export interface ConditionsOptions {
  readonly api: KubernetesApi;
  /** A cluster-scoped kind of ours, with a status subresource. */
  readonly type: ResourceType;
  /** Why the object of this name is refused as it is now; null: it is accepted. */
  readonly errorOf: (name: string) => string | null;
  readonly log: Logger;
}

/** Keeps the condition `Accepted` of our own kinds true to what the control plane thinks of them. */
export class Conditions {
  readonly #options: ConditionsOptions;
  readonly #objects: Reconciler;

  constructor(options: ConditionsOptions) {
    this.#options = options;
    this.#objects = new Reconciler({
      what: `writing the status of ${options.type.kind}`,
      reconcile: (name, signal) => this.#write(name, signal),
      log: options.log,
    });
  }

  /** The object has changed, or what is thought of it. */
  look(name: string): void {
    this.#objects.add(name);
  }

  forget(name: string): void {
    this.#objects.forget(name);
  }

  lead(term: AbortSignal): void {
    this.#objects.lead(term);
  }

  async #write(name: string, signal: AbortSignal): Promise<void> {
    const { api, type, errorOf } = this.#options;
    const at = { namespace: '', name };
    try {
      const object = await api.get(type, at, signal);
      const status = statusOf(object, errorOf(name), new Date());
      if (status === null) return;
      await api.patch(type, at, { type: 'merge', body: { status } }, { subresource: 'status', signal });
    } catch (error) {
      if (!isReason(error, 'NotFound')) throw error;
    }
  }
}

/** The status to write; null where the object has it. */
export function statusOf(object: JsonObject, error: string | null, now: Date): JsonObject | null {
  const generation = field(asObject(field(object, 'metadata')), 'generation');
  const observedGeneration = typeof generation === 'number' ? generation : 0;
  const written = field(asObject(field(object, 'status')), 'conditions');
  const others = isList(written) ? written.filter((one) => field(asObject(one), 'type') !== 'Accepted') : [];
  const before = isList(written) ? asObject(written.find((one) => field(asObject(one), 'type') === 'Accepted')) : null;
  const condition = {
    type: 'Accepted',
    status: error === null ? 'True' : 'False',
    reason: error === null ? 'Accepted' : 'Invalid',
    message: error ?? 'in force',
    observedGeneration,
  };
  const same = Object.entries(condition).every(([key, value]) => field(before, key) === value);
  if (same) return null;
  // Of the last change of `status`, not of the message.
  const kept = field(before, 'status') === condition.status ? asString(field(before, 'lastTransitionTime')) : null;
  const lastTransitionTime = kept ?? now.toISOString().replace(/\.\d{3}Z$/, 'Z');
  return { conditions: [...others, { ...condition, lastTransitionTime }] };
}
