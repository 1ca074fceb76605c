import type { HttpLimits } from '../../../proxy/worker/messages.ts';

/** The defaults of proxy/config-http.ts. */
export const HTTP_LIMITS: HttpLimits = {
  headerBytes: 60 * 1024,
  headerCount: 100,
  targetBytes: 16 * 1024,
  headersTimeoutMs: 10_000,
  keepAliveTimeoutMs: 3_600_000,
  streamIdleTimeoutMs: 300_000,
  requestTimeoutMs: 0,
  maxConcurrentStreams: 100,
  maxConnectionsPerEndpoint: 1_024,
  maxPendingRequests: 1_024,
  maxIdlePerEndpoint: 128,
  idlePoolTimeoutMs: 60_000,
  detectTimeoutMs: 200,
};
