import type { Command } from 'commander';
import type { AuthorityDescription, RootDescription } from '../../control-plane/ca/authority-description.ts';
import { EXIT, PosternError } from '../../mesh/errors.ts';

interface CaOptions {
  readonly json?: boolean;
  readonly pem?: boolean;
  readonly config?: string;
  readonly dataDir?: string;
}

export function register(program: Command): void {
  const ca = program.command('ca').description('The certificate authority of the mesh');
  withLocation(ca.command('show'))
    .description('Show the trusted roots and how far a rotation is')
    .option('--pem', 'print the trust bundle instead: what a sidecar needs as its caFile')
    .action(show);
  withLocation(ca.command('rotate'))
    .description('Replace the root with an overlap that drops no connection, or go on with a rotation that was begun')
    .action(rotate);
}

function withLocation(command: Command): Command {
  return command
    .option('--json', 'print JSON')
    .option('--config <file>', 'configuration of the control plane (default: ./control-plane.yaml)')
    .option('--data-dir <dir>', 'data directory of the control plane, instead of --config');
}

async function show(options: CaOptions): Promise<void> {
  if (options.json === true && options.pem === true) {
    throw new PosternError('ERR_USAGE', 'give either --json or --pem, not both', { exitCode: EXIT.usage });
  }
  const { AdminClient, locateDataDir } = await import('../../control-plane/ca/admin-client.ts');
  const client = new AdminClient(locateDataDir(options));
  const description = (await client.request('GET', '/ca')) as unknown as AuthorityDescription;
  if (options.json === true) process.stdout.write(`${JSON.stringify(description, null, 2)}\n`);
  else if (options.pem === true) process.stdout.write(description.roots.map(({ pem }) => pem).join(''));
  else process.stdout.write(render(description));
}

async function rotate(options: CaOptions): Promise<void> {
  const { AdminClient, locateDataDir } = await import('../../control-plane/ca/admin-client.ts');
  await new AdminClient(locateDataDir(options)).rotate(({ progress }) => {
    process.stdout.write(`${options.json === true ? JSON.stringify(progress) : progress.message}\n`);
  });
}

const PHASES: { readonly [phase: string]: string } = {
  none: 'none is running',
  begun: 'begun: the new root is trusted but does not issue yet; postern ca rotate goes on with it',
  activated: 'activated: the new root issues; the old one goes by itself when its last certificate has expired',
};

function render(description: AuthorityDescription): string {
  const lines = [
    `trust domain   ${description.trustDomain}`,
    `rotation       ${PHASES[description.rotation] ?? description.rotation}`,
    `certificates   ${description.leafTtlSeconds} s unless asked otherwise`,
    ...description.roots.flatMap(renderRoot),
  ];
  return `${lines.join('\n')}\n`;
}

const renderRoot = (root: RootDescription): string[] => [
  '',
  `root (${root.role})`,
  `  SHA-256        ${root.fingerprint}`,
  `  serial         ${root.serial}`,
  `  valid          ${root.notBefore} to ${root.notAfter}`,
  ...(root.intermediate === null
    ? []
    : [`  intermediate   ${root.intermediate.serial}, to ${root.intermediate.notAfter}`]),
  `  last leaf      ${root.leavesExpireBy ?? 'none issued'}`,
];
