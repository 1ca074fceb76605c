import { messageOf } from '../../mesh/errors.ts';
import type { CertificateRequest } from '../../mesh/push.ts';
import { spiffeId } from '../../mesh/spiffe-id.ts';
import { readCsr } from '../../mesh/x509/csr.ts';
import { ApiError } from '../api-error.ts';
import { isControlPlane } from '../ca/control-plane-identity.ts';
import type { ControlPlaneMetrics } from '../metrics.ts';
import type { Authority, BearerTokens, TokenCircumstances } from '../platform.ts';
import { type Caller, type Handler, sendJson } from './api.ts';
import { readJsonBody } from './body.ts';
import type { PeerIdentity } from './peer-identity.ts';
import type { RateLimit } from './rate-limit.ts';
import { readCertificateRequest } from './request-schema.ts';

export interface CertificatesOptions {
  readonly authority: Pick<Authority, 'trustDomain' | 'issueWorkload'>;
  readonly tokens: BearerTokens;
  /**
   * Whether this client certificate without a token beside it is proof enough for the next one. A stolen key could renew itself for ever where it is:
   * an identity that can show a token each time should have to.
   */
  readonly renewsByCertificate: (peer: PeerIdentity, peerAddress: string) => boolean;
  /** By its SPIFFE ID. */
  readonly isRevoked: (identity: string) => boolean;
  /** Makes the labels of a join token those that the identity may register with. */
  readonly bindLabels: (identity: string, labels: { readonly [key: string]: string }) => void;
  readonly limits: { readonly byAddress: RateLimit; readonly byIdentity: RateLimit };
  readonly metrics: ControlPlaneMetrics;
}

interface Proven {
  readonly uri: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly proof: 'token' | 'certificate';
}

/** `POST /v1/certificates`: a certificate for the identity that was proven, whatever the request says. */
export function certificatesHandler(options: CertificatesOptions): Handler {
  return async (caller, request, response) => {
    limit(options.limits.byAddress, caller.address);
    // Before the body: a peer without any proof has nothing to send.
    const peer = caller.bearer === null ? caller.identity() : null;
    const wanted = readCertificateRequest(await readJsonBody(request));
    // Before the token: one that cannot be served must not use it up.
    const { publicKeyHash } = checkCsr(wanted);
    const circumstances = { publicKeyHash, peerAddress: caller.address, peer: peer ?? certificateBeside(caller) };
    const proven: Proven =
      peer === null
        ? await redeem(options, caller.bearer ?? '', circumstances)
        : { ...renewable(options, peer, caller.address).spiffeId, proof: 'certificate' };
    // Finding that out may have taken a while.
    if (response.destroyed) return;
    if (wanted.spiffeId !== undefined && wanted.spiffeId !== proven.uri) {
      throw new ApiError(403, 'identity-mismatch', `what was proven is ${proven.uri}: ask for that or for nothing`);
    }
    if (isControlPlane(proven)) {
      throw new ApiError(
        403,
        'identity-reserved',
        `${proven.uri} is the control plane's own: run the workload as another`,
      );
    }
    limit(options.limits.byIdentity, proven.uri);
    if (options.isRevoked(proven.uri)) throw new ApiError(403, 'revoked', 'this identity is revoked');
    const { csr, ttlSeconds } = wanted;
    const { namespace, serviceAccount } = proven;
    const issued = options.authority.issueWorkload({ csr, namespace, serviceAccount, ttlSeconds });
    options.metrics.issued.inc({ proof: proven.proof });
    sendJson(response, 200, issued);
  };
}

function checkCsr({ csr }: CertificateRequest): { readonly publicKeyHash: string } {
  try {
    return readCsr(csr);
  } catch (error) {
    throw new ApiError(400, 'bad-csr', messageOf(error), { cause: error });
  }
}

async function redeem(options: CertificatesOptions, token: string, circumstances: TokenCircumstances): Promise<Proven> {
  const { namespace, serviceAccount, labels } = await options.tokens.redeem(token, circumstances);
  const { uri } = spiffeId(options.authority.trustDomain, namespace, serviceAccount);
  if (Object.keys(labels).length > 0) options.bindLabels(uri, labels);
  return { uri, namespace, serviceAccount, proof: 'token' };
}

function renewable(options: CertificatesOptions, peer: PeerIdentity, peerAddress: string): PeerIdentity {
  if (options.renewsByCertificate(peer, peerAddress)) return peer;
  throw new ApiError(
    401,
    'token-needed',
    'this certificate is no proof of its identity from this address: show a token beside it',
  );
}

/** The client certificate that is shown beside a token: one that is not good counts as none, since the token is to prove who asks. */
function certificateBeside(caller: Caller): PeerIdentity | null {
  if (!caller.hasCertificate) return null;
  try {
    return caller.identity();
  } catch (error) {
    if (error instanceof ApiError) return null;
    throw error;
  }
}

function limit(rate: RateLimit, key: string): void {
  if (!rate.take(key)) throw new ApiError(429, 'too-many-requests', 'too many certificate requests: try again later');
}
