import { createPrivateKey, type KeyObject } from 'node:crypto';
import { EXIT, messageOf, PosternError } from '../../../mesh/errors.ts';
import { type Issuer, issuerOf } from '../../../mesh/x509/build-certificate.ts';
import { type Certificate, readCertificates } from '../../../mesh/x509/certificate.ts';
import { extensionsOf } from '../../../mesh/x509/extensions.ts';
import { field } from '../../../policy/json.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { isoTime } from '../../ca/authority-steps.ts';
import { secretData } from './object-data.ts';

/** What a `kubernetes.io/tls` Secret lets us issue with. */
export interface ExternalIssuer {
  readonly certificate: Certificate;
  readonly issuer: Issuer;
  /** PEM, the issuer's certificate first, the root left out; empty where the root itself issues. */
  readonly chain: string;
  readonly root: Certificate;
  readonly rootPem: string;
  /** Unix time, milliseconds, at which the first certificate of the chain ends. */
  readonly notAfter: number;
}

// Peers read at most six certificates of a chain, the leaf among them.
const MAX_CHAIN = 5;
const MIN_RSA_BITS = 2048;
const CURVES = ['prime256v1', 'secp384r1', 'secp521r1'];

/**
 * Reads the Secret and checks that leaves can be issued with it which every sidecar will accept. Keys of the Secret: `tls.crt` (the issuing CA's
 * certificate, then those above it), `tls.key`, and `ca.crt` (the root) where `tls.crt` does not end in a self-signed certificate.
 *
 * @throws PosternError ERR_CA_EXTERNAL that says what is wrong with which key; nothing of `tls.key` is in it
 */
export function readExternalIssuer(object: JsonObject, now: number, where: string): ExternalIssuer {
  const bad = (key: string, fault: string): PosternError => {
    const message = `${where}, ${key}, ${fault}: look at what fills it (cert-manager's Certificate must have isCA: true)`;
    return new PosternError('ERR_CA_EXTERNAL', message, { exitCode: EXIT.dataError });
  };
  if (field(object, 'type') !== 'kubernetes.io/tls') throw bad('type', 'must be kubernetes.io/tls');
  const data = secretData(object, where);
  const issued = certificatesOf(data.get('tls.crt'), (fault) => bad('tls.crt', fault));
  const anchors = data.has('ca.crt') ? certificatesOf(data.get('ca.crt'), (fault) => bad('ca.crt', fault)) : [];
  const path = pathToRoot(issued, anchors, bad);
  checkPath(path, now, bad);
  const [certificate] = path;
  const root = path.at(-1);
  if (certificate === undefined || root === undefined) throw bad('tls.crt', 'is empty');
  const privateKey = readKey(data.get('tls.key'), certificate, (fault) => bad('tls.key', fault));
  return {
    certificate,
    issuer: issuerOf(certificate.x509, privateKey),
    chain: path.slice(0, -1).map(pemOf).join(''),
    root,
    rootPem: pemOf(root),
    notAfter: Math.min(...path.map(({ notAfter }) => notAfter)),
  };
}

type Fault = (key: string, fault: string) => PosternError;

/** From the issuing certificate to a self-signed one, both included. `ca.crt`, where there is one, must hold that one. */
function pathToRoot(issued: readonly Certificate[], anchors: readonly Certificate[], bad: Fault): Certificate[] {
  const path: Certificate[] = [];
  for (const certificate of issued) {
    const below = path.at(-1);
    if (below !== undefined && !isIssuedBy(below, certificate)) {
      throw bad('tls.crt', 'is not a chain: each certificate must have been issued by the next');
    }
    path.push(certificate);
  }
  for (let last = path.at(-1); last !== undefined && !isSelfSigned(last); last = path.at(-1)) {
    const child = last;
    const parent = anchors.find((anchor) => isIssuedBy(child, anchor));
    if (parent === undefined || path.length > MAX_CHAIN) {
      const fault =
        anchors.length === 0
          ? 'is missing, and tls.crt does not end in a self-signed root'
          : 'does not hold the self-signed root above tls.crt';
      throw bad('ca.crt', fault);
    }
    path.push(parent);
  }
  const root = path.at(-1);
  if (anchors.length > 0 && !anchors.some(({ fingerprint }) => fingerprint === root?.fingerprint)) {
    throw bad('ca.crt', 'is not the root that tls.crt ends in');
  }
  return path;
}

/** RFC 5280, section 6.1: who may sign, how many CAs deep, and when. */
function checkPath(path: readonly Certificate[], now: number, bad: Fault): void {
  if (path.length > MAX_CHAIN) throw bad('tls.crt', `is a chain of more than ${MAX_CHAIN} certificates`);
  for (const [depth, { x509, notBefore, notAfter }] of path.entries()) {
    const which = `has a certificate (${x509.subject.replaceAll('\n', ', ').slice(0, 200)})`;
    const { isAuthority, signsCertificates, pathLength } = readExtensions(x509, bad);
    if (!isAuthority) throw bad('tls.crt', `${which} that is not a CA's (basicConstraints CA:TRUE)`);
    if (!signsCertificates) throw bad('tls.crt', `${which} whose keyUsage is not keyCertSign`);
    if (pathLength !== null && pathLength < depth)
      throw bad('tls.crt', `${which} that allows only ${pathLength} CAs below it`);
    checkSigner(x509.publicKey, (fault) => bad('tls.crt', `${which} whose key ${fault}`));
    if (now < notBefore) {
      throw bad('tls.crt', `${which} that begins only at ${isoTime(notBefore)}, and the clock says ${isoTime(now)}`);
    }
    if (now >= notAfter)
      throw bad('tls.crt', `${which} that ended at ${isoTime(notAfter)}, and the clock says ${isoTime(now)}`);
  }
}

function readExtensions(x509: Certificate['x509'], bad: Fault): ReturnType<typeof extensionsOf> {
  try {
    return extensionsOf(x509);
  } catch (error) {
    throw bad('tls.crt', `has a certificate that cannot be read (${messageOf(error)})`);
  }
}

function readKey(pem: string | undefined, certificate: Certificate, bad: (fault: string) => PosternError): KeyObject {
  if (pem === undefined || pem === '') throw bad('is missing');
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    // What the parser says may quote what it read.
    throw bad('is not a private key in PEM without a passphrase');
  }
  checkSigner(key, bad);
  if (!certificate.x509.checkPrivateKey(key)) throw bad('is not the key of the first certificate of tls.crt');
  return key;
}

function checkSigner(key: KeyObject, bad: (fault: string) => PosternError): void {
  const { modulusLength = 0, namedCurve = '' } = key.asymmetricKeyDetails ?? {};
  const isGood =
    (key.asymmetricKeyType === 'rsa' && modulusLength >= MIN_RSA_BITS) ||
    (key.asymmetricKeyType === 'ec' && CURVES.includes(namedCurve));
  if (!isGood) throw bad(`must be EC of P-256, P-384 or P-521, or RSA of at least ${MIN_RSA_BITS} bits`);
}

function certificatesOf(pem: string | undefined, bad: (fault: string) => PosternError): Certificate[] {
  if (pem === undefined || pem === '') throw bad('is missing');
  try {
    return readCertificates(pem);
  } catch (error) {
    throw bad(`cannot be read (${messageOf(error)})`);
  }
}

const isIssuedBy = ({ x509 }: Certificate, issuer: Certificate): boolean =>
  x509.checkIssued(issuer.x509) && x509.verify(issuer.x509.publicKey);

const isSelfSigned = (certificate: Certificate): boolean => isIssuedBy(certificate, certificate);

/** Ends with a line feed, so that certificates may follow each other. */
const pemOf = ({ x509 }: Certificate): string => `${x509.toString().trimEnd()}\n`;
