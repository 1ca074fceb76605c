import type { ConnectionOptions } from '../../http2/connection.ts';
import type { StagingPool } from '../../http2/staging.ts';
import type { HttpLimits } from '../../worker/messages.ts';

const MIB = 1024 * 1024;
/** A stream's receive window at first: what is held for a reader that does not read. */
const STREAM_WINDOW = 128 * 1024;
/** A connection's, and what its streams may hold before it is not given back: 8 MiB at most for all of them. */
const CONNECTION_WINDOW = 4 * MIB;
const MAX_FRAME = 64 * 1024;
/** What HPACK counts for a field besides its bytes (RFC 9113, 6.5.2). */
const FIELD_OVERHEAD = 32;
const MAX_PSEUDO = 4;
/** Of a header block, which HPACK can make little longer than the list: enough to answer 431 to what is somewhat too long. */
const BLOCK_SLACK = 16 * 1024;
const MIN_CHECK_MS = 50;
const MAX_CHECK_MS = 5_000;
const MIN_WRITE_STALL_MS = 30_000;

/** What an HTTP/2 connection of an application, or nested in a tunnel, may make us hold or wait for. */
export function sessionOptions(limits: HttpLimits, staging: StagingPool): ConnectionOptions {
  return {
    maxStreams: limits.maxConcurrentStreams,
    streamWindow: STREAM_WINDOW,
    connectionWindow: CONNECTION_WINDOW,
    maxBacklog: CONNECTION_WINDOW,
    maxFrame: MAX_FRAME,
    headers: {
      blockBytes: limits.headerBytes + BLOCK_SLACK,
      listBytes: limits.headerBytes + FIELD_OVERHEAD * limits.headerCount,
      fields: limits.headerCount + MAX_PSEUDO,
    },
    // A sidecar's own pool, or a gRPC client, may carry the cancelled calls of many.
    floods: { resets: 4_000, trifles: 100_000 },
    checkMs: checkInterval(limits),
    openingMs: limits.headersTimeoutMs,
    idleMs: limits.keepAliveTimeoutMs,
    pingAfterMs: 0,
    writeStallMs: Math.max(MIN_WRITE_STALL_MS, limits.streamIdleTimeoutMs),
    staging,
  };
}

/** Deadlines are kept to a quarter of the shortest. */
function checkInterval(limits: HttpLimits): number {
  const { headersTimeoutMs, keepAliveTimeoutMs, streamIdleTimeoutMs, requestTimeoutMs } = limits;
  const times = [headersTimeoutMs, keepAliveTimeoutMs, streamIdleTimeoutMs, requestTimeoutMs].filter((ms) => ms > 0);
  return Math.max(MIN_CHECK_MS, Math.min(MAX_CHECK_MS, ...times.map((ms) => ms / 4)));
}
