import { lstatSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/**
 * Where node keeps the TypeScript that it has stripped and compiled. Without it every start strips anew, for which each thread loads a WebAssembly
 * compiler: 25 MB of a sidecar's private memory. Null where there is no directory to trust: what lies in it is run, so it must belong to this user
 * or root and be writable by nobody else. NODE_COMPILE_CACHE says otherwise.
 */
export function compileCacheDirectory(): string | null {
  const wanted = process.env.NODE_COMPILE_CACHE;
  if (wanted !== undefined && wanted !== '') return wanted;
  const directory = join(ROOT, 'node_modules', '.cache', 'postern');
  try {
    mkdirSync(directory, { recursive: true, mode: 0o755 });
    const { uid, mode } = lstatSync(directory);
    return (uid === 0 || uid === process.geteuid?.()) && (mode & 0o022) === 0 ? directory : null;
  } catch {
    // A read-only installation that was not started before: it costs memory, no more.
    return null;
  }
}
