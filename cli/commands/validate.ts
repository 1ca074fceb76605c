import type { Command } from 'commander';
import { EXIT } from '../../mesh/errors.ts';
import { counted } from '../counted.ts';

export function register(program: Command): void {
  program
    .command('validate')
    .description('Check manifests as the control plane would; exits 0 if all are admissible, else 1')
    .argument('<path...>', 'files, or directories of *.yaml, *.yml and *.json files')
    .option('--json', 'print the problems as a JSON array')
    .action(validate);
}

async function validate(paths: readonly string[], options: { readonly json?: boolean }): Promise<void> {
  const { loadManifests, problemLine } = await import('../manifest-files.ts');
  const { files, manifests, problems } = loadManifests(paths);
  const errors = problems.filter(({ severity }) => severity === 'error').length;
  if (options.json === true) {
    process.stdout.write(`${JSON.stringify(problems, null, 2)}\n`);
  } else {
    for (const problem of problems) process.stdout.write(`${problemLine(problem)}\n`);
    const outcome = errors === 0 ? 'admissible' : counted(errors, 'error');
    process.stderr.write(`${counted(manifests.length, 'manifest')} in ${counted(files, 'file')}: ${outcome}\n`);
  }
  if (errors > 0) process.exitCode = EXIT.failure;
}
