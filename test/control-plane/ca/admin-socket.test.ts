import fs from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { AdminSocket } from '../../../control-plane/admin-socket.ts';
import { AdminClient, locateDataDir } from '../../../control-plane/ca/admin-client.ts';
import { administrationOf } from '../../../control-plane/ca/administration.ts';
import { JoinTokens } from '../../../control-plane/ca/join-tokens.ts';
import { Revocations } from '../../../control-plane/ca/revocations.ts';
import { RootRotation } from '../../../control-plane/ca/rotation.ts';
import { EXIT } from '../../../mesh/errors.ts';
import { newCsr, ORDERS, openAuthority, START, temporaryDirectory } from './support.ts';

const SPIFFE_ID = 'spiffe://cluster.local/ns/shop/sa/orders';

async function setUp(missing: readonly string[] = []) {
  const dataDir = temporaryDirectory();
  const clock = (): number => START;
  const authority = openAuthority({ dataDir });
  const tokens = JoinTokens.open(dataDir, clock);
  const revocations = Revocations.open({ dataDir, clock, maxTtlSeconds: 86_400 });
  const awaitAcknowledgement = () => Promise.resolve({ connected: 1, missing });
  const rotation = new RootRotation({ authority, isNew: authority.isNew, clock, awaitAcknowledgement });
  const handlers = administrationOf({ authority, rotation, tokens, revocations });
  const socket = await AdminSocket.open({ dataDir, handlers });
  onTestFinished(async () => {
    await socket.close();
    rotation.close();
  });
  return { dataDir, authority, tokens, revocations, handlers, socket, client: new AdminClient(dataDir) };
}

describe('the admin socket', () => {
  it('is for its owner alone, and gone after close', async () => {
    const { socket } = await setUp();
    expect(fs.statSync(socket.path).mode & 0o777).toBe(0o600);
    await socket.close();
    expect(fs.existsSync(socket.path)).toBe(false);
  });

  it('makes tokens that can be redeemed', async () => {
    const { client, tokens } = await setUp();
    const created = await client.request('POST', '/tokens', { ...ORDERS, ttlSeconds: 60, labels: { app: 'orders' } });
    expect(created).toMatchObject({ id: expect.any(String), expiresAt: START + 60_000 });
    expect(tokens.redeem(String(created.token), 'key')).toEqual({ ...ORDERS, labels: { app: 'orders' } });
  });

  it('describes the authority, without a secret', async () => {
    const { client, authority } = await setUp();
    const description = await client.request('GET', '/ca');
    expect(description).toEqual(authority.describe());
    expect(JSON.stringify(description)).not.toContain('PRIVATE');
  });

  it('adds, lists and removes revocations', async () => {
    const { client, revocations } = await setUp();
    await client.request('POST', '/revocations', { subject: SPIFFE_ID });
    expect(await client.request('GET', '/revocations')).toEqual({ revocations: revocations.list() });
    expect(await client.request('DELETE', '/revocations', { subject: SPIFFE_ID })).toEqual({ removed: true });
    expect(await client.request('DELETE', '/revocations', { subject: SPIFFE_ID })).toEqual({ removed: false });
  });

  it('streams the progress of a rotation', async () => {
    const { client, authority } = await setUp();
    // Without a certificate under it the old root would go at once.
    authority.issueWorkload({ csr: newCsr(), ...ORDERS });
    const steps: string[] = [];
    await client.rotate(({ progress }) => steps.push(progress.step));
    expect(steps).toEqual(['begun', 'waiting', 'acknowledged', 'activated']);
    expect(authority.rotationPhase).toBe('activated');
  });

  it('streams the failure of a rotation', async () => {
    const { client } = await setUp(['shop/orders-1']);
    await expect(client.rotate(() => {})).rejects.toMatchObject({
      code: 'ERR_CA_ROTATION_WAIT',
      exitCode: EXIT.temporary,
      message: expect.stringContaining('shop/orders-1'),
    });
  });

  it.each([
    ['POST', '/tokens', { namespace: 'shop' }, 'ERR_ADMIN_REQUEST', EXIT.usage],
    ['POST', '/tokens', { ...ORDERS, labels: { a: 1 } }, 'ERR_ADMIN_REQUEST', EXIT.usage],
    ['POST', '/tokens', { ...ORDERS, labels: [] }, 'ERR_ADMIN_REQUEST', EXIT.usage],
    ['POST', '/tokens', { ...ORDERS, ttlSeconds: '60' }, 'ERR_ADMIN_REQUEST', EXIT.usage],
    ['POST', '/tokens', { ...ORDERS, ttlSeconds: 1e9 }, 'ERR_TOKEN_REQUEST', EXIT.usage],
    ['POST', '/tokens', [], 'ERR_ADMIN_REQUEST', EXIT.usage],
    ['POST', '/tokens', { namespace: 'x'.repeat(70_000) }, 'ERR_ADMIN_REQUEST', EXIT.usage],
    ['POST', '/revocations', { subject: 'x' }, 'ERR_REVOCATION_SUBJECT', EXIT.usage],
    ['POST', '/revocations', {}, 'ERR_ADMIN_REQUEST', EXIT.usage],
    ['GET', '/nothing', undefined, 'ERR_ADMIN_REQUEST', EXIT.software],
  ])('answers %s %s %j with %s', async (method, path, body, code, exitCode) => {
    const { client } = await setUp();
    await expect(client.request(method, path, body)).rejects.toMatchObject({ code, exitCode });
  });

  it('replaces the socket of a dead process, and not that of a living one', async () => {
    const { dataDir, handlers, socket, client } = await setUp();
    await expect(AdminSocket.open({ dataDir, handlers })).rejects.toMatchObject({
      code: 'ERR_ADMIN_SOCKET',
      exitCode: EXIT.temporary,
    });
    await socket.close();
    await leaveStaleSocket(socket.path);
    await expect(client.request('GET', '/ca')).rejects.toMatchObject({ code: 'ERR_CONTROL_PLANE_UNAVAILABLE' });
    const again = await AdminSocket.open({ dataDir, handlers });
    await client.request('GET', '/ca');
    await again.close();
  });

  it('leaves alone a file that is no socket', async () => {
    const { dataDir, handlers, socket } = await setUp();
    await socket.close();
    fs.writeFileSync(socket.path, 'mine');
    await expect(AdminSocket.open({ dataDir, handlers })).rejects.toMatchObject({ code: 'ERR_ADMIN_SOCKET' });
    expect(fs.readFileSync(socket.path, 'utf8')).toBe('mine');
  });

  it('says that a path is too long for a Unix socket, at both ends', async () => {
    const { handlers } = await setUp();
    const dataDir = join(temporaryDirectory(), 'x'.repeat(100));
    fs.mkdirSync(dataDir);
    const expected = { code: 'ERR_ADMIN_SOCKET', exitCode: EXIT.config, message: expect.stringContaining('107') };
    await expect(AdminSocket.open({ dataDir, handlers })).rejects.toMatchObject(expected);
    await expect(new AdminClient(dataDir).request('GET', '/ca')).rejects.toMatchObject(expected);
  });
});

describe('the client', () => {
  it('says that no control plane is running, with exit code 69', async () => {
    await expect(new AdminClient(temporaryDirectory()).request('GET', '/ca')).rejects.toMatchObject({
      code: 'ERR_CONTROL_PLANE_UNAVAILABLE',
      exitCode: 69,
      message: expect.stringContaining('postern control-plane'),
    });
  });
});

describe('locateDataDir', () => {
  it.each([
    ['dataDir: ./state\n', 'state'],
    ['dataDir: ../elsewhere\nlisten: 127.0.0.1:15012\n', '../elsewhere'],
    ['listen: 127.0.0.1:15012\n', 'data'],
  ])('reads %j relative to the file', (text, expected) => {
    const directory = temporaryDirectory();
    const config = join(directory, 'control-plane.yaml');
    fs.writeFileSync(config, text);
    expect(locateDataDir({ config })).toBe(join(directory, expected));
  });

  it.each([['dataDir: [a]\n'], ['dataDir: ""\n'], ['a: [\n'], ['dataDir: a\ndataDir: b\n']])('refuses %j', (text) => {
    const config = join(temporaryDirectory(), 'control-plane.yaml');
    fs.writeFileSync(config, text);
    expect(() => locateDataDir({ config })).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG', message: expect.stringContaining(config) }),
    );
  });

  it('takes one of the two options', () => {
    expect(locateDataDir({ dataDir: '/a/b' })).toBe('/a/b');
    expect(() => locateDataDir({ dataDir: 'a', config: 'b' })).toThrow(expect.objectContaining({ code: 'ERR_USAGE' }));
  });
});

/** What a process that was killed leaves: a socket on which nobody listens. */
async function leaveStaleSocket(path: string): Promise<void> {
  const server = net.createServer();
  const aside = `${path}.x`;
  await new Promise<void>((resolve) => server.listen(aside, resolve));
  fs.linkSync(aside, path);
  await new Promise((resolve) => server.close(resolve));
}
