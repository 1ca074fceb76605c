import type { LocalReply, RequestHead } from '../protocol/http-head.ts';

/** Envoy's body of a 503 of its own. @param why in its words: `overflow`, `remote connection failure`, `connection termination` … */
export function brokenOff(why: string): string {
  return `upstream connect error or disconnect/reset before headers. reset reason: ${why}`;
}

/** gRPC's codes for HTTP's, as Envoy's local replies have them (grpc/doc/http-grpc-status-mapping.md). */
const GRPC_STATUS: { readonly [status: number]: number } = {
  400: 13,
  401: 16,
  403: 7,
  404: 12,
  429: 14,
  502: 14,
  503: 14,
  504: 14,
};
const GRPC_UNKNOWN = 2;

export function isGrpc(head: RequestHead): boolean {
  const type = head.get('content-type');
  return type !== null && /^application\/grpc(?:$|[+;\s])/i.test(type);
}

/** A local reply in the form that the caller understands: for gRPC trailers only, with HTTP status 200. */
export function replyFor(
  head: RequestHead,
  status: number,
  message: string,
  headers: readonly (readonly [string, string])[] = [],
): LocalReply {
  if (!isGrpc(head)) return { status, headers: [['content-type', 'text/plain'], ...headers], body: message };
  return {
    status: 200,
    headers: [
      ['content-type', 'application/grpc'],
      ['grpc-status', String(GRPC_STATUS[status] ?? GRPC_UNKNOWN)],
      ['grpc-message', encodeURI(message)],
      ...headers,
    ],
    body: '',
  };
}

/** Of a reply in gRPC's form. */
export function grpcStatusOf(reply: LocalReply): number {
  return Number(reply.headers.find(([name]) => name === 'grpc-status')?.[1] ?? GRPC_UNKNOWN);
}
