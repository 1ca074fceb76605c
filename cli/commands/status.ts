import type { Command } from 'commander';

interface StatusFlags {
  readonly config?: string;
  readonly admin?: string;
  readonly json?: true;
}

export function register(program: Command): void {
  program
    .command('status')
    .description(
      'Show the connected sidecars: identity, certificate expiry, version sent and acknowledged, rejected resources',
    )
    .option(
      '--config <file>',
      "the control plane's configuration, for its adminListen (default: control-plane.yaml where it exists)",
    )
    .option('--admin <url>', "the control plane's admin address, e.g. http://127.0.0.1:15014")
    .option('--json', 'print JSON')
    .action(async (flags: StatusFlags) => {
      const { adminUrl, fetchStatus, renderStatus } = await import('../../control-plane/admin/status-client.ts');
      const status = await fetchStatus(adminUrl(flags));
      process.stdout.write(
        flags.json === true ? `${JSON.stringify(status, null, 2)}\n` : renderStatus(status, Date.now()),
      );
    });
}
