import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { temporaryDirectory } from './support.ts';

const POSTERN = new URL('../../cli/main.ts', import.meta.url).pathname;

let directory: string;
let child: ChildProcess | null = null;
beforeEach(() => {
  directory = temporaryDirectory();
  fs.mkdirSync(join(directory, 'manifests'));
});
afterEach(async () => {
  if (child !== null && child.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  child = null;
  fs.rmSync(directory, { recursive: true, force: true });
});

function run(config: string) {
  const file = join(directory, 'control-plane.yaml');
  fs.writeFileSync(file, config);
  const started = spawn(process.execPath, [POSTERN, 'control-plane', '--config', file], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child = started;
  const output = { out: '', err: '' };
  started.stdout.on('data', (chunk) => {
    output.out += chunk;
  });
  started.stderr.on('data', (chunk) => {
    output.err += chunk;
  });
  const exit = once(started, 'close').then(([code]) => code as number | null);
  const lines = () =>
    output.out
      .split('\n')
      // What is behind the last line break is none yet.
      .slice(0, -1)
      .map((line) => JSON.parse(line) as { readonly msg: string; readonly admin?: string });
  return { output, exit, lines, child: started };
}

const LISTEN = 'listen: 127.0.0.1:0\nadminListen: 127.0.0.1:0\n';

it('runs until SIGTERM and exits 0, its log one JSON object a line', async () => {
  const { exit, lines, child: process } = run(LISTEN);
  const ready = await eventually(() => lines().find(({ msg }) => msg.includes('ready')), { what: 'readiness' });
  expect((await fetch(`${ready.admin}/healthz/ready`)).status).toBe(200);
  expect((await fetch(`${ready.admin}/healthz/live`)).status).toBe(200);
  expect(fs.statSync(join(directory, 'data', 'ca.pem')).mode & 0o777).toBe(0o644);
  process.kill('SIGTERM');
  expect(await exit).toBe(0);
  expect(lines().at(-1)?.msg).toBe('stopped');
  expect(fs.existsSync(join(directory, 'data', 'control-plane.lock'))).toBe(false);
});

it('says that an address is in use and exits 69', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const address = other.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const { exit, output } = run(`listen: 127.0.0.1:${port}\nadminListen: 127.0.0.1:0\n`);
  expect(await exit).toBe(69);
  expect(output.err).toContain(`cannot listen on 127.0.0.1:${port}`);
  expect(output.err).toContain('`listen`');
  other.close();
});

it('says that the manifests cannot be read and exits 78, leaving no lock behind', async () => {
  fs.rmdirSync(join(directory, 'manifests'));
  const { exit, output } = run(LISTEN);
  expect(await exit).toBe(78);
  expect(output.err).toContain(join(directory, 'manifests'));
  expect(fs.existsSync(join(directory, 'data', 'control-plane.lock'))).toBe(false);
});

it('says where the configuration is wrong and exits 78', async () => {
  const { exit, output } = run('listne: x\n');
  expect(await exit).toBe(78);
  expect(output.err).toContain('control-plane.yaml:1:1: unknown setting "listne"');
});
