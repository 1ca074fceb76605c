import { isReason } from '../../../kubernetes/api/errors.ts';
import { TYPES } from '../../../kubernetes/api/resource-types.ts';
import type { KubernetesApi } from '../../../kubernetes/api/types.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { RateLimit } from '../../server/rate-limit.ts';
import { slimPod } from '../source/slim.ts';
import { Gate } from './gate.ts';
import { faultOf, type PodClaim, type PodFault } from './pod-check.ts';
import { type PodFacts, readPod } from './pod-facts.ts';

export interface PodLookupOptions {
  readonly api: Pick<KubernetesApi, 'get'>;
  /** The pod as it was last heard of, as `slimPod` leaves it; null where it was not. */
  readonly pods: (namespace: string, name: string) => JsonObject | null;
}

export type PodAnswer =
  | { readonly kind: 'pod'; readonly pod: PodFacts }
  | { readonly kind: 'fault'; readonly fault: PodFault }
  | { readonly kind: 'absent' }
  /** The API server cannot be asked now. */
  | { readonly kind: 'unknown' };

const TIMEOUT_MS = 5_000;
const LIMITS = { concurrent: 16, waiting: 256, waitMs: 5_000 } as const;
/** Questions on behalf of one service account: a burst for a Deployment that starts, then some each second. */
const BURST = 200;
const PER_SECOND = 20;

/**
 * Finds the pod that someone claims to be: in what is known already, and where that has nothing or does not fit because it is behind, by one question
 * to the API server.
 */
export class PodLookup {
  readonly #options: PodLookupOptions;
  readonly #gate = new Gate(LIMITS);
  readonly #rate = new RateLimit(BURST, PER_SECOND);

  constructor(options: PodLookupOptions) {
    this.#options = options;
  }

  async find(claim: PodClaim): Promise<PodAnswer> {
    const known = this.findKnown(claim);
    if (known !== null) return { kind: 'pod', pod: known };
    if (!this.#rate.take(`${claim.namespace}/${claim.serviceAccount}`)) return { kind: 'unknown' };
    let object: JsonObject;
    try {
      object = await this.#gate.run(() => this.#options.api.get(TYPES.Pod, claim, AbortSignal.timeout(TIMEOUT_MS)));
    } catch (error) {
      return isReason(error, 'NotFound') ? { kind: 'absent' } : { kind: 'unknown' };
    }
    const pod = readPod(slimPod(object));
    if (pod === null) return { kind: 'absent' };
    const fault = faultOf(pod, claim);
    return fault === null ? { kind: 'pod', pod } : { kind: 'fault', fault };
  }

  /** Without a question to the API server; null where what is known does not fit. */
  findKnown(claim: PodClaim): PodFacts | null {
    const object = this.#options.pods(claim.namespace, claim.name);
    const pod = object === null ? null : readPod(object);
    return pod !== null && faultOf(pod, claim) === null ? pod : null;
  }
}
