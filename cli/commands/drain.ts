import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import { askSidecar, readTimeout, reasonOf, sidecarUrl, usageError } from '../sidecar/local-request.ts';

const ANSWER_TIMEOUT_MS = 5_000;
const CHECK_MS = 250;

interface DrainFlags {
  readonly admin: string;
  readonly inbound?: true;
  readonly timeout?: string;
}

/** `postern drain`: what a preStop hook runs. */
export function register(program: Command): void {
  program
    .command('drain')
    .description('Ask the sidecar of this pod or machine to drain its connections and end')
    .option('--admin <address>', "the sidecar's admin.listen", '127.0.0.1:15000')
    .option('--inbound', 'drain only what comes in: not ready, callers are asked to go elsewhere; the sidecar goes on')
    .option('--timeout <duration>', 'with --inbound: wait so long for inbound connections to end (default: 0s)')
    .action(async ({ admin, inbound, timeout }: DrainFlags) => {
      if (inbound === true) {
        await drainInbound(admin, readTimeout(timeout ?? '0s'));
        return;
      }
      if (timeout !== undefined) throw usageError('--timeout goes with --inbound');
      await post(admin, '/quitquitquit');
      process.stdout.write('draining\n');
    });
}

/** Asking again asks how far it is. Connections that do not end in time are no failure: whoever waits goes on all the same. */
async function drainInbound(admin: string, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const left = inboundConnections(await post(admin, '/drain?direction=inbound'));
    if (left === 0 || performance.now() >= deadline) {
      process.stdout.write(`draining inbound: ${left ?? 'an unknown number of'} connections left\n`);
      return;
    }
    await sleep(Math.min(CHECK_MS, deadline - performance.now()));
  }
}

/** Null where the sidecar did not say. */
function inboundConnections(body: string): number | null {
  const { connections } = JSON.parse(body) as { connections?: { inbound?: unknown } | null };
  return typeof connections?.inbound === 'number' ? connections.inbound : null;
}

async function post(admin: string, path: string): Promise<string> {
  const url = sidecarUrl('--admin', admin, path);
  let answer: { readonly status: number; readonly body: string };
  try {
    answer = await askSidecar('POST', url, ANSWER_TIMEOUT_MS);
  } catch (error) {
    throw new PosternError(
      'ERR_SIDECAR_UNREACHABLE',
      `no sidecar answers on ${admin}: ${reasonOf(error)}; is it running, and is this its admin.listen?`,
      {
        cause: error,
        exitCode: EXIT.unavailable,
      },
    );
  }
  if (answer.status === 200) return answer.body;
  throw new PosternError('ERR_DRAIN_REFUSED', `the sidecar on ${admin} answered HTTP ${answer.status}`, {
    exitCode: EXIT.failure,
  });
}
