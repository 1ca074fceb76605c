import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { COMMANDS } from '../../cli/commands.ts';
import { ROOT } from './source-tree.ts';

const postern = (...args: string[]) =>
  spawnSync(join(ROOT, 'bin/postern'), args, { encoding: 'utf8', cwd: '/', timeout: 30_000 });

test('the help names every command', () => {
  const { status, stdout } = postern('--help');
  expect(status).toBe(0);
  for (const name of Object.keys(COMMANDS)) expect(stdout).toMatch(new RegExp(`^ {2}${name}\\b`, 'm'));
});

test('the version is that of the package', () => {
  const { status, stdout } = postern('--version');
  expect([status, stdout]).toEqual([0, expect.stringMatching(/^\d+\.\d+\.\d+\n$/)]);
});

test.each([
  ['no command', []],
  ['an unknown command', ['frobnicate']],
  ['an unknown subcommand', ['ca', 'frobnicate']],
  ['an unknown option', ['status', '--frobnicate']],
  ['a missing required option', ['token', 'create']],
  ['a property that every object has', ['constructor']],
])('%s is a usage error', (_name, args) => {
  const { status, stderr } = postern(...args);
  expect(status).toBe(64);
  expect(stderr).not.toMatch(/^ {4}at /m);
});

test('an error that the operator can mend is one message and its own exit code', () => {
  const { status, stderr } = postern('proxy', '--config', '/nonexistent/proxy.yaml');
  expect(status).toBe(78);
  expect(stderr).toMatch(/^postern: .*\/nonexistent\/proxy\.yaml/);
  expect(stderr).not.toMatch(/^ {4}at /m);
});

test('a command that speaks JSON tells its errors in JSON where it is asked to', () => {
  const { status, stdout, stderr } = postern('ca', 'show', '--json', '--data-dir', '/nonexistent');
  expect(status).not.toBe(0);
  expect(stdout).toBe('');
  expect(JSON.parse(stderr)).toEqual({ error: { code: expect.stringMatching(/^ERR_/), message: expect.any(String) } });
});
