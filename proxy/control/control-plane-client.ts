import type { IncomingMessage } from 'node:http';
import { isIPv4, isIPv6 } from 'node:net';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import {
  type AckRequest,
  type CertificateRequest,
  type CertificateResponse,
  REPLICA_HEADER,
  type StreamRequest,
} from '../../mesh/push.ts';
import { type ControlPlaneConnector, ControlPlaneRefusal } from './control-plane-request.ts';
import type { CertificateAuthority } from './identity.ts';
import type { Proof } from './proof.ts';
import type { Svid } from './svid.ts';
import type { ControlPlaneTrust } from './trust.ts';

/** The API of mesh/push.ts as calls. Every connection that is opened shows the certificate that is current then. */
export class ControlPlaneClient implements CertificateAuthority {
  readonly #connector: ControlPlaneConnector;
  readonly #trust: ControlPlaneTrust;
  /** Of the replica that serves the stream; null: there is one only, or it said nothing. */
  #replica: string | null = null;

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
  async openStream(body: StreamRequest, svid: Svid, signal: AbortSignal): Promise<IncomingMessage> {
    const response = await this.#connector.open({ method: 'POST', path: '/v1/stream', body, svid, signal });
    this.#replica = replicaOrigin(response.headers[REPLICA_HEADER]);
    return response;
  }

  /** To the replica that serves the stream; where it cannot be reached by itself, to the control plane as a whole. */
  async acknowledge(body: AckRequest, svid: Svid, signal: AbortSignal): Promise<void> {
    const call = { method: 'POST', path: '/v1/ack', body, svid, signal } as const;
    const origin = this.#replica;
    if (origin !== null) {
      try {
        await this.#connector.call({ ...call, origin });
        return;
      } catch (error) {
        if (error instanceof ControlPlaneRefusal || signal.aborted) throw error;
        // Not tried again for this stream.
        if (this.#replica === origin) this.#replica = null;
      }
    }
    await this.#connector.call(call);
  }

  close(): void {
    this.#connector.close();
  }
}

/** Null where it is not an IP address and a port. */
function replicaOrigin(header: string | string[] | undefined): string | null {
  const [, v6, v4, port = ''] = /^(?:\[([0-9a-f:.]+)\]|([0-9.]+)):([1-9][0-9]{0,4})$/.exec(String(header ?? '')) ?? [];
  const host = isIPv6(v6 ?? '') ? `[${v6}]` : isIPv4(v4 ?? '') ? v4 : undefined;
  return host === undefined || Number(port) > 65_535 ? null : `https://${host}:${port}`;
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
