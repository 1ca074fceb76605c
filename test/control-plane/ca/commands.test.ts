import { execFile } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { AdminSocket } from '../../../control-plane/admin-socket.ts';
import { administrationOf } from '../../../control-plane/ca/administration.ts';
import { JoinTokens } from '../../../control-plane/ca/join-tokens.ts';
import { Revocations } from '../../../control-plane/ca/revocations.ts';
import { RootRotation } from '../../../control-plane/ca/rotation.ts';
import { readCertificates } from '../../../mesh/x509/certificate.ts';
import { newCsr, openAuthority, temporaryDirectory } from './support.ts';

const MAIN = fileURLToPath(new URL('../../../cli/main.ts', import.meta.url));
const ORDERS = 'spiffe://cluster.local/ns/shop/sa/orders';
const CREATE = ['token', 'create', '--namespace', 'shop', '--service-account', 'orders'];

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function postern(...args: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [MAIN, ...args], { timeout: 120_000 }, (_, stdout, stderr) => {
      resolve({ code: child.exitCode ?? -1, stdout, stderr });
    });
  });
}

/** The CA and its administration, in this process, with a control-plane.yaml beside it. */
async function setUp() {
  const directory = temporaryDirectory();
  const dataDir = join(directory, 'data');
  const config = join(directory, 'control-plane.yaml');
  fs.writeFileSync(config, 'manifests: ./manifests\ndataDir: ./data\n');
  const clock = Date.now;
  const authority = openAuthority({ dataDir, clock });
  const tokens = JoinTokens.open(dataDir, clock);
  const revocations = Revocations.open({ dataDir, clock, maxTtlSeconds: 86_400 });
  const awaitAcknowledgement = () => Promise.resolve({ connected: 2, missing: [] });
  const rotation = new RootRotation({ authority, isNew: authority.isNew, clock, awaitAcknowledgement });
  const socket = await AdminSocket.open({
    dataDir,
    handlers: administrationOf({ authority, rotation, tokens, revocations }),
  });
  onTestFinished(async () => {
    await socket.close();
    rotation.close();
  });
  return { directory, config, authority, tokens, revocations, socket };
}

describe('postern token create', () => {
  it('prints the token and nothing else', async () => {
    const { config, tokens } = await setUp();
    const { code, stdout, stderr } = await postern(
      ...CREATE,
      '--label',
      'app=orders',
      '--label',
      'v=',
      '--config',
      config,
    );
    expect([code, stderr]).toEqual([0, '']);
    expect(tokens.redeem(stdout.trimEnd(), 'key').labels).toEqual({ app: 'orders', v: '' });
  });

  it('writes it to a file for the owner alone and then keeps it off the terminal', async () => {
    const { config, directory, tokens } = await setUp();
    const output = join(directory, 'token');
    const { code, stdout } = await postern(...CREATE, '--output', output, '--json', '--config', config);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ file: output, id: expect.any(String), expiresAt: expect.any(String) });
    expect(fs.statSync(output).mode & 0o777).toBe(0o600);
    tokens.redeem(fs.readFileSync(output, 'utf8').trimEnd(), 'key');
  });

  it.each([
    [['--ttl', '10'], 'duration'],
    [['--ttl', '2d'], '86400'],
    [['--label', 'app'], 'key=value'],
    [['--label', 'a b=c'], 'Kubernetes label'],
  ])('refuses %j with exit code 64', async (options, reason) => {
    const { config } = await setUp();
    const { code, stderr } = await postern(...CREATE, ...options, '--config', config);
    expect(code).toBe(64);
    expect(stderr).toContain(reason);
  });
});

describe('postern ca', () => {
  it('shows the roots, and the trust bundle as PEM', async () => {
    const { config, authority } = await setUp();
    authority.beginRotation();
    const [text, json, pem] = await Promise.all([
      postern('ca', 'show', '--config', config),
      postern('ca', 'show', '--json', '--config', config),
      postern('ca', 'show', '--pem', '--config', config),
    ]);
    expect(text.stdout).toMatch(/rotation +begun/);
    expect(JSON.parse(json.stdout)).toMatchObject({
      rotation: 'begun',
      roots: [{ role: 'issuing' }, { role: 'next' }],
    });
    expect(readCertificates(pem.stdout)).toHaveLength(2);
  });

  it('rotates, saying how far it is', async () => {
    const { config, authority } = await setUp();
    authority.issueWorkload({ csr: newCsr(), namespace: 'shop', serviceAccount: 'orders' });
    const { code, stdout } = await postern('ca', 'rotate', '--json', '--config', config);
    expect(code).toBe(0);
    const steps = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).step);
    expect(steps).toEqual(['begun', 'waiting', 'acknowledged', 'activated']);
    const again = await postern('ca', 'rotate', '--config', config);
    expect(again.code).toBe(75);
    expect(again.stderr).toContain('is needed until');
  });
});

describe('postern revoke', () => {
  it('revokes, lists and takes back', async () => {
    const { config, revocations } = await setUp();
    expect((await postern('revoke', ORDERS, '--config', config)).code).toBe(0);
    expect(revocations.isRevoked({ spiffeId: ORDERS, serial: '1' })).toBe(true);
    const list = await postern('revoke', '--list', '--json', '--config', config);
    expect(JSON.parse(list.stdout).revocations).toMatchObject([{ kind: 'spiffeId', value: ORDERS }]);
    expect((await postern('revoke', '--undo', ORDERS, '--config', config)).code).toBe(0);
    expect((await postern('revoke', '--undo', ORDERS, '--config', config)).code).toBe(1);
    expect(revocations.list()).toEqual([]);
  });

  it('says so where no certificate of the mesh can be meant', async () => {
    const { config } = await setUp();
    const stranger = await postern('revoke', 'spiffe://cluster.locl/ns/shop/sa/orders', '--config', config);
    expect([stranger.code, stranger.stderr]).toEqual([0, expect.stringContaining('trust domain is cluster.local')]);
    expect((await postern('revoke', ORDERS, '--config', config)).stderr).toBe('');
  });

  it.each([[[]], [['x']], [['--list', '0A']], [['--list', '--undo']]])('refuses %j with exit code 64', async (args) => {
    const { config } = await setUp();
    expect((await postern('revoke', ...args, '--config', config)).code).toBe(64);
  });
});

it.each([[CREATE], [['ca', 'show']], [['ca', 'rotate']], [['revoke', ORDERS]]])(
  '%j says that no control plane is running, with exit code 69',
  async (args) => {
    const { code, stdout, stderr } = await postern(...args, '--data-dir', temporaryDirectory());
    expect([code, stdout]).toEqual([69, '']);
    expect(stderr).toContain('no control plane is running');
  },
);
