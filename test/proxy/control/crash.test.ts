import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { FakeControlPlane } from './support/fake-control-plane.ts';
import { SidecarProcess, TOKEN } from './support/sidecar-process.ts';

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

async function canConnect(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch (error) {
    // Reset: somebody took the connection, looked where it was meant to go and did not want it, before we were told.
    return error instanceof Error && 'code' in error && error.code === 'ECONNRESET';
  } finally {
    socket.destroy();
  }
}

it('a real worker that crashes is logged with its cause, its descriptors are closed, and another takes its place', async () => {
  controlPlane.tokens.add(TOKEN);
  const crashFile = join(tmpdir(), `postern-crash-${process.pid}`);
  sidecar = await SidecarProcess.start(
    controlPlane,
    { workers: 2 },
    { WORKER: './crashing-worker.ts', CRASH_FILE: crashFile },
  );
  const proxy = sidecar;
  await eventually(async () => (await proxy.text('admin', '/stats')).split('"ready"').length === 3, {
    what: 'two workers',
  });
  for (let crash = 1; crash <= 2; crash++) {
    writeFileSync(crashFile, '');
    await eventually(async () => (await proxy.metrics()).sum('postern_worker_restarts_total') === crash, {
      what: 'a restart',
    });
    // The other worker listens all the while.
    expect(await canConnect(proxy.ports.inbound)).toBe(true);
    await eventually(async () => (await proxy.text('admin', '/stats')).split('"ready"').length === 3, {
      what: 'two again',
    });
  }
  expect(proxy.output()).toContain('a bug in the loop');
  proxy.child.kill('SIGTERM');
  expect(await proxy.child.exited).toEqual({ code: 0, signal: null });
});
