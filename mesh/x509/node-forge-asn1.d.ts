/** The part of node-forge that is loaded: @types/node-forge describes only the whole library, which costs a sidecar several megabytes more. */
declare module 'node-forge/lib/asn1.js' {
  export interface Asn1 {
    readonly tagClass: number;
    readonly type: number;
    readonly constructed: boolean;
    /** Bytes as characters 0 – 255, or the parts of a constructed value. */
    readonly value: string | readonly Asn1[];
  }

  interface ByteBuffer {
    getBytes(): string;
  }

  const asn1: {
    readonly Class: { readonly UNIVERSAL: number; readonly CONTEXT_SPECIFIC: number };
    readonly Type: {
      readonly BOOLEAN: number;
      readonly INTEGER: number;
      readonly BITSTRING: number;
      readonly OCTETSTRING: number;
      readonly NULL: number;
      readonly OID: number;
      readonly UTF8: number;
      readonly SEQUENCE: number;
      readonly SET: number;
      readonly UTCTIME: number;
      readonly GENERALIZEDTIME: number;
    };
    create(tagClass: number, type: number, constructed: boolean, value: string | readonly Asn1[]): Asn1;
    fromDer(
      bytes: string,
      options: { strict: boolean; parseAllBytes: boolean; decodeBitStrings: boolean; maxDepth: number },
    ): Asn1;
    toDer(node: Asn1): ByteBuffer;
    oidToDer(oid: string): ByteBuffer;
    derToOid(bytes: string): string;
    dateToUtcTime(date: Date): string;
    dateToGeneralizedTime(date: Date): string;
  };
  export default asn1;
}
