import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ProcessRoster } from '../../demo/processes.ts';

let logs: string;
let roster: ProcessRoster;

beforeEach(() => {
  logs = mkdtempSync(join(tmpdir(), 'postern-demo-'));
  roster = new ProcessRoster(logs);
});

afterEach(async () => {
  await roster.stopAll(100);
  rmSync(logs, { recursive: true, force: true });
});

const shell = (script: string) => spawn('/bin/sh', ['-c', script], { stdio: 'pipe' });

test('a process that should stay up and ends is an error with what it last said', async () => {
  roster.add('orders sidecar', shell('echo cannot bind; exit 78'));
  await expect(roster.untilFailure()).rejects.toThrow(/orders sidecar ended with code 78.*\n {2}cannot bind/);
});

test('a program that is not there is such an error too', async () => {
  roster.add('ghost', spawn('/nonexistent/program', { stdio: 'pipe' }));
  await expect(roster.untilFailure()).rejects.toThrow(/ghost ended with code 127.*\n.*ENOENT/);
});

test('a task that ends well is no failure', async () => {
  await roster.runToEnd('task', shell('exit 0'), 10_000);
});

test('a task that does not end in time is ended', async () => {
  await expect(roster.runToEnd('task', shell('exec sleep 60'), 50)).rejects.toThrow(/did not end within 50 ms/);
});

test('stopping is no failure, and a process that ignores requests is killed', async () => {
  const stubborn = roster.add('stubborn', shell('trap "" TERM; echo up; while :; do sleep 0.05; done'));
  await new Promise<void>((resolve) => stubborn.onLine(() => resolve()));
  await roster.stopAll(50);
  expect(await stubborn.exited).toEqual({ code: null, signal: 'SIGKILL' });
});

test('what is started while all are being ended is ended too', async () => {
  await roster.stopAll(50);
  const late = roster.add('late', shell('exec sleep 60'));
  expect((await late.exited).signal).not.toBeNull();
});

test('output goes to a log file and to listeners, line by line', async () => {
  const process = roster.add('frontend app', shell('echo one; echo two >&2; exec sleep 60'));
  const lines: string[] = [];
  await new Promise<void>((resolve) => {
    process.onLine((line) => {
      if (lines.push(line) === 2) resolve();
    });
  });
  await roster.stopAll(100);
  expect(lines.sort()).toEqual(['one', 'two']);
  expect(readFileSync(join(logs, 'frontend-app.log'), 'utf8').split('\n').sort()).toEqual(['', 'one', 'two']);
});
