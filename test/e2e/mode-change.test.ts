import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { captureHello } from '../proxy/protocol/hello-bytes.ts';
import { Child, finish } from '../support/child.ts';
import { eventually } from '../support/eventually.ts';
import { InterceptedMesh } from '../support/intercepted-mesh.ts';
import { peerAuthenticationManifest } from '../support/mesh.ts';
import { isolations } from '../support/privileges.ts';

vi.setConfig({ testTimeout: 90_000, hookTimeout: 120_000 });

const PORT = 8080;
/** Connects, says so, sends its bytes when it is told to by a line, and prints how many came back. */
const LATE_SPEAKER = `
const [host, port, hex] = process.argv.slice(1);
const socket = require('node:net').connect(Number(port), host, () => console.log('connected'));
process.stdin.once('data', () => socket.write(Buffer.from(hex, 'hex')));
const over = (count) => { console.log('came back: ' + count); process.exit(); };
socket.on('data', (bytes) => over(bytes.length)).on('error', () => undefined).on('close', () => over(0));
`;

const title = 'PeerAuthentication that changes while the first bytes of a connection are awaited';
// A sidecar with settings of its own stands in a pod here, which is not to be had in a user namespace.
((isolations as readonly string[]).includes('root') ? describe : describe.skip)(title, () => {
  let mesh: InterceptedMesh;

  async function setMode(value: string, answered: boolean): Promise<void> {
    mesh.editManifest('mode.yaml', peerAuthenticationManifest('orders', 'orders', value));
    await eventually(async () => (await mesh.answers('outside', mesh.host('orders').ipv4, PORT)) === answered, {
      what: `mode ${value} to be in force`,
      everyMs: 100,
    });
  }

  beforeAll(async () => {
    const pods = { limits: { peekTimeout: '1m' } };
    mesh = await InterceptedMesh.start('mode', ['orders'], {}, { pods });
    await mesh.serve('orders', 'echo', PORT);
  });

  afterAll(async () => {
    await mesh?.stop();
  });

  test.each([
    ['PERMISSIVE', 'PERMISSIVE', true],
    ['PERMISSIVE', 'STRICT', false],
  ])('from %s to %s: the TLS of another client is passed through: %s', async (before, after, passes) => {
    await setMode('STRICT', false);
    await setMode(before, true);
    const hello = await captureHello({ ALPNProtocols: ['h2'] });
    const argv = [process.execPath, '-e', LATE_SPEAKER, mesh.host('orders').ipv4, String(PORT), hello.toString('hex')];
    const started = mesh.host('outside').exec(argv);
    const client = new Child('a late speaker', started);
    await eventually(() => client.stdout.includes('connected'), { what: 'the connection' });
    await setMode(after, passes);
    started.stdin?.write('now\n');
    const { stdout } = await finish(client, 30_000);
    // It is an echo; the sidecar itself says an alert at most.
    expect(stdout.endsWith(`came back: ${hello.length}`)).toBe(passes);
  });
});
