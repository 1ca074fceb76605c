import asn1, { type Asn1 } from 'node-forge/lib/asn1.js';

/** DER (X.690) as the X.509 code writes it; the only file that knows node-forge, which keeps bytes in strings of characters 0 – 255. */
export type DerNode = Asn1;

const MAX_DEPTH = 16;

const { Class, Type } = asn1;

const binary = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
const bytesOf = (text: string): Buffer => Buffer.from(text, 'latin1');
const primitive = (type: number, value: string): DerNode => asn1.create(Class.UNIVERSAL, type, false, value);

export const sequence = (...parts: readonly DerNode[]): DerNode =>
  asn1.create(Class.UNIVERSAL, Type.SEQUENCE, true, parts);

export const set = (...parts: readonly DerNode[]): DerNode => asn1.create(Class.UNIVERSAL, Type.SET, true, parts);

export const nullValue = (): DerNode => primitive(Type.NULL, '');

/** Two's complement, big-endian. */
export const integer = (bytes: Uint8Array): DerNode => primitive(Type.INTEGER, binary(bytes));

export const boolean = (value: boolean): DerNode => primitive(Type.BOOLEAN, value ? '\xff' : '\0');

export const oid = (dotted: string): DerNode => primitive(Type.OID, asn1.oidToDer(dotted).getBytes());

export const utf8String = (text: string): DerNode => primitive(Type.UTF8, binary(Buffer.from(text, 'utf8')));

export const octetString = (content: Uint8Array): DerNode => primitive(Type.OCTETSTRING, binary(content));

/** `unusedBits`: how many of the last byte's low bits do not belong to the string. */
export const bitString = (bytes: Uint8Array, unusedBits = 0): DerNode =>
  primitive(Type.BITSTRING, String.fromCharCode(unusedBits) + binary(bytes));

/** IMPLICIT context tag over a primitive type. */
export const contextPrimitive = (tag: number, bytes: Uint8Array): DerNode =>
  asn1.create(Class.CONTEXT_SPECIFIC, tag, false, binary(bytes));

/** EXPLICIT context tag, or IMPLICIT over a constructed type. */
export const contextConstructed = (tag: number, ...parts: readonly DerNode[]): DerNode =>
  asn1.create(Class.CONTEXT_SPECIFIC, tag, true, parts);

/** Unix time, milliseconds, whole seconds of it: UTCTime through 2049, GeneralizedTime from 2050 (RFC 5280, section 4.1.2.5). */
export function time(unixMs: number): DerNode {
  const date = new Date(unixMs);
  return date.getUTCFullYear() < 2050
    ? primitive(Type.UTCTIME, asn1.dateToUtcTime(date))
    : primitive(Type.GENERALIZEDTIME, asn1.dateToGeneralizedTime(date));
}

export const encode = (node: DerNode): Buffer => bytesOf(asn1.toDer(node).getBytes());

/**
 * Decodes DER and nothing looser: what does not encode again to the same bytes is refused, so the encoding of a part is exactly the part that was received.
 *
 * @throws Error where the bytes are not DER.
 */
export function decode(der: Uint8Array): DerNode {
  const node = asn1.fromDer(binary(der), {
    strict: true,
    parseAllBytes: true,
    decodeBitStrings: false,
    maxDepth: MAX_DEPTH,
  });
  if (!encode(node).equals(der)) throw new Error('not in the distinguished encoding');
  return node;
}

/** Parts of a SEQUENCE. @throws Error where it is something else. */
export function partsOf(node: DerNode | undefined): readonly DerNode[] {
  if (node?.type !== Type.SEQUENCE || node.tagClass !== Class.UNIVERSAL || typeof node.value === 'string') {
    throw new Error('a SEQUENCE was expected');
  }
  return node.value;
}

/** Content of a BIT STRING of whole bytes. @throws Error where it is something else. */
export function bitStringBytes(node: DerNode | undefined): Buffer {
  if (node?.type !== Type.BITSTRING || node.tagClass !== Class.UNIVERSAL || typeof node.value !== 'string') {
    throw new Error('a BIT STRING was expected');
  }
  const bytes = bytesOf(node.value);
  if (bytes[0] !== 0) throw new Error('a BIT STRING of whole bytes was expected');
  return bytes.subarray(1);
}

/** Dotted form of an OBJECT IDENTIFIER. @throws Error where it is something else. */
export function oidText(node: DerNode | undefined): string {
  if (node?.type !== Type.OID || node.tagClass !== Class.UNIVERSAL || typeof node.value !== 'string') {
    throw new Error('an OBJECT IDENTIFIER was expected');
  }
  return asn1.derToOid(node.value);
}

/** Content of a primitive value of any type; of a BIT STRING with the count of unused bits before it. @throws Error where it is constructed. */
export function bytesOfPrimitive(node: DerNode | undefined): Buffer {
  if (typeof node?.value !== 'string') throw new Error('a primitive value was expected');
  return bytesOf(node.value);
}

export const isContext = (node: DerNode, tag: number): boolean =>
  node.tagClass === Class.CONTEXT_SPECIFIC && node.type === tag;

export const isBoolean = (node: DerNode): boolean => node.tagClass === Class.UNIVERSAL && node.type === Type.BOOLEAN;

export const isInteger = (node: DerNode): boolean => node.tagClass === Class.UNIVERSAL && node.type === Type.INTEGER;
