import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { buildIntermediate, buildRoot, type Issuer, issuerOf } from '../../mesh/x509/build-certificate.ts';
import { type Certificate, readCertificate } from '../../mesh/x509/certificate.ts';

/** A certificate of the CA's own with its key. */
export interface SigningCertificate {
  readonly pem: string;
  readonly certificate: Certificate;
  readonly privateKey: KeyObject;
}

/** A root and the intermediate that issues for it. Immutable: a renewed intermediate makes a new generation object of the same id. */
export interface Generation {
  readonly id: number;
  readonly root: SigningCertificate;
  readonly intermediate: SigningCertificate & { readonly number: number; readonly issuer: Issuer };
}

export interface Lifetimes {
  readonly rootSeconds: number;
  readonly intermediateSeconds: number;
}

const DAY_SECONDS = 86_400;

export const LIFETIMES: Lifetimes = { rootSeconds: 3650 * DAY_SECONDS, intermediateSeconds: 365 * DAY_SECONDS };

/** Certificates begin this much before they are made, for verifiers whose clock is behind. */
export const BACKDATE_MS = 60_000;

export function createGeneration(id: number, trustDomain: string, now: number, lifetimes: Lifetimes): Generation {
  const { publicKey, privateKey } = generateKeys();
  const pem = buildRoot({
    publicKey,
    privateKey,
    trustDomain,
    notBefore: now - BACKDATE_MS,
    notAfter: now + lifetimes.rootSeconds * 1000,
  });
  const root = { pem, certificate: readCertificate(pem), privateKey };
  return { id, root, intermediate: createIntermediate(root, 1, trustDomain, now, lifetimes) };
}

/** Ends with its root at the latest. */
export function createIntermediate(
  root: SigningCertificate,
  number: number,
  trustDomain: string,
  now: number,
  lifetimes: Lifetimes,
): Generation['intermediate'] {
  const { publicKey, privateKey } = generateKeys();
  const pem = buildIntermediate({
    publicKey,
    trustDomain,
    issuer: issuerOf(root.certificate.x509, root.privateKey),
    notBefore: now - BACKDATE_MS,
    notAfter: intermediateEnd(root, now, lifetimes),
  });
  const certificate = readCertificate(pem);
  return { number, pem, certificate, privateKey, issuer: issuerOf(certificate.x509, privateKey) };
}

/** Unix time, milliseconds, at which an intermediate made now would end. */
export const intermediateEnd = (root: SigningCertificate, now: number, lifetimes: Lifetimes): number =>
  Math.min(now + lifetimes.intermediateSeconds * 1000, root.certificate.notAfter);

export const generateKeys = (): { readonly publicKey: KeyObject; readonly privateKey: KeyObject } =>
  generateKeyPairSync('ec', { namedCurve: 'P-256' });
