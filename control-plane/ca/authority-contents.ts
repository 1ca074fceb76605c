import { createPrivateKey, type KeyObject } from 'node:crypto';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import { issuerOf } from '../../mesh/x509/build-certificate.ts';
import { type Certificate, readCertificate } from '../../mesh/x509/certificate.ts';
import { isP256 } from '../../mesh/x509/public-key.ts';
import { type AuthorityState, fileNames, parseState } from './authority-state.ts';
import type { Generation, SigningCertificate } from './generation.ts';

/** The CA as it is stored, by the file names of `authority-state.ts`: in a directory, or in the data of a Secret. */
export interface AuthorityContents {
  /**
   * Reads one file and parses it.
   *
   * @throws PosternError ERR_CA_DAMAGED, or where the file may not be used. What a parser says of a key is not shown: it may quote what it read.
   */
  parse<Value>(name: string, parse: (text: string) => Value): Value;
  /** Where a file is, for messages. */
  locate(name: string): string;
  /** @returns PosternError ERR_CA_DAMAGED that names the file, the fault and the way out */
  damage(name: string, fault: string): PosternError;
  /** What to do where it is the CA of another trust domain. */
  readonly otherTrustDomain: string;
}

export interface StoredAuthority {
  readonly state: AuthorityState;
  /** In the order of the state's. */
  readonly generations: readonly Generation[];
}

/**
 * Reads everything and checks that it fits together.
 *
 * @throws PosternError ERR_CA_DAMAGED, ERR_CA_TRUST_DOMAIN, and what `contents.parse` throws
 */
export function readAuthority(contents: AuthorityContents, trustDomain: string): StoredAuthority {
  const state = contents.parse(fileNames.state, parseState);
  if (state.trustDomain !== trustDomain) {
    const message =
      `${contents.locate(fileNames.state)} is of trust domain ${state.trustDomain}, but the configuration says ${trustDomain}: ` +
      `set trustDomain to ${state.trustDomain}, or ${contents.otherTrustDomain}`;
    throw new PosternError('ERR_CA_TRUST_DOMAIN', message, { exitCode: EXIT.config });
  }
  return {
    state,
    generations: state.generations.map(({ id, intermediate }) =>
      readGeneration(contents, { id, number: intermediate, trustDomain }),
    ),
  };
}

/** The files of a root: keys before the certificates that make them count. */
export function filesOfGeneration(generation: Generation): ReadonlyMap<string, string> {
  const { id, root } = generation;
  return new Map([
    [fileNames.rootKey(id), exportKey(root.privateKey)],
    [fileNames.rootCertificate(id), root.pem],
    ...filesOfIntermediate(generation),
  ]);
}

export function filesOfIntermediate({ id, intermediate }: Generation): ReadonlyMap<string, string> {
  return new Map([
    [fileNames.intermediateKey(id, intermediate.number), exportKey(intermediate.privateKey)],
    [fileNames.intermediateCertificate(id, intermediate.number), intermediate.pem],
  ]);
}

const exportKey = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }) as string;

interface Wanted {
  readonly id: number;
  readonly number: number;
  readonly trustDomain: string;
}

function readGeneration(contents: AuthorityContents, { id, number, trustDomain }: Wanted): Generation {
  const rootName = fileNames.rootCertificate(id);
  const root = readSigning(contents, rootName, fileNames.rootKey(id), trustDomain);
  const rootX509 = root.certificate.x509;
  if (!rootX509.checkIssued(rootX509) || !rootX509.verify(rootX509.publicKey)) {
    throw contents.damage(rootName, 'is not a self-signed root certificate');
  }
  const name = fileNames.intermediateCertificate(id, number);
  const intermediate = readSigning(contents, name, fileNames.intermediateKey(id, number), trustDomain);
  const { x509 } = intermediate.certificate;
  if (!x509.checkIssued(rootX509) || !x509.verify(rootX509.publicKey)) {
    throw contents.damage(name, `was not issued by ${contents.locate(rootName)}`);
  }
  return { id, root, intermediate: { ...intermediate, number, issuer: issuerOf(x509, intermediate.privateKey) } };
}

function readSigning(
  contents: AuthorityContents,
  certificateName: string,
  keyName: string,
  trustDomain: string,
): SigningCertificate {
  const pem = contents.parse(certificateName, (text) => text);
  const certificate = contents.parse(certificateName, readCertificate);
  const privateKey = contents.parse(keyName, readPrivateKey);
  if (!certificate.x509.checkPrivateKey(privateKey)) {
    throw contents.damage(keyName, `is not the private key of ${contents.locate(certificateName)}`);
  }
  checkAuthority(contents, certificateName, certificate, trustDomain);
  return { pem, certificate, privateKey };
}

function checkAuthority(
  contents: AuthorityContents,
  name: string,
  certificate: Certificate,
  trustDomain: string,
): void {
  if (!certificate.isAuthority) throw contents.damage(name, 'is not a CA certificate');
  const [uri] = certificate.uris;
  if (certificate.uris.length !== 1 || uri !== `spiffe://${trustDomain}`) {
    throw contents.damage(name, `is not of trust domain ${trustDomain}`);
  }
}

function readPrivateKey(pem: string): KeyObject {
  const key = createPrivateKey(pem);
  if (!isP256(key)) throw new Error('not a P-256 key');
  return key;
}
