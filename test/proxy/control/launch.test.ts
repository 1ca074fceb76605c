import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Child } from '../../support/child.ts';
import { eventually } from '../../support/eventually.ts';
import { FakeControlPlane } from './support/fake-control-plane.ts';
import { SidecarProcess, TOKEN } from './support/sidecar-process.ts';

const CLI = fileURLToPath(new URL('../../../cli/main.ts', import.meta.url));

let controlPlane: FakeControlPlane;
let sidecar: SidecarProcess | null = null;

beforeEach(async () => {
  controlPlane = new FakeControlPlane();
  await controlPlane.listen();
});

afterEach(async () => {
  await sidecar?.remove();
  await controlPlane.close();
});

it('`postern proxy` becomes a process that holds the sidecar alone, under the same process ID, without the token in its environment', async () => {
  controlPlane.tokens.add(TOKEN);
  const proxy = await SidecarProcess.start(controlPlane, {}, {}, [CLI, 'proxy', '--config']);
  sidecar = proxy;
  await eventually(() => controlPlane.open.length === 1, { what: 'the stream' });
  const about = (file: string): string => readFileSync(`/proc/${proxy.child.pid}/${file}`, 'utf8');
  expect(about('cmdline')).toContain('cli/sidecar/entry.ts');
  expect(about('environ')).not.toContain(TOKEN);
  proxy.child.kill('SIGTERM');
  expect(await proxy.child.exited).toEqual({ code: 0, signal: null });
});

it('`postern proxy` ends with the exit code and the message of what is wrong', async () => {
  const proxy = await SidecarProcess.start(controlPlane, {}, {}, [CLI, 'proxy', '--config']);
  sidecar = proxy;
  expect((await proxy.child.exited).code).toBe(77);
  expect(proxy.child.stderr.join('\n')).toMatch(/^postern: no certificate for shop\/orders: .*token-used/);
});

it('ends so however far its data plane has come up by then', async () => {
  for (let round = 0; round < 8; round++) {
    const proxy = await SidecarProcess.start(controlPlane, {}, {}, [CLI, 'proxy', '--config']);
    expect(await proxy.child.exited).toEqual({ code: 77, signal: null });
    await proxy.remove();
  }
});

it('`postern proxy` ends with 78 where the settings are wrong', async () => {
  const child = Child.start('postern', process.execPath, [CLI, 'proxy', '--config', '/dev/null']);
  expect((await child.exited).code).toBe(78);
  expect(child.stderr.join('\n')).toContain('/dev/null:1:1: workload is missing');
});
