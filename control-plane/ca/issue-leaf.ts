import type { KeyObject } from 'node:crypto';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import type { CertificateResponse } from '../../mesh/push.ts';
import { parseSpiffeId, spiffeId } from '../../mesh/spiffe-id.ts';
import { buildLeaf, type Issuer } from '../../mesh/x509/build-certificate.ts';
import { readCertificate } from '../../mesh/x509/certificate.ts';
import { readCsr } from '../../mesh/x509/csr.ts';
import type { IssuedServerCertificate } from '../server/server-certificate.ts';
import { generateKeys } from './generation.ts';
import { type IssuingPolicy, leafBackdate, leafLifetime } from './issuing-policy.ts';

export interface WorkloadRequest {
  /** PKCS #10, PEM; only its key counts. */
  readonly csr: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Bounded by the policy. */
  readonly ttlSeconds?: number | undefined;
}

export interface ServerRequest {
  readonly spiffeId: string;
  readonly dnsNames?: readonly string[];
  readonly ipAddresses?: readonly string[];
  readonly ttlSeconds?: number;
}

export interface LeafSubject {
  readonly publicKey: KeyObject;
  readonly spiffeId: string;
  readonly dnsNames?: readonly string[];
  readonly ipAddresses?: readonly string[];
}

export interface IssuedLeaf {
  /** PEM: leaf, then what leads to the root, the root itself left out. */
  readonly chain: string;
  readonly serial: string;
  /** Unix time, milliseconds. */
  readonly notBefore: number;
  readonly notAfter: number;
}

export interface IssuingFacts {
  readonly issuer: Issuer;
  /** PEM of what leads from the leaf to the root: the issuer's certificate first, the root left out. */
  readonly chain: string;
  /** Unix time, milliseconds: no leaf may be valid after it. */
  readonly latestEnd: number;
  /** Why `latestEnd` is what it is, for the error where that has passed: what is wrong, and what to do. */
  readonly endReason: string;
  readonly policy: IssuingPolicy;
  /** Unix time, milliseconds. */
  readonly now: number;
}

/** Signs one leaf. @throws PosternError ERR_CA_EXPIRED where none could be valid now */
export function issueLeaf(facts: IssuingFacts, subject: LeafSubject, ttlSeconds: number | undefined): IssuedLeaf {
  const { issuer, policy } = facts;
  const lifetimeMs = leafLifetime(policy, ttlSeconds);
  const now = Math.floor(facts.now / 1000) * 1000;
  const notBefore = now - leafBackdate(lifetimeMs);
  const notAfter = Math.min(now + lifetimeMs, Math.floor(facts.latestEnd / 1000) * 1000);
  if (notAfter <= now) throw new PosternError('ERR_CA_EXPIRED', facts.endReason, { exitCode: EXIT.unavailable });
  const pem = buildLeaf({ ...subject, issuer, notBefore, notAfter });
  return { chain: pem + facts.chain, serial: readCertificate(pem).serial, notBefore, notAfter };
}

/** What every CA's answers say beside the leaf. */
interface Issuing {
  readonly trustDomain: string;
  readonly roots: readonly string[];
}

/**
 * A certificate for the identity that the caller has proven; `issue` signs the leaf.
 *
 * @throws PosternError ERR_BAD_CSR, ERR_SPIFFE_ID, and what `issue` throws
 */
export function answerWorkload(authority: Issuing, request: WorkloadRequest, issue: Issue): CertificateResponse {
  const { publicKey } = readCsr(request.csr);
  const { uri } = spiffeId(authority.trustDomain, request.namespace, request.serviceAccount);
  const leaf = issue({ publicKey, spiffeId: uri }, request.ttlSeconds);
  return { ...leaf, roots: authority.roots, spiffeId: uri };
}

/** A certificate with its key for the control plane's own listeners. @throws PosternError ERR_SPIFFE_ID, and what `issue` throws */
export function answerServer(authority: Issuing, request: ServerRequest, issue: Issue): IssuedServerCertificate {
  if (parseSpiffeId(request.spiffeId)?.trustDomain !== authority.trustDomain) {
    throw new PosternError('ERR_SPIFFE_ID', `not an identity of ${authority.trustDomain}: ${request.spiffeId}`);
  }
  const { publicKey, privateKey } = generateKeys();
  const { spiffeId: uri, dnsNames = [], ipAddresses = [] } = request;
  const leaf = issue({ publicKey, spiffeId: uri, dnsNames, ipAddresses }, request.ttlSeconds);
  return { ...leaf, privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string };
}

type Issue = (subject: LeafSubject, ttlSeconds: number | undefined) => IssuedLeaf;
