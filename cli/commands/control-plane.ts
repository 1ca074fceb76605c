import type { Command } from 'commander';

export function register(program: Command): void {
  program
    .command('control-plane')
    .description(
      'Run the control plane: the certificate authority, the registry of manifests and workloads, and the push to sidecars',
    )
    .option('--config <file>', 'its configuration', 'control-plane.yaml')
    .action(async ({ config }: { readonly config: string }) => {
      const { runControlPlane } = await import('../../control-plane/main.ts');
      await runControlPlane(config);
    });
}
