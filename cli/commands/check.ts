import type { Command } from 'commander';
import type { ClusterFlags } from '../open-cluster.ts';

interface CheckFlags extends ClusterFlags {
  readonly pre?: true;
  readonly json?: true;
}

export function register(program: Command): void {
  program
    .command('check')
    .description(
      'Look for what commonly goes wrong in a Kubernetes cluster, and say how to mend it; exits 1 if anything is',
    )
    .option('--pre', 'before an installation: whether the cluster will do')
    .option('--json', 'print the findings as JSON')
    .option('--context <name>', 'context of the kubeconfig')
    .option('--kubeconfig <file>', 'default: as kubectl finds it')
    .action(run);
}

async function run(flags: CheckFlags): Promise<void> {
  const { EXIT } = await import('../../mesh/errors.ts');
  const { openCluster } = await import('../open-cluster.ts');
  const { fetchFacts } = await import('../check/fetch.ts');
  const { findingLines, runChecks } = await import('../check/run.ts');
  const before = flags.pre === true;
  const api = openCluster(flags);
  try {
    const findings = runChecks(await fetchFacts(api, { before }), { before });
    if (flags.json === true) process.stdout.write(`${JSON.stringify({ findings }, null, 2)}\n`);
    else process.stdout.write(`${findingLines(findings).join('\n')}\n`);
    if (findings.some(({ level }) => level === 'error')) process.exitCode = EXIT.failure;
  } finally {
    await api.close();
  }
}
