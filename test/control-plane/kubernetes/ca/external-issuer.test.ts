import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readExternalIssuer } from '../../../../control-plane/kubernetes/ca/external-issuer.ts';
import { buildLeaf } from '../../../../mesh/x509/build-certificate.ts';
import { endsInRoot } from '../../../../mesh/x509/certificate.ts';
import { HOUR, newKeys, START, temporaryDirectory } from '../../ca/support.ts';
import { type ForeignOptions, foreignCa, type KeyKind, tlsSecret } from './foreign-ca.ts';

const SPIFFE_ID = 'spiffe://cluster.local/ns/shop/sa/orders';
const read = (data: { readonly [key: string]: string }, now = START) =>
  readExternalIssuer(tlsSecret(data), now, 'Secret postern-system/external-ca');

const leafOf = (issuer: ReturnType<typeof read>): string =>
  buildLeaf({
    publicKey: newKeys().publicKey,
    spiffeId: SPIFFE_ID,
    issuer: issuer.issuer,
    notBefore: START,
    notAfter: START + HOUR,
  });

const hasOpenssl = spawnSync('openssl', ['version']).status === 0;

describe('an external CA', () => {
  const root = foreignCa(null);
  const upper = foreignCa(root, { pathLength: 1 });
  const lower = foreignCa(upper, { pathLength: 0 });

  it.each<[string, { readonly [key: string]: string }, number]>([
    ['an intermediate, its root in ca.crt', { 'tls.crt': upper.pem, 'tls.key': upper.keyPem, 'ca.crt': root.pem }, 1],
    ['two, the root in ca.crt', { 'tls.crt': lower.pem + upper.pem, 'tls.key': lower.keyPem, 'ca.crt': root.pem }, 2],
    ['one, the rest in ca.crt', { 'tls.crt': lower.pem, 'tls.key': lower.keyPem, 'ca.crt': root.pem + upper.pem }, 2],
    ['all of it in tls.crt', { 'tls.crt': lower.pem + upper.pem + root.pem, 'tls.key': lower.keyPem }, 2],
    ['the same root twice', { 'tls.crt': upper.pem + root.pem, 'tls.key': upper.keyPem, 'ca.crt': root.pem }, 1],
    ['a root that issues itself', { 'tls.crt': root.pem, 'tls.key': root.keyPem, 'ca.crt': root.pem }, 0],
  ])('may be %s', (_, data, length) => {
    const issuer = read(data);
    expect(issuer.rootPem.trim()).toBe(root.pem.trim());
    expect(issuer.chain.match(/BEGIN/g) ?? []).toHaveLength(length);
    expect(endsInRoot(leafOf(issuer) + issuer.chain, root.pem)).toBe(true);
  });

  it.skipIf(!hasOpenssl).each<[KeyKind, KeyKind]>([
    ['P-256', 'P-256'],
    ['P-256', 'P-384'],
    ['P-521', 'P-521'],
    ['RSA-2048', 'RSA-2048'],
    ['RSA-2048', 'P-384'],
  ])(
    'with a root of %s and an intermediate of %s issues leaves that openssl accepts (skipped without openssl)',
    (above, below) => {
      const ca = foreignCa(null, { keys: above });
      const intermediate = foreignCa(ca, { keys: below });
      const issuer = read({ 'tls.crt': intermediate.pem, 'tls.key': intermediate.keyPem, 'ca.crt': ca.pem });
      const directory = temporaryDirectory();
      const files = { root: ca.pem, chain: issuer.chain, leaf: leafOf(issuer) };
      for (const [name, pem] of Object.entries(files)) fs.writeFileSync(join(directory, name), pem);
      const at = String(START / 1000 + 60);
      const args = ['verify', '-attime', at, '-purpose', 'sslserver', '-CAfile', 'root', '-untrusted', 'chain', 'leaf'];
      expect(execFileSync('openssl', args, { cwd: directory, encoding: 'utf8' })).toBe('leaf: OK\n');
    },
  );

  it.each<[string, ForeignOptions, RegExp]>([
    ['is no CA', { isAuthority: false }, /CA:TRUE/],
    ['may not sign certificates', { keyUsage: 'digitalSignature' }, /keyCertSign/],
    ['has ended', { notAfter: START }, /ended at/],
    ['has not begun', { notBefore: START + HOUR }, /begins only at/],
    ['has a key of another curve', { keys: 'secp256k1' }, /P-256, P-384 or P-521/],
    ['has an Edwards key', { keys: 'ed25519' }, /P-256, P-384 or P-521/],
    ['has a short RSA key', { keys: 'RSA-1024' }, /2048/],
  ])('is refused where the issuing certificate %s', (_, options, message) => {
    const bad = foreignCa(root, options);
    expect(() => read({ 'tls.crt': bad.pem, 'tls.key': bad.keyPem, 'ca.crt': root.pem })).toThrow(message);
  });

  it.each<[string, ForeignOptions, RegExp]>([
    ['is no CA', { isAuthority: false }, /CA:TRUE/],
    ['allows no CA below it', { pathLength: 0 }, /allows only 0/],
    ['has ended', { notAfter: START }, /ended at/],
  ])('is refused where the certificate above %s', (_, options, message) => {
    const middle = foreignCa(root, options);
    const issuing = foreignCa(middle);
    const data = { 'tls.crt': issuing.pem + middle.pem, 'tls.key': issuing.keyPem, 'ca.crt': root.pem };
    expect(() => read(data)).toThrow(message);
  });

  it('may have no keyUsage at all', () => {
    const plain = foreignCa(root, { keyUsage: null });
    expect(read({ 'tls.crt': plain.pem, 'tls.key': plain.keyPem, 'ca.crt': root.pem }).rootPem).toContain('BEGIN');
  });

  const stranger = foreignCa(null);
  it.each<[string, { readonly [key: string]: string }, RegExp]>([
    ['no certificate', { 'tls.key': upper.keyPem }, /tls\.crt, is missing/],
    ['no key', { 'tls.crt': upper.pem, 'ca.crt': root.pem }, /tls\.key, is missing/],
    ['another key', { 'tls.crt': upper.pem, 'tls.key': lower.keyPem, 'ca.crt': root.pem }, /is not the key/],
    ['no root', { 'tls.crt': upper.pem, 'tls.key': upper.keyPem }, /ca\.crt, is missing/],
    ['another root', { 'tls.crt': upper.pem, 'tls.key': upper.keyPem, 'ca.crt': stranger.pem }, /does not hold/],
    [
      'another root beside its own',
      { 'tls.crt': upper.pem + root.pem, 'tls.key': upper.keyPem, 'ca.crt': stranger.pem },
      /is not the root/,
    ],
    [
      'a chain in another order',
      { 'tls.crt': upper.pem + lower.pem, 'tls.key': upper.keyPem, 'ca.crt': root.pem },
      /not a chain/,
    ],
    ['garbage', { 'tls.crt': 'garbage', 'tls.key': upper.keyPem, 'ca.crt': root.pem }, /cannot be read/],
  ])('is refused with %s', (_, data, message) => {
    expect(() => read(data)).toThrow(message);
  });

  it('is refused in a Secret of another type', () => {
    const data = { 'tls.crt': upper.pem, 'tls.key': upper.keyPem, 'ca.crt': root.pem };
    expect(() => readExternalIssuer(tlsSecret(data, 'Opaque'), START, 'Secret x/y')).toThrow(
      'must be kubernetes.io/tls',
    );
  });

  it('tells nothing of a key that cannot be read', () => {
    const data = { 'tls.crt': upper.pem, 'tls.key': 'sehr-geheim', 'ca.crt': root.pem };
    expect(() => read(data)).toThrow(expect.objectContaining({ message: expect.not.stringContaining('geheim') }));
  });
});
