import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ROOT } from './source-tree.ts';

/** A clone in which `npm ci` is a program of the test's own; the bootstrap itself is the real one. */
let clone: string;

beforeEach(() => {
  clone = mkdtempSync(join(tmpdir(), 'postern-clone-'));
  mkdirSync(join(clone, 'scripts'));
  cpSync(join(ROOT, 'scripts/bootstrap.mjs'), join(clone, 'scripts/bootstrap.mjs'));
  mkdirSync(join(clone, 'benchmarks'));
  writeFileSync(
    join(clone, 'benchmarks/main.ts'),
    "console.log('ran', ...process.argv.slice(2)); process.exitCode = 42;",
  );
  writeFileSync(join(clone, 'package-lock.json'), lock('1.0.0'));
});

afterEach(() => rmSync(clone, { recursive: true, force: true }));

const lock = (version: string): string =>
  JSON.stringify({ packages: { '': {}, 'node_modules/a': { version, integrity: `sha512-${version}` } } });

/** A stand-in for npm: `script` runs in the clone with npm's arguments. */
function fakeNpm(script: string): NodeJS.ProcessEnv {
  const bin = join(clone, 'npm-cli.js');
  writeFileSync(bin, script);
  return { ...process.env, npm_execpath: bin };
}

const INSTALL = `
  const fs = require('node:fs'), bin = 'node_modules/node-linux-' + process.arch + '/bin';
  fs.appendFileSync('calls', process.argv.slice(2).join(' ') + '\\n');
  fs.mkdirSync(bin, { recursive: true });
  fs.rmSync(bin + '/node', { force: true });
  fs.symlinkSync(process.execPath, bin + '/node');
  fs.copyFileSync('package-lock.json', 'node_modules/.package-lock.json');`;

const run = (env: NodeJS.ProcessEnv, ...args: string[]) =>
  spawnSync(process.execPath, ['scripts/bootstrap.mjs', ...args], { cwd: clone, env, encoding: 'utf8' });
const calls = (): readonly string[] => {
  const { stdout } = spawnSync('cat', ['calls'], { cwd: clone, encoding: 'utf8' });
  return stdout.split('\n').filter((line) => line !== '');
};

test('a fresh clone is installed once, then the command runs with its arguments and its exit code', () => {
  const env = fakeNpm(INSTALL);
  const first = run(env, 'bench', '--suite', 'l4');
  expect([first.status, first.stdout]).toEqual([42, 'ran --suite l4\n']);
  expect(run(env, 'bench').status).toBe(42);
  expect(calls()).toHaveLength(1);
  expect(calls()[0]).toMatch(/^ci /);
});

test('a changed lock file is installed again, a touched one is not', () => {
  const env = fakeNpm(INSTALL);
  run(env, 'bench');
  writeFileSync(join(clone, 'package-lock.json'), lock('1.0.0'));
  run(env, 'bench');
  expect(calls()).toHaveLength(1);
  writeFileSync(join(clone, 'package-lock.json'), lock('1.0.1'));
  run(env, 'bench');
  expect(calls()).toHaveLength(2);
});

test('a failed installation says what npm said and what to do, and runs nothing', () => {
  const result = run(fakeNpm("console.error('ENOTFOUND'); process.exit(1)"), 'bench');
  expect(result.status).toBe(69);
  expect(result.stderr).toMatch(/npm ci failed with code 1:\nENOTFOUND\nCheck the network/);
  expect(result.stdout).toBe('');
});

test('an installation without the pinned Node is explained', () => {
  const env = fakeNpm(INSTALL.replace(/fs\.symlinkSync.*;/, ''));
  const result = run(env, 'bench');
  expect(result.status).toBe(69);
  expect(result.stderr).toMatch(/is missing\. It is an optional dependency/);
});

test('an unknown command is a usage error', () => {
  const result = run(process.env, 'frobnicate');
  expect([result.status, result.stderr]).toEqual([64, expect.stringContaining('usage:')]);
});

describe('programs of the system', () => {
  /** What the command asks for, of this machine's administrator or, as root, of a stand-in for apt-get, where the PATH has nothing else. */
  function wanted(command: string): string {
    const bin = join(clone, 'bin');
    mkdirSync(bin);
    writeFileSync(join(bin, 'apt-get'), `#!/bin/sh\necho "$@" "RUNLEVEL=$RUNLEVEL" >> ${join(clone, 'apt')}\n`);
    chmodSync(join(bin, 'apt-get'), 0o755);
    for (const [directory, file] of [
      ['demo', 'main.ts'],
      ['scripts', 'test.ts'],
    ] as const) {
      mkdirSync(join(clone, directory), { recursive: true });
      writeFileSync(join(clone, directory, file), '');
    }
    const { status, stderr } = run({ ...fakeNpm(INSTALL), PATH: bin }, command);
    expect(status).toBe(command === 'bench' ? 42 : 0);
    return stderr + (existsSync(join(clone, 'apt')) ? readFileSync(join(clone, 'apt'), 'utf8') : '');
  }

  test('that tests send through sidecars are installed for tests, each package once, no daemon started', () => {
    const said = wanted('test');
    for (const debian of ['curl', 'wrk', 'nghttp2-client']) expect(said).toContain(debian);
    const packages = said.split('install ').at(-1)?.split(/\s+/);
    expect(packages?.filter((name) => name === 'nghttp2-client')).toHaveLength(1);
    if (process.getuid?.() === 0) expect(said).toMatch(/^install .* curl .*wrk RUNLEVEL=1$/m);
    else expect(said).toMatch(/as root: apt-get install .*curl/);
  });

  test.each(['start', 'bench'])('are no business of %s', (command) => {
    expect(wanted(command)).not.toMatch(/curl|wrk|nghttp2|nginx/);
  });
});
