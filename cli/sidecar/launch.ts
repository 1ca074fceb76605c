import { fileURLToPath } from 'node:url';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import type { ProxyConfig } from '../../proxy/config.ts';
import { compileCacheDirectory } from './compile-cache.ts';

/** Carries the settings over execve(2); holds no secret, only where secrets are. */
export const SETTINGS_VARIABLE = 'POSTERN_SIDECAR_SETTINGS';
/** Set once a process was replaced for a cold compile cache: that is done once, not for ever. */
export const WARMED_VARIABLE = 'POSTERN_SIDECAR_WARMED';

/** The argument with which the sidecar's entry only fills the compile cache, and its exit code where that was cold. */
export const FILL_ARGUMENT = '--fill';
export const FILL_WAS_COLD = 3;

/** execve(2) takes strings of up to 128 KiB (MAX_ARG_STRLEN). */
const MAX_SETTINGS_BYTES = 120 * 1024;

/**
 * Measured on an idle sidecar, private memory: the young generation 3 MB, the threads of V8's pool 1.4 MB, slower growth of the heap 1.3 MB.
 * The last two are managed with the load (proxy/worker/heap-mode.ts).
 */
export const V8_FLAGS: readonly string[] = [
  '--max-semi-space-size=1',
  '--v8-pool-size=1',
  '--optimize-for-size',
  '--expose-gc',
];

/**
 * Replaces this process by one that holds the sidecar and nothing of what read its command line and settings (commander, yaml: 7 MB of private
 * memory), with a heap sized for it. Process ID, output and signals stay. @throws PosternError ERR_CONFIG where the settings are too long for that.
 */
export function launchSidecar(config: ProxyConfig): never {
  const settings = JSON.stringify(config);
  const bytes = Buffer.byteLength(settings);
  if (bytes > MAX_SETTINGS_BYTES) {
    throw new PosternError(
      'ERR_CONFIG',
      `${config.file}: the settings take ${bytes} bytes, and the sidecar is started with ${MAX_SETTINGS_BYTES} at most: shorten its lists`,
      { exitCode: EXIT.config },
    );
  }
  replaceProcess(config.workers, { [SETTINGS_VARIABLE]: settings });
}

export function replaceProcess(workers: number, variables: Readonly<Record<string, string>>): never {
  const entry = fileURLToPath(new URL('./entry.ts', import.meta.url));
  const cache = compileCacheDirectory();
  // The sidecar trusts the mesh's roots and no others; a bundle of public ones would cost 8 MB.
  const { NODE_EXTRA_CA_CERTS: _unwanted, ...inherited } = process.env;
  const environment = {
    // One malloc arena for each data-plane thread, which the control thread shares: glibc's default, 8 for each core, wastes 2 MB.
    MALLOC_ARENA_MAX: String(workers),
    // Fixed, or glibc raises it with the first large block that is freed: from then on large buffers of zeros are written when they are made,
    // though most of them is never used (0.6 MB), and leave gaps. Fixing it fixes the other bound too, at a value that thrashes.
    MALLOC_MMAP_THRESHOLD_: String(128 * 1024),
    MALLOC_TRIM_THRESHOLD_: String(1024 * 1024),
    ...inherited,
    ...(cache === null ? {} : { NODE_COMPILE_CACHE: cache }),
    ...variables,
  };
  if (process.execve === undefined) throw new Error('this Node has no process.execve');
  return process.execve(process.execPath, [process.execPath, ...V8_FLAGS, entry], environment);
}

/** Whether this process had to strip types. Node does not tell; the list of what it has loaded does. */
export function hasStripped(): boolean {
  const { moduleLoadList } = process as { moduleLoadList?: readonly string[] };
  return moduleLoadList?.includes('NativeModule internal/deps/amaro/dist/index') === true;
}
