import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { readFileBounded, removeTemporaryFiles, writeFileAtomic } from '../../mesh/atomic-file.ts';
import { EXIT } from '../../mesh/errors.ts';
import { crashingOperations, fillableDisk, temporaryDirectory } from '../control-plane/ca/support.ts';

describe('writeFileAtomic', () => {
  it('replaces content and mode whatever the umask', () => {
    const path = join(temporaryDirectory(), 'file');
    writeFileAtomic(path, 'old');
    expect(fs.statSync(path).mode & 0o777).toBe(0o600);
    writeFileAtomic(path, 'new', { mode: 0o666 });
    expect(fs.readFileSync(path, 'utf8')).toBe('new');
    expect(fs.statSync(path).mode & 0o777).toBe(0o666);
    expect(fs.readdirSync(join(path, '..'))).toEqual(['file']);
  });

  it('leaves the old content or the new, whole, wherever the process ends', () => {
    const directory = temporaryDirectory();
    const path = join(directory, 'file');
    const seen = new Set<string>();
    for (let at = 0; ; at++) {
      fs.writeFileSync(path, 'old content');
      const operations = crashingOperations(at);
      let crashed = false;
      try {
        writeFileAtomic(path, 'new content', { operations });
      } catch {
        crashed = true;
      }
      const content = fs.readFileSync(path, 'utf8');
      expect(['old content', 'new content']).toContain(content);
      if (!crashed) break;
      seen.add(content);
    }
    expect(seen).toEqual(new Set(['old content', 'new content']));
    removeTemporaryFiles(directory);
    expect(fs.readdirSync(directory)).toEqual(['file']);
  });

  it('says that the disk is full, names the file and leaves the old one', () => {
    const path = join(temporaryDirectory(), 'file');
    writeFileAtomic(path, 'old');
    const disk = fillableDisk();
    disk.full = true;
    expect(() => writeFileAtomic(path, 'new', { operations: disk.operations })).toThrow(
      expect.objectContaining({
        code: 'ERR_DISK_FULL',
        exitCode: EXIT.cannotCreate,
        message: expect.stringContaining(path),
      }),
    );
    expect(fs.readFileSync(path, 'utf8')).toBe('old');
    expect(fs.readdirSync(join(path, '..'))).toEqual(['file']);
  });

  it.skipIf(process.getuid?.() !== 0)('survives a file system that is really full (needs root)', (context) => {
    const mount = temporaryDirectory();
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', mount], { stdio: 'pipe' });
    } catch {
      context.skip('no tmpfs can be mounted here');
    }
    onTestFinished(() => {
      execFileSync('umount', [mount]);
    });
    const path = join(mount, 'file');
    writeFileAtomic(path, 'old');
    expect(() => writeFileAtomic(path, Buffer.alloc(256 * 1024))).toThrow(
      expect.objectContaining({ code: 'ERR_DISK_FULL' }),
    );
    expect(fs.readFileSync(path, 'utf8')).toBe('old');
    expect(fs.readdirSync(mount)).toEqual(['file']);
  });

  it('names the file when the directory is missing', () => {
    const path = join(temporaryDirectory(), 'none', 'file');
    expect(() => writeFileAtomic(path, 'x')).toThrow(
      expect.objectContaining({ code: 'ERR_FILE_WRITE', message: expect.stringContaining(path) }),
    );
  });
});

describe('readFileBounded', () => {
  it('reads up to the limit and not a byte more', () => {
    const path = join(temporaryDirectory(), 'file');
    fs.writeFileSync(path, 'abcd');
    expect(readFileBounded(path, 4).toString()).toBe('abcd');
    expect(() => readFileBounded(path, 3)).toThrow(expect.objectContaining({ code: 'ERR_FILE_TOO_LARGE' }));
  });

  it('bounds files that pretend to be empty', () => {
    expect(() => readFileBounded('/proc/self/status', 16)).toThrow(
      expect.objectContaining({ code: 'ERR_FILE_TOO_LARGE' }),
    );
  });

  it('tells a missing file from an unreadable one', () => {
    const directory = temporaryDirectory();
    expect(() => readFileBounded(join(directory, 'none'), 4)).toThrow(
      expect.objectContaining({ code: 'ERR_FILE_MISSING' }),
    );
    expect(() => readFileBounded(directory, 4)).toThrow(expect.objectContaining({ code: 'ERR_FILE_READ' }));
  });

  it('refuses a FIFO without waiting for a writer', () => {
    const path = join(temporaryDirectory(), 'fifo');
    execFileSync('mkfifo', [path]);
    expect(() => readFileBounded(path, 4)).toThrow(expect.objectContaining({ code: 'ERR_FILE_READ' }));
  });
});
