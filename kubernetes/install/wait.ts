import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import { asObject, asString, field, isList, stringMap } from '../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';
import { objectsIn } from '../injection/pod.ts';

/** What is waited for: nothing any more, or this. */
export type Awaited = { readonly done: true } | { readonly done: false; readonly missing: string };

const POLL_MS = 1_000;

/** Asks until it is done. @throws PosternError ERR_INSTALL_TIMEOUT that says what was missing last */
export async function waitFor(
  what: string,
  look: (signal: AbortSignal) => Promise<Awaited>,
  options: { readonly timeoutMs: number; readonly onProgress: (missing: string) => void; readonly pollMs?: number },
): Promise<void> {
  const deadline = performance.now() + options.timeoutMs;
  let said = '';
  for (;;) {
    const state = await look(AbortSignal.timeout(Math.ceil(Math.max(POLL_MS, deadline - performance.now()))));
    if (state.done) return;
    if (state.missing !== said) options.onProgress(state.missing);
    said = state.missing;
    if (performance.now() >= deadline) {
      const message = `${what} after ${Math.round(options.timeoutMs / 1000)} s: ${said}; postern check says more, and the same command goes on from here`;
      throw new PosternError('ERR_INSTALL_TIMEOUT', message, { exitCode: EXIT.temporary });
    }
    await sleep(options.pollMs ?? POLL_MS);
  }
}

/** The label selector of a Deployment's pods, as the API takes it. */
export function podSelector(workload: JsonObject): string {
  const labels = stringMap(field(asObject(field(asObject(field(workload, 'spec')), 'selector')), 'matchLabels'));
  return [...labels].map(([key, value]) => `${key}=${value}`).join(',');
}

function conditionOf(object: JsonObject, type: string): JsonObject | null {
  const conditions = objectsIn(field(asObject(field(object, 'status')), 'conditions'));
  return conditions.find((condition) => field(condition, 'type') === type) ?? null;
}

export function isTrue(object: JsonObject, condition: string): boolean {
  return field(conditionOf(object, condition), 'status') === 'True';
}

/** Whether all pods of a Deployment are of its present template and available. `pods`: those that its selector finds, for the reasons. */
export function rolloutOf(deployment: JsonObject, pods: readonly JsonObject[]): Awaited {
  const number = (from: JsonObject | null, key: string): number => Number(field(from, key) ?? 0);
  const status = asObject(field(deployment, 'status'));
  const wanted = Number(field(asObject(field(deployment, 'spec')), 'replicas') ?? 1);
  const seen = number(status, 'observedGeneration') >= number(asObject(field(deployment, 'metadata')), 'generation');
  const [updated, available] = [number(status, 'updatedReplicas'), number(status, 'availableReplicas')];
  if (seen && updated >= wanted && available >= wanted) return { done: true };
  const reasons = [...new Set(pods.flatMap((pod) => whyNotReady(pod) ?? []))];
  const because = reasons.length === 0 ? '' : ` (${reasons.slice(0, 3).join('; ')})`;
  return { done: false, missing: `${Math.min(updated, available)} of ${wanted} replicas are ready${because}` };
}

/** What keeps a pod from being ready, as its status says; null where it is ready. */
export function whyNotReady(pod: JsonObject): string | null {
  if (isTrue(pod, 'Ready')) return null;
  const status = asObject(field(pod, 'status'));
  const containers = ['initContainerStatuses', 'containerStatuses'].flatMap((key) => objectsIn(field(status, key)));
  for (const container of containers) {
    const name = asString(field(container, 'name')) ?? '';
    const reason = stateReason(field(container, 'state'));
    if (reason !== null) return `container ${name}: ${reason}`;
  }
  const scheduled = conditionOf(pod, 'PodScheduled');
  if (field(scheduled, 'status') === 'False') return asString(field(scheduled, 'message')) ?? 'it is not scheduled';
  const unready = containers.find((container) => field(container, 'ready') === false);
  if (unready !== undefined) return `container ${asString(field(unready, 'name')) ?? ''} is not ready`;
  return asString(field(conditionOf(pod, 'Ready'), 'message')) ?? 'it has not reported that it is ready';
}

/** What a container waits for or has died of; null where it runs, or ended well. */
function stateReason(state: JsonValue | undefined): string | null {
  const waiting = asObject(field(asObject(state), 'waiting'));
  const terminated = asObject(field(asObject(state), 'terminated'));
  const text = (from: JsonObject | null, key: string): string => asString(field(from, key)) ?? '';
  if (waiting !== null) {
    const reason = text(waiting, 'reason');
    const isOrdinary = reason === '' || reason === 'PodInitializing' || reason === 'ContainerCreating';
    return isOrdinary
      ? null
      : [reason, text(waiting, 'message').slice(0, 200)].filter((part) => part !== '').join(': ');
  }
  if (terminated === null || field(terminated, 'exitCode') === 0) return null;
  return `ended with code ${String(field(terminated, 'exitCode'))} ${text(terminated, 'message').slice(0, 200)}`.trim();
}

/** Whether each webhook of a configuration has a `caBundle`. */
export function hasBundles(configuration: JsonObject): boolean {
  const webhooks = field(configuration, 'webhooks');
  if (!isList(webhooks)) return false;
  return webhooks.every((webhook) => {
    const config = asObject(field(asObject(webhook), 'clientConfig'));
    return (asString(field(config, 'caBundle')) ?? '') !== '';
  });
}
