import { createHash } from 'node:crypto';
import { sidecarStatus } from '../../admin/status.ts';
import { ApiError } from '../../api-error.ts';
import type { Enforcement } from '../../push/enforcement.ts';
import type { SidecarStream } from '../../push/sidecar-stream.ts';
import { type Handler, sendJson } from '../../server/api.ts';
import { readJsonBody } from '../../server/body.ts';
import { MAX_NAMES, MalformedReport, type ReplicaReport, readQuestion } from './report.ts';

export interface ReplicaHandlerOptions {
  /** The control plane's SPIFFE ID, which the asker must show. */
  readonly identity: string;
  readonly pod: string;
  readonly streams: () => readonly SidecarStream[];
  readonly enforcement: () => ReadonlyMap<string, Enforcement>;
}

/** `POST /v1/replica`: what this replica knows of its own sidecars, for the others. */
export function replicaHandler(options: ReplicaHandlerOptions): Handler {
  return async (caller, request, response) => {
    requireControlPlane(caller.identity().spiffeId.uri, options.identity);
    const body = await readJsonBody(request);
    requireControlPlane(caller.identity().spiffeId.uri, options.identity);
    try {
      const { roots, sidecars, policies } = readQuestion(body);
      const streams = options.streams();
      const untrusting = roots.length === 0 ? [] : streams.filter((stream) => !trusts(stream, roots));
      const report: ReplicaReport = {
        pod: options.pod,
        connected: streams.length,
        untrusting: { count: untrusting.length, names: untrusting.slice(0, MAX_NAMES).map(({ name }) => name) },
        sidecars: sidecars ? streams.map(sidecarStatus) : null,
        policies: policies ? Object.fromEntries(options.enforcement()) : null,
      };
      sendJson(response, 200, report);
    } catch (error) {
      if (error instanceof MalformedReport) throw new ApiError(400, 'bad-request', error.message);
      throw error;
    }
  };
}

/** How roots are named between replicas. */
export function rootDigest(pem: string): string {
  return createHash('sha256').update(pem).digest('base64url');
}

function requireControlPlane(found: string, identity: string): void {
  if (found !== identity) throw new ApiError(403, 'identity-mismatch', 'only the control plane may ask this');
}

function trusts({ trustedRoots }: SidecarStream, digests: readonly string[]): boolean {
  const held = new Set(trustedRoots.map(rootDigest));
  return digests.every((digest) => held.has(digest));
}
