import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { AppClient, outcomeOf, succeeded } from '../../demo/app-client.ts';
import { ProcessRoster } from '../../demo/processes.ts';

const APP = join(import.meta.dirname, '../../demo/app.ts');
let logs: string;
let roster: ProcessRoster;
let servers: Server[];

beforeEach(() => {
  logs = mkdtempSync(join(tmpdir(), 'postern-demo-'));
  roster = new ProcessRoster(logs);
  servers = [];
});

afterEach(async () => {
  await roster.stopAll(200);
  for (const server of servers) server.close();
  rmSync(logs, { recursive: true, force: true });
});

function start(name: string, ...args: string[]): { readonly client: AppClient; stop(): Promise<void> } {
  const process_ = roster.add(name, spawn(process.execPath, [APP, '--name', name, ...args], { stdio: 'pipe' }));
  return { client: new AppClient(process_), stop: () => process_.stop(100) };
}

async function freePort(onConnection?: Parameters<typeof createServer>[1]): Promise<number> {
  const server = createServer(onConnection);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (onConnection === undefined) server.close();
  else servers.push(server);
  return typeof address === 'object' && address !== null ? address.port : 0;
}

test('one application calls another and gets its name and the note back', async () => {
  const port = await freePort();
  const orders = start('orders', '--listen', '127.0.0.1', '--port', String(port));
  const frontend = start('frontend');
  await Promise.all([orders.client.listening, frontend.client.listening]);
  const result = await frontend.client.call({ host: '127.0.0.1', port }, { note: 'a note' });
  expect(succeeded(result)).toBe(true);
  expect(JSON.parse(result.body)).toMatchObject({ service: 'orders', note: 'a note' });
});

test('a connection that is closed without an answer is told as such', async () => {
  const port = await freePort((socket) => socket.destroy());
  const { client } = start('frontend');
  const result = await client.call({ host: '127.0.0.1', port });
  expect(succeeded(result)).toBe(false);
  expect(outcomeOf(result)).toMatch(/no answer: /);
});

test('a live stream tells when it is cut', async () => {
  const port = await freePort();
  const orders = start('orders', '--listen', '127.0.0.1', '--port', String(port));
  const frontend = start('frontend');
  await Promise.all([orders.client.listening, frontend.client.listening]);
  const stream = await frontend.client.stream({ host: '127.0.0.1', port });
  await orders.stop();
  expect((await stream.closed).error).not.toBeNull();
});

test('a stream that does not begin is an error', async () => {
  const port = await freePort();
  const { client } = start('frontend');
  await expect(client.stream({ host: '127.0.0.1', port })).rejects.toThrow(/no stream to 127.0.0.1:\d+: ECONNREFUSED/);
});
