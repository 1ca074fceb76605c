import type { IncomingMessage } from 'node:http';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import type { AckRequest, CertificateRequest, CertificateResponse, StreamRequest } from '../../mesh/push.ts';
import type { ControlPlaneConnector } from './control-plane-request.ts';
import type { CertificateAuthority, Proof } from './identity.ts';
import type { Svid } from './svid.ts';
import type { ControlPlaneTrust } from './trust.ts';

/** The API of mesh/push.ts as calls. Every connection that is opened shows the certificate that is current then. */
export class ControlPlaneClient implements CertificateAuthority {
  readonly #connector: ControlPlaneConnector;
  readonly #trust: ControlPlaneTrust;

  constructor(connector: ControlPlaneConnector, trust: ControlPlaneTrust) {
    this.#connector = connector;
    this.#trust = trust;
  }

  /** The control plane's own certificate tells the trust domain; fetching the public trust bundle makes it show it. */
  async trustDomain(signal: AbortSignal): Promise<string> {
    if (this.#trust.trustDomain === null)
      await this.#connector.call({ method: 'GET', path: '/v1/trust-bundle', signal });
    const { trustDomain } = this.#trust;
    if (trustDomain === null)
      throw new PosternError('ERR_CONTROL_PLANE_IDENTITY', 'the control plane did not show an identity');
    return trustDomain;
  }

  async requestCertificate(body: CertificateRequest, proof: Proof, signal: AbortSignal): Promise<CertificateResponse> {
    const answer = await this.#connector.call({ method: 'POST', path: '/v1/certificates', body, ...proof, signal });
    return readCertificateResponse(answer.body);
  }

  /** The response is an endless application/x-ndjson of `ServerMessage`. */
  openStream(body: StreamRequest, svid: Svid, signal: AbortSignal): Promise<IncomingMessage> {
    return this.#connector.open({ method: 'POST', path: '/v1/stream', body, svid, signal });
  }

  async acknowledge(body: AckRequest, svid: Svid, signal: AbortSignal): Promise<void> {
    await this.#connector.call({ method: 'POST', path: '/v1/ack', body, svid, signal });
  }

  close(): void {
    this.#connector.close();
  }
}

function readCertificateResponse(body: string): CertificateResponse {
  try {
    const { chain, roots, spiffeId, notBefore, notAfter, serial } = JSON.parse(body) as Partial<CertificateResponse>;
    const texts = [chain, spiffeId, serial].every((part) => typeof part === 'string');
    const times = [notBefore, notAfter].every((part) => Number.isSafeInteger(part));
    const bundle = Array.isArray(roots) && roots.length > 0 && roots.every((root) => typeof root === 'string');
    if (texts && times && bundle) return JSON.parse(body) as CertificateResponse;
  } catch {
    // Reported below, like any other answer that does not fit: its text may hold anything.
  }
  throw new PosternError(
    'ERR_CONTROL_PLANE_ANSWER',
    'the control plane answered a certificate request with something else than a certificate',
    {
      exitCode: EXIT.unavailable,
    },
  );
}
