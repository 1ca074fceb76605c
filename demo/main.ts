import { constants } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { inspect } from 'node:util';
import { EXIT, messageOf, PosternError } from '../mesh/errors.ts';
import { thisMachine } from '../proxy/intercept/machine.ts';
import { DemoDirectory } from './directory.ts';
import { type Mesh, startMesh } from './mesh.ts';
import { availability } from './network.ts';
import { type DemoOptions, parseOptions, USAGE } from './options.ts';
import { ProcessRoster } from './processes.ts';
import { LoopbackSite } from './sites/loopback.ts';
import { NamespacesSite } from './sites/namespaces.ts';
import type { Site } from './sites/site.ts';
import { POLICY_FILE, Story } from './story.ts';
import { Terminal } from './terminal.ts';
import { watchManifests } from './watch.ts';
import { PORTS } from './workloads.ts';

const ROOT = dirname(import.meta.dirname);
/** A process that does not end when asked is asked once more after this, and killed after it again. Milliseconds. */
const GRACE_MS = 1500;

/** The first signal asks for an orderly end; while that goes on, further ones change nothing: the end has deadlines of its own. */
class Interruption {
  readonly #controller = new AbortController();
  #name: NodeJS.Signals | null = null;

  constructor() {
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(name, () => {
        this.#name ??= name;
        this.#controller.abort();
      });
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get exitCode(): number {
    return 128 + (this.#name === null ? 0 : constants.signals[this.#name]);
  }

  /** @throws Interrupted, as soon as there is a signal; never resolves. */
  async arrives(): Promise<never> {
    return await new Promise((_resolve, reject) => {
      const stop = (): void => reject(new Interrupted());
      if (this.signal.aborted) stop();
      else this.signal.addEventListener('abort', stop, { once: true });
    });
  }
}

class Interrupted extends Error {}

/** Namespaces where they work, all the way to the redirection; loopback addresses elsewhere, and the reason. */
async function openSite(options: DemoOptions, directory: DemoDirectory, roster: ProcessRoster): Promise<Site> {
  if (options.loopback) return await LoopbackSite.create('as asked by --loopback');
  const { kind, reason } = availability();
  if (kind === 'none') return await LoopbackSite.create(reason);
  if (thisMachine.locate('nft') === null && thisMachine.locate('iptables-restore') === null) {
    return await LoopbackSite.create('neither nft nor iptables is here: apt-get install nftables');
  }
  const namespaces = { roster, directory: directory.path, runDirectory: directory.run, reason };
  try {
    return await NamespacesSite.create(namespaces);
  } catch (error) {
    return await LoopbackSite.create(`network namespaces do not work here: ${messageOf(error)}`);
  }
}

async function tellStory(options: DemoOptions, interruption: Interruption, out: Terminal): Promise<number> {
  const directory = DemoDirectory.open(options.directory, join(ROOT, 'manifests/demo'));
  const roster = new ProcessRoster(directory.logs);
  let site: Site | null = null;
  try {
    out.line(out.style('bold', 'Postern: a service mesh of three workloads on this machine'));
    if (directory.keptManifests !== null)
      out.remark(`your edited manifests of last time are in ${directory.keptManifests}`);
    const started = performance.now();
    // Not raced with a signal: half a site could not be closed.
    site = await openSite(options, directory, roster);
    out.remark(site.description);
    const untilEnd = Promise.race([interruption.arrives(), roster.untilFailure()]);
    untilEnd.catch(() => {});
    const mesh = await Promise.race([startMesh(site, directory, roster), untilEnd]);
    out.remark(
      `a control plane, three applications and their sidecars are up after ${((performance.now() - started) / 1000).toFixed(1)} s`,
    );
    await Promise.race([new Story(mesh, directory, roster, out).tell(), untilEnd]);
    showResult(out);
    if (!options.once) await Promise.race([stayUp(mesh, directory, out, interruption.signal), roster.untilFailure()]);
    return out.failed.length === 0 ? EXIT.ok : EXIT.failure;
  } finally {
    // Children may have been unref'd by whoever awaits their end: the event loop must not run dry before all is closed.
    const alive = setInterval(() => {}, 1000);
    out.line(out.style('dim', '\nending all processes …'));
    await roster.stopAll(GRACE_MS);
    await site?.close();
    directory.release();
    clearInterval(alive);
  }
}

function showResult(out: Terminal): void {
  out.line();
  const total = out.passed + out.failed.length;
  if (out.failed.length === 0) {
    out.line(out.style('green', `All ${total} expectations held.`));
    return;
  }
  out.line(out.style('red', `${out.failed.length} of ${total} expectations did not hold:`));
  for (const failed of out.failed) out.line(`  ✗ ${failed.trim()}`);
}

/** As the user would write it: relative where it is below the working directory. */
function shortPath(path: string): string {
  const inside = relative(process.cwd(), path);
  return inside.startsWith('..') ? path : inside;
}

async function stayUp(mesh: Mesh, directory: DemoDirectory, out: Terminal, signal: AbortSignal): Promise<void> {
  const { name, appPid } = mesh.workloads.frontend;
  out.chapter('Try a rule', 'everything stays up until Ctrl-C');
  out.detail(`edit    ${shortPath(directory.manifest(POLICY_FILE))}   (each save shows here what it changed)`);
  out.detail(`call    ${mesh.site.commandLine(name, 'orders', appPid)}`);
  out.detail(`logs    ${shortPath(directory.logs)}/`);
  out.detail(`status  bin/postern status --admin ${mesh.site.url(mesh.site.controlPlane, PORTS.controlPlaneAdmin)}`);
  out.line();
  await watchManifests(mesh, directory, out, signal);
}

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2), ROOT);
  if (options.help) {
    process.stdout.write(USAGE);
    return EXIT.ok;
  }
  const out = new Terminal(process.stdout);
  const interruption = new Interruption();
  try {
    return await tellStory(options, interruption, out);
  } catch (error) {
    if (error instanceof Interrupted) return interruption.exitCode;
    throw error;
  }
}

/** Exits rather than waits for the event loop: everything is closed by then, but a wait that lost its race may still be polling. */
try {
  process.exit(await main());
} catch (error) {
  const known = error instanceof PosternError;
  process.stderr.write(`postern: ${known ? error.message : inspect(error)}\n`);
  process.exit(known ? error.exitCode : EXIT.software);
}
