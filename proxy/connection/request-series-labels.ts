/** Status codes of RFC 9110, 15 and the IANA registry that stand as labels for themselves. */
const REGISTERED: ReadonlySet<number> = new Set([
  100, 101, 102, 103, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 307, 308, 400,
  401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425,
  426, 428, 429, 431, 451, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511,
]);

/**
 * The status code as a label: one that is not registered counts as the first of its class, which is what it means to whoever does not know it
 * (RFC 9110, 15), so that an application cannot make series by the hundred. 0: no response was sent, as in Envoy.
 */
export function statusLabel(status: number): number {
  if (REGISTERED.has(status)) return status;
  return status >= 100 && status < 600 ? Math.trunc(status / 100) * 100 : 0;
}

const GRPC_UNKNOWN = 2;
const GRPC_LAST = 16;

/** A gRPC status as a label; what is none of the 17 is UNKNOWN, as clients take it to be. Null stays null: there was none. */
export function grpcStatusLabel(status: number | null): number | null {
  if (status === null) return null;
  return Number.isInteger(status) && status >= 0 && status <= GRPC_LAST ? status : GRPC_UNKNOWN;
}
