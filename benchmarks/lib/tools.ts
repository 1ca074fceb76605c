import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { EXIT, PosternError } from '../../mesh/errors.ts';

/** The Debian package that brings each tool. */
const PACKAGES = {
  haproxy: 'haproxy',
  nginx: 'nginx',
  wrk: 'wrk',
  h2load: 'nghttp2-client',
  curl: 'curl',
  openssl: 'openssl',
  taskset: 'util-linux',
  setpriv: 'util-linux',
} as const;

export type Tool = keyof typeof PACKAGES;

// Debian keeps daemons in sbin, which an ordinary user's PATH leaves out.
const EXTRA_DIRECTORIES = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** Absolute path of an executable; null where there is none. */
export function locate(name: string, path: string = process.env.PATH ?? ''): string | null {
  for (const directory of [...path.split(delimiter), ...EXTRA_DIRECTORIES]) {
    if (!directory.startsWith('/')) continue;
    const candidate = join(directory, name);
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // not in this directory
    }
  }
  return null;
}

/**
 * Paths of all tools the benchmark runs; installs nothing.
 * @throws PosternError ERR_BENCH_TOOLS (69) that names every missing one and the command that installs them.
 */
export function locateTools(find: (name: string) => string | null = locate): { readonly [tool in Tool]: string } {
  const found: { [tool in Tool]?: string } = {};
  const missing: Tool[] = [];
  for (const tool of Object.keys(PACKAGES) as Tool[]) {
    const path = find(tool);
    if (path === null) missing.push(tool);
    else found[tool] = path;
  }
  if (missing.length > 0) {
    const packages = [...new Set(missing.map((tool) => PACKAGES[tool]))].join(' ');
    throw new PosternError(
      'ERR_BENCH_TOOLS',
      `the benchmark needs ${missing.join(', ')}, not found in PATH; install with: apt-get install ${packages}`,
      { exitCode: EXIT.unavailable },
    );
  }
  return found as { readonly [tool in Tool]: string };
}
