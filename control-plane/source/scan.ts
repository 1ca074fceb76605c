import type { Stats } from 'node:fs';
import { constants } from 'node:fs';
import { lstat, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, PosternError } from '../../mesh/errors.ts';
import { FIXED } from '../config.ts';

/** What tells one content of a file from the next without reading it. */
export type Fingerprint = string;

export interface Scan {
  /** Path relative to the root → fingerprint, sorted by path. */
  readonly files: ReadonlyMap<string, Fingerprint>;
  /** Absolute paths of the root and the directories below it, to be watched. */
  readonly directories: readonly string[];
  /** Tells the root from another directory put in its place. */
  readonly rootId: string;
  /** Files that are there but left out, and why. */
  readonly skipped: ReadonlyMap<string, string>;
}

/** What editors leave while they work, and what was hidden on purpose. */
const IGNORED = /^\.|~$|^#.*#$|\.(swp|swx|swo|tmp|bak|orig|part)$/i;
const MANIFEST = /\.(ya?ml|json)$/i;

/**
 * Lists the manifest files below `root`. Bounded in files and directories; files in `known` come first, so that a flood of new ones displaces nothing.
 * Symbolic links are not followed: what is in force is what is in the directory.
 *
 * @throws the system error where a directory cannot be read: a listing is whole or does not exist.
 */
export async function scanDirectory(root: string, known: ReadonlySet<string>): Promise<Scan> {
  const found = new Map<string, Fingerprint>();
  const skipped = new Map<string, string>();
  const directories: string[] = [];
  const queue = [''];
  for (let relative = queue.shift(); relative !== undefined; relative = queue.shift()) {
    directories.push(join(root, relative));
    for (const entry of await readdir(join(root, relative), { withFileTypes: true })) {
      if (IGNORED.test(entry.name)) continue;
      const path = relative === '' ? entry.name : `${relative}/${entry.name}`;
      if (entry.isDirectory()) {
        if (directories.length + queue.length < FIXED.source.maxDirectories) queue.push(path);
        else skipped.set(path, `is one directory more than the ${FIXED.source.maxDirectories} that are read`);
      } else if (MANIFEST.test(entry.name)) {
        const stat = await statOrNull(join(root, path));
        if (stat === null) continue;
        if (stat.isFile()) found.set(path, fingerprintOf(stat));
        else skipped.set(path, 'is not a regular file (symbolic links are not followed): copy the file here');
      }
    }
  }
  const order = [...found.keys()].sort((a, b) => Number(known.has(b)) - Number(known.has(a)) || (a < b ? -1 : 1));
  for (const path of order.slice(FIXED.source.maxFiles)) {
    skipped.set(
      path,
      `is one file more than the ${FIXED.source.maxFiles} that are read: put several objects into one file`,
    );
  }
  const files = order.slice(0, FIXED.source.maxFiles).sort();
  const { dev, ino } = await lstatRoot(root);
  return {
    files: new Map(files.map((path) => [path, found.get(path) ?? ''])),
    directories,
    rootId: `${dev}:${ino}`,
    skipped,
  };
}

/**
 * The text of a file and the fingerprint it had before and after; null where it changed meanwhile.
 *
 * @throws PosternError ERR_MANIFEST_FILE where it is too large, not UTF-8 or cannot be read.
 */
export async function readStable(
  path: string,
): Promise<{ readonly text: string; readonly fingerprint: Fingerprint } | null> {
  const { maxFileBytes } = FIXED.source;
  try {
    // Non-blocking, so that a FIFO put in the file's place does not hang the reader; and no link either.
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const before = await file.stat();
      if (!before.isFile()) throw new Error('it is not a regular file');
      if (before.size > maxFileBytes)
        throw new Error(`it is larger than the ${maxFileBytes} bytes a file may have: split it`);
      const buffer = Buffer.alloc(before.size + 1);
      let length = 0;
      for (;;) {
        const { bytesRead } = await file.read(buffer, length, buffer.length - length, length);
        length += bytesRead;
        if (bytesRead === 0 || length === buffer.length) break;
      }
      const after = fingerprintOf(await file.stat());
      if (length !== before.size || after !== fingerprintOf(before)) return null;
      return { text: new TextDecoder('utf-8', { fatal: true }).decode(buffer.subarray(0, length)), fingerprint: after };
    } finally {
      await file.close();
    }
  } catch (error) {
    throw new PosternError('ERR_MANIFEST_FILE', `cannot read it: ${messageOf(error)}`, { cause: error });
  }
}

function fingerprintOf({ dev, ino, size, mtimeMs, ctimeMs }: Stats): Fingerprint {
  return `${dev}:${ino}:${size}:${mtimeMs}:${ctimeMs}`;
}

async function statOrNull(path: string): Promise<Stats | null> {
  try {
    return await lstat(path);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}

async function lstatRoot(root: string): Promise<Stats> {
  return lstat(join(root, '.'));
}
