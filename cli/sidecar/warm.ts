import { spawnSync } from 'node:child_process';
import {
  chownSync,
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compileCacheDirectory } from './compile-cache.ts';
import { FILL_ARGUMENT, FILL_WAS_COLD, V8_FLAGS } from './launch.ts';

/**
 * Fills the compile cache for sidecars that will run as other users than the one who installs: node keeps one cache a user ID, and a sidecar's own
 * user must not be able to write what sidecars run. As root, for root and the user IDs given as arguments; what is warm already is left alone.
 *
 *   node cli/sidecar/warm.ts [UID …]
 */
function runFill(cache: string, uid: number): number {
  const { status } = spawnSync(
    process.execPath,
    [...V8_FLAGS, fileURLToPath(new URL('./entry.ts', import.meta.url)), FILL_ARGUMENT],
    {
      ...(uid === process.geteuid?.() ? {} : { uid, gid: uid }),
      env: { ...process.env, NODE_COMPILE_CACHE: cache },
      stdio: 'ignore',
      timeout: 60_000,
    },
  );
  return status ?? 1;
}

/** Copies what the other user wrote, as ours and readable by all. It may have put links there: they are not followed. */
function publish(from: string, to: string): void {
  mkdirSync(to, { recursive: true, mode: 0o755 });
  for (const name of readdirSync(from)) {
    const fd = openSync(join(from, name), constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      if (fstatSync(fd).isFile()) writeFileSync(join(to, name), readFileSync(fd), { mode: 0o644 });
    } finally {
      closeSync(fd);
    }
  }
}

/** A user who cannot read the installation gets no cache, and needs none. */
function warm(cache: string, uid: number): void {
  if (runFill(cache, uid) !== FILL_WAS_COLD || uid === process.geteuid?.()) return;
  const own = mkdtempSync(join(tmpdir(), 'postern-warm-'));
  try {
    chownSync(own, uid, uid);
    runFill(own, uid);
    for (const name of readdirSync(own)) publish(join(own, name), join(cache, name));
  } finally {
    rmSync(own, { recursive: true, force: true });
  }
}

const cache = compileCacheDirectory();
const self = process.geteuid?.() ?? 0;
const others = self === 0 ? process.argv.slice(2).map(Number).filter(Number.isSafeInteger) : [];
if (cache !== null) for (const uid of new Set([self, ...others])) warm(cache, uid);
