import type { Command } from 'commander';

/** `postern proxy --config proxy.yaml`: the sidecar beside one workload. */
export function register(program: Command): void {
  program
    .command('proxy')
    .description(
      'run the sidecar of one workload until it is asked to stop (SIGTERM drains, a second signal ends at once)',
    )
    .requiredOption('-c, --config <file>', "the sidecar's settings, YAML")
    .action(async ({ config }: { config: string }) => {
      const { loadConfig } = await import('../../proxy/config.ts');
      const settings = loadConfig(config);
      const { runProxy } = await import('../../proxy/main.ts');
      // Threads and sockets have been closed by then; a library's forgotten timer must not keep a stopped sidecar alive.
      process.exit(await runProxy(settings));
    });
}
