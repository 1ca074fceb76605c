import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

/** Seconds; Istio's buckets of `pilot_proxy_convergence_time`. */
const CONVERGENCE_BUCKETS = [0.1, 0.5, 1, 3, 5, 10, 20, 30];
const PUSH_BUCKETS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30];

/** The metrics of the control plane. Labels hold nothing that a peer can make up. */
export class ControlPlaneMetrics {
  readonly registry = new Registry();
  readonly pushes: Counter<'kind'>;
  readonly pushDuration: Histogram;
  readonly convergence: Histogram;
  readonly connected: Gauge;
  readonly streamsClosed: Counter<'reason'>;
  readonly acksOverdue: Counter;
  readonly rejected: Gauge;
  readonly rejections: Counter;
  readonly issued: Counter<'proof'>;
  readonly refused: Counter<'code'>;
  readonly manifestErrors: Counter;
  readonly manifestProblems: Gauge<'severity'>;
  readonly manifestObjects: Gauge<'kind'>;
  readonly sourceAvailable: Gauge;
  readonly snapshotDuration: Histogram;
  readonly storageErrors: Counter;
  readonly serverCertificateExpiry: Gauge;
  readonly jwksFetches: Counter<'result'>;
  readonly jwksKeySets: Gauge<'state'>;
  readonly leader: Gauge;
  readonly admissionReviews: Counter<'webhook' | 'outcome'>;
  readonly admissionDuration: Histogram;
  readonly sourceContact: Gauge;

  constructor() {
    const registers = [this.registry];
    const counter = <T extends string>(name: string, help: string, ...labelNames: T[]) =>
      new Counter<T>({ name, help, labelNames, registers });
    const gauge = <T extends string>(name: string, help: string, ...labelNames: T[]) =>
      new Gauge<T>({ name, help, labelNames, registers });
    const histogram = (name: string, help: string, buckets: number[]) =>
      new Histogram({ name, help, buckets, registers });
    this.pushes = counter('postern_pushes_total', 'Pushes written to sidecars: full, delta or confirmation.', 'kind');
    this.pushDuration = histogram('postern_push_duration_seconds', 'Time to compute and write one push.', PUSH_BUCKETS);
    this.convergence = histogram(
      'postern_convergence_seconds',
      'Time from a change to its acknowledgement by a sidecar.',
      CONVERGENCE_BUCKETS,
    );
    this.connected = gauge('postern_connected_sidecars', 'Sidecars with an open stream.');
    this.streamsClosed = counter('postern_streams_closed_total', 'Streams that ended, by reason.', 'reason');
    this.acksOverdue = counter('postern_acknowledgements_overdue_total', 'Pushes not acknowledged in time.');
    this.rejected = gauge('postern_rejected_resources', 'Resources that connected sidecars refuse at present.');
    this.rejections = counter('postern_resource_rejections_total', 'Rejections that sidecars reported.');
    this.issued = counter('postern_certificates_issued_total', 'Workload certificates issued, by proof.', 'proof');
    this.refused = counter('postern_requests_refused_total', 'Requests of sidecars refused, by code.', 'code');
    this.manifestErrors = counter('postern_manifest_errors_total', 'Errors found in manifests since the start.');
    this.manifestProblems = gauge('postern_manifest_problems', 'Present complaints about manifests.', 'severity');
    this.manifestObjects = gauge('postern_manifest_objects', 'Objects in force, by kind.', 'kind');
    this.sourceAvailable = gauge('postern_manifest_source_available', '1 while the manifests can be read, else 0.');
    this.snapshotDuration = histogram('postern_snapshot_duration_seconds', 'Time to build one snapshot.', PUSH_BUCKETS);
    this.storageErrors = counter('postern_storage_errors_total', 'Writes to the data directory that failed.');
    this.serverCertificateExpiry = gauge(
      'postern_server_certificate_expiry_seconds',
      "Unix time at which the control plane's own certificate expires.",
    );
    this.jwksFetches = counter(
      'postern_jwks_fetches_total',
      'Fetches of the keys of token issuers: success or failure.',
      'result',
    );
    this.jwksKeySets = gauge(
      'postern_jwks_key_sets',
      'Sets of keys of token issuers: current, stale (kept, but they cannot be fetched now) or missing (every token is refused).',
      'state',
    );
    this.leader = gauge('postern_leader', '1 while this replica does what only one may do, else 0.');
    this.admissionReviews = counter(
      'postern_admission_reviews_total',
      'Reviews asked of the webhooks, by what came of them: allowed, injected, skipped, refused or error.',
      'webhook',
      'outcome',
    );
    this.admissionDuration = histogram('postern_admission_duration_seconds', 'Time of one review.', PUSH_BUCKETS);
    this.sourceContact = gauge(
      'postern_manifest_source_contact_seconds',
      'Unix time up to which everything of the source is known.',
    );
    collectDefaultMetrics({ register: this.registry });
  }
}
