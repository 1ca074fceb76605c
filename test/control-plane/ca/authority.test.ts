import { execFileSync, spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import tls from 'node:tls';
import { describe, expect, it } from 'vitest';
import { endsInRoot, readCertificate, readCertificates } from '../../../mesh/x509/certificate.ts';
import { createCsr } from '../../../mesh/x509/csr.ts';
import {
  fillableDisk,
  HOUR,
  newCsr,
  newKeys,
  ORDERS,
  openAuthority,
  START,
  TestClock,
  temporaryDirectory,
} from './support.ts';

const CONTROL_PLANE = 'spiffe://cluster.local/ns/postern-system/sa/control-plane';
const hasOpenssl = spawnSync('openssl', ['version']).status === 0;

describe('the first start', () => {
  it('makes the CA with directory 0700 and files 0600, and leaves nothing else', () => {
    const dataDir = join(temporaryDirectory(), 'deep', 'data');
    const authority = openAuthority({ dataDir });
    expect(authority.isNew).toBe(true);
    const directory = join(dataDir, 'ca');
    expect(fs.statSync(dataDir).mode & 0o777).toBe(0o700);
    expect(fs.statSync(directory).mode & 0o777).toBe(0o700);
    expect(fs.readdirSync(directory).sort()).toEqual([
      'intermediate-1-1.key',
      'intermediate-1-1.pem',
      'root-1.key',
      'root-1.pem',
      'state.json',
    ]);
    for (const name of fs.readdirSync(directory)) {
      expect(fs.statSync(join(directory, name)).mode & 0o777).toBe(0o600);
    }
    authority.close();
    expect(fs.readdirSync(dataDir)).toEqual(['ca']);
  });

  it('is not repeated: the second start loads the same root', () => {
    const dataDir = temporaryDirectory();
    const first = openAuthority({ dataDir });
    const { roots } = first;
    first.close();
    const second = openAuthority({ dataDir });
    expect(second.isNew).toBe(false);
    expect(second.roots).toEqual(roots);
    const { chain } = second.issueWorkload({ csr: newCsr(), ...ORDERS });
    expect(endsInRoot(chain, roots[0] ?? '')).toBe(true);
  });
});

describe('issueWorkload', () => {
  it('gives the identity that was proven, whatever the request asks for', () => {
    const authority = openAuthority({ dataDir: temporaryDirectory() });
    const keys = newKeys();
    const csr = createCsr({ ...keys, spiffeId: 'spiffe://cluster.local/ns/kube-system/sa/admin' });
    const response = authority.issueWorkload({ csr, ...ORDERS });
    const [leaf, intermediate] = readCertificates(response.chain);
    expect(response.spiffeId).toBe('spiffe://cluster.local/ns/shop/sa/orders');
    expect(leaf).toMatchObject({
      spiffeId: response.spiffeId,
      uris: [response.spiffeId],
      serial: response.serial,
      notBefore: response.notBefore,
      notAfter: response.notAfter,
      isAuthority: false,
    });
    expect(leaf?.x509.publicKey.equals(keys.publicKey)).toBe(true);
    expect(intermediate?.isAuthority).toBe(true);
    expect(response.roots).toEqual(authority.roots);
  });

  // Milliseconds before and after the moment of issue.
  it.each([
    [undefined, 60_000, 3_600_000],
    [600, 60_000, 600_000],
    [86_400, 60_000, 86_400_000],
    [999_999, 60_000, 86_400_000],
    [10, 1_000, 10_000],
    [1, 1_000, 5_000],
    [-5, 1_000, 5_000],
  ])('asked for %s s begins %d ms earlier and lasts %d ms', (ttlSeconds, before, after) => {
    const authority = openAuthority({ dataDir: temporaryDirectory(), defaults: { minTtlSeconds: 5 } });
    const { notBefore, notAfter } = authority.issueWorkload({ csr: newCsr(), ...ORDERS, ttlSeconds });
    expect([START - notBefore, notAfter - START]).toEqual([before, after]);
  });

  it.each([
    ['a bad CSR', { csr: 'x', ...ORDERS }, 'ERR_BAD_CSR'],
    ['a namespace that escapes', { csr: newCsr(), namespace: 'a/sa/b', serviceAccount: 'c' }, 'ERR_SPIFFE_ID'],
    ['an empty service account', { csr: newCsr(), namespace: 'a', serviceAccount: '' }, 'ERR_SPIFFE_ID'],
  ])('refuses %s', (_, request, code) => {
    const authority = openAuthority({ dataDir: temporaryDirectory() });
    expect(() => authority.issueWorkload(request)).toThrow(expect.objectContaining({ code }));
  });

  it.skipIf(!hasOpenssl)('gives chains that openssl verifies (skipped without openssl)', () => {
    const directory = temporaryDirectory();
    const authority = openAuthority({ dataDir: directory, clock: Date.now });
    const { chain } = authority.issueWorkload({ csr: newCsr(), ...ORDERS });
    fs.writeFileSync(join(directory, 'chain'), chain);
    fs.writeFileSync(join(directory, 'roots'), authority.roots.join(''));
    const args = ['verify', '-x509_strict', '-CAfile', 'roots', '-untrusted', 'chain', 'chain'];
    expect(execFileSync('openssl', args, { cwd: directory, encoding: 'utf8' })).toBe('chain: OK\n');
  });
});

describe('a TLS 1.3 handshake', () => {
  const clock = Date.now;

  it('succeeds both ways between certificates of the CA', async () => {
    const authority = openAuthority({ dataDir: temporaryDirectory(), clock });
    const result = await handshake(authority, workload(authority), [...authority.roots]);
    expect(result).toEqual({ client: 'spiffe://cluster.local/ns/shop/sa/orders', server: CONTROL_PLANE });
  });

  it('succeeds across a rotation, whichever root a side was issued under', async () => {
    const authority = openAuthority({ dataDir: temporaryDirectory(), clock });
    const old = workload(authority);
    authority.beginRotation();
    authority.activateRotation();
    const fresh = workload(authority);
    expect(endsInRoot(old.cert, authority.roots[0] ?? '')).toBe(false);
    expect(endsInRoot(fresh.cert, authority.roots[0] ?? '')).toBe(true);
    for (const client of [old, fresh]) {
      expect((await handshake(authority, client, [...authority.roots])).server).toBe(CONTROL_PLANE);
    }
  });

  it('fails with a certificate of another CA', async () => {
    const authority = openAuthority({ dataDir: temporaryDirectory(), clock });
    const foreign = openAuthority({ dataDir: temporaryDirectory(), clock });
    await expect(handshake(authority, workload(foreign), [...authority.roots])).rejects.toThrow();
    await expect(handshake(authority, workload(authority), [...foreign.roots])).rejects.toThrow();
  });
});

describe('the end of the last leaf', () => {
  const end = (authority: ReturnType<typeof openAuthority>): number =>
    Date.parse(authority.describe().roots[0]?.leavesExpireBy ?? '');
  const onDisk = (dataDir: string): number =>
    JSON.parse(fs.readFileSync(join(dataDir, 'ca', 'state.json'), 'utf8')).generations[0].leavesExpireBy;

  it('is on disk ahead of every leaf, at a fraction of the writes', () => {
    const dataDir = temporaryDirectory();
    const clock = new TestClock();
    const authority = openAuthority({ dataDir, clock: clock.read });
    const written = new Set<number>();
    for (let minute = 0; minute < 240; minute++) {
      clock.now = START + minute * 60_000;
      const { notAfter } = authority.issueWorkload({ csr: newCsr(), ...ORDERS });
      expect(onDisk(dataDir)).toBeGreaterThanOrEqual(notAfter);
      expect(end(authority)).toBe(notAfter);
      written.add(onDisk(dataDir));
    }
    expect(written.size).toBeLessThan(12);
  });

  it('survives a restart without getting earlier', () => {
    const dataDir = temporaryDirectory();
    const authority = openAuthority({ dataDir });
    const { notAfter } = authority.issueWorkload({ csr: newCsr(), ...ORDERS });
    authority.close();
    expect(end(openAuthority({ dataDir }))).toBeGreaterThanOrEqual(notAfter);
  });

  it('lets a full disk stop new certificates only after a while, with warnings, and heals', () => {
    const clock = new TestClock();
    const disk = fillableDisk();
    const warnings: string[] = [];
    const options = {
      clock: clock.read,
      operations: disk.operations,
      onWarning: (text: string) => void warnings.push(text),
    };
    const authority = openAuthority({ dataDir: temporaryDirectory(), ...options });
    const issue = (): unknown => authority.issueWorkload({ csr: newCsr(), ...ORDERS });
    issue();
    disk.full = true;
    clock.now += HOUR * 0.75;
    issue();
    expect(warnings).toEqual([expect.stringContaining('no space left')]);
    clock.now += HOUR;
    expect(issue).toThrow(expect.objectContaining({ code: 'ERR_DISK_FULL' }));
    disk.full = false;
    issue();
  });
});

describe('the intermediate', () => {
  it('is renewed under the same root well before it ends, with the old key deleted', () => {
    const dataDir = temporaryDirectory();
    const clock = new TestClock();
    const authority = openAuthority({ dataDir, clock: clock.read });
    const { roots } = authority;
    const serialAt = (days: number): string => {
      clock.now = START + days * 24 * HOUR;
      const { chain } = authority.issueWorkload({ csr: newCsr(), ...ORDERS });
      expect(endsInRoot(chain, roots[0] ?? '')).toBe(true);
      return readCertificates(chain)[1]?.serial ?? '';
    };
    const first = serialAt(0);
    expect(serialAt(200)).toBe(first);
    const second = serialAt(250);
    expect(second).not.toBe(first);
    expect(authority.roots).toEqual(roots);
    expect(fs.readdirSync(join(dataDir, 'ca'))).not.toContain('intermediate-1-1.key');
    authority.close();
    expect(openAuthority({ dataDir, clock: clock.read }).describe().roots[0]?.intermediate?.serial).toBe(second);
  });

  it('bounds the leaves when neither it nor its root can be renewed, without a renewal each', () => {
    const clock = new TestClock();
    const lifetimes = { rootSeconds: 100_000, intermediateSeconds: 100_000 };
    const authority = openAuthority({ dataDir: temporaryDirectory(), clock: clock.read, lifetimes });
    const serial = authority.describe().roots[0]?.intermediate?.serial;
    clock.now += 99_000_000;
    const { notAfter } = authority.issueWorkload({ csr: newCsr(), ...ORDERS });
    expect(notAfter).toBe(START + 100_000_000);
    expect(authority.describe().roots[0]?.intermediate?.serial).toBe(serial);
    clock.now = START + 100_000_000;
    expect(() => authority.issueWorkload({ csr: newCsr(), ...ORDERS })).toThrow(
      expect.objectContaining({ code: 'ERR_CA_EXPIRED' }),
    );
  });

  it('goes on as it is while the disk is full, and is renewed once there is room', () => {
    const clock = new TestClock();
    const disk = fillableDisk();
    const warnings: string[] = [];
    const options = { operations: disk.operations, onWarning: (text: string) => void warnings.push(text) };
    const authority = openAuthority({ dataDir: temporaryDirectory(), clock: clock.read, ...options });
    const serialAfterIssue = (): string | undefined => {
      authority.issueWorkload({ csr: newCsr(), ...ORDERS });
      return authority.describe().roots[0]?.intermediate?.serial;
    };
    // It falls due at two thirds of its life.
    const due = START + Math.ceil((365 * 24 * HOUR * 2) / 3);
    clock.now = due - HOUR / 4;
    const first = serialAfterIssue();
    disk.full = true;
    clock.now = due + HOUR / 12;
    expect(serialAfterIssue()).toBe(first);
    expect(warnings).toEqual([expect.stringContaining('could not be renewed')]);
    disk.full = false;
    clock.now += 120_000;
    expect(serialAfterIssue()).not.toBe(first);
  });
});

describe('issueServer', () => {
  it('shows one identity and the names asked for', () => {
    const authority = openAuthority({ dataDir: temporaryDirectory() });
    const { chain, privateKey } = authority.issueServer({
      spiffeId: CONTROL_PLANE,
      dnsNames: ['localhost'],
      ipAddresses: ['127.0.0.1'],
    });
    const [leaf] = readCertificates(chain);
    expect(leaf?.x509.subjectAltName).toBe(`URI:${CONTROL_PLANE}, DNS:localhost, IP Address:127.0.0.1`);
    expect(privateKey).toContain('BEGIN PRIVATE KEY');
  });

  it('refuses an identity of another trust domain', () => {
    const authority = openAuthority({ dataDir: temporaryDirectory() });
    expect(() => authority.issueServer({ spiffeId: 'spiffe://other/ns/a/sa/b' })).toThrow(
      expect.objectContaining({ code: 'ERR_SPIFFE_ID' }),
    );
  });
});

type Authority = ReturnType<typeof openAuthority>;

function workload(authority: Authority): { key: string; cert: string } {
  const keys = newKeys();
  const csr = createCsr({ ...keys, spiffeId: 'spiffe://cluster.local/ns/shop/sa/orders' });
  const { chain } = authority.issueWorkload({ csr, ...ORDERS });
  return { key: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string, cert: chain };
}

/** The two identities as the other side saw them. */
async function handshake(
  authority: Authority,
  client: { key: string; cert: string },
  ca: string[],
): Promise<{ client: string | null; server: string | null }> {
  const { chain, privateKey } = authority.issueServer({ spiffeId: CONTROL_PLANE, dnsNames: ['localhost'] });
  const common = { minVersion: 'TLSv1.3', requestCert: true, rejectUnauthorized: true } as const;
  const server = tls.createServer({ ...common, key: privateKey, cert: chain, ca: [...authority.roots] });
  const seen = new Promise<string | null>((resolve, reject) => {
    server.once('secureConnection', (socket) => {
      resolve(identity(socket));
      socket.end();
    });
    server.once('tlsClientError', reject);
  });
  try {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const socket = tls.connect({ ...common, ...client, host: '127.0.0.1', port, servername: 'localhost', ca });
    const connected = new Promise<string | null>((resolve, reject) => {
      socket.once('secureConnect', () => resolve(identity(socket)));
      socket.once('error', reject);
    });
    socket.resume();
    const [clientId, serverId] = await Promise.all([seen, connected]);
    socket.destroy();
    return { client: clientId, server: serverId };
  } finally {
    server.close();
  }
}

const identity = (socket: tls.TLSSocket): string | null =>
  readCertificate(new X509Certificate(socket.getPeerCertificate(true).raw).toString()).spiffeId;
