import type { StagingPool } from '../http2/staging.ts';
import type { RandomPool } from '../native/random.ts';
import type { MeshView } from '../protocol/mesh-view.ts';
import type { Loop } from '../reactor/loop.ts';
import type { WorkerConfig } from '../worker/messages.ts';
import type { AccessLog } from './access-log.ts';
import type { MeshTls } from './mesh-tls.ts';
import type { Party } from './party.ts';
import type { RequestSeries } from './request-series.ts';
import type { SeriesBank } from './series.ts';
import type { SpanLog } from './span-log.ts';
import type { ConnectionTable } from './table.ts';
import type { TraceSource } from './trace-context.ts';
import type { WorkerMetrics } from './worker-metrics.ts';

/** What every connection of a worker shares. One a worker; made by its composition root. */
export interface DataPlane {
  readonly loop: Loop;
  readonly config: WorkerConfig;
  readonly view: MeshView;
  readonly tls: MeshTls;
  readonly staging: StagingPool;
  readonly table: ConnectionTable;
  readonly series: SeriesBank;
  readonly metrics: WorkerMetrics;
  readonly accessLog: AccessLog;
  readonly requestSeries: RequestSeries;
  readonly traces: TraceSource;
  readonly spans: SpanLog;
  /** For identifiers. */
  readonly random: RandomPool;
  /** This workload, as telemetry tells of it. */
  self(): Party;
  /** The W3C baggage header of this sidecar's CONNECT requests. */
  readonly baggage: string;
  /** Unix time, milliseconds. */
  unixNow(): number;
  log(level: 'debug' | 'info' | 'warn' | 'error', msg: string, fields?: { readonly [key: string]: unknown }): void;
  /** Whether lines of this level are wanted: what is costly to find out is asked only then. */
  readonly debug: boolean;
}
