import fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CertificateAuthority } from '../../../control-plane/ca/authority.ts';
import type { FileOperations } from '../../../mesh/atomic-file.ts';
import { endsInRoot } from '../../../mesh/x509/certificate.ts';
import { crashingOperations, HOUR, newCsr, ORDERS, openAuthority, START, temporaryDirectory } from './support.ts';

const DAY = 24 * HOUR;

/**
 * Ends the process before each disk operation of `act` in turn, on a fresh copy of what `prepare` made, starts again and looks at what is there.
 * Returns what was seen over all crash points.
 */
function crashEverywhere<Seen>(scenario: {
  prepare(dataDir: string): void;
  act(dataDir: string, operations: FileOperations): void;
  inspect(authority: CertificateAuthority, dataDir: string): Seen;
  now?: number;
}): { readonly seen: Set<Seen>; readonly points: number } {
  const prepared = join(temporaryDirectory(), 'prepared');
  fs.mkdirSync(prepared, { mode: 0o700 });
  scenario.prepare(prepared);
  const seen = new Set<Seen>();
  for (let at = 0; ; at++) {
    const dataDir = join(temporaryDirectory(), 'data');
    fs.cpSync(prepared, dataDir, { recursive: true });
    fs.chmodSync(dataDir, 0o700);
    const operations = crashingOperations(at);
    let crashed = false;
    try {
      scenario.act(dataDir, operations);
    } catch {
      crashed = true;
    }
    crashed ||= operations.count() > at;
    const authority = CertificateAuthority.open({
      dataDir,
      trustDomain: 'cluster.local',
      clock: () => scenario.now ?? START,
    });
    try {
      expectWhole(authority, dataDir);
      seen.add(scenario.inspect(authority, dataDir));
    } finally {
      authority.close();
    }
    if (!crashed) return { seen, points: at };
  }
}

function expectWhole(authority: CertificateAuthority, dataDir: string): void {
  const { chain, roots } = authority.issueWorkload({ csr: newCsr(), ...ORDERS });
  expect(endsInRoot(chain, roots[0] ?? '')).toBe(true);
  // A state and four files a generation: nothing half-made or replaced is left.
  expect(fs.readdirSync(join(dataDir, 'ca'))).toHaveLength(1 + 4 * roots.length);
  expect(fs.readdirSync(dataDir).filter((name) => name.includes('creating'))).toEqual([]);
}

/** Opens with a crashing disk, acts, and gives the lock back as the end of a process would. */
function withAuthority(act: (authority: CertificateAuthority) => void, now = START) {
  return (dataDir: string, operations: FileOperations): void => {
    const authority = CertificateAuthority.open({
      dataDir,
      trustDomain: 'cluster.local',
      clock: () => now,
      operations,
    });
    try {
      act(authority);
    } finally {
      authority.close();
    }
  };
}

function prepared(act: (authority: CertificateAuthority) => void) {
  return (dataDir: string): void => {
    const authority = openAuthority({ dataDir });
    act(authority);
    authority.close();
  };
}

describe('a process that ends at any moment', () => {
  it('of the first start leaves no CA or a whole one', () => {
    const { points } = crashEverywhere({
      prepare: () => {},
      act: withAuthority(() => {}),
      inspect: (authority) => authority.roots.length,
    });
    expect(points).toBeGreaterThan(25);
  });

  it('of the begin of a rotation leaves it begun or not', () => {
    const { seen } = crashEverywhere({
      prepare: prepared(() => {}),
      act: withAuthority((authority) => authority.beginRotation()),
      inspect: (authority) => `${authority.rotationPhase} ${authority.roots.length}`,
    });
    expect(seen).toEqual(new Set(['none 1', 'begun 2']));
  });

  it('of its activation leaves it begun or activated, with the old root trusted either way', () => {
    let first = '';
    const { seen } = crashEverywhere({
      prepare: prepared((authority) => {
        [first = ''] = authority.roots;
        authority.issueWorkload({ csr: newCsr(), ...ORDERS });
        authority.beginRotation();
      }),
      act: withAuthority((authority) => authority.activateRotation()),
      inspect: (authority) => `${authority.rotationPhase} ${authority.roots.indexOf(first)}`,
    });
    expect(seen).toEqual(new Set(['begun 0', 'activated 1']));
  });

  it('of its finish leaves it activated or finished, with the new root issuing either way', () => {
    let next: string | undefined;
    const { seen } = crashEverywhere({
      prepare: prepared((authority) => {
        authority.beginRotation();
        authority.activateRotation();
        [next] = authority.roots;
      }),
      act: withAuthority((authority) => authority.finishRotation(), START + DAY),
      inspect: (authority) => `${authority.rotationPhase} ${authority.roots.indexOf(next ?? '')}`,
      now: START + DAY,
    });
    expect(seen).toEqual(new Set(['activated 0', 'none 0']));
  });

  it('of the renewal of the intermediate leaves the old one or the new one', () => {
    const now = START + 300 * DAY;
    const { seen } = crashEverywhere({
      prepare: prepared(() => {}),
      act: withAuthority((authority) => void authority.issueWorkload({ csr: newCsr(), ...ORDERS }), now),
      inspect: (authority) => authority.roots.length,
      now,
    });
    expect(seen).toEqual(new Set([1]));
  });
});

describe('a rotation', () => {
  it('can be taken up after a step failed for a full disk, in the same process', () => {
    for (let at = 0; at < 40; at++) {
      const dataDir = temporaryDirectory();
      openAuthority({ dataDir }).close();
      let failing: FileOperations = fs;
      const operations = new Proxy(fs, { get: (_, name) => Reflect.get(failing, name) });
      const authority = openAuthority({ dataDir, operations, clock: () => START });
      failing = crashingOperations(at);
      try {
        authority.beginRotation();
      } catch {
        failing = fs;
        authority.beginRotation();
      }
      failing = fs;
      authority.activateRotation();
      const { roots } = authority;
      authority.close();
      expect(openAuthority({ dataDir }).roots).toEqual(roots);
    }
  });

  it('keeps the old root until the last certificate under it has expired, over restarts', () => {
    const dataDir = temporaryDirectory();
    let authority = openAuthority({ dataDir });
    const [first] = authority.roots;
    const { notAfter } = authority.issueWorkload({ csr: newCsr(), ...ORDERS });
    authority.beginRotation();
    expect(authority.roots[0]).toBe(first);
    authority.activateRotation();
    expect(authority.roots[1]).toBe(first);
    expect(authority.retiringLeavesExpireBy).toBe(notAfter);
    authority.close();

    authority = openAuthority({ dataDir, clock: () => notAfter });
    expect(() => authority.finishRotation()).toThrow(expect.objectContaining({ code: 'ERR_CA_ROTATION' }));
    authority.close();

    authority = openAuthority({ dataDir, clock: () => notAfter + 1 });
    authority.finishRotation();
    expect(authority.roots).toHaveLength(1);
    expect(authority.roots).not.toContain(first);
    expect(fs.readdirSync(join(dataDir, 'ca')).filter((name) => name.includes('-1'))).toEqual([
      'intermediate-2-1.key',
      'intermediate-2-1.pem',
    ]);
  });

  it('tells listeners of each change of the roots, in order, until they are taken off', () => {
    const authority = openAuthority({ dataDir: temporaryDirectory() });
    const heard: number[] = [];
    const [first = ''] = authority.roots;
    const off = authority.onRootsChanged(() => heard.push(authority.roots.indexOf(first)));
    authority.beginRotation();
    authority.activateRotation();
    off();
    expect(heard).toEqual([0, 1]);
  });

  it.each<[string, (authority: CertificateAuthority) => void]>([
    ['activated before it is begun', (authority) => authority.activateRotation()],
    ['finished before it is begun', (authority) => authority.finishRotation()],
    [
      'begun twice',
      (authority) => {
        authority.beginRotation();
        authority.beginRotation();
      },
    ],
  ])('cannot be %s', (_, act) => {
    const authority = openAuthority({ dataDir: temporaryDirectory() });
    expect(() => act(authority)).toThrow(expect.objectContaining({ code: 'ERR_CA_ROTATION' }));
  });
});
