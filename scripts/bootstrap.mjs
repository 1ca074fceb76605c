/**
 * Runs one of the repository's commands (`start`, `test`, `bench`) on the Node that package.json pins, after installing what is missing.
 *
 * Plain JavaScript without dependencies: this file alone runs on the machine's own Node (20 or newer), before any package is there.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const EX_UNAVAILABLE = 69;
const EX_USAGE = 64;

/** Programs and the Debian packages that have them. */
const REDIRECTION = [
  { program: 'nft', debian: 'nftables' },
  { program: 'ip', debian: 'iproute2' },
];
/** Other people's clients and servers, which tests send through two sidecars. */
const HTTP_PEERS = [
  { program: 'curl', debian: 'curl' },
  { program: 'nginx', debian: 'nginx' },
  { program: 'nghttp', debian: 'nghttp2-client' },
  { program: 'h2load', debian: 'nghttp2-client' },
  { program: 'wrk', debian: 'wrk' },
];

/** `programs`: those of the system that the command wants. */
const COMMANDS = {
  start: { entry: 'demo/main.ts', programs: REDIRECTION },
  test: { entry: 'scripts/test.ts', programs: [...REDIRECTION, ...HTTP_PEERS] },
  bench: { entry: 'benchmarks/main.ts', programs: [] },
};

/** The user that sidecars run as, by Istio's convention. */
const SIDECAR_UID = '1337';

/** Two commands at once must not both run `npm ci`, which begins by deleting node_modules. Seconds. */
const LOCK_WAIT_SECONDS = 900;

class SetupError extends Error {}

const say = (text) => process.stderr.write(`${text}\n`);

function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT') return null;
    throw error;
  }
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The sbin directories are searched too: on Debian they are not on the PATH of everyone who may use what is there. */
function findProgram(name) {
  const directories = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return directories.map((directory) => join(directory || '.', name)).find(isExecutable) ?? null;
}

function pinnedNode() {
  if (process.platform !== 'linux' || !['x64', 'arm64'].includes(process.arch)) {
    throw new SetupError(
      `Postern runs on Linux on x64 or arm64; this is ${process.platform} on ${process.arch}. Use a Linux machine or container.`,
    );
  }
  return join(ROOT, 'node_modules', `node-linux-${process.arch}`, 'bin', 'node');
}

/**
 * npm writes node_modules/.package-lock.json last, so an interrupted installation is seen too. Contents are compared, not times: a checkout
 * touches files without changing them. Packages for other platforms are absent by right; the pinned Node is checked by itself.
 */
function packagesAreCurrent() {
  const wanted = readJson(join(ROOT, 'package-lock.json'));
  if (wanted === null) throw new SetupError(`package-lock.json is missing in ${ROOT}: this is not a whole clone.`);
  const installed = readJson(join(ROOT, 'node_modules', '.package-lock.json'));
  if (installed === null || !isExecutable(pinnedNode())) return false;
  return Object.entries(wanted.packages).every(([path, entry]) => {
    if (path === '') return true;
    const found = installed.packages[path];
    if (found === undefined) return entry.optional === true || entry.devOptional === true;
    return found.version === entry.version && found.integrity === entry.integrity;
  });
}

/** Runs a program to its end with its output held back; resolves to the exit code and the output. */
function runQuietly(argv, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0], argv.slice(1), { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'], ...options });
    let output = '';
    const keep = (chunk) => {
      output = (output + chunk).slice(0, 65_536);
    };
    child.stdout.setEncoding('utf8').on('data', keep);
    child.stderr.setEncoding('utf8').on('data', keep);
    const stop = forwardSignals(child);
    child.once('error', reject);
    child.once('close', (code, signal) => {
      stop();
      if (signal === 'SIGINT' || signal === 'SIGTERM') process.exit(128 + osConstants.signals[signal]);
      resolve({ code: code ?? 1, output: output.trim() });
    });
  });
}

/** One line that shows what goes on: growing on a terminal, printed once elsewhere. */
async function withProgress(label, work) {
  const started = Date.now();
  const seconds = () => `${Math.round((Date.now() - started) / 1000)} s`;
  if (!process.stderr.isTTY) {
    say(`${label} …`);
    return await work();
  }
  const draw = () => process.stderr.write(`\r\x1b[K${label} … ${seconds()}`);
  draw();
  const timer = setInterval(draw, 1000);
  try {
    return await work();
  } finally {
    clearInterval(timer);
    process.stderr.write(`\r\x1b[K${label}: ${seconds()}\n`);
  }
}

/** npm says first what is wrong, and then how it is used. */
const firstLines = (text, count) => text.split('\n').slice(0, count).join('\n');

/** Called with the lock held: whoever had it before may have done the work. */
async function installPackages() {
  if (packagesAreCurrent()) return;
  const execPath = process.env.npm_execpath ?? '';
  const npm = execPath.endsWith('npm-cli.js') ? [process.execPath, execPath] : ['npm'];
  const flags = ['--no-audit', '--no-fund', '--loglevel=error', '--include=dev', '--include=optional'];
  const { code, output } = await withProgress('installing npm packages, the pinned Node among them (once)', () =>
    runQuietly([...npm, 'ci', ...flags]),
  );
  if (code !== 0) {
    throw new SetupError(
      `npm ci failed with code ${code}:\n${firstLines(output, 20)}\nCheck the network and npm's configuration, then run the same command again.`,
    );
  }
  if (!isExecutable(pinnedNode())) {
    throw new SetupError(
      `npm ci ended well but ${pinnedNode()} is missing. It is an optional dependency: check that npm's configuration does not omit those.`,
    );
  }
}

async function ensurePackages() {
  if (packagesAreCurrent()) return;
  const flock = findProgram('flock');
  if (flock === null) return await installPackages();
  // The lock is on package-lock.json itself (flock(2)): nothing to leave behind, and a killed holder frees it.
  const lock = [flock, '--timeout', String(LOCK_WAIT_SECONDS), join(ROOT, 'package-lock.json')];
  const code = await run([...lock, process.execPath, fileURLToPath(import.meta.url), 'install']);
  if (code !== 0) process.exit(code === 1 ? EX_UNAVAILABLE : code);
}

/** Missing system programs are installed where that is possible and explained where it is not; whoever needs them says so or does without. */
async function ensureSystemPrograms(programs) {
  const absent = programs.filter(({ program }) => findProgram(program) === null).map(({ debian }) => debian);
  if (absent.length === 0) return;
  const missing = [...new Set(absent)];
  const names = missing.join(', ');
  const byHand = `apt-get install ${missing.join(' ')}`;
  const aptGet = findProgram('apt-get');
  if (process.getuid() !== 0) return say(`note: ${names} missing; as root: ${byHand}. Going on without.`);
  if (aptGet === null) {
    return say(`note: ${names} missing and no apt-get here; install them by your system's means. Going on without.`);
  }
  const options = ['-y', '-q', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=120'];
  // What is a daemon is not started (invoke-rc.d(8), systemctl(1)): nobody asked for a web server on this machine.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1', SYSTEMD_OFFLINE: '1' };
  const install = () => runQuietly([aptGet, 'install', ...options, ...missing], { env });
  const result = await withProgress(`installing ${names} by apt-get (once)`, async () => {
    const first = await install();
    if (first.code === 0) return first;
    // Package lists are absent or stale in most container images.
    const update = await runQuietly([aptGet, 'update', '-q'], { env });
    return update.code === 0 ? await install() : update;
  });
  if (result.code !== 0)
    say(`note: apt-get could not install ${names}:\n${result.output}\nTry: ${byHand}. Going on without.`);
}

/** A terminal sends its signals to the whole process group; one sent to this process alone must reach the child too. */
function forwardSignals(child) {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  const forward = (signal) => child.kill(signal);
  for (const signal of signals) process.on(signal, forward);
  return () => {
    for (const signal of signals) process.off(signal, forward);
  };
}

/** Runs a program in the foreground; resolves to its exit code, 128 + signal where a signal ended it. */
function run(argv) {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0], argv.slice(1), { stdio: 'inherit' });
    const stop = forwardSignals(child);
    child.once('error', reject);
    child.once('close', (code, signal) => {
      stop();
      resolve(code ?? 128 + (osConstants.signals[signal] ?? 0));
    });
  });
}

async function main([name, ...args]) {
  if (name === 'install') return await installPackages();
  const command = Object.hasOwn(COMMANDS, name ?? '') ? COMMANDS[name] : undefined;
  if (command === undefined) {
    say(`usage: node scripts/bootstrap.mjs ${Object.keys(COMMANDS).join('|')} [arguments]`);
    process.exitCode = EX_USAGE;
    return;
  }
  const node = pinnedNode();
  await ensurePackages();
  await ensureSystemPrograms(command.programs);
  // Half of a sidecar's private memory is node's TypeScript compiler where this has not been done; without it everything works all the same.
  await runQuietly([node, join(ROOT, 'cli/sidecar/warm.ts'), SIDECAR_UID]);
  process.exitCode = await run([node, join(ROOT, command.entry), ...args]);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  say(`postern: ${error.message}`);
  process.exitCode = EX_UNAVAILABLE;
}
