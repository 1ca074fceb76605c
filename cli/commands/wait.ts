import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import { askSidecar, readTimeout, reasonOf, sidecarUrl } from '../sidecar/local-request.ts';

const ANSWER_TIMEOUT_MS = 1_000;
const CHECK_MS = 200;

/** `postern wait`: what a postStart hook runs, so that the containers after the sidecar start when it is ready; and scripts. */
export function register(program: Command): void {
  program
    .command('wait')
    .description('Wait until the sidecar of this pod or machine is ready')
    .option('--health <address>', "the sidecar's health.listen", '127.0.0.1:15021')
    .option('--timeout <duration>', 'how long', '60s')
    .action(async ({ health, timeout }: { health: string; timeout: string }) => {
      await waitReady(health, timeout);
    });
}

/** @throws PosternError ERR_NOT_READY (exit 75) with what is missing, where the time is over. */
async function waitReady(health: string, timeout: string): Promise<void> {
  const url = sidecarUrl('--health', health, '/healthz/ready');
  const deadline = performance.now() + readTimeout(timeout);
  for (;;) {
    const lacking = await whyNotReady(url);
    if (lacking === null) return;
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) {
      throw new PosternError('ERR_NOT_READY', `the sidecar on ${health} is not ready after ${timeout}: ${lacking}`, {
        exitCode: EXIT.temporary,
      });
    }
    await sleep(Math.min(CHECK_MS, leftMs));
  }
}

async function whyNotReady(url: URL): Promise<string | null> {
  try {
    const { status, body } = await askSidecar('GET', url, ANSWER_TIMEOUT_MS);
    return status === 200 ? null : body.trim() || `it answered HTTP ${status}`;
  } catch (error) {
    return `nothing answers (${reasonOf(error)})`;
  }
}
