import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { EXIT, type ExitCode, messageOf, PosternError } from './errors.ts';

/** The calls that change a disk, so that tests can end a process or fill a disk between any two of them. */
export type FileOperations = Pick<
  typeof fs,
  | 'openSync'
  | 'fchmodSync'
  | 'writeFileSync'
  | 'fsyncSync'
  | 'closeSync'
  | 'renameSync'
  | 'unlinkSync'
  | 'mkdirSync'
  | 'rmSync'
>;

export interface WriteOptions {
  /** Permission bits of the file, whatever the umask. Default 0o600. */
  readonly mode?: number;
  readonly operations?: FileOperations;
}

const TEMPORARY = /^\..+\.[0-9a-f]{16}\.tmp$/;

/**
 * Replaces a file whole: after a crash at any moment it holds either the old bytes or the new ones, and the new ones are on disk once this
 * returns. Writes beside the file, since rename(2) is atomic within one file system only; the directory is synced because the name lives there.
 *
 * @throws PosternError ERR_DISK_FULL or ERR_FILE_WRITE naming the file.
 */
export function writeFileAtomic(path: string, data: string | Uint8Array, options: WriteOptions = {}): void {
  const mode = options.mode ?? 0o600;
  const operations = options.operations ?? fs;
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(8).toString('hex')}.tmp`);
  let renamed = false;
  try {
    const descriptor = operations.openSync(temporary, 'wx', mode);
    try {
      operations.fchmodSync(descriptor, mode);
      operations.writeFileSync(descriptor, data);
      operations.fsyncSync(descriptor);
    } finally {
      operations.closeSync(descriptor);
    }
    operations.renameSync(temporary, path);
    renamed = true;
    syncDirectory(dirname(path), operations);
  } catch (error) {
    if (!renamed) removeQuietly(temporary, operations);
    throw writeError(path, error);
  }
}

/** Makes the names in a directory durable (fsync(2): a file's own fsync does not). */
export function syncDirectory(directory: string, operations: FileOperations = fs): void {
  const descriptor = operations.openSync(directory, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
  try {
    operations.fsyncSync(descriptor);
  } finally {
    operations.closeSync(descriptor);
  }
}

/** Removes what writes that a crash cut short left in a directory. Only for the directory's one owner. */
export function removeTemporaryFiles(directory: string, operations: FileOperations = fs): void {
  for (const name of fs.readdirSync(directory)) {
    if (TEMPORARY.test(name)) operations.unlinkSync(join(directory, name));
  }
}

/**
 * Reads a regular file of at most `maxBytes`. A FIFO or device is refused without waiting for it.
 *
 * @throws PosternError ERR_FILE_MISSING, ERR_FILE_TOO_LARGE or ERR_FILE_READ naming the file.
 */
export function readFileBounded(path: string, maxBytes: number): Buffer {
  let descriptor: number;
  try {
    descriptor = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK | fs.constants.O_NOCTTY);
  } catch (error) {
    throw readError(path, error);
  }
  try {
    if (!fs.fstatSync(descriptor).isFile()) {
      throw new PosternError('ERR_FILE_READ', `${path} is not a regular file`, { exitCode: EXIT.dataError });
    }
    // One byte more than allowed, so that a file that grows while it is read is noticed too.
    const buffer = Buffer.alloc(Math.min(fs.fstatSync(descriptor).size, maxBytes) + 1);
    let length = 0;
    while (length < buffer.length) {
      const count = fs.readSync(descriptor, buffer, length, buffer.length - length, null);
      if (count === 0) return buffer.subarray(0, length);
      length += count;
    }
    throw new PosternError('ERR_FILE_TOO_LARGE', `${path} is larger than the ${maxBytes} bytes it may have`, {
      exitCode: EXIT.dataError,
    });
  } catch (error) {
    throw error instanceof PosternError ? error : readError(path, error);
  } finally {
    fs.closeSync(descriptor);
  }
}

/** Whether `writeFileAtomic` could not write: a fault of the disk, not of the request. */
export const isWriteFailure = (error: unknown): error is PosternError =>
  error instanceof PosternError && (error.code === 'ERR_DISK_FULL' || error.code === 'ERR_FILE_WRITE');

/** `code` of a system error (`ENOENT`), else an empty string. */
export function systemCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** For the way out of a failed write: what cannot be removed then is left, so that the error that is told stays the first one. */
export function removeQuietly(path: string, operations: Pick<FileOperations, 'unlinkSync'> = fs): void {
  try {
    operations.unlinkSync(path);
  } catch {
    // It was never made, or the disk is beyond it; removeTemporaryFiles takes it at the next start.
  }
}

function readError(path: string, error: unknown): PosternError {
  const code = systemCode(error);
  if (code === 'ENOENT') {
    return new PosternError('ERR_FILE_MISSING', `${path} does not exist`, { cause: error, exitCode: EXIT.dataError });
  }
  const exitCode: ExitCode = code === 'EACCES' || code === 'EPERM' ? EXIT.noPermission : EXIT.osError;
  return new PosternError('ERR_FILE_READ', `cannot read ${path}: ${messageOf(error)}`, { cause: error, exitCode });
}

function writeError(path: string, error: unknown): PosternError {
  const code = systemCode(error);
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    const message = `cannot write ${path}: no space left on its disk; the file is as it was. Free some space, then try again`;
    return new PosternError('ERR_DISK_FULL', message, { cause: error, exitCode: EXIT.cannotCreate });
  }
  const exitCode: ExitCode = code === 'EACCES' || code === 'EPERM' ? EXIT.noPermission : EXIT.cannotCreate;
  return new PosternError('ERR_FILE_WRITE', `cannot write ${path}: ${messageOf(error)}`, { cause: error, exitCode });
}
