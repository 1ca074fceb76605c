import { createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { messageOf, PosternError } from '../errors.ts';
import {
  bitString,
  bitStringBytes,
  contextConstructed,
  contextPrimitive,
  type DerNode,
  decode,
  encode,
  integer,
  octetString,
  oid,
  oidText,
  partsOf,
  sequence,
  set,
} from './der.ts';
import { OID } from './oid.ts';
import { decodePem, encodePem } from './pem.ts';
import { isP256, publicKeyHash, subjectPublicKeyInfo } from './public-key.ts';

const LABEL = 'CERTIFICATE REQUEST';

/** A P-256 request is about 500 bytes; a 2048-byte SPIFFE ID makes it 3.5 KB. */
const LIMITS = { bytes: 16 * 1024, blocks: 1 } as const;

const URI_NAME = 6;

/** PKCS #10 (RFC 2986) request, PEM, that asks for the SPIFFE ID as its only name and proves possession of a P-256 key. */
export function createCsr(request: {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  readonly spiffeId: string;
}): string {
  const names = encode(sequence(contextPrimitive(URI_NAME, Buffer.from(request.spiffeId, 'utf8'))));
  const extensions = sequence(sequence(oid(OID.subjectAltName), octetString(names)));
  const info = sequence(
    integer(Buffer.of(0)),
    sequence(),
    decode(subjectPublicKeyInfo(request.publicKey)),
    contextConstructed(0, sequence(oid(OID.extensionRequest), set(extensions))),
  );
  const signature = sign('sha256', encode(info), request.privateKey);
  return encodePem(LABEL, encode(sequence(info, sequence(oid(OID.ecdsaWithSha256)), bitString(signature))));
}

export interface CertificateSigningRequest {
  readonly publicKey: KeyObject;
  /** SHA-256 of the SubjectPublicKeyInfo, hexadecimal. */
  readonly publicKeyHash: string;
}

/**
 * Reads a request from a peer. Only its key counts: which identity a certificate gets is decided by what the peer has proven, never by what it asks for.
 *
 * @throws PosternError ERR_BAD_CSR where it is not one PEM block of DER with a P-256 key and a valid ECDSA SHA-256 signature by that key.
 */
export function readCsr(pem: string): CertificateSigningRequest {
  try {
    const [der = Buffer.alloc(0)] = decodePem(pem, LABEL, LIMITS);
    const [info, algorithm, signature, ...rest] = partsOf(decode(der));
    if (info === undefined || rest.length > 0) throw new Error('not a PKCS #10 request');
    const publicKey = readKey(info);
    if (oidText(partsOf(algorithm)[0]) !== OID.ecdsaWithSha256) throw new Error('not signed with ECDSA SHA-256');
    if (!verify('sha256', encode(info), publicKey, bitStringBytes(signature))) {
      throw new Error('its signature does not hold');
    }
    return { publicKey, publicKeyHash: publicKeyHash(publicKey) };
  } catch (error) {
    throw new PosternError('ERR_BAD_CSR', `bad certificate request: ${messageOf(error)}`, { cause: error });
  }
}

function readKey(info: DerNode): KeyObject {
  const [, , key] = partsOf(info);
  if (key === undefined) throw new Error('not a PKCS #10 request');
  const publicKey = createPublicKey({ key: encode(key), format: 'der', type: 'spki' });
  if (!isP256(publicKey)) throw new Error('its key is not of curve P-256');
  // RFC 5480, 2.1.1: by its name. Peers would refuse a certificate that spells the curve out.
  const [algorithm] = partsOf(key);
  if (oidText(partsOf(algorithm)[1]) !== OID.prime256v1) throw new Error('its key does not name its curve');
  return publicKey;
}
