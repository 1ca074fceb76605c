import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { networkNamespaceTests } from '../support/privileges.ts';

/** The demo as a user runs it, from its first line to its last. */
const DEMO = join(import.meta.dirname, '../../demo/main.ts');
const TIMEOUT_MS = 180_000;

let directory: string;

beforeEach(() => {
  directory = join(mkdtempSync(join(tmpdir(), 'postern-demo-')), 'mesh');
});

afterEach(() => rmSync(join(directory, '..'), { recursive: true, force: true }));

interface Ended {
  readonly code: number | null;
  readonly output: string;
  readonly pid: number;
}

/** `interruptAt`: SIGTERM is sent once the output contains it. */
async function run(args: readonly string[], interruptAt?: string): Promise<Ended> {
  const child = spawn(process.execPath, [DEMO, '--dir', directory, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let interrupted = false;
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (interruptAt === undefined || interrupted || !output.includes(interruptAt)) return;
      interrupted = true;
      child.kill('SIGTERM');
    });
  }
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, output, pid: child.pid ?? 0 };
}

/** Processes whose command line names the demo's directory; every one of them does, or is a child of one that did. */
function leftProcesses(): readonly string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return false;
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(directory);
    } catch {
      return false;
    }
  });
}

/** Namespaces of that demo; of those of other runs on this machine nothing is said. */
function leftNamespaces(pid: number): readonly string[] {
  const { stdout } = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' });
  return (stdout ?? '').split('\n').filter((line) => line.startsWith(`postern-demo-${pid}-`));
}

describe('on loopback addresses', () => {
  test('every expectation holds, and no process is left', { timeout: TIMEOUT_MS }, async () => {
    const { code, output } = await run(['--once', '--loopback']);
    expect(output).toMatch(/All \d+ expectations held/);
    expect(code).toBe(0);
    expect(leftProcesses()).toEqual([]);
  });

  test('a signal half-way ends everything', { timeout: TIMEOUT_MS }, async () => {
    const { code } = await run(['--once', '--loopback'], 'loopback interface');
    expect(code).toBe(143);
    expect(leftProcesses()).toEqual([]);
  });

  test('without --once it stays up until a signal, which is a good end', { timeout: TIMEOUT_MS }, async () => {
    const { code, output } = await run(['--loopback'], 'payments  →');
    expect(output).toContain('manifests/orders.yaml');
    expect(code).toBe(0);
    expect(leftProcesses()).toEqual([]);
  });
});

networkNamespaceTests('in network namespaces', () => {
  test('every expectation holds, and neither process nor namespace is left', { timeout: TIMEOUT_MS }, async () => {
    const { code, output, pid } = await run(['--once']);
    expect(output).toContain('network namespaces with nftables redirection');
    expect(output).toMatch(/All \d+ expectations held/);
    expect(code).toBe(0);
    expect(leftProcesses()).toEqual([]);
    expect(leftNamespaces(pid)).toEqual([]);
  });

  test('a signal half-way leaves neither process nor namespace', { timeout: TIMEOUT_MS }, async () => {
    const { code, pid } = await run(['--once'], 'network namespaces');
    expect(code).toBe(143);
    expect(leftProcesses()).toEqual([]);
    expect(leftNamespaces(pid)).toEqual([]);
  });
});
