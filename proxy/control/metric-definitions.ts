/** What /metrics tells: names, types, labels, units. Names without "(unstable)" in their help are kept from version to version. */
export interface MetricDefinition {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly labels: readonly string[];
  /** How the values of several workers become one; counters and histograms are always summed. */
  readonly merge: 'sum' | 'max';
}

/** Istio's labels of TCP metrics, in the order in which Istio documents them. Unknown values are `unknown`. */
export const ISTIO_TCP_LABELS = [
  'reporter',
  'source_workload',
  'source_workload_namespace',
  'source_principal',
  'source_app',
  'source_version',
  'source_canonical_service',
  'source_canonical_revision',
  'source_cluster',
  'destination_workload',
  'destination_workload_namespace',
  'destination_principal',
  'destination_app',
  'destination_version',
  'destination_service',
  'destination_service_name',
  'destination_service_namespace',
  'destination_canonical_service',
  'destination_canonical_revision',
  'destination_cluster',
  'request_protocol',
  'response_flags',
  'connection_security_policy',
] as const;

/** Istio's labels of HTTP and gRPC metrics, in the order in which Istio documents them. Unknown values are `unknown`; HTTP's gRPC status is empty. */
export const ISTIO_HTTP_LABELS = [
  ...ISTIO_TCP_LABELS.slice(0, ISTIO_TCP_LABELS.indexOf('response_flags')),
  'response_code',
  'grpc_response_status',
  'response_flags',
  'connection_security_policy',
] as const;

const counter = (name: string, labels: readonly string[], help: string): MetricDefinition => ({
  name,
  type: 'counter',
  help,
  labels,
  merge: 'sum',
});

const gauge = (
  name: string,
  labels: readonly string[],
  help: string,
  merge: 'sum' | 'max' = 'sum',
): MetricDefinition => ({
  name,
  type: 'gauge',
  help,
  labels,
  merge,
});

/** In the buckets that all histograms have, `HISTOGRAM_BOUNDS`. */
const histogram = (name: string, labels: readonly string[], help: string): MetricDefinition => ({
  name,
  type: 'histogram',
  help,
  labels,
  merge: 'sum',
});

const FROM_WORKERS: readonly MetricDefinition[] = [
  counter(
    'istio_tcp_sent_bytes_total',
    ISTIO_TCP_LABELS,
    'The size of total bytes sent during response in case of a TCP connection',
  ),
  counter(
    'istio_tcp_received_bytes_total',
    ISTIO_TCP_LABELS,
    'The size of total bytes received during request in case of a TCP connection',
  ),
  counter('istio_tcp_connections_opened_total', ISTIO_TCP_LABELS, 'The total number of TCP connections opened'),
  counter('istio_tcp_connections_closed_total', ISTIO_TCP_LABELS, 'The total number of TCP connections closed'),
  counter('istio_requests_total', ISTIO_HTTP_LABELS, 'The total number of requests'),
  histogram(
    'istio_request_duration_milliseconds',
    ISTIO_HTTP_LABELS,
    'The duration of requests from their head to the end of the response, in milliseconds',
  ),
  histogram('istio_request_bytes', ISTIO_HTTP_LABELS, 'The sizes of requests, head and body, in bytes'),
  histogram('istio_response_bytes', ISTIO_HTTP_LABELS, 'The sizes of responses, head and body, in bytes'),
  counter('istio_request_messages_total', ISTIO_HTTP_LABELS, 'The total number of gRPC messages of clients'),
  counter('istio_response_messages_total', ISTIO_HTTP_LABELS, 'The total number of gRPC messages of servers'),
  counter(
    'postern_policy_decisions_total',
    ['policy', 'rule', 'verdict'],
    'Authorization decisions, by the policy (namespace/name) and rule index that decided',
  ),
  counter(
    'postern_dry_run_decisions_total',
    ['action', 'verdict', 'policy'],
    'What dry-run policies would have decided, by action and policy',
  ),
  counter('postern_handshake_failures_total', ['direction', 'reason'], 'TLS handshakes that failed'),
  counter(
    'postern_connection_failures_total',
    ['direction', 'flags'],
    'Connections that ended in failure, by response flags',
  ),
  gauge('postern_connections', ['direction'], 'Live application connections'),
  gauge('postern_tunnels', ['direction'], 'Live HBONE tunnels between sidecars'),
  gauge('postern_loop_lag_seconds_max', [], 'Longest turn of a data-plane loop lately, in seconds (unstable)', 'max'),
  counter(
    'postern_accept_paused_total',
    [],
    'Times that accepting connections was paused for want of descriptors or by the connection limit',
  ),
  counter(
    'postern_access_log_dropped_total',
    [],
    'Access-log and log lines dropped because nobody read them fast enough',
  ),
  gauge('postern_http_requests_in_flight', ['direction'], 'Requests under way'),
  gauge(
    'postern_http_pool_connections',
    ['direction'],
    'Pooled HTTP connections, idle or not: inbound to the application, outbound to endpoints',
  ),
  gauge('postern_http_pending_requests', [], 'Requests that wait for a connection to an endpoint'),
  counter('postern_http_retries_total', [], 'Requests that were sent a second time'),
  counter('postern_http_ejections_total', [], 'Times that an endpoint was ejected from balancing after failures'),
  counter(
    'postern_http_rejected_requests_total',
    ['status'],
    'Requests refused for their form or a limit before they were decided, by the status they were answered with',
  ),
  counter('postern_tokens_refused_total', ['reason'], 'Tokens of users that were refused, by reason'),
  counter(
    'postern_spans_dropped_total',
    [],
    'Spans dropped because they came faster than they could be exported, or the collector refused them',
  ),
  counter(
    'postern_internal_errors_total',
    [],
    'Errors inside the data plane that ended a single connection; any is a bug (unstable)',
  ),
];

const FROM_CONTROL: readonly MetricDefinition[] = [
  gauge('postern_build_info', ['version', 'node', 'openssl'], 'Always 1; the versions are in the labels'),
  gauge(
    'postern_certificate_expiry_seconds',
    [],
    'Unix time at which the workload certificate expires, in seconds; 0 while there is none',
  ),
  gauge('postern_control_plane_connected', [], '1 while the stream from the control plane is open, else 0'),
  gauge('postern_push_version_info', ['version'], 'Always 1; the version of the resources in force is in the label'),
  gauge(
    'postern_push_age_seconds',
    [],
    'Time since a push last changed what is in force, in seconds; 0 before the first',
  ),
  gauge('postern_rejected_resources', [], 'Pushed resources that are not in force because the sidecar rejected them'),
  counter('postern_spans_exported_total', [], 'Spans that the collector took'),
  counter('postern_worker_restarts_total', [], 'Data-plane workers that ended and were replaced'),
];

/** By name; a worker may count nothing else. */
export const WORKER_METRICS: ReadonlyMap<string, MetricDefinition> = new Map(
  FROM_WORKERS.map((metric) => [metric.name, metric]),
);

export const METRICS: readonly MetricDefinition[] = [...FROM_WORKERS, ...FROM_CONTROL];
