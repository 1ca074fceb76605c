/** Methods of which a second request has the same effect as one (RFC 9110, 9.2.2). What is not known is not safe. */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE']);

export function isIdempotent(method: string): boolean {
  return IDEMPOTENT.has(method);
}

/** gRPC's codes that stand for a failure of the server, as Envoy maps them to 5xx: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS. */
const GRPC_FAILURES: readonly number[] = [2, 4, 12, 13, 14, 15];

/** Whether a response counts against the endpoint that gave it. @param grpcStatus null: not gRPC, or none came. */
export function isServerFailure(status: number, grpcStatus: number | null): boolean {
  return status >= 500 || (grpcStatus !== null && GRPC_FAILURES.includes(grpcStatus));
}

/**
 * Whether a request that failed before any byte of the response, and of whose body nothing has been sent, may be sent again (RFC 9110, 9.2.2).
 * @param kind `refused`: the other side has not processed it; `reset`: it may have
 */
export function maySendAgain(kind: 'refused' | 'reset' | 'protocol' | 'timeout' | 'evicted', method: string): boolean {
  return kind === 'refused' || (kind === 'reset' && isIdempotent(method));
}
