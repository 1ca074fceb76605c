import type { Command } from 'commander';

/** `postern proxy --config proxy.yaml`: the sidecar beside one workload. */
export function register(program: Command): void {
  program
    .command('proxy')
    .description(
      'Run the sidecar of one workload until it is asked to stop (SIGTERM drains, a second signal ends at once)',
    )
    .requiredOption(
      '-c, --config <file>',
      "the sidecar's settings, YAML or JSON; env:NAME: from that environment variable",
    )
    .action(async ({ config }: { config: string }) => {
      const { loadConfig } = await import('../../proxy/config-file.ts');
      const settings = loadConfig(config);
      const { launchSidecar } = await import('../sidecar/launch.ts');
      launchSidecar(settings);
    });
}
