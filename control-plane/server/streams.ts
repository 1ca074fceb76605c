import { REPLICA_HEADER } from '../../mesh/push.ts';
import { canonicalAddress, formatListenAddress } from '../addresses.ts';
import { ApiError } from '../api-error.ts';
import { FIXED } from '../config.ts';
import type { WorkloadAdmission } from '../platform.ts';
import type { Pusher } from '../push/pusher.ts';
import { SidecarStream } from '../push/sidecar-stream.ts';
import type { Registrations } from '../registry/registrations.ts';
import type { Handler } from './api.ts';
import { readJsonBody } from './body.ts';
import { RateLimit } from './rate-limit.ts';
import { readAckRequest, readStreamRequest } from './request-schema.ts';
import { ResponseSink } from './response-sink.ts';

export interface StreamsOptions {
  readonly pusher: Pusher;
  readonly registrations: Registrations;
  readonly admission: WorkloadAdmission;
  /** Whether to say by which address this very replica is reached. */
  readonly tellsReplica: boolean;
}

/** `POST /v1/stream`: registers the workload and keeps its sidecar up to date for as long as both live. */
export function streamHandler(options: StreamsOptions): Handler {
  const { pusher, registrations, admission } = options;
  const { streamBurst, streamsPerSecond, maxStreamsPerIdentity } = FIXED.server;
  const rate = new RateLimit(streamBurst, streamsPerSecond);
  return async (caller, request, response) => {
    caller.identity();
    const { workload, proxyVersion, resume } = readStreamRequest(await readJsonBody(request));
    // Again, since reading the body took a moment in which the identity may have been revoked.
    const before = caller.identity();
    const registered = await admission.admit(workload, { identity: before.spiffeId, peerAddress: caller.address });
    if (response.destroyed) return;
    // And again: it may have taken a question to another server.
    const { spiffeId, serial, notAfter, chain } = caller.identity();
    const name = `${registered.workload.namespace}/${registered.workload.name}`;
    // Each may be sent everything there is. By identity too: whoever calls himself as another does must not use up what is the other's.
    if (!rate.take(`${spiffeId.uri} ${name}`)) {
      throw new ApiError(429, 'too-many-requests', `${name} opens too many streams: try again later`);
    }
    // A pod or machine that the cluster declares has one stream, and its service account as many as there are of them.
    if (registered.isDeclared !== true && pusher.countOf(spiffeId.uri) >= maxStreamsPerIdentity) {
      throw new ApiError(429, 'too-many-streams', `more than ${maxStreamsPerIdentity} streams of ${spiffeId.uri}`);
    }
    const lease = registrations.register(registered);
    const stream = new SidecarStream({
      registered,
      lease,
      certificate: { serial, notAfter, chain },
      proxyVersion,
      peerAddress: caller.address,
      sink: new ResponseSink(response),
      resume: resume?.version ?? null,
    });
    response.once('close', () => pusher.close(stream, 'peer'));
    // Writing to a peer that has gone away is an error of the response too; `close` follows it.
    response.on('error', () => response.destroy());
    const { localAddress, localPort } = request.socket;
    const address = options.tellsReplica ? canonicalAddress(localAddress ?? '') : null;
    const replica =
      address === null ? {} : { [REPLICA_HEADER]: formatListenAddress({ address, port: localPort ?? 0 }) };
    response.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store', ...replica });
    response.flushHeaders();
    pusher.open(stream, lease.changed);
  };
}

/** `POST /v1/ack` */
export function ackHandler(pusher: Pusher): Handler {
  return async (caller, request, response) => {
    caller.identity();
    const ack = readAckRequest(await readJsonBody(request));
    const { spiffeId } = caller.identity();
    pusher.acknowledge(`${spiffeId.namespace}/${ack.workload}`, spiffeId.uri, ack);
    response.writeHead(204).end();
  };
}

/** `GET /v1/trust-bundle` */
export function trustBundleHandler(roots: () => readonly string[]): Handler {
  return (_caller, _request, response) => {
    response.writeHead(200, { 'content-type': 'application/x-pem-file' }).end(roots().join(''));
  };
}
