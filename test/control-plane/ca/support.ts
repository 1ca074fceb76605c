import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type AuthorityOptions, CertificateAuthority } from '../../../control-plane/ca/authority.ts';
import type { FileOperations } from '../../../mesh/atomic-file.ts';
import { createCsr } from '../../../mesh/x509/csr.ts';

export const START = Date.UTC(2026, 0, 1);
export const HOUR = 3_600_000;

/** A clock that stands still until it is set. */
export class TestClock {
  now: number;

  constructor(now: number = START) {
    this.now = now;
  }

  readonly read = (): number => this.now;
}

/** In memory where that can be: hundreds of fsyncs to a busy disk take longer than the tests themselves. */
const BASE = fs.existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** Removed when the test ends. */
export function temporaryDirectory(): string {
  const directory = fs.mkdtempSync(join(BASE, 'postern-test-'));
  onTestFinished(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Closed when the test ends. */
export function openAuthority(options: Partial<AuthorityOptions> & { readonly dataDir: string }): CertificateAuthority {
  const authority = CertificateAuthority.open({ trustDomain: 'cluster.local', clock: () => START, ...options });
  onTestFinished(() => authority.close());
  return authority;
}

export const newKeys = (): { privateKey: KeyObject; publicKey: KeyObject } =>
  generateKeyPairSync('ec', { namedCurve: 'P-256' });

export const newCsr = (spiffeId = 'spiffe://cluster.local/ns/shop/sa/orders'): string =>
  createCsr({ ...newKeys(), spiffeId });

export const ORDERS = { namespace: 'shop', serviceAccount: 'orders' } as const;

export class Crash extends Error {}

/** A process that ends just before its disk operation number `at` (from 0), which if it is a write happens by half. Counts, so that a test knows when it has seen all. */
export function crashingOperations(at: number): FileOperations & { count(): number } {
  let count = 0;
  const step = (): boolean => count++ >= at;
  const guard =
    <Arguments extends unknown[], Result>(operation: (...args: Arguments) => Result) =>
    (...args: Arguments): Result => {
      if (step()) throw new Crash('the process ended here');
      return operation(...args);
    };
  return {
    count: () => count,
    // Closing leaves no trace on disk, and the test's own descriptors must not leak.
    closeSync: fs.closeSync,
    openSync: guard(fs.openSync),
    fchmodSync: guard(fs.fchmodSync),
    writeFileSync: (file, data, options) => {
      if (step()) {
        if (count - 1 === at && typeof data === 'string')
          fs.writeFileSync(file, data.slice(0, data.length / 2), options);
        throw new Crash('the process ended here');
      }
      fs.writeFileSync(file, data, options);
    },
    fsyncSync: guard(fs.fsyncSync),
    renameSync: guard(fs.renameSync),
    unlinkSync: guard(fs.unlinkSync),
    mkdirSync: guard(fs.mkdirSync) as typeof fs.mkdirSync,
    rmSync: guard(fs.rmSync),
  };
}

/** A disk that can be filled and emptied. */
export function fillableDisk(): { operations: FileOperations; full: boolean } {
  const disk = {
    full: false,
    operations: {
      ...fs,
      writeFileSync: (...args: Parameters<typeof fs.writeFileSync>): void => {
        if (disk.full) throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
        fs.writeFileSync(...args);
      },
    },
  };
  return disk;
}
