import type { Command } from 'commander';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';

const TIMEOUT_MS = 5000;

/** `postern drain`: what a preStop hook runs. */
export function register(program: Command): void {
  program
    .command('drain')
    .description('ask the sidecar of this pod or machine to drain its connections and end')
    .option('--admin <address>', "the sidecar's admin.listen", '127.0.0.1:15000')
    .action(async ({ admin }: { admin: string }) => {
      const url = URL.parse(`http://${admin}/quitquitquit`);
      if (url === null || url.host !== admin.toLowerCase()) {
        throw new PosternError('ERR_USAGE', `--admin ${admin} is not an address and a port, such as 127.0.0.1:15000`, {
          exitCode: EXIT.usage,
        });
      }
      let status: number;
      try {
        const { request } = await import('undici');
        const answer = await request(url, { method: 'POST', signal: AbortSignal.timeout(TIMEOUT_MS) });
        status = answer.statusCode;
        await answer.body.dump();
      } catch (error) {
        const reason = error instanceof Error && error.cause !== undefined ? messageOf(error.cause) : messageOf(error);
        throw new PosternError('ERR_SIDECAR_UNREACHABLE', `no sidecar answers on ${admin}: ${reason}`, {
          cause: error,
          exitCode: EXIT.unavailable,
        });
      }
      if (status !== 200) {
        throw new PosternError('ERR_DRAIN_REFUSED', `the sidecar on ${admin} answered HTTP ${status}`, {
          exitCode: EXIT.failure,
        });
      }
      process.stdout.write('draining\n');
    });
}
