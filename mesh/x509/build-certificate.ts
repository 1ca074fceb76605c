import { type KeyObject, randomBytes, sign, type X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { PosternError } from '../errors.ts';
import {
  bitString,
  boolean,
  contextConstructed,
  contextPrimitive,
  type DerNode,
  decode,
  encode,
  integer,
  nullValue,
  octetString,
  oid,
  partsOf,
  sequence,
  set,
  time,
  utf8String,
} from './der.ts';
import { extensionsOf } from './extensions.ts';
import { OID } from './oid.ts';
import { encodePem } from './pem.ts';
import { keyIdentifier, subjectPublicKeyInfo } from './public-key.ts';

/** Who signs: name and key identifier are taken over into each certificate it issues, byte for byte. */
export interface Issuer {
  readonly name: DerNode;
  readonly keyIdentifier: Buffer;
  readonly privateKey: KeyObject;
}

/** Unix time, milliseconds; a certificate holds whole seconds, fractions are cut off. */
export interface Validity {
  readonly notBefore: number;
  readonly notAfter: number;
}

const GENERAL_NAME = { dns: 2, uri: 6, ip: 7 } as const;

// keyUsage bits (RFC 5280, section 4.2.1.3), most significant first: digitalSignature is 0, keyCertSign 5, cRLSign 6.
const DIGITAL_SIGNATURE = { bits: 0b1000_0000, unused: 7 } as const;
const SIGN_CERTIFICATES = { bits: 0b0000_0110, unused: 1 } as const;

const HOST_NAME = /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/i;

export function issuerOf(certificate: X509Certificate, privateKey: KeyObject): Issuer {
  const [toBeSigned] = partsOf(decode(certificate.raw));
  // TBSCertificate (RFC 5280, section 4.1): version, serialNumber, signature, issuer, validity, subject.
  const name = partsOf(toBeSigned)[5] ?? sequence();
  // A foreign CA may have named its key in another way: verifiers compare the two identifiers.
  const named = extensionsOf(certificate).subjectKeyIdentifier;
  return { name, keyIdentifier: named ?? keyIdentifier(certificate.publicKey), privateKey };
}

/** A self-signed root, PEM; it names its trust domain as SPIFFE asks of signing certificates (X509-SVID, section 2). */
export function buildRoot(
  request: Validity & { readonly publicKey: KeyObject; readonly privateKey: KeyObject; readonly trustDomain: string },
): string {
  const identifier = keyIdentifier(request.publicKey);
  const name = authorityName('root', identifier);
  const issuer: Issuer = { name, keyIdentifier: identifier, privateKey: request.privateKey };
  return assemble(request, issuer, name, authorityExtensions(request.trustDomain, 1));
}

/** An intermediate that signs leaves only, PEM. */
export function buildIntermediate(
  request: Validity & { readonly publicKey: KeyObject; readonly trustDomain: string; readonly issuer: Issuer },
): string {
  const name = authorityName('intermediate', keyIdentifier(request.publicKey));
  return assemble(request, request.issuer, name, authorityExtensions(request.trustDomain, 0));
}

export interface LeafRequest extends Validity {
  readonly publicKey: KeyObject;
  /** The only URI name. */
  readonly spiffeId: string;
  readonly issuer: Issuer;
  readonly dnsNames?: readonly string[];
  /** IPv4 or IPv6, text. */
  readonly ipAddresses?: readonly string[];
}

/**
 * An X.509-SVID, PEM: no subject, hence a critical subjectAltName (RFC 5280, section 4.1.2.6).
 *
 * @throws PosternError ERR_CERTIFICATE_NAME where a name is neither a host name nor an address.
 */
export function buildLeaf(request: LeafRequest): string {
  const names = [
    contextPrimitive(GENERAL_NAME.uri, Buffer.from(request.spiffeId, 'utf8')),
    ...(request.dnsNames ?? []).map((name) => contextPrimitive(GENERAL_NAME.dns, hostName(name))),
    ...(request.ipAddresses ?? []).map((address) => contextPrimitive(GENERAL_NAME.ip, addressBytes(address))),
  ];
  return assemble(request, request.issuer, sequence(), [
    extension(OID.keyUsage, true, bitString(Buffer.of(DIGITAL_SIGNATURE.bits), DIGITAL_SIGNATURE.unused)),
    extension(OID.extendedKeyUsage, false, sequence(oid(OID.serverAuth), oid(OID.clientAuth))),
    // cA is FALSE by default, and DER leaves defaults out.
    extension(OID.basicConstraints, true, sequence()),
    extension(OID.subjectAltName, true, sequence(...names)),
  ]);
}

function assemble(
  request: Validity & { readonly publicKey: KeyObject },
  issuer: Issuer,
  subject: DerNode,
  extensions: readonly DerNode[],
): string {
  if (!(request.notBefore < request.notAfter)) {
    throw new PosternError('ERR_CERTIFICATE_VALIDITY', 'a certificate must end after it begins');
  }
  const { algorithm, digest } = signatureOf(issuer.privateKey);
  const toBeSigned = sequence(
    contextConstructed(0, integer(Buffer.of(2))),
    integer(randomSerial()),
    algorithm,
    issuer.name,
    sequence(time(request.notBefore), time(request.notAfter)),
    subject,
    decode(subjectPublicKeyInfo(request.publicKey)),
    contextConstructed(
      3,
      sequence(
        ...extensions,
        extension(OID.subjectKeyIdentifier, false, octetString(keyIdentifier(request.publicKey))),
        extension(OID.authorityKeyIdentifier, false, sequence(contextPrimitive(0, issuer.keyIdentifier))),
      ),
    ),
  );
  const signature = sign(digest, encode(toBeSigned), issuer.privateKey);
  return encodePem('CERTIFICATE', encode(sequence(toBeSigned, algorithm, bitString(signature))));
}

/** How a CA's key signs: RFC 5758, section 3.2; RFC 8017, appendix A.2.4. @throws PosternError ERR_CERTIFICATE_ISSUER */
function signatureOf(key: KeyObject): { readonly algorithm: DerNode; readonly digest: string } {
  if (key.asymmetricKeyType === 'rsa') {
    return { algorithm: sequence(oid(OID.sha256WithRsa), nullValue()), digest: 'sha256' };
  }
  switch (key.asymmetricKeyDetails?.namedCurve) {
    case 'prime256v1':
      return { algorithm: sequence(oid(OID.ecdsaWithSha256)), digest: 'sha256' };
    case 'secp384r1':
      return { algorithm: sequence(oid(OID.ecdsaWithSha384)), digest: 'sha384' };
    case 'secp521r1':
      return { algorithm: sequence(oid(OID.ecdsaWithSha512)), digest: 'sha512' };
    default:
      throw new PosternError(
        'ERR_CERTIFICATE_ISSUER',
        'the key of an issuer must be RSA, or EC of P-256, P-384 or P-521',
      );
  }
}

/** 16 random bytes, the first between 0x40 and 0x7f: positive, no leading zeros to disagree about, 126 random bits. */
function randomSerial(): Buffer {
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  return serial;
}

function authorityExtensions(trustDomain: string, pathLength: number): DerNode[] {
  const name = contextPrimitive(GENERAL_NAME.uri, Buffer.from(`spiffe://${trustDomain}`, 'utf8'));
  return [
    extension(OID.keyUsage, true, bitString(Buffer.of(SIGN_CERTIFICATES.bits), SIGN_CERTIFICATES.unused)),
    extension(OID.basicConstraints, true, sequence(boolean(true), integer(Buffer.of(pathLength)))),
    extension(OID.subjectAltName, false, sequence(name)),
  ];
}

/** The key identifier tells the roots of a rotation apart: path building goes by name first. */
const authorityName = (kind: string, identifier: Buffer): DerNode =>
  sequence(
    set(sequence(oid(OID.organization), utf8String('Postern'))),
    set(sequence(oid(OID.commonName), utf8String(`Postern ${kind} ${identifier.toString('hex', 0, 8)}`))),
  );

const extension = (id: string, critical: boolean, value: DerNode): DerNode =>
  sequence(oid(id), ...(critical ? [boolean(true)] : []), octetString(encode(value)));

function hostName(name: string): Buffer {
  if (!HOST_NAME.test(name)) {
    throw new PosternError('ERR_CERTIFICATE_NAME', `not a host name: ${JSON.stringify(name)}`);
  }
  return Buffer.from(name.toLowerCase(), 'ascii');
}

function addressBytes(address: string): Buffer {
  const version = address.includes('%') ? 0 : isIP(address);
  if (version === 4) return Buffer.from(address.split('.').map(Number));
  if (version === 6) {
    // The URL standard's form: lower-case groups, at most one `::`, no embedded IPv4.
    const canonical = new URL(`http://[${address}]`).hostname.slice(1, -1);
    const [head = '', tail] = canonical.split('::');
    const left = groups(head);
    const right = groups(tail ?? '');
    const zeros = new Array<number>(8 - left.length - right.length).fill(0);
    const bytes = Buffer.alloc(16);
    for (const [index, group] of [...left, ...zeros, ...right].entries()) bytes.writeUInt16BE(group, index * 2);
    return bytes;
  }
  throw new PosternError('ERR_CERTIFICATE_NAME', `not an IP address: ${JSON.stringify(address)}`);
}

const groups = (text: string): number[] =>
  text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16));
