import type { Logger } from 'pino';
import type { JsonObject } from '../../policy/types.ts';
import type { KubernetesApi, ResourceType, Selection } from '../api/types.ts';
import type { InformerFault } from './fault.ts';
import type { ObjectChange } from './store.ts';

export interface InformerTimings {
  /** First and longest pause after a failure; doubled in between, with jitter. */
  readonly backoffMs: number;
  readonly backoffMaxMs: number;
  /** A watch that tells nothing, not even a bookmark (which API servers send each minute), for so long is made anew. */
  readonly staleMs: number;
  /**
   * For how long the server must say at the start that it does not have a kind before that is believed: one that is starting itself may not know its
   * custom resources yet, and no policies would mean that everything is allowed.
   */
  readonly absentConfirmMs: number;
  /** When a kind that the server does not have is looked for again. */
  readonly absentMs: number;
  /** For how long a kind that was there must be missing before its objects count as gone. */
  readonly absentSettleMs: number;
  /** Watches follow each other no faster than this; one that ended sooner, without an event, counts as a failure. */
  readonly leastWatchMs: number;
}

export const INFORMER_TIMINGS: InformerTimings = {
  backoffMs: 200,
  backoffMaxMs: 15_000,
  staleMs: 150_000,
  absentConfirmMs: 2_000,
  absentMs: 30_000,
  absentSettleMs: 60_000,
  leastWatchMs: 500,
};

export interface InformerOptions<T> {
  readonly api: Pick<KubernetesApi, 'list' | 'watch'>;
  /** For messages, and what is asked for where `locate` is absent. */
  readonly type: ResourceType;
  /** The version in which the server has the kind now; null: it does not have it. Asked before each list. */
  readonly locate?: (signal: AbortSignal) => Promise<ResourceType | null>;
  readonly selection?: Selection;
  /** What is kept of an object, at once: the object itself is not. Null: nothing. Must not throw. */
  readonly transform: (object: JsonObject) => T | null;
  /** Whether two are the same to whoever reads: then there is no change. */
  readonly equals: (a: T, b: T) => boolean;
  /** Never empty; a list is one call. What it throws is logged, and changes nothing. */
  readonly onChange?: (changes: readonly ObjectChange<T>[]) => void;
  /** `fault` is another than before. */
  readonly onFault?: (fault: InformerFault | null) => void;
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>;
  readonly timings?: Partial<InformerTimings>;
  readonly random?: () => number;
}
