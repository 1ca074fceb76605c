import { messageOf, PosternError } from '../../mesh/errors.ts';
import type { CertificateRequest, CertificateResponse } from '../../mesh/push.ts';
import { spiffeId } from '../../mesh/spiffe-id.ts';
import { readCsr } from '../../mesh/x509/csr.ts';
import { ApiError } from '../api-error.ts';
import type { ControlPlaneMetrics } from '../metrics.ts';
import { type Handler, sendJson } from './api.ts';
import { readJsonBody } from './body.ts';
import type { RateLimit } from './rate-limit.ts';
import { readCertificateRequest } from './request-schema.ts';

/** What the certificate authority offers this API. */
export interface CertificateIssuer {
  readonly trustDomain: string;
  issueWorkload(request: {
    readonly csr: string;
    readonly namespace: string;
    readonly serviceAccount: string;
    readonly ttlSeconds?: number | undefined;
  }): CertificateResponse;
}

export interface JoinTokenRedeemer {
  redeem(
    token: string,
    publicKeyHash: string,
  ): {
    readonly namespace: string;
    readonly serviceAccount: string;
    readonly labels: { readonly [key: string]: string };
  };
}

export interface CertificatesOptions {
  readonly authority: CertificateIssuer;
  readonly tokens: JoinTokenRedeemer;
  readonly isRevoked: (subject: { readonly spiffeId: string | null; readonly serial: string }) => boolean;
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

const TOKEN_REFUSALS = ['token-unknown', 'token-used', 'token-expired'];
/** No certificate has this serial; only the identity is asked about. */
const NO_SERIAL = '';

/** `POST /v1/certificates`: a certificate for the identity that was proven, whatever the request says. */
export function certificatesHandler(options: CertificatesOptions): Handler {
  return async (caller, request, response) => {
    limit(options.limits.byAddress, `address ${caller.address}`);
    // Before the body: a peer without any proof has nothing to send.
    const peer = caller.bearer === null ? caller.identity() : null;
    const wanted = readCertificateRequest(await readJsonBody(request));
    // Before the token: one that cannot be served must not use it up.
    const { publicKeyHash } = checkCsr(wanted);
    const proven: Proven =
      peer === null ? redeem(options, caller.bearer ?? '', publicKeyHash) : { ...peer.spiffeId, proof: 'certificate' };
    if (wanted.spiffeId !== undefined && wanted.spiffeId !== proven.uri) {
      throw new ApiError(403, 'identity-mismatch', `what was proven is ${proven.uri}: ask for that or for nothing`);
    }
    limit(options.limits.byIdentity, proven.uri);
    if (options.isRevoked({ spiffeId: proven.uri, serial: NO_SERIAL })) {
      throw new ApiError(403, 'revoked', 'this identity is revoked');
    }
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

function redeem(options: CertificatesOptions, token: string, publicKeyHash: string): Proven {
  try {
    const { namespace, serviceAccount, labels } = options.tokens.redeem(token, publicKeyHash);
    const { uri } = spiffeId(options.authority.trustDomain, namespace, serviceAccount);
    if (Object.keys(labels).length > 0) options.bindLabels(uri, labels);
    return { uri, namespace, serviceAccount, proof: 'token' };
  } catch (error) {
    if (!(error instanceof PosternError) || !TOKEN_REFUSALS.includes(error.code)) throw error;
    throw new ApiError(401, error.code, error.message);
  }
}

function limit(rate: RateLimit, key: string): void {
  if (!rate.take(key)) throw new ApiError(429, 'too-many-requests', 'too many certificate requests: try again later');
}
