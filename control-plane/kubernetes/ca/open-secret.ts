import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { isReason } from '../../../kubernetes/api/errors.ts';
import { EXIT, PosternError } from '../../../mesh/errors.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { firstAuthority } from '../../ca/authority-steps.ts';
import type { Generation } from '../../ca/generation.ts';
import { readSecret, type SharedAuthority, writeSecret } from './secret-contents.ts';
import type { SharedObject } from './shared-object.ts';
import { readTrustState } from './trust-state.ts';

export interface OpenOptions {
  readonly secret: SharedObject;
  /** The ConfigMap that says whether there has been a CA. */
  readonly state: SharedObject;
  readonly trustDomain: string;
  /** Makes the first root. */
  readonly create: () => Generation;
  readonly maxTtlSeconds: number;
  /** Milliseconds. */
  readonly restoreMs: number;
  readonly log: Pick<Logger, 'info' | 'warn'>;
}

const RETRY_MS = 1_000;

/**
 * The CA as a replica finds it at its start. Whoever comes first makes it; replicas that start at once agree on one, since a Secret is created once.
 *
 * NEVER is a CA made where there has been one: every certificate in the mesh would be void. Then the Secret is waited for, in case that another replica
 * still holds it, and after that the start fails.
 */
export async function openSecret(
  options: OpenOptions,
): Promise<{ readonly held: SharedAuthority; readonly askedAt: number; readonly isNew: boolean }> {
  const { secret, state, trustDomain, restoreMs, log } = options;
  const giveUpAt = performance.now() + restoreMs;
  let isNew = false;
  let warned = false;
  for (;;) {
    const { object, askedAt } = await secret.read();
    if (object !== null) {
      const held = readSecret(object, trustDomain, secret.where);
      await refuseReplaced(held, options);
      return { held, askedAt, isNew };
    }
    if ((await state.read()).object === null) {
      isNew = (await createFirst(options)) || isNew;
      continue;
    }
    if (performance.now() >= giveUpAt) throw lost(secret, state);
    if (!warned) log.warn(`${secret.where} is missing: waiting for another control plane to put it back`);
    warned = true;
    await sleep(Math.min(RETRY_MS, restoreMs));
  }
}

/** @throws PosternError ERR_CA_REPLACED where another root issues by now, an external CA's: nobody would trust what this one signs */
async function refuseReplaced(held: SharedAuthority, { secret, state, trustDomain }: OpenOptions): Promise<void> {
  const { object } = await state.read();
  const issuing = object === null ? null : issuingIn(object, trustDomain, state.where);
  const roots = held.generations.map(({ root }) => root.certificate.fingerprint);
  if (issuing === null || roots.includes(issuing)) return;
  const message =
    `${state.where} says that another root issues than those of ${secret.where}: set kubernetes.ca.externalSecret where the mesh has moved to an external CA, ` +
    'or restore the right Secret; to go back to this CA, delete that ConfigMap, and restart the control plane and then all workloads';
  throw new PosternError('ERR_CA_REPLACED', message, { exitCode: EXIT.config });
}

/** Null where it says nothing that can be read: the leader writes it anew. */
function issuingIn(object: JsonObject, trustDomain: string, where: string): string | null {
  try {
    return readTrustState(object, trustDomain, where).issuing;
  } catch {
    return null;
  }
}

/** Whether it was this replica that made it. */
async function createFirst({ secret, trustDomain, create, maxTtlSeconds, log }: OpenOptions): Promise<boolean> {
  const first = { ...firstAuthority(trustDomain, create()), maxTtlSeconds };
  try {
    await secret.create({ type: 'Opaque', data: writeSecret(first) });
  } catch (error) {
    if (isReason(error, 'AlreadyExists')) return false;
    throw error;
  }
  log.info(`a certificate authority of ${trustDomain} has been made, in ${secret.where}`);
  return true;
}

function lost(secret: SharedObject, state: SharedObject): PosternError {
  const message =
    `${secret.where} is missing, but ${state.where} says that there has been a certificate authority: restore the Secret from a backup; ` +
    'or, to give up every identity issued so far, delete that ConfigMap too and restart all workloads afterwards';
  return new PosternError('ERR_CA_LOST', message, { exitCode: EXIT.noInput });
}
