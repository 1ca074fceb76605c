import type { Command } from 'commander';
import type { Revocation } from '../../control-plane/ca/revocation.ts';
import { EXIT, PosternError } from '../../mesh/errors.ts';

interface RevokeOptions {
  readonly undo?: boolean;
  readonly list?: boolean;
  readonly json?: boolean;
  readonly config?: string;
  readonly dataDir?: string;
}

export function register(program: Command): void {
  program
    .command('revoke')
    .description('Revoke an identity or one certificate: its live connections are cut and new ones refused')
    .argument('[subject]', 'SPIFFE ID (spiffe://...) or serial of a certificate, hexadecimal')
    .option('--undo', 'take the revocation back')
    .option('--list', 'list what is revoked')
    .option('--json', 'print JSON')
    .option('--config <file>', 'configuration of the control plane (default: ./control-plane.yaml)')
    .option('--data-dir <dir>', 'data directory of the control plane, instead of --config')
    .action(revoke);
}

async function revoke(subject: string | undefined, options: RevokeOptions): Promise<void> {
  if ((subject === undefined) !== (options.list === true) || (options.list === true && options.undo === true)) {
    throw usage('give a SPIFFE ID or a serial (with --undo to take it back), or --list alone');
  }
  const { AdminClient, locateDataDir } = await import('../../control-plane/ca/admin-client.ts');
  const client = new AdminClient(locateDataDir(options));
  if (subject === undefined) {
    const answer = (await client.request('GET', '/revocations')) as { readonly revocations: readonly Revocation[] };
    printList(answer.revocations.map(describe), options.json === true);
    return;
  }
  if (options.undo === true) {
    const { removed } = await client.request('DELETE', '/revocations', { subject });
    if (removed !== true)
      throw new PosternError('ERR_NOT_REVOKED', `${subject} was not revoked: see postern revoke --list`);
    process.stdout.write(
      options.json === true ? `${JSON.stringify({ removed })}\n` : `${subject} is no longer revoked\n`,
    );
    return;
  }
  const revoked = describe((await client.request('POST', '/revocations', { subject })) as unknown as Revocation);
  process.stdout.write(options.json === true ? `${JSON.stringify(revoked)}\n` : `${revoked.value} is revoked\n`);
  const { trustDomain } = await client.request('GET', '/ca');
  if (revoked.kind === 'spiffeId' && !revoked.value.startsWith(`spiffe://${trustDomain}/`)) {
    process.stderr.write(
      `note: this mesh's trust domain is ${trustDomain}: none of its certificates is meant. Misspelt? --undo takes it back\n`,
    );
  }
}

function printList(revocations: readonly ReturnType<typeof describe>[], json: boolean): void {
  if (json) process.stdout.write(`${JSON.stringify({ revocations }, null, 2)}\n`);
  else if (revocations.length === 0) process.stdout.write('nothing is revoked\n');
  else for (const { value, revokedAt } of revocations) process.stdout.write(`${revokedAt}  ${value}\n`);
}

const describe = ({ kind, value, revokedAt }: Revocation) => ({
  kind,
  value,
  revokedAt: new Date(revokedAt).toISOString(),
});

const usage = (message: string): PosternError => new PosternError('ERR_USAGE', message, { exitCode: EXIT.usage });
