import { X509Certificate } from 'node:crypto';
import { EXIT, messageOf, PosternError } from '../errors.ts';
import { parseSpiffeId } from '../spiffe-id.ts';
import { decodePem } from './pem.ts';

const LABEL = 'CERTIFICATE';

/** Leaf and intermediate are under 2 KB; foreign CAs use RSA and long names. */
const LIMITS = { bytes: 64 * 1024, blocks: 10 } as const;

export interface Certificate {
  /** Upper-case hexadecimal without leading zeros. */
  readonly serial: string;
  /** Unix time, milliseconds. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** The workload identity it shows; null unless it has exactly one URI name and that is of the mesh's form. */
  readonly spiffeId: string | null;
  /** All URI names, in order. */
  readonly uris: readonly string[];
  readonly isAuthority: boolean;
  /** SHA-256 of the DER, upper-case hexadecimal with colons, as openssl prints it. */
  readonly fingerprint: string;
  readonly x509: X509Certificate;
}

/** Reads one certificate. @throws PosternError ERR_BAD_CERTIFICATE where the text is not exactly one PEM certificate. */
export function readCertificate(pem: string): Certificate {
  const [certificate, ...rest] = readCertificates(pem);
  if (certificate === undefined || rest.length > 0) {
    throw badCertificate(`one certificate was expected, not ${rest.length + 1}`);
  }
  return certificate;
}

/** Reads a chain or bundle of 1 to 10 certificates. @throws PosternError ERR_BAD_CERTIFICATE. */
export function readCertificates(pem: string): Certificate[] {
  try {
    return decodePem(pem, LABEL, LIMITS).map((der) => describeCertificate(new X509Certificate(der)));
  } catch (error) {
    throw badCertificate(messageOf(error), error);
  }
}

/** What the mesh asks of a certificate that was parsed already, e.g. a TLS peer's. */
export function describeCertificate(x509: X509Certificate): Certificate {
  const uris = uriNames(x509);
  const [uri] = uris;
  return {
    serial: x509.serialNumber.toUpperCase().replace(/^0+(?=.)/, ''),
    notBefore: x509.validFromDate.getTime(),
    notAfter: x509.validToDate.getTime(),
    spiffeId: uris.length === 1 && uri !== undefined && parseSpiffeId(uri) !== null ? uri : null,
    uris,
    isAuthority: x509.ca,
    fingerprint: x509.fingerprint256,
    x509,
  };
}

/** Whether the chain (leaf first, root left out) ends in a certificate that this root signed. Does not check validity. */
export function endsInRoot(chainPem: string, rootPem: string): boolean {
  const last = readCertificates(chainPem).at(-1);
  if (last === undefined) return false;
  const root = readCertificate(rootPem);
  return last.x509.checkIssued(root.x509) && last.x509.verify(root.x509.publicKey);
}

/**
 * Node prints names as `URI:…, DNS:…` and quotes those that hold a comma, a quote or a control character. Such a name cannot be of a mesh's own
 * making and a comma inside quotes could pose as a further name, so a list with any quote in it counts as one without names.
 */
function uriNames(x509: X509Certificate): string[] {
  const names = x509.subjectAltName ?? '';
  if (names.includes('"')) return [];
  return names
    .split(', ')
    .filter((name) => name.startsWith('URI:'))
    .map((name) => name.slice('URI:'.length));
}

const badCertificate = (reason: string, cause?: unknown): PosternError =>
  new PosternError('ERR_BAD_CERTIFICATE', `bad certificate: ${reason}`, { cause, exitCode: EXIT.dataError });
