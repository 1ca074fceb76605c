import type { Logger } from 'pino';
import { TYPES } from '../../../kubernetes/api/resource-types.ts';
import type { IssuingPolicy } from '../../ca/issuing-policy.ts';
import { type ObjectApi, type ObjectWatch, SharedObject } from './shared-object.ts';
import { STATE_CONFIG_MAP } from './trust-state.ts';

/** What every CA needs that the replicas of the control plane share, whoever makes its intermediate. */
export interface SharedCaOptions {
  readonly api: ObjectApi;
  /** Of the Secret, and of the ConfigMap `postern-ca-state` beside it. */
  readonly namespace: string;
  /** Name of the Secret that holds the CA. */
  readonly secret: string;
  readonly trustDomain: string;
  /** Unix time, milliseconds. */
  readonly clock: () => number;
  readonly defaults?: Partial<IssuingPolicy>;
  /** The signal of this replica's term as the leader; null while another leads. */
  readonly term: () => AbortSignal | null;
  /** Tell of changes at once; without them they are found by reading every `pollMs`. */
  readonly watches?: readonly ObjectWatch[];
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>;
  /** Milliseconds between two confirmations by the API; default 10 s. */
  readonly pollMs?: number;
  /**
   * How much longer than the longest leaf an old root is kept, milliseconds: for a write that takes its time and for replicas whose clock is ahead.
   * Default 5 minutes.
   */
  readonly slackMs?: number;
}

export const SLACK_MS = 5 * 60_000;

export interface CaObjects {
  readonly secret: SharedObject;
  /** The ConfigMap `postern-ca-state`. */
  readonly state: SharedObject;
}

export function caObjects({ api, namespace, secret, clock }: SharedCaOptions): CaObjects {
  return {
    secret: new SharedObject({ api, type: TYPES.Secret, namespace, name: secret, clock }),
    state: new SharedObject({ api, type: TYPES.ConfigMap, namespace, name: STATE_CONFIG_MAP, clock }),
  };
}

/** The signal of the term that goes on now; null where this replica does not lead, or not any more. */
export function presentTerm({ term }: Pick<SharedCaOptions, 'term'>): AbortSignal | null {
  const signal = term();
  return signal?.aborted === true ? null : signal;
}
