import { EXIT, PosternError } from '../../mesh/errors.ts';
import type { JsonObject } from '../../policy/types.ts';
import { TYPES } from '../api/resource-types.ts';
import type { KubernetesApi } from '../api/types.ts';
import { applyObject, existing } from './apply.ts';
import { identityOf, titleOf } from './identity.ts';
import { isCompatibleDefinition, phasesOf } from './phases.ts';
import { ServedTypes } from './served-types.ts';
import { type Awaited, hasBundles, isTrue, podSelector, rolloutOf, waitFor } from './wait.ts';

/** Of Kubernetes 1: the oldest that serves all that is used, and the oldest with native sidecars on by default. */
export const OLDEST_MINOR = 27;
export const NATIVE_SIDECAR_MINOR = 29;

export interface InstallOptions {
  readonly api: KubernetesApi;
  readonly objects: readonly JsonObject[];
  /** Take over fields that somebody else has changed. */
  readonly force: boolean;
  /** Milliseconds that each step is waited for; null: nothing but the definitions is waited for. */
  readonly waitMs: number | null;
  /** One line of what has been done, or is being waited for. */
  readonly report: (line: string) => void;
  /** Milliseconds between two looks; for tests. */
  readonly pollMs?: number;
}

const WRITE_MS = 30_000;
const DEFINITIONS_MS = 60_000;

/** Applies an installation in order, and waits for each part that the next one needs. Safe to repeat. @throws PosternError */
export async function install(options: InstallOptions): Promise<void> {
  await requireVersion(options.api);
  const phases = phasesOf(options.objects);
  const types = new ServedTypes(options.api);
  const definitions = await applyDefinitions(options, types, phases.definitions);
  await waitFor('the definitions are not established', (signal) => areEstablished(options.api, definitions, signal), {
    ...waiting(options),
    timeoutMs: DEFINITIONS_MS,
  });
  await applyAll(options, types, [...phases.foundation, ...phases.workload, ...phases.extras]);
  for (const workload of phases.workload) await awaitRollout(options, workload);
  await applyAll(options, types, phases.webhooks);
  for (const webhook of phases.webhooks) await awaitBundles(options, types, webhook);
}

async function requireVersion(api: KubernetesApi): Promise<void> {
  const { major, minor, gitVersion } = await api.version(AbortSignal.timeout(WRITE_MS));
  if (major > 1 || minor >= OLDEST_MINOR) return;
  const message = `the cluster runs Kubernetes ${gitVersion}; Postern needs 1.${OLDEST_MINOR} or newer`;
  throw new PosternError('ERR_CLUSTER_TOO_OLD', message, { exitCode: EXIT.unavailable });
}

/** @returns those that were applied: what the cluster has from elsewhere is left as it is. */
async function applyDefinitions(
  options: InstallOptions,
  types: ServedTypes,
  definitions: readonly JsonObject[],
): Promise<readonly JsonObject[]> {
  const applied: JsonObject[] = [];
  for (const definition of definitions) {
    const identity = identityOf(definition);
    const signal = AbortSignal.timeout(WRITE_MS);
    const there = isCompatibleDefinition(definition)
      ? await existing(options.api, TYPES.CustomResourceDefinition, identity, signal)
      : null;
    if (there !== null && !isCompatibleDefinition(there)) {
      options.report(`${titleOf(identity)} kept: it is the cluster's own`);
      continue;
    }
    await applyAll(options, types, [definition]);
    applied.push(definition);
  }
  return applied;
}

async function applyAll(options: InstallOptions, types: ServedTypes, objects: readonly JsonObject[]): Promise<void> {
  const { api, force, report } = options;
  for (const object of objects) {
    const { title, outcome } = await applyObject(api, types, object, { force, signal: AbortSignal.timeout(WRITE_MS) });
    report(`${title} ${outcome}`);
  }
}

async function areEstablished(
  api: KubernetesApi,
  definitions: readonly JsonObject[],
  signal: AbortSignal,
): Promise<Awaited> {
  for (const definition of definitions) {
    const identity = identityOf(definition);
    const stored = await existing(api, TYPES.CustomResourceDefinition, identity, signal);
    if (stored === null || !isTrue(stored, 'Established')) return { done: false, missing: titleOf(identity) };
  }
  return { done: true };
}

async function awaitRollout(options: InstallOptions, workload: JsonObject): Promise<void> {
  if (options.waitMs === null) return;
  const { api, waitMs } = options;
  const identity = identityOf(workload);
  const labelSelector = podSelector(workload);
  const look = async (signal: AbortSignal): Promise<Awaited> => {
    const stored = await existing(api, TYPES.Deployment, identity, signal);
    const { items } = await api.list(TYPES.Pod, { namespace: identity.namespace, labelSelector }, signal);
    return stored === null ? { done: false, missing: 'it has been deleted' } : rolloutOf(stored, items);
  };
  await waitFor(`${titleOf(identity)} is not ready`, look, { ...waiting(options), timeoutMs: waitMs });
}

async function awaitBundles(options: InstallOptions, types: ServedTypes, webhook: JsonObject): Promise<void> {
  if (options.waitMs === null) return;
  const identity = identityOf(webhook);
  const look = async (signal: AbortSignal): Promise<Awaited> => {
    const type = await types.find(identity, signal);
    const stored = type === null ? null : await existing(options.api, type, identity, signal);
    if (stored !== null && hasBundles(stored)) return { done: true };
    return { done: false, missing: 'the leading control plane has not written its caBundle' };
  };
  await waitFor(`${titleOf(identity)} cannot be called`, look, { ...waiting(options), timeoutMs: options.waitMs });
}

function waiting({ report, pollMs }: InstallOptions) {
  return {
    onProgress: (missing: string) => report(`waiting: ${missing}`),
    ...(pollMs === undefined ? {} : { pollMs }),
  };
}
