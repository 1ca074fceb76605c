import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { DataDirectoryLock } from '../../../control-plane/ca/data-directory.ts';
import { EXIT } from '../../../mesh/errors.ts';
import { temporaryDirectory } from './support.ts';

const LOCK = 'control-plane.lock';

/** The lock of a process that has been killed while it held it. */
async function lockOfKilledProcess(dataDir: string): Promise<string> {
  const module = new URL('../../../control-plane/ca/data-directory.ts', import.meta.url).href;
  const program = `import { DataDirectoryLock } from ${JSON.stringify(module)};
    DataDirectoryLock.acquire(process.argv[1]); console.log('held'); setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program, dataDir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  expect(() => DataDirectoryLock.acquire(dataDir)).toThrow(
    expect.objectContaining({ message: expect.stringContaining(`process ${child.pid}`) }),
  );
  child.kill('SIGKILL');
  await once(child, 'exit');
  return fs.readFileSync(join(dataDir, LOCK), 'utf8');
}

describe('the lock of a data directory', () => {
  it('is held by one at a time, in one process too, and is free after release', () => {
    const dataDir = temporaryDirectory();
    const lock = DataDirectoryLock.acquire(dataDir);
    expect(() => DataDirectoryLock.acquire(dataDir)).toThrow(
      expect.objectContaining({ code: 'ERR_DATA_DIR_IN_USE', exitCode: EXIT.temporary }),
    );
    lock.release();
    DataDirectoryLock.acquire(dataDir).release();
    expect(fs.readdirSync(dataDir)).toEqual([]);
  });

  it('says what is wrong where the lock can neither be written nor removed', () => {
    const file = join(temporaryDirectory(), 'no-directory');
    fs.writeFileSync(file, '');
    expect(() => DataDirectoryLock.acquire(file)).toThrow(
      expect.objectContaining({ code: 'ERR_DATA_DIR', message: expect.stringContaining('cannot write the lock file') }),
    );
  });

  it('does not give away the lock of a later holder when released twice', () => {
    const dataDir = temporaryDirectory();
    const first = DataDirectoryLock.acquire(dataDir);
    first.release();
    const second = DataDirectoryLock.acquire(dataDir);
    first.release();
    expect(() => DataDirectoryLock.acquire(dataDir)).toThrow();
    second.release();
  });

  it('is held against another process while that lives, and taken over when it was killed', async () => {
    const dataDir = temporaryDirectory();
    const stale = await lockOfKilledProcess(dataDir);
    const lock = DataDirectoryLock.acquire(dataDir);
    expect(fs.readFileSync(join(dataDir, LOCK), 'utf8')).not.toBe(stale);
    lock.release();
  });

  it.each([
    ['of an earlier boot', `${process.pid} 00000000-0000-0000-0000-000000000000/1 abc\n`],
    [
      'of an earlier process with this id',
      `1 ${fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}/999999999 x\n`,
    ],
    ['that is empty', ''],
    ['that is garbage', 'x'.repeat(100)],
  ])('is taken over from a file %s', (_, content) => {
    const dataDir = temporaryDirectory();
    fs.writeFileSync(join(dataDir, LOCK), content);
    DataDirectoryLock.acquire(dataDir).release();
  });

  it.skipIf(process.getuid?.() === 0)('says where it may not write (not as root)', () => {
    const dataDir = temporaryDirectory();
    fs.chmodSync(dataDir, 0o500);
    expect(() => DataDirectoryLock.acquire(dataDir)).toThrow(
      expect.objectContaining({ code: 'ERR_DATA_DIR', exitCode: EXIT.noPermission }),
    );
  });
});
