import type { Command } from 'commander';
import { EXIT, PosternError } from '../../mesh/errors.ts';

interface CreateOptions {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly label: readonly string[];
  readonly ttl?: string;
  readonly output?: string;
  readonly json?: boolean;
  readonly config?: string;
  readonly dataDir?: string;
}

/** The answer to `POST /tokens`; the control plane is trusted to be what the socket's permissions say. */
interface CreatedToken {
  readonly token: string;
  readonly id: string;
  readonly expiresAt: number;
}

export function register(program: Command): void {
  program
    .command('token')
    .description('One-use join tokens, by which a workload proves its identity when it first joins')
    .command('create')
    .description('Make a join token; prints it, and nothing else, on standard output')
    .requiredOption('--namespace <name>', 'namespace of the workload')
    .requiredOption('--service-account <name>', 'service account of the workload')
    .option('--label <key=value>', 'label that the workload must have; may be repeated', collect, [])
    .option('--ttl <duration>', 'how long it may be used: 30s, 10m, 2h, 1d (default: 10m, at most 1d)')
    .option('--output <file>', 'write it to this file, mode 0600, instead of printing it')
    .option('--json', 'print it as JSON, with its id and end')
    .option('--config <file>', 'configuration of the control plane (default: ./control-plane.yaml)')
    .option('--data-dir <dir>', 'data directory of the control plane, instead of --config')
    .action(create);
}

async function create(options: CreateOptions): Promise<void> {
  const { AdminClient, locateDataDir } = await import('../../control-plane/ca/admin-client.ts');
  const request = {
    namespace: options.namespace,
    serviceAccount: options.serviceAccount,
    labels: Object.fromEntries(options.label.map(parseLabel)),
    ...(options.ttl === undefined ? {} : { ttlSeconds: parseDuration(options.ttl) }),
  };
  const client = new AdminClient(locateDataDir(options));
  const created = (await client.request('POST', '/tokens', request)) as unknown as CreatedToken;
  const expiresAt = new Date(created.expiresAt).toISOString();
  if (options.output !== undefined) {
    const { writeFileAtomic } = await import('../../mesh/atomic-file.ts');
    writeFileAtomic(options.output, `${created.token}\n`, { mode: 0o600 });
  }
  if (options.json === true) {
    const where = options.output === undefined ? { token: created.token } : { file: options.output };
    process.stdout.write(`${JSON.stringify({ ...where, id: created.id, expiresAt })}\n`);
  } else if (options.output === undefined) {
    process.stdout.write(`${created.token}\n`);
  } else {
    process.stderr.write(`join token ${created.id} written to ${options.output}; valid once, until ${expiresAt}\n`);
  }
}

const collect = (value: string, previous: readonly string[]): readonly string[] => [...previous, value];

function parseLabel(text: string): [string, string] {
  const separator = text.indexOf('=');
  if (separator < 1) throw usage(`--label ${JSON.stringify(text)} must be key=value`);
  return [text.slice(0, separator), text.slice(separator + 1)];
}

const UNIT_SECONDS: { readonly [unit: string]: number } = { s: 1, m: 60, h: 3600, d: 86_400 };

/** Seconds. */
function parseDuration(text: string): number {
  const [, count = '', unit = ''] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const seconds = Number(count) * (UNIT_SECONDS[unit] ?? 0);
  if (seconds === 0) throw usage(`--ttl ${JSON.stringify(text)} must be a duration such as 30s, 10m, 2h or 1d`);
  return seconds;
}

const usage = (message: string): PosternError => new PosternError('ERR_USAGE', message, { exitCode: EXIT.usage });
