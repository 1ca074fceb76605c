import { inspect } from 'node:util';
import { Command, CommanderError } from 'commander';
import { EXIT, PosternError } from '../mesh/errors.ts';
import { ownVersion } from '../mesh/version.ts';
import { COMMANDS } from './commands.ts';

/** Usage errors are thrown, not exited on: `fail` below decides every exit code. Subcommands inherit that. */
function createProgram(): Command {
  return new Command('postern')
    .description(
      'A service-mesh sidecar and its control plane: identity, mutual TLS and authorization for every TCP hop.',
    )
    .version(ownVersion())
    .helpCommand(true)
    .showHelpAfterError('(--help shows how)')
    .exitOverride();
}

/** Registers the command that is asked for, or all of them where none or an unknown one is: for the help, and for "did you mean". */
async function registerCommands(program: Command, argv: readonly string[]): Promise<void> {
  const name = argv[0] ?? '';
  if (name === '--version' || name === '-V') return;
  const wanted = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  const loaders = wanted === undefined ? Object.values(COMMANDS) : [wanted];
  const modules = await Promise.all(loaders.map((load) => load()));
  for (const module of modules) module.register(program);
}

/** The command that `argv` names, as deep as it goes. */
function findCommand(program: Command, argv: readonly string[]): Command {
  let command = program;
  for (const word of argv) {
    const next = command.commands.find((candidate) => candidate.name() === word || candidate.aliases().includes(word));
    if (next === undefined) break;
    command = next;
  }
  return command;
}

/** Whether the caller wants JSON from a command that speaks it; it then gets its errors as JSON too. */
function wantsJson(program: Command, argv: readonly string[]): boolean {
  const end = argv.indexOf('--');
  const options = end < 0 ? argv : argv.slice(0, end);
  return options.includes('--json') && findCommand(program, argv).options.some((option) => option.long === '--json');
}

/** Says what went wrong and ends the process; what has been written to a pipe or file is out by then (on Linux such writes are synchronous). */
function fail(thrown: unknown, json: boolean): never {
  if (thrown instanceof CommanderError) process.exit(thrown.exitCode === 0 ? EXIT.ok : EXIT.usage);
  const known = thrown instanceof PosternError;
  if (json) {
    const error = known
      ? { code: thrown.code, message: thrown.message }
      : { code: 'ERR_INTERNAL', message: inspect(thrown) };
    process.stderr.write(`${JSON.stringify({ error })}\n`);
  } else if (known) {
    process.stderr.write(`postern: ${thrown.message}\n`);
  } else {
    process.stderr.write(`postern: internal error, please report it with these lines:\n${inspect(thrown)}\n`);
  }
  process.exit(known ? thrown.exitCode : EXIT.software);
}

/** `postern status | head` ends quietly when `head` has seen enough. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok);
  throw error;
});

const argv = process.argv.slice(2);
const program = createProgram();
try {
  await registerCommands(program, argv);
  await program.parseAsync(argv, { from: 'user' });
} catch (thrown) {
  fail(thrown, wantsJson(program, argv));
}
