import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import { isReason } from '../../../kubernetes/api/errors.ts';
import { TYPES } from '../../../kubernetes/api/resource-types.ts';
import type { KubernetesApi } from '../../../kubernetes/api/types.ts';
import { messageOf } from '../../../mesh/errors.ts';
import { asObject, asString, field } from '../../../policy/json.ts';
import { titleOf } from '../../../policy/kinds.ts';
import type { JsonObject, Manifest } from '../../../policy/types.ts';
import type { Enforcement } from '../../push/enforcement.ts';
import { type Verdict, verdictOf } from './policy-verdict.ts';

export interface PolicyEventsOptions {
  readonly api: KubernetesApi;
  /** Of this replica. */
  readonly pod: string;
  /** The policies that the source has, good or not. */
  readonly policies: () => readonly Manifest[];
  /** Why an object is refused as it is now; null: it is accepted. */
  readonly errorOf: (policy: Manifest) => string | null;
  /** Of all replicas, by key `<Kind>/<namespace>/<name>`; null while one of them does not say. */
  readonly enforcement: (signal: AbortSignal) => Promise<ReadonlyMap<string, Enforcement> | null>;
  readonly log: Pick<Logger, 'warn'>;
  readonly intervalMs?: number;
}

interface Told {
  /** The object that it was said of: Manifests are immutable, a change makes another. */
  readonly manifest: Manifest;
  /** On the clock of `performance.now()`: since when the object is as it is. */
  readonly since: number;
  /** What was said last; null: nothing yet. */
  readonly reason: Verdict['reason'] | null;
}

const INTERVAL_MS = 5_000;
/** In one round; the rest comes in the next. Many policies that change at once must not become a storm at the API server. */
const MAX_EVENTS_A_ROUND = 50;

/**
 * Tells what has become of policies by Events on them, which `kubectl describe` shows: accepted or not, and in force at how many sidecars. One for each
 * change of an object, and one whenever that stops or starts being true.
 *
 * What was there when the term began is taken as told unless something is wrong with it: a new leader does not repeat what the last one said.
 */
export class PolicyEvents {
  readonly #options: PolicyEventsOptions;
  #told = new Map<string, Told>();

  constructor(options: PolicyEventsOptions) {
    this.#options = options;
  }

  lead(term: AbortSignal): void {
    const now = performance.now();
    this.#told = new Map(
      this.#options.policies().map((manifest) => [keyOf(manifest), { manifest, since: now, reason: 'PolicyEnforced' }]),
    );
    const timer = setInterval(() => void this.#round(term), this.#options.intervalMs ?? INTERVAL_MS);
    timer.unref();
    term.addEventListener('abort', () => clearInterval(timer), { once: true });
  }

  #running = false;

  async #round(term: AbortSignal): Promise<void> {
    if (this.#running || term.aborted) return;
    this.#running = true;
    try {
      const policies = this.#options.policies();
      this.#forgetGone(policies);
      const enforcement = await this.#options.enforcement(term);
      if (enforcement === null) return;
      let left = MAX_EVENTS_A_ROUND;
      for (const policy of policies) {
        if (left === 0 || term.aborted) return;
        if (await this.#tell(policy, enforcement, term)) left -= 1;
      }
    } catch (error) {
      if (!term.aborted) this.#options.log.warn(`the state of policies could not be told: ${messageOf(error)}`);
    } finally {
      this.#running = false;
    }
  }

  /** Whether an Event was written, or tried to. */
  async #tell(policy: Manifest, all: ReadonlyMap<string, Enforcement>, term: AbortSignal): Promise<boolean> {
    const key = keyOf(policy);
    const known = this.#told.get(key);
    const told: Told =
      known?.manifest === policy ? known : { manifest: policy, since: performance.now(), reason: null };
    this.#told.set(key, told);
    const error = this.#options.errorOf(policy);
    const verdict = verdictOf(error, all.get(key) ?? null, performance.now() - told.since);
    if (verdict === null || verdict.reason === told.reason) return false;
    // What nobody has been told to worry about needs no all-clear.
    const silent = told.reason === 'PolicyEnforced' && verdict.reason === 'PolicyUnused';
    if (!silent) await this.#write(policy, verdict, term);
    this.#told.set(key, { ...told, reason: verdict.reason });
    return !silent;
  }

  /** What the API refuses (a namespace that ends takes no Events, nor does one whose quota is used up) is given up: it must not keep others back. */
  async #write(policy: Manifest, verdict: Verdict, term: AbortSignal): Promise<void> {
    const { api, pod, log } = this.#options;
    try {
      await api.create(TYPES.Event, policy.namespace, eventOf(policy, verdict, pod, new Date()), { signal: term });
    } catch (error) {
      if (!isReason(error, 'Forbidden', 'NotFound', 'Invalid')) throw error;
      log.warn(`the state of ${titleOf(policy)} could not be told: ${messageOf(error)}`);
    }
  }

  #forgetGone(policies: readonly Manifest[]): void {
    const present = new Set(policies.map(keyOf));
    for (const key of this.#told.keys()) if (!present.has(key)) this.#told.delete(key);
  }
}

/** An Event of `events.k8s.io/v1` on the policy. */
export function eventOf(policy: Manifest, { type, reason, note }: Verdict, pod: string, now: Date): JsonObject {
  const metadata = asObject(field(policy.object, 'metadata'));
  return {
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    metadata: { name: `${policy.name.slice(0, 200)}.${randomBytes(8).toString('hex')}`, namespace: policy.namespace },
    // MicroTime: six digits.
    eventTime: now.toISOString().replace(/(\.\d{3})Z$/, '$1000Z'),
    reportingController: 'postern.dev/control-plane',
    reportingInstance: pod,
    action: reason === 'PolicyRejected' ? 'Validate' : 'Push',
    reason,
    type,
    note,
    regarding: {
      apiVersion: policy.apiVersion,
      kind: policy.kind,
      namespace: policy.namespace,
      name: policy.name,
      uid: asString(field(metadata, 'uid')) ?? '',
      resourceVersion: asString(field(metadata, 'resourceVersion')) ?? '',
    },
  };
}

function keyOf({ kind, namespace, name }: Manifest): string {
  return `${kind}/${namespace}/${name}`;
}
