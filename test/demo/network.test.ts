import { spawnSync } from 'node:child_process';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, test } from 'vitest';
import { type Host, type Isolation, MeshNetwork } from '../../demo/network.ts';
import { isolations, networkNamespaceTests } from '../support/privileges.ts';

async function output(host: Host, argv: readonly string[], options = {}): Promise<string> {
  const child = host.exec(argv, options);
  const [out, error] = await Promise.all([
    text(child.stdout ?? Readable.from([])),
    text(child.stderr ?? Readable.from([])),
  ]);
  return out + error;
}

const isRoot = isolations.some((isolation) => isolation === 'root');
const machineNamespaces = (): string => spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' }).stdout;

let network: MeshNetwork | null = null;
const create = async (isolation: Isolation): Promise<MeshNetwork> => {
  network = await MeshNetwork.create({ name: 'nettest', isolation });
  return network;
};
afterEach(() => network?.destroy());

const SERVER = `require('node:net').createServer((s) => s.end('hello')).listen(9000, '::', () => console.log('up'))`;
const dial = (address: string): string[] => [
  process.execPath,
  '-e',
  `require('node:net').connect(9000, '${address}').on('data', (d) => console.log(String(d))).on('error', (e) => console.log(e.code))`,
];

networkNamespaceTests.each(isolations)('a network of namespaces (%s)', (isolation) => {
  test('hosts reach each other over IPv4 and IPv6 at once', async () => {
    const net = await create(isolation);
    const [one, two] = [await net.addHost('one'), await net.addHost('two-2')];
    const server = one.exec([process.execPath, '-e', SERVER]);
    await new Promise((resolve) => server.stdout?.once('data', resolve));
    expect(await output(two, dial(one.ipv4))).toBe('hello\n');
    expect(await output(two, dial(one.ipv6))).toBe('hello\n');
  });

  test('a virtual IP has a route', async () => {
    const host = await (await create(isolation)).addHost('one');
    expect(await output(host, ['ip', 'route', 'get', '10.96.0.10'])).toContain('via 10.77.0.1 dev eth0');
  });

  test('a program gets environment, working directory and its own PID', async () => {
    const host = await (await create(isolation)).addHost('one');
    const child = host.exec([process.execPath, '-p', 'process.env.WORD + process.cwd() + process.pid'], {
      env: { ...process.env, WORD: 'word' },
      cwd: '/usr',
    });
    expect(await text(child.stdout ?? Readable.from([]))).toBe(`word/usr${child.pid}\n`);
  });

  test('destroy ends what runs and leaves nothing behind', async () => {
    const net = await create(isolation);
    const child = (await net.addHost('one')).exec(['sleep', '1000']);
    await net.destroy();
    expect(child.signalCode ?? child.exitCode).not.toBeNull();
    expect(machineNamespaces()).not.toContain('nettest');
    await expect(net.addHost('two')).rejects.toThrow('gone');
  });
});

describe.runIf(isRoot)('as root', () => {
  test('a program runs as another user', async () => {
    const host = await (await create('root')).addHost('one');
    expect(await output(host, ['id', '-u'], { uid: 1337 })).toBe('1337\n');
    expect(await output(host, ['id', '-g'], { uid: 1337, gid: 77 })).toBe('77\n');
  });

  test('what a killed run left is collected, what a living one has is not', async () => {
    const dead = spawnSync('true').pid;
    const [left, kept] = [`postern-other-${dead}-cp-1`, `postern-other-${process.ppid}-cp`];
    for (const name of [left, kept]) spawnSync('ip', ['netns', 'add', name]);
    try {
      await create('root');
      expect(machineNamespaces()).not.toContain(left);
      expect(machineNamespaces()).toContain(kept);
    } finally {
      spawnSync('ip', ['netns', 'delete', kept]);
    }
  });

  test('a network that could not be made leaves nothing behind', async () => {
    await create('root');
    await expect(MeshNetwork.create({ name: 'nettest' })).rejects.toThrow('exists already');
    expect(machineNamespaces().match(/nettest/g)?.length).toBe(1);
  });
});
