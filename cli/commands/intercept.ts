import { type Command, Option } from 'commander';
import type { InterceptOptions, RawInterceptOptions } from '../../mesh/intercept/options.ts';
import type { BackendChoice } from '../../proxy/intercept/apply.ts';
import type { ProbeResult } from '../../proxy/intercept/validate.ts';

interface BackendFlags {
  readonly backend: BackendChoice;
}

type RuleFlags = RawInterceptOptions & BackendFlags;

interface ProbeFlags {
  readonly probeTimeout: string;
}

const print = (line: string): void => void process.stdout.write(`${line}\n`);
const warn = (line: string): void => void process.stderr.write(`postern: ${line}\n`);

function backendOption(): Option {
  const description = 'program that writes the rules; auto: nft, else iptables';
  return new Option('--backend <name>', description).choices(['auto', 'nft', 'iptables']).default('auto');
}

function ruleOptions(command: Command): Command {
  return command
    .option('--outbound-port <port>', 'where the sidecar accepts outbound connections (default: 15001)')
    .option('--inbound-port <port>', 'where the sidecar accepts inbound connections (default: 15006)')
    .option('--uid <uid>', 'UID of the sidecar, exempt; or none (default: 1337)')
    .option('--gid <gid>', 'GID of the sidecar, exempt; or none (default: 1337)')
    .option('--mark <mark>', 'packet mark that is exempt too, for user namespaces without other UIDs')
    .option('--include-outbound-ports <list>', 'redirect only connections to these ports (80,443,8000-8999)')
    .option('--exclude-outbound-ports <list>', 'do not redirect connections to these ports')
    .option('--include-outbound-cidrs <list>', 'redirect only connections to these addresses (10.0.0.0/8,fd00::/8)')
    .option('--exclude-outbound-cidrs <list>', 'do not redirect connections to these addresses')
    .option('--include-inbound-ports <list>', 'redirect only connections to these ports')
    .option(
      '--exclude-inbound-ports <list>',
      'do not redirect connections to these ports (15000,15008,15020,15021 never are)',
    )
    .option('--include-inbound-cidrs <list>', 'redirect only connections from these addresses')
    .option('--exclude-inbound-cidrs <list>', 'do not redirect connections from these addresses')
    .option('--exclude-interfaces <list>', 'redirect nothing that goes in or out by these interfaces');
}

function probeOptions(command: Command): Command {
  return command.option('--probe-timeout <seconds>', 'how long a probe waits for its answer (1 to 60)', '5');
}

async function parseOptions(flags: RawInterceptOptions): Promise<InterceptOptions> {
  const { parseInterceptOptions } = await import('../../mesh/intercept/options.ts');
  return parseInterceptOptions(flags);
}

async function probeTimeoutMs(flags: ProbeFlags): Promise<number> {
  const { EXIT, PosternError } = await import('../../mesh/errors.ts');
  const seconds = /^[0-9]{1,2}(\.[0-9]{1,3})?$/.test(flags.probeTimeout) ? Number(flags.probeTimeout) : 0;
  if (seconds > 0 && seconds <= 60) return seconds * 1000;
  const reason = `${JSON.stringify(flags.probeTimeout)} is not a number of seconds up to 60`;
  throw new PosternError('ERR_INTERCEPT_OPTION', `--probe-timeout: ${reason}`, { exitCode: EXIT.usage });
}

function report(results: readonly ProbeResult[]): void {
  for (const { direction, family, outcome, detail } of results)
    print(`${direction} IPv${family}: ${outcome}: ${detail}`);
}

async function apply(flags: RuleFlags & ProbeFlags & { validate?: true; keep?: true }): Promise<void> {
  const options = await parseOptions(flags);
  const timeoutMs = await probeTimeoutMs(flags);
  const { applyInterception, removeInterception } = await import('../../proxy/intercept/apply.ts');
  const { requireRedirected, validateInterception } = await import('../../proxy/intercept/validate.ts');
  const { ProbeListeners } = await import('../../proxy/intercept/probe-listeners.ts');
  // Before the rules: where a sidecar holds the ports, nothing is changed.
  const listeners = flags.validate ? await ProbeListeners.open(options) : null;
  try {
    const applied = await applyInterception(options, flags.backend);
    for (const warning of applied.warnings) warn(warning);
    if (listeners !== null) {
      try {
        const results = await validateInterception(applied.options, listeners, { timeoutMs });
        report(results);
        requireRedirected(results);
      } catch (error) {
        if (!flags.keep) {
          await removeInterception();
          warn('the rules were removed again (--keep leaves them)');
        }
        throw error;
      }
    }
    print(
      `redirection is in place (${applied.backend}): outbound TCP to ${options.outboundPort}, inbound TCP to ${options.inboundPort}`,
    );
  } finally {
    await listeners?.close();
  }
}

async function validate(flags: RawInterceptOptions & ProbeFlags): Promise<void> {
  const options = await parseOptions(flags);
  const timeoutMs = await probeTimeoutMs(flags);
  const { requireRedirected, validateInterception } = await import('../../proxy/intercept/validate.ts');
  const { ProbeListeners } = await import('../../proxy/intercept/probe-listeners.ts');
  const listeners = await ProbeListeners.open(options);
  try {
    const results = await validateInterception(options, listeners, { timeoutMs });
    report(results);
    requireRedirected(results);
    print('redirection works');
  } finally {
    await listeners.close();
  }
}

async function remove(flags: BackendFlags): Promise<void> {
  const { removeInterception } = await import('../../proxy/intercept/apply.ts');
  const removed = await removeInterception(flags.backend);
  print(removed.length === 0 ? 'there were no rules to remove' : `rules removed (${removed.join(', ')})`);
}

async function show(flags: RuleFlags & { json?: true }): Promise<void> {
  const options = await parseOptions(flags);
  const { showInterception } = await import('../../proxy/intercept/apply.ts');
  const { backend, transactions } = showInterception(options, flags.backend);
  if (flags.json) {
    print(JSON.stringify({ backend, options, transactions }, null, 2));
    return;
  }
  for (const { command, stdin } of transactions) print(`# ${command.join(' ')}\n${stdin}`);
}

/** `postern intercept`: redirection of a workload's TCP connections to its sidecar, in the current network namespace. */
export function register(program: Command): void {
  const intercept = program
    .command('intercept')
    .description('Redirect the TCP connections of this network namespace to the sidecar');
  probeOptions(ruleOptions(intercept.command('apply').description('Write the rules, instead of those written before')))
    .addOption(backendOption())
    .option('--validate', 'prove with real connections that the rules work; else remove them and fail')
    .option('--keep', 'with --validate: leave the rules where they do not work')
    .action(apply);
  intercept
    .command('remove')
    .description("Remove Postern's rules and no others")
    .addOption(backendOption())
    .action(remove);
  ruleOptions(intercept.command('show').description('Print what apply would write, without writing it'))
    .addOption(backendOption())
    .option('--json', 'as JSON: backend, options, transactions (command and its input)')
    .action(show);
  probeOptions(
    ruleOptions(
      intercept.command('validate').description('Prove with real connections that the rules that are there work'),
    ),
  ).action(validate);
}
