import { onTestFinished } from 'vitest';
import {
  SecretAuthority,
  type SecretAuthorityOptions,
} from '../../../../control-plane/kubernetes/ca/secret-authority.ts';
import type { ObjectWatch } from '../../../../control-plane/kubernetes/ca/shared-object.ts';
import { TestClock } from '../../ca/support.ts';
import { FakeObjects, memoryLog } from '../support.ts';

export const SECRET = 'Secret postern-system/postern-ca';
export const STATE = 'ConfigMap postern-system/postern-ca-state';
export const MAX_TTL = 86_400;
export const SLACK = 300_000;

/** Rings when the test says so; nothing happens by time. */
export class Bell implements ObjectWatch {
  #ring: () => void = () => {};

  start(onChange: () => void): void {
    this.#ring = onChange;
  }

  stop(): void {
    this.#ring = () => {};
  }

  ring(): void {
    this.#ring();
  }
}

/** One replica on a cluster that tests may share between several. */
export async function openReplica(
  objects: FakeObjects,
  clock: TestClock,
  options: Partial<SecretAuthorityOptions> & { readonly leads?: boolean } = {},
) {
  const bell = new Bell();
  const log = memoryLog();
  const term = { signal: options.leads === false ? null : new AbortController().signal };
  const authority = await SecretAuthority.open({
    api: objects,
    namespace: 'postern-system',
    secret: 'postern-ca',
    trustDomain: 'cluster.local',
    clock: clock.read,
    term: () => term.signal,
    watches: [bell],
    log,
    pollMs: 3_600_000,
    slackMs: SLACK,
    restoreMs: 0,
    ...options,
  });
  onTestFinished(() => authority.close());
  return { authority, log, term, round: () => roundOf(bell, objects, log) };
}

/** Rings and waits until the API is left alone. */
export async function roundOf(bell: Bell, objects: FakeObjects, log: ReturnType<typeof memoryLog>): Promise<void> {
  bell.ring();
  let seen = -1;
  // Each call of the fake takes some turns of the microtask queue: once a whole macrotask passes without one, the round is over.
  while (seen !== objects.calls.length + log.lines.length) {
    seen = objects.calls.length + log.lines.length;
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
  }
}

export function newCluster() {
  return { objects: new FakeObjects(), clock: new TestClock() };
}
