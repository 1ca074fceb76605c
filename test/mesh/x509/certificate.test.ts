import { execFileSync, spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { buildIntermediate, buildLeaf, buildRoot, issuerOf } from '../../../mesh/x509/build-certificate.ts';
import { endsInRoot, readCertificate, readCertificates } from '../../../mesh/x509/certificate.ts';
import { newKeys, temporaryDirectory } from '../../control-plane/ca/support.ts';

const SPIFFE_ID = 'spiffe://cluster.local/ns/shop/sa/orders';
const YEAR = 365 * 86_400_000;
const now = Math.floor(Date.now() / 1000) * 1000;

const rootKeys = newKeys();
const intermediateKeys = newKeys();
const leafKeys = newKeys();
const root = buildRoot({
  ...rootKeys,
  trustDomain: 'cluster.local',
  notBefore: now - 60_000,
  notAfter: now + 10 * YEAR,
});
const intermediate = buildIntermediate({
  publicKey: intermediateKeys.publicKey,
  trustDomain: 'cluster.local',
  issuer: issuerOf(new X509Certificate(root), rootKeys.privateKey),
  notBefore: now - 60_000,
  notAfter: now + YEAR,
});
const issuer = issuerOf(new X509Certificate(intermediate), intermediateKeys.privateKey);
const request = {
  publicKey: leafKeys.publicKey,
  spiffeId: SPIFFE_ID,
  issuer,
  notBefore: now - 60_000,
  notAfter: now + 60_000,
};
const leaf = buildLeaf({ ...request, dnsNames: ['localhost'], ipAddresses: ['127.0.0.1', '::1'] });

const hasOpenssl = spawnSync('openssl', ['version']).status === 0;

describe.skipIf(!hasOpenssl)('openssl (skipped where it is not installed)', () => {
  it.each([
    ['strictly by RFC 5280', ['-x509_strict']],
    ['as a server', ['-purpose', 'sslserver', '-verify_hostname', 'localhost']],
    ['as a client', ['-purpose', 'sslclient']],
    ['by address', ['-verify_ip', '::1']],
  ])('accepts the chain %s', (_, options) => {
    const directory = temporaryDirectory();
    for (const [name, pem] of Object.entries({ root, intermediate, leaf }))
      fs.writeFileSync(join(directory, name), pem);
    const args = ['verify', ...options, '-CAfile', 'root', '-untrusted', 'intermediate', 'leaf'];
    expect(execFileSync('openssl', args, { cwd: directory, encoding: 'utf8' })).toBe('leaf: OK\n');
  });

  it('refuses a leaf that plays CA and an intermediate below the intermediate', () => {
    const directory = temporaryDirectory();
    const deeperKeys = newKeys();
    const deeper = buildIntermediate({ ...request, publicKey: deeperKeys.publicKey, trustDomain: 'cluster.local' });
    const forged = [
      buildLeaf({ ...request, issuer: issuerOf(new X509Certificate(leaf), leafKeys.privateKey) }),
      buildLeaf({ ...request, issuer: issuerOf(new X509Certificate(deeper), deeperKeys.privateKey) }),
    ];
    fs.writeFileSync(join(directory, 'root'), root);
    fs.writeFileSync(join(directory, 'chain'), intermediate + leaf + deeper);
    for (const pem of forged) {
      fs.writeFileSync(join(directory, 'leaf'), pem);
      const result = spawnSync('openssl', ['verify', '-CAfile', 'root', '-untrusted', 'chain', 'leaf'], {
        cwd: directory,
      });
      expect(result.status).not.toBe(0);
    }
  });

  it('prints the leaf as an X.509-SVID', () => {
    const text = execFileSync('openssl', ['x509', '-noout', '-text'], { input: leaf, encoding: 'utf8' });
    const flat = text.replaceAll(/\s+/g, ' ');
    expect(flat).toContain('Subject: Subject Public Key Info');
    expect(flat).toContain('X509v3 Key Usage: critical Digital Signature X509v3');
    expect(flat).toContain('TLS Web Server Authentication, TLS Web Client Authentication X509v3');
    expect(flat).toContain('X509v3 Basic Constraints: critical CA:FALSE');
    expect(flat).toContain(`X509v3 Subject Alternative Name: critical URI:${SPIFFE_ID}, DNS:localhost`);
  });

  it.each([
    [Date.UTC(2049, 11, 31, 23, 59, 59), 'UTCTIME', '491231235959Z'],
    [Date.UTC(2050, 0, 1), 'GENERALIZEDTIME', '20500101000000Z'],
  ])('finds the end %d written as %s', (notAfter, type, text) => {
    const pem = buildLeaf({ ...request, notAfter });
    const parsed = execFileSync('openssl', ['asn1parse'], { input: pem, encoding: 'utf8' });
    expect(parsed).toMatch(new RegExp(`${type} +:${text}`));
    expect(readCertificate(pem).notAfter).toBe(notAfter);
  });
});

describe('buildLeaf', () => {
  it.each([
    ['10.1.2.3', '10.1.2.3'],
    ['::', '0:0:0:0:0:0:0:0'],
    ['::1', '0:0:0:0:0:0:0:1'],
    ['2001:db8::', '2001:DB8:0:0:0:0:0:0'],
    ['2001:db8::5:0:0:1', '2001:DB8:0:0:5:0:0:1'],
    ['::ffff:10.0.0.1', '0:0:0:0:0:FFFF:A00:1'],
    ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8'],
  ])('writes the address %s', (address, shown) => {
    const { x509 } = readCertificate(buildLeaf({ ...request, ipAddresses: [address] }));
    expect(x509.subjectAltName).toBe(`URI:${SPIFFE_ID}, IP Address:${shown}`);
  });

  it.each(['', '1.2.3', '1.2.3.4.5', 'fe80::1%eth0', 'localhost'])('refuses the address %j', (address) => {
    expect(() => buildLeaf({ ...request, ipAddresses: [address] })).toThrow(
      expect.objectContaining({ code: 'ERR_CERTIFICATE_NAME' }),
    );
  });

  it.each(['', '-a', 'a..b', 'a,URI:spiffe://x', '*.local', 'a b', `${'a'.repeat(64)}.b`])(
    'refuses the host name %j',
    (name) => {
      expect(() => buildLeaf({ ...request, dnsNames: [name] })).toThrow(
        expect.objectContaining({ code: 'ERR_CERTIFICATE_NAME' }),
      );
    },
  );

  it('gives positive serials of 16 bytes that do not repeat', () => {
    const serials = Array.from({ length: 50 }, () => readCertificate(buildLeaf(request)).serial);
    expect(new Set(serials).size).toBe(50);
    for (const serial of serials) expect(serial).toMatch(/^[4-7][0-9A-F]{31}$/);
  });

  it('refuses to end before it begins', () => {
    expect(() => buildLeaf({ ...request, notAfter: request.notBefore })).toThrow(
      expect.objectContaining({ code: 'ERR_CERTIFICATE_VALIDITY' }),
    );
  });
});

describe('readCertificate', () => {
  it('reads what was built', () => {
    expect(readCertificate(leaf)).toMatchObject({
      notBefore: now - 60_000,
      notAfter: now + 60_000,
      spiffeId: SPIFFE_ID,
      uris: [SPIFFE_ID],
      isAuthority: false,
    });
    expect(readCertificate(root)).toMatchObject({
      spiffeId: null,
      uris: ['spiffe://cluster.local'],
      isAuthority: true,
    });
  });

  it.each([
    ['text', 'hello'],
    ['nothing', ''],
    ['two certificates', leaf + intermediate],
    ['a damaged one', leaf.replace('M', 'N')],
  ])('refuses %s', (_, pem) => {
    expect(() => readCertificate(pem)).toThrow(expect.objectContaining({ code: 'ERR_BAD_CERTIFICATE' }));
  });

  it('reads a chain of at most ten', () => {
    expect(readCertificates(leaf + intermediate)).toHaveLength(2);
    expect(() => readCertificates(leaf.repeat(11))).toThrow(expect.objectContaining({ code: 'ERR_BAD_CERTIFICATE' }));
  });
});

// openssl puts names into a certificate that buildLeaf would refuse.
describe.skipIf(!hasOpenssl)('the identity of a foreign certificate', () => {
  it.each([
    [`URI:${SPIFFE_ID}`, SPIFFE_ID],
    [`URI:${SPIFFE_ID},DNS:a`, SPIFFE_ID],
    ['DNS:a', null],
    [`URI:${SPIFFE_ID},URI:https://example.org`, null],
    ['URI:spiffe://cluster.local/ns/shop', null],
    [`URI:${SPIFFE_ID}/`, null],
    [`DNS:URI:${SPIFFE_ID}`, null],
  ])('with names %s is %s', (names, expected) => {
    expect(readCertificate(selfSigned(`subjectAltName=${names}`)).spiffeId).toBe(expected);
  });

  it('is not taken from inside a name that holds a comma', () => {
    const hidden = Buffer.from(`a, URI:${SPIFFE_ID}, b`);
    const name = Buffer.concat([Buffer.of(0x82, hidden.length), hidden]);
    const names = Buffer.concat([Buffer.of(0x30, name.length), name]);
    const certificate = readCertificate(selfSigned(`2.5.29.17=DER:${names.toString('hex')}`));
    expect(certificate.x509.subjectAltName).toContain(SPIFFE_ID);
    expect(certificate.spiffeId).toBeNull();
  });
});

describe('endsInRoot', () => {
  it('tells the root that signed from another', () => {
    const other = buildRoot({ ...newKeys(), trustDomain: 'cluster.local', notBefore: now, notAfter: now + YEAR });
    expect(endsInRoot(leaf + intermediate, root)).toBe(true);
    expect(endsInRoot(leaf + intermediate, other)).toBe(false);
    expect(endsInRoot(leaf, root)).toBe(false);
  });
});

function selfSigned(extension: string): string {
  const args = [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    '/dev/null',
  ];
  const named = [...args, '-subj', '/CN=test', '-days', '1', '-addext', extension];
  return execFileSync('openssl', named, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
}
