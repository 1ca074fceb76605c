import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import { readFileBounded, removeQuietly, systemCode } from '../../mesh/atomic-file.ts';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';

const LOCK = 'control-plane.lock';

/**
 * Sole ownership of a control plane's data directory: two certificate authorities on one directory would overwrite each other's rotation.
 * The lock file names its holder by process id and start time, so that one left behind by a crash, a reboot or a reused id is taken over.
 */
export class DataDirectoryLock {
  readonly #path: string;
  readonly #content: string;
  #held = true;

  private constructor(path: string, content: string) {
    this.#path = path;
    this.#content = content;
  }

  /** @throws PosternError ERR_DATA_DIR_IN_USE while another process (or this one) holds it, ERR_DATA_DIR where it cannot be written. */
  static acquire(dataDir: string): DataDirectoryLock {
    const path = join(dataDir, LOCK);
    const content = `${identityOf(process.pid) ?? `${process.pid}`} ${randomBytes(8).toString('hex')}\n`;
    // Each failed attempt means that another process came or went in between: it will not do so for long.
    for (let attempt = 0; attempt < 5; attempt++) {
      if (createExclusively(path, content)) return new DataDirectoryLock(path, content);
      evictDeadHolder(dataDir, path);
    }
    throw inUse(dataDir, path, 'several processes');
  }

  /** Safe to call twice. */
  release(): void {
    if (!this.#held) return;
    this.#held = false;
    if (readLock(this.#path) === this.#content) fs.rmSync(this.#path, { force: true });
  }
}

/**
 * Makes the directory (mode 0700) where it is missing. One that others may write is refused: they could put their own CA or socket in its place.
 *
 * @throws PosternError ERR_DATA_DIR
 */
export function prepareDataDirectory(dataDir: string): void {
  try {
    fs.mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new PosternError('ERR_DATA_DIR', `cannot make the data directory ${dataDir}: ${messageOf(error)}`, {
      cause: error,
      exitCode: EXIT.cannotCreate,
    });
  }
  const { mode } = fs.statSync(dataDir);
  if ((mode & 0o022) !== 0) {
    const message = `the data directory ${dataDir} may be written by others (mode ${octal(mode)}): run chmod 700 ${dataDir}`;
    throw new PosternError('ERR_DATA_DIR', message, { exitCode: EXIT.noPermission });
  }
}

export const octal = (mode: number): string => (mode & 0o7777).toString(8).padStart(4, '0');

/** Linked into place with its content, so that nobody ever sees a lock that does not name its holder. */
function createExclusively(path: string, content: string): boolean {
  const draft = `${path}.${randomBytes(8).toString('hex')}`;
  try {
    fs.writeFileSync(draft, content, { flag: 'wx', mode: 0o600 });
    fs.linkSync(draft, path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    throw cannotLock(path, error);
  } finally {
    removeQuietly(draft);
  }
}

function evictDeadHolder(dataDir: string, path: string): void {
  const content = readLock(path);
  if (content === null) return;
  const [pid = '', started = ''] = content.split(' ');
  const running = /^\d{1,10}$/.test(pid) ? identityOf(Number(pid)) : null;
  if (running !== null && running === `${pid} ${started}`) throw inUse(dataDir, path, `process ${pid}`);
  // Renamed first, removed after a second look: another process may have replaced the dead holder's file by its own in between.
  const aside = `${path}.${randomBytes(8).toString('hex')}`;
  try {
    fs.renameSync(path, aside);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return;
    throw new PosternError('ERR_DATA_DIR', `cannot remove the stale lock file ${path}: ${messageOf(error)}`, {
      cause: error,
      exitCode: EXIT.osError,
    });
  }
  if (readLock(aside) !== content) fs.linkSync(aside, path);
  fs.rmSync(aside, { force: true });
}

function readLock(path: string): string | null {
  try {
    return readFileBounded(path, 256).toString('latin1');
  } catch (error) {
    if (error instanceof PosternError && error.code === 'ERR_FILE_MISSING') return null;
    throw error;
  }
}

/** `<pid> <boot id>/<start time>`; null where no such process runs. A process that has ended but was not waited for yet counts as gone. */
function identityOf(pid: number): string | null {
  try {
    const boot = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
    // proc_pid_stat(5): the name in parentheses may hold anything; then field 3 is the state, field 22 the start time in ticks since boot.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields[0] === 'Z' || fields[0] === 'X') return null;
    return `${pid} ${boot}/${fields[19]}`;
  } catch {
    return null;
  }
}

function cannotLock(path: string, error: unknown): PosternError {
  const code = systemCode(error);
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    const message = `cannot write the lock file ${path}: no space left on its disk. Free some space, then start again`;
    return new PosternError('ERR_DISK_FULL', message, { cause: error, exitCode: EXIT.cannotCreate });
  }
  const exitCode = code === 'EACCES' || code === 'EPERM' ? EXIT.noPermission : EXIT.cannotCreate;
  const message = `cannot write the lock file ${path}: ${messageOf(error)}; the user of the control plane must be able to write in its dataDir`;
  return new PosternError('ERR_DATA_DIR', message, { cause: error, exitCode });
}

const inUse = (dataDir: string, path: string, holder: string): PosternError =>
  new PosternError(
    'ERR_DATA_DIR_IN_USE',
    `the data directory ${dataDir} is in use by ${holder} (${path}): stop that control plane first, or give this one its own dataDir`,
    { exitCode: EXIT.temporary },
  );
