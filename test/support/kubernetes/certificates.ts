import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import {
  bitString,
  boolean,
  contextConstructed,
  contextPrimitive,
  type DerNode,
  decode,
  encode,
  integer,
  octetString,
  oid,
  sequence,
  set,
  time,
  utf8String,
} from '../../../mesh/x509/der.ts';
import { OID } from '../../../mesh/x509/oid.ts';
import { encodePem } from '../../../mesh/x509/pem.ts';
import { subjectPublicKeyInfo } from '../../../mesh/x509/public-key.ts';

/** A certificate with its key, PEM, as node:tls takes them. */
export interface Credentials {
  readonly cert: string;
  readonly key: string;
}

const DAY = 86_400_000;
const GENERAL_NAME = { dns: 2, ip: 7 } as const;

/** A P-256 key. */
export const newKey = (): KeyObject => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;

/** Who a client certificate stands for: O is a group, CN the user. */
function subject(commonName: string, organizations: readonly string[]): DerNode {
  const attribute = (type: string, value: string): DerNode => set(sequence(oid(type), utf8String(value)));
  const groups = organizations.map((name) => attribute(OID.organization, name));
  return sequence(...groups, attribute(OID.commonName, commonName));
}

const extension = (id: string, critical: boolean, value: DerNode): DerNode =>
  sequence(oid(id), ...(critical ? [boolean(true)] : []), octetString(encode(value)));

/** Names that a server's certificate holds: addresses are those of IPv4. */
function alternativeNames(hosts: readonly string[]): DerNode {
  const names = hosts.map((host) =>
    /^[\d.]+$/.test(host)
      ? contextPrimitive(GENERAL_NAME.ip, Buffer.from(host.split('.').map(Number)))
      : contextPrimitive(GENERAL_NAME.dns, Buffer.from(host, 'ascii')),
  );
  return extension(OID.subjectAltName, false, sequence(...names));
}

/** The cluster's CA: of the API server and of client certificates. */
export class ClusterAuthority {
  /** PEM. */
  readonly certificate: string;
  readonly #key = newKey();
  readonly #name = subject('stand-in-cluster', []);

  constructor() {
    const constraints = extension(OID.basicConstraints, true, sequence(boolean(true)));
    this.certificate = this.#sign(this.#name, this.#key, [constraints]);
  }

  /** @param hosts DNS names and IPv4 addresses. */
  server(hosts: readonly string[]): Credentials {
    return this.#issue(subject('kube-apiserver', []), [alternativeNames(hosts)]);
  }

  client(user: string, groups: readonly string[]): Credentials {
    return this.#issue(subject(user, groups), []);
  }

  #issue(name: DerNode, extensions: readonly DerNode[]): Credentials {
    const key = newKey();
    return {
      cert: this.#sign(name, key, extensions),
      key: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    };
  }

  #sign(name: DerNode, key: KeyObject, extensions: readonly DerNode[]): string {
    const algorithm = sequence(oid(OID.ecdsaWithSha256));
    const serial = randomBytes(16);
    // Positive, and without leading zeros.
    serial[0] = 0x40 | ((serial[0] ?? 0) & 0x3f);
    const body = sequence(
      contextConstructed(0, integer(Buffer.of(2))),
      integer(serial),
      algorithm,
      this.#name,
      sequence(time(Date.now() - DAY), time(Date.now() + 365 * DAY)),
      name,
      decode(subjectPublicKeyInfo(createPublicKey(key))),
      ...(extensions.length === 0 ? [] : [contextConstructed(3, sequence(...extensions))]),
    );
    const signature = sign('sha256', encode(body), this.#key);
    return encodePem('CERTIFICATE', encode(sequence(body, algorithm, bitString(signature))));
  }
}
