import type { SpanData } from '../worker/messages.ts';
import type { RequestRecord } from './request-record.ts';
import type { TraceContext } from './trace-context.ts';

type Attributes = { [key: string]: string | number | boolean };

/** Longest text of a client's in a span, in characters. */
const MAX_TEXT = 1024;

/** Methods that may name a span; any other is the client's choice (HTTP semantic conventions, `http.request.method`). */
const METHODS: ReadonlySet<string> = new Set([
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'CONNECT',
  'OPTIONS',
  'TRACE',
  'PATCH',
]);

const PROTOCOL_VERSIONS = { 'http/1.0': '1.0', 'http/1.1': '1.1', h2: '2' } as const;

/** What a server answers for its own failure, not the client's (gRPC semantic conventions, "Status"): UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS. */
const GRPC_SERVER_FAULTS: ReadonlySet<number> = new Set([2, 4, 12, 13, 14, 15]);

const bounded = (text: string): string => (text.length > MAX_TEXT ? text.slice(0, MAX_TEXT) : text);

/** OpenTelemetry: a client's span fails with the answer, a server's only with its own. */
function hasFailed({ direction, flags, grpc, grpcStatus, status }: RequestRecord): boolean {
  if (flags !== '-') return true;
  if (grpc && grpcStatus !== null)
    return direction === 'inbound' ? GRPC_SERVER_FAULTS.has(grpcStatus) : grpcStatus !== 0;
  return status >= (direction === 'inbound' ? 500 : 400);
}

/** `server.address` and `server.port` of an authority. */
function serverOf(authority: string): Attributes {
  const [, host = authority, port] = /^(.*?)(?::(\d{1,5}))?$/.exec(authority) ?? [];
  return port === undefined ? { 'server.address': host } : { 'server.address': host, 'server.port': Number(port) };
}

/** `/package.Service/Method`; null where it is not of that form. */
function grpcName(path: string): { readonly service: string; readonly method: string } | null {
  const slash = path.indexOf('/', 1);
  if (!path.startsWith('/') || slash < 2 || slash === path.length - 1) return null;
  return { service: path.slice(1, slash), method: path.slice(slash + 1) };
}

function grpcAttributes(record: RequestRecord, to: Attributes): string | null {
  const name = grpcName(bounded(record.path));
  to['rpc.system'] = 'grpc';
  if (record.grpcStatus !== null) to['rpc.grpc.status_code'] = record.grpcStatus;
  if (name === null) return null;
  to['rpc.service'] = name.service;
  to['rpc.method'] = name.method;
  return `${name.service}/${name.method}`;
}

/** Who the two sides are, and what policy said of them. */
function meshAttributes(record: RequestRecord, to: Attributes): void {
  const { source, destination, service, decision } = record;
  to['postern.source.workload'] = `${source.namespace}/${source.workload}`;
  to['postern.destination.workload'] = `${destination.namespace}/${destination.workload}`;
  if (source.principal !== null) to['postern.source.principal'] = source.principal;
  if (destination.principal !== null) to['postern.destination.principal'] = destination.principal;
  if (service !== null) to['peer.service'] = service.hostname;
  if (record.flags !== '-') to['postern.response_flags'] = record.flags;
  if (decision === null) return;
  to['postern.policy.reason'] = decision.reason;
  if (decision.policy !== null) to['postern.policy'] = decision.policy;
}

/**
 * The span of a request that has ended: a client's outbound, a server's inbound, with the attributes of OpenTelemetry's semantic conventions for
 * HTTP (1.23) and gRPC. The query is in none of them: queries carry secrets. @param start and `end`: Unix time, nanoseconds
 */
export function spanOf(
  record: RequestRecord,
  trace: TraceContext & { readonly spanId: string },
  start: string,
  end: string,
): SpanData {
  const inbound = record.direction === 'inbound';
  const known = METHODS.has(record.method);
  const peer = inbound ? record.from : record.to;
  const failed = hasFailed(record);
  const attributes: Attributes = {
    'http.request.method': known ? record.method : '_OTHER',
    'url.scheme': 'http',
    'url.path': bounded(record.path),
    ...serverOf(bounded(record.authority)),
    'network.protocol.name': 'http',
    'network.protocol.version': PROTOCOL_VERSIONS[record.version],
    'network.peer.address': peer.address,
    'network.peer.port': peer.port,
    'http.request.size': record.requestBytes,
    'http.response.size': record.responseBytes,
  };
  if (inbound) attributes['client.address'] = peer.address;
  if (!known) attributes['http.request.method_original'] = bounded(record.method);
  if (record.status !== 0) attributes['http.response.status_code'] = record.status;
  if (record.userAgent !== null) attributes['user_agent.original'] = bounded(record.userAgent);
  if (record.requestId !== null) attributes['guid:x-request-id'] = bounded(record.requestId);
  if (record.attempts > 1) attributes['http.request.resend_count'] = record.attempts - 1;
  if (failed)
    attributes['error.type'] = record.flags === '-' ? String(record.grpcStatus ?? record.status) : record.flags;
  meshAttributes(record, attributes);
  const rpc = record.grpc ? grpcAttributes(record, attributes) : null;
  return {
    traceId: trace.traceId,
    spanId: trace.spanId,
    parentSpanId: trace.parentSpanId,
    name: rpc ?? (known ? record.method : 'HTTP'),
    kind: inbound ? 'server' : 'client',
    start,
    end,
    attributes,
    failed,
  };
}
