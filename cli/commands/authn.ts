import type { Command } from 'commander';
import type { AuthnModeOptions } from '../authn-mode.ts';

export function register(program: Command): void {
  program
    .command('authn')
    .description('How connections to a workload are authenticated')
    .command('mode')
    .description('Print the mutual-TLS mode of a workload port: STRICT, PERMISSIVE or DISABLE')
    .requiredOption('--manifests <dir>', 'file or directory of manifests')
    .requiredOption('--workload <json>', `the workload, as '{"namespace":"shop","labels":{"app":"orders"}}'`)
    .requiredOption('--port <number>', 'port of the workload (not of a Service)')
    .option('--mesh-config <file>', 'YAML file of mesh settings (rootNamespace, …), instead of the MeshConfig manifest')
    .action(async (options: AuthnModeOptions) => {
      const { authnMode } = await import('../authn-mode.ts');
      process.stdout.write(`${authnMode(options)}\n`);
    });
}
