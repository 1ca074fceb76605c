import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes, sign, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { bits, boolean, constructed, integer, octets, oid, pem, primitive, sequence, set, time, utf8 } from './der.ts';

/** A certificate with its key, as node:tls takes them. */
export interface Credentials {
  /** PEM: the leaf, then what is needed up to the root. */
  readonly cert: string;
  /** PKCS #8, PEM. */
  readonly key: string;
}

/** What signs: a CA of our own, or the mesh's, whose keys lie in the data directory that the test owns. */
export interface Signer {
  readonly name: Buffer;
  readonly key: KeyObject;
  /** PEM of the signer's own certificate and of those above it but the root. */
  readonly chain: string;
  /** PEM. */
  readonly root: string;
}

/** A leaf as the mesh's CA would make it, but for what is said here. */
export interface LeafOptions {
  readonly uris?: readonly string[];
  /** From now, milliseconds. */
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
  readonly authority?: boolean;
  readonly usages?: readonly ('serverAuth' | 'clientAuth' | 'codeSigning')[];
}

const OID = {
  ecPublicKey: '1.2.840.10045.2.1',
  ecdsaSha256: '1.2.840.10045.4.3.2',
  commonName: '2.5.4.3',
  basicConstraints: '2.5.29.19',
  keyUsage: '2.5.29.15',
  extendedKeyUsage: '2.5.29.37',
  subjectAltName: '2.5.29.17',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
  codeSigning: '1.3.6.1.5.5.7.3.3',
} as const;

const HOUR = 3_600_000;
const ALGORITHM = sequence(oid(OID.ecdsaSha256));
const EMPTY_NAME = sequence();

const newKey = (): KeyObject => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
const keyPem = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }).toString();

function publicInfo(privateKey: KeyObject): Buffer {
  const jwk = privateKey.export({ format: 'jwk' });
  const point = [jwk.x, jwk.y].map((part) => Buffer.from(part ?? '', 'base64url'));
  const algorithm = sequence(oid(OID.ecPublicKey), oid('1.2.840.10045.3.1.7'));
  return sequence(algorithm, bits(Buffer.concat([Buffer.from([4]), ...point])));
}

const extension = (id: string, critical: boolean, value: Buffer): Buffer =>
  sequence(oid(id), ...(critical ? [boolean(true)] : []), octets(value));

interface Fields {
  readonly issuer: Buffer;
  readonly subject: Buffer;
  readonly from: number;
  readonly to: number;
  readonly subjectKey: KeyObject;
  readonly signingKey: KeyObject;
  readonly extensions: readonly Buffer[];
}

function certificate(fields: Fields): string {
  const serial = randomBytes(16);
  serial[0] = 0x40 | ((serial[0] ?? 0) & 0x3f);
  const body = sequence(
    constructed(0, integer(Buffer.from([2]))),
    integer(serial),
    ALGORITHM,
    fields.issuer,
    sequence(time(fields.from), time(fields.to)),
    fields.subject,
    publicInfo(fields.subjectKey),
    constructed(3, sequence(...fields.extensions)),
  );
  return pem('CERTIFICATE', sequence(body, ALGORITHM, bits(sign('sha256', body, fields.signingKey))));
}

function leafExtensions({
  uris = [],
  authority = false,
  usages = ['serverAuth', 'clientAuth'],
}: LeafOptions): Buffer[] {
  const names = sequence(...uris.map((uri) => primitive(6, Buffer.from(uri))));
  return [
    extension(OID.basicConstraints, true, sequence(...(authority ? [boolean(true)] : []))),
    // digitalSignature; with keyCertSign for a CA.
    extension(OID.keyUsage, true, authority ? bits(Buffer.from([0x84]), 2) : bits(Buffer.from([0x80]), 7)),
    extension(OID.extendedKeyUsage, false, sequence(...usages.map((usage) => oid(OID[usage])))),
    ...(uris.length === 0 ? [] : [extension(OID.subjectAltName, true, names)]),
  ];
}

/** A CA that nobody but the test knows. */
export function foreignAuthority(): Signer {
  const key = newKey();
  const name = sequence(set(sequence(oid(OID.commonName), utf8('foreign root'))));
  const root = certificate({
    issuer: name,
    subject: name,
    from: Date.now() - HOUR,
    to: Date.now() + 24 * HOUR,
    subjectKey: key,
    signingKey: key,
    extensions: [
      extension(OID.basicConstraints, true, sequence(boolean(true))),
      extension(OID.keyUsage, true, bits(Buffer.from([0x04]), 2)),
    ],
  });
  return { name, key, chain: '', root };
}

/** The mesh's own issuing CA, to make certificates that are wrong in exactly one respect. */
export function meshAuthority(dataDir: string): Signer {
  const read = (file: string): string => readFileSync(join(dataDir, 'ca', file), 'utf8');
  const chain = read('intermediate-1-1.pem');
  return {
    name: subjectOf(new X509Certificate(chain).raw),
    key: createPrivateKey(read('intermediate-1-1.key')),
    chain,
    root: read('root-1.pem'),
  };
}

export function issueLeaf(signer: Signer, options: LeafOptions): Credentials {
  const key = newKey();
  const leaf = certificate({
    issuer: signer.name,
    subject: EMPTY_NAME,
    from: Date.now() + (options.notBeforeMs ?? -HOUR / 60),
    to: Date.now() + (options.notAfterMs ?? HOUR),
    subjectKey: key,
    signingKey: signer.key,
    extensions: leafExtensions(options),
  });
  return { cert: leaf + signer.chain, key: keyPem(key) };
}

export function selfSigned(options: LeafOptions): Credentials {
  const key = newKey();
  const name = sequence(set(sequence(oid(OID.commonName), utf8('self'))));
  const leaf = certificate({
    issuer: name,
    subject: name,
    from: Date.now() - HOUR / 60,
    to: Date.now() + HOUR,
    subjectKey: key,
    signingKey: key,
    extensions: leafExtensions(options),
  });
  return { cert: leaf, key: keyPem(key) };
}

/** A PKCS #10 request with an empty subject, for a new key. */
export function certificateRequest(): { readonly csr: string; readonly key: string } {
  const key = newKey();
  const info = sequence(integer(Buffer.from([0])), EMPTY_NAME, publicInfo(key), constructed(0));
  const request = sequence(info, ALGORITHM, bits(sign('sha256', info, key)));
  return { csr: pem('CERTIFICATE REQUEST', request), key: keyPem(key) };
}

export const WRONG_KINDS = [
  'of another trust domain',
  'expired',
  'not yet valid',
  'self-signed',
  'of a foreign CA',
  'of a foreign CA that sends its root along',
  'with two URI SANs',
  'without a SAN',
  'with a SAN that is no SPIFFE ID of the mesh',
  'that is a CA',
  'for another use',
] as const;
export type WrongKind = (typeof WRONG_KINDS)[number];

/** Each way in which a certificate for `spiffeId` may be wrong while all else in it is right. */
export function wrongCertificates(mesh: Signer, spiffeId: string): Readonly<Record<WrongKind, Credentials>> {
  const uris = [spiffeId];
  const foreign = foreignAuthority();
  return {
    'of another trust domain': issueLeaf(mesh, {
      uris: [spiffeId.replace(/^spiffe:\/\/[^/]+/, 'spiffe://evil.example')],
    }),
    expired: issueLeaf(mesh, { uris, notBeforeMs: -2 * HOUR, notAfterMs: -HOUR }),
    'not yet valid': issueLeaf(mesh, { uris, notBeforeMs: HOUR, notAfterMs: 2 * HOUR }),
    'self-signed': selfSigned({ uris }),
    'of a foreign CA': issueLeaf(foreign, { uris }),
    'of a foreign CA that sends its root along': appendRoot(issueLeaf(foreign, { uris }), foreign),
    'with two URI SANs': issueLeaf(mesh, { uris: [spiffeId, `${spiffeId}-2`] }),
    'without a SAN': issueLeaf(mesh, {}),
    'with a SAN that is no SPIFFE ID of the mesh': issueLeaf(mesh, { uris: [`${spiffeId}/more`] }),
    'that is a CA': issueLeaf(mesh, { uris, authority: true }),
    'for another use': issueLeaf(mesh, { uris, usages: ['codeSigning'] }),
  };
}

const appendRoot = ({ cert, key }: Credentials, { root }: Signer): Credentials => ({ cert: cert + root, key });

/** The subject of a DER certificate, as it stands there: the sixth element of the TBSCertificate (RFC 5280, section 4.1). */
function subjectOf(der: Buffer): Buffer {
  let position = bodyOf(der, bodyOf(der, 0));
  for (let element = 0; element < 5; element++) position = endOf(der, position);
  return der.subarray(position, endOf(der, position));
}

function lengthAt(der: Buffer, position: number): { readonly body: number; readonly length: number } {
  const first = der[position + 1] ?? 0;
  if (first < 0x80) return { body: position + 2, length: first };
  const count = first & 0x7f;
  return { body: position + 2 + count, length: der.readUIntBE(position + 2, count) };
}

const bodyOf = (der: Buffer, position: number): number => lengthAt(der, position).body;

function endOf(der: Buffer, position: number): number {
  const { body, length } = lengthAt(der, position);
  return body + length;
}
