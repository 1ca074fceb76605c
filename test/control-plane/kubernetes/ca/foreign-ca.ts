import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
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
  sequence,
  set,
  time,
  utf8String,
} from '../../../../mesh/x509/der.ts';
import { OID } from '../../../../mesh/x509/oid.ts';
import { encodePem } from '../../../../mesh/x509/pem.ts';
import { subjectPublicKeyInfo } from '../../../../mesh/x509/public-key.ts';
import type { JsonObject } from '../../../../policy/types.ts';
import { HOUR, START } from '../../ca/support.ts';

/** A CA as others make them: no SPIFFE name, key identifiers by SHA-1 (RFC 5280, section 4.2.1.2, method 1). */
export interface ForeignCa {
  readonly pem: string;
  readonly key: KeyObject;
  readonly keyPem: string;
  readonly name: DerNode;
  readonly identifier: Buffer;
}

export interface ForeignOptions {
  readonly keys?: KeyKind;
  readonly isAuthority?: boolean;
  readonly pathLength?: number;
  /** Null: no keyUsage at all. */
  readonly keyUsage?: 'sign' | 'digitalSignature' | null;
  readonly notBefore?: number;
  readonly notAfter?: number;
}

export type KeyKind = 'P-256' | 'P-384' | 'P-521' | 'secp256k1' | 'RSA-2048' | 'RSA-1024' | 'ed25519';

// Making RSA keys is slow: each kind once, for every CA of a file.
const rsaKeys = new Map<KeyKind, Keys>();

interface Keys {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

let count = 0;

/** Self-signed where no issuer is given. */
export function foreignCa(issuer: ForeignCa | null, options: ForeignOptions = {}): ForeignCa {
  const { publicKey, privateKey } = keysOf(options.keys ?? 'P-256');
  count += 1;
  const name = sequence(set(sequence(oid(OID.commonName), utf8String(`Foreign CA ${count}`))));
  const info = subjectPublicKeyInfo(publicKey);
  const identifier = createHash('sha1').update(info).digest();
  const signer = issuer?.key ?? privateKey;
  const [algorithm, digest] = algorithmOf(signer);
  const serial = randomBytes(12);
  serial[0] = 0x41;
  const toBeSigned = sequence(
    contextConstructed(0, integer(Buffer.of(2))),
    integer(serial),
    algorithm,
    issuer?.name ?? name,
    sequence(time(options.notBefore ?? START - HOUR), time(options.notAfter ?? START + 10_000 * HOUR)),
    name,
    decode(info),
    contextConstructed(3, sequence(...extensionsOf(options, identifier, issuer?.identifier ?? identifier))),
  );
  const signature = sign(digest, encode(toBeSigned), signer);
  const pem = encodePem('CERTIFICATE', encode(sequence(toBeSigned, algorithm, bitString(signature))));
  const keyPem = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
  return { pem, key: privateKey, keyPem, name, identifier };
}

export function tlsSecret(data: { readonly [key: string]: string }, type = 'kubernetes.io/tls'): JsonObject {
  const encoded = Object.entries(data).map(([key, text]) => [key, Buffer.from(text).toString('base64')]);
  const metadata = { namespace: 'postern-system', name: 'external-ca' };
  return { apiVersion: 'v1', kind: 'Secret', type, metadata, data: Object.fromEntries(encoded) };
}

function extensionsOf(options: ForeignOptions, identifier: Buffer, above: Buffer): DerNode[] {
  const { isAuthority = true, pathLength, keyUsage = 'sign' } = options;
  const length = pathLength === undefined ? [] : [integer(Buffer.of(pathLength))];
  const usage = keyUsage === 'sign' ? bitString(Buffer.of(0b0000_0110), 1) : bitString(Buffer.of(0b1000_0000), 7);
  return [
    extension(OID.basicConstraints, true, isAuthority ? sequence(boolean(true), ...length) : sequence()),
    ...(keyUsage === null ? [] : [extension(OID.keyUsage, true, usage)]),
    extension(OID.subjectKeyIdentifier, false, octetString(identifier)),
    extension(OID.authorityKeyIdentifier, false, sequence(contextPrimitive(0, above))),
  ];
}

const extension = (id: string, critical: boolean, value: DerNode): DerNode =>
  sequence(oid(id), ...(critical ? [boolean(true)] : []), octetString(encode(value)));

function keysOf(kind: KeyKind): Keys {
  if (kind === 'ed25519') return generateKeyPairSync('ed25519');
  if (!kind.startsWith('RSA')) return generateKeyPairSync('ec', { namedCurve: kind });
  const keys = rsaKeys.get(kind) ?? generateKeyPairSync('rsa', { modulusLength: Number(kind.slice(4)) });
  rsaKeys.set(kind, keys);
  return keys;
}

function algorithmOf(key: KeyObject): [DerNode, string | null] {
  if (key.asymmetricKeyType === 'rsa') return [sequence(oid(OID.sha256WithRsa), nullValue()), 'sha256'];
  if (key.asymmetricKeyType === 'ed25519') return [sequence(oid('1.3.101.112')), null];
  return [sequence(oid(OID.ecdsaWithSha256)), 'sha256'];
}
