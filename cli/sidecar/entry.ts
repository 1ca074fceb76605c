import { accessSync, constants } from 'node:fs';
import { flushCompileCache, getCompileCacheDir } from 'node:module';
import { inspect } from 'node:util';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import type { ProxyConfig } from '../../proxy/config.ts';
import { runProxy } from '../../proxy/main.ts';
import {
  FILL_ARGUMENT,
  FILL_WAS_COLD,
  hasStripped,
  replaceProcess,
  SETTINGS_VARIABLE,
  WARMED_VARIABLE,
} from './launch.ts';

/** The sidecar's process, as `launchSidecar` starts it. */
const settings = process.env[SETTINGS_VARIABLE];
const warmed = process.env[WARMED_VARIABLE] !== undefined;
delete process.env[SETTINGS_VARIABLE];
delete process.env[WARMED_VARIABLE];

if (process.argv[2] === FILL_ARGUMENT) {
  await loadAll();
  process.exit(hasStripped() ? FILL_WAS_COLD : EXIT.ok);
}
if (settings === undefined) {
  process.stderr.write('postern: start the sidecar with: postern proxy --config proxy.yaml\n');
  process.exit(EXIT.usage);
}
// Checked by the process that was here before.
const config: ProxyConfig = JSON.parse(settings);

// The first start after an installation has loaded the compiler of TypeScript, which never leaves memory: fill the cache and start over.
if (!warmed && mayFillCache() && hasStripped()) {
  await loadAll();
  replaceProcess(config.workers, { [SETTINGS_VARIABLE]: settings, [WARMED_VARIABLE]: '1' });
}

try {
  // Threads and sockets have been closed by then; a library's forgotten timer must not keep a stopped sidecar alive.
  process.exit(await runProxy(config));
} catch (error) {
  const known = error instanceof PosternError;
  process.stderr.write(`postern: ${known ? error.message : `internal error, please report it:\n${inspect(error)}`}\n`);
  process.exit(known ? error.exitCode : EXIT.software);
}

/** In a container it may lie in a file system that is only read. */
function mayFillCache(): boolean {
  const directory = getCompileCacheDir();
  if (directory === undefined) return false;
  try {
    accessSync(directory, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Fills the compile cache with all that a sidecar loads, in both of its threads. */
async function loadAll(): Promise<void> {
  await import('../../proxy/worker/worker.ts'); // does nothing in the main thread
  flushCompileCache();
}
