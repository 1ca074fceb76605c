import type { X509Certificate } from 'node:crypto';
import { bytesOfPrimitive, type DerNode, decode, isBoolean, isContext, isInteger, oidText, partsOf } from './der.ts';
import { OID } from './oid.ts';

/** What the extensions of a CA certificate say that node:crypto does not tell. */
export interface AuthorityExtensions {
  /** basicConstraints' cA; false where the extension is missing. */
  readonly isAuthority: boolean;
  /** How many CA certificates may follow below it; null: any number. */
  readonly pathLength: number | null;
  /** keyUsage has keyCertSign; true where there is no keyUsage at all (RFC 5280, section 4.2.1.3: no restriction). */
  readonly signsCertificates: boolean;
  readonly subjectKeyIdentifier: Buffer | null;
}

// keyUsage, RFC 5280, section 4.2.1.3: bit 5 from the most significant.
const KEY_CERT_SIGN = 0b0000_0100;
const EXTENSIONS_TAG = 3;

/** @throws Error where the certificate is not DER, or has an extension twice or one of these in another form than RFC 5280's. */
export function extensionsOf(certificate: X509Certificate): AuthorityExtensions {
  const [toBeSigned] = partsOf(decode(certificate.raw));
  const values = extensionValues(toBeSigned);
  const constraints = readConstraints(values.get(OID.basicConstraints));
  const usage = values.get(OID.keyUsage);
  const identifier = values.get(OID.subjectKeyIdentifier);
  return {
    ...constraints,
    // The first byte of a BIT STRING counts its unused bits.
    signsCertificates: usage === undefined || ((bytesOfPrimitive(decode(usage))[1] ?? 0) & KEY_CERT_SIGN) !== 0,
    subjectKeyIdentifier: identifier === undefined ? null : bytesOfPrimitive(decode(identifier)),
  };
}

/** By object identifier: the DER that each extension's OCTET STRING holds. */
function extensionValues(toBeSigned: DerNode | undefined): ReadonlyMap<string, Buffer> {
  const values = new Map<string, Buffer>();
  const tagged = partsOf(toBeSigned).find((part) => isContext(part, EXTENSIONS_TAG));
  if (tagged === undefined || typeof tagged.value === 'string') return values;
  for (const extension of partsOf(tagged.value[0])) {
    const parts = partsOf(extension);
    const id = oidText(parts[0]);
    if (values.has(id)) throw new Error(`the extension ${id} twice`);
    values.set(id, bytesOfPrimitive(parts.at(-1)));
  }
  return values;
}

function readConstraints(value: Buffer | undefined): Pick<AuthorityExtensions, 'isAuthority' | 'pathLength'> {
  if (value === undefined) return { isAuthority: false, pathLength: null };
  const parts = partsOf(decode(value));
  // BasicConstraints ::= SEQUENCE { cA BOOLEAN DEFAULT FALSE, pathLenConstraint INTEGER (0..MAX) OPTIONAL }
  const flag = parts.find(isBoolean);
  const length = parts.find(isInteger);
  return {
    isAuthority: flag !== undefined && bytesOfPrimitive(flag)[0] === 0xff,
    pathLength: length === undefined ? null : countOf(bytesOfPrimitive(length)),
  };
}

function countOf(bytes: Buffer): number {
  if (bytes.length === 0 || bytes.length > 4 || ((bytes[0] ?? 0) & 0x80) !== 0) throw new Error('not a path length');
  return bytes.readUIntBE(0, bytes.length);
}
