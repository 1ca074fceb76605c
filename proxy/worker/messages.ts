import type { RejectedResource, Resource, ResourceKey } from '../../mesh/resources.ts';

/**
 * What the control thread and a data-plane worker say to each other, over one MessagePort. The worker never awaits: after posting, the
 * control thread wakes its loop by writing the 8 bytes of the integer 1 to `eventFd` (eventfd(2)); before `ready` there is none: whoever receives `ready` writes once, for what was posted before.
 * The worker posts at most a bounded amount a turn.
 */

export interface SocketAddress {
  /** IPv4 or IPv6 text without brackets. */
  readonly address: string;
  readonly port: number;
}

/** What a peer may make us hold or wait for. Sizes in bytes, times in milliseconds. */
export interface HttpLimits {
  /** All of a head: request line and fields; 431 above. Default 60 KiB (Envoy's). */
  readonly headerBytes: number;
  /** Fields of a head; 431 above. Default 100. */
  readonly headerCount: number;
  /** The request target; 414 above. Default 16 KiB. */
  readonly targetBytes: number;
  /** From the first byte of a request to the end of its head; 408. Default 10 s. */
  readonly headersTimeoutMs: number;
  /** A connection without a request. Default 1 h, as Envoy. */
  readonly keepAliveTimeoutMs: number;
  /** A request or response without a byte in either direction; 0: none. Default 5 min (Envoy's stream_idle_timeout). */
  readonly streamIdleTimeoutMs: number;
  /** From the end of the request to the end of the response; 0 (default): none. 504. */
  readonly requestTimeoutMs: number;
  /** Requests at a time on one HTTP/2 connection. Default 100. */
  readonly maxConcurrentStreams: number;
  /** Connections (HTTP/1: requests at a time) to one endpoint, per worker. Default 1,024. */
  readonly maxConnectionsPerEndpoint: number;
  /** Requests that wait for a connection to one destination, per worker; 503 with UO above. Default 1,024. */
  readonly maxPendingRequests: number;
  /** Idle connections kept to one endpoint. Default 128. */
  readonly maxIdlePerEndpoint: number;
  /** How long an idle one is kept. Default 60 s. */
  readonly idlePoolTimeoutMs: number;
  /** How long the first bytes of an undeclared protocol are waited for; then it is opaque. Default 200 ms. */
  readonly detectTimeoutMs: number;
}

/** Everything a worker knows from its configuration; never changes while it lives. Times in milliseconds, sizes in bytes. */
export interface WorkerConfig {
  readonly index: number;
  readonly workload: {
    readonly name: string;
    readonly namespace: string;
    readonly serviceAccount: string;
    readonly labels: { readonly [key: string]: string };
    /** The workload's own IP addresses: a tunnel's destination must be one of them. Empty: those of the machine's interfaces (os.networkInterfaces). */
    readonly addresses: readonly string[];
  };
  readonly inbound: { readonly listen: SocketAddress | null; readonly tunnel: SocketAddress | null };
  /** `mark`: SO_MARK of every connection the sidecar opens, by which redirection may exempt it; 0 = none (needs CAP_NET_ADMIN). */
  readonly outbound: { readonly listen: SocketAddress | null; readonly mark: number };
  readonly expose: readonly { readonly port: number; readonly application: SocketAddress }[];
  /** `service` is the name of a Service resource (`<namespace>/<name>`). */
  readonly upstreams: readonly { readonly listen: SocketAddress; readonly service: string; readonly port: number }[];
  /** Where the control plane listens, as far as its name could be resolved by then: always reachable. */
  readonly controlPlane: readonly SocketAddress[];
  /** Ports of this process itself (admin, metrics, health): a connection whose original destination is one of them at an own address is not proxied from outside. */
  readonly ownPorts: readonly number[];
  readonly accessLog: 'on' | 'off' | 'denied';
  readonly logLevel: string;
  readonly limits: {
    readonly maxConnections: number;
    readonly connectTimeoutMs: number;
    readonly handshakeTimeoutMs: number;
    readonly peekTimeoutMs: number;
    readonly idleTimeoutMs: number;
    readonly tunnelIdleTimeoutMs: number;
    /** Most bytes held for one connection whose reader is slow, each direction. */
    readonly bufferBytes: number;
    readonly maxStreamsPerTunnel: number;
  };
  readonly http: HttpLimits;
  /** Ports whose connections are never looked into, whatever they carry. */
  readonly opaquePorts: readonly number[];
  /** Null: no spans are made, trace context is carried all the same. */
  readonly tracing: {
    /** Share of the traces begun here that are recorded, 0 to 1; a caller's own decision is kept. */
    readonly sampling: number;
  } | null;
}

/** `workerData` of the worker thread. */
export interface WorkerStart {
  readonly config: WorkerConfig;
  /** `port` is transferred. */
  readonly port: import('node:worker_threads').MessagePort;
  /** Float64Array: the counters, by slot. */
  readonly counters: SharedArrayBuffer;
  /** Int32Array bitmap of the descriptors the worker owns (bit fd): whoever buries a crashed worker closes them. */
  readonly descriptors: SharedArrayBuffer;
}

/** Memory is touched only where a slot is used. */
export const COUNTER_SLOTS = 65_536;
/**
 * Upper bounds of the buckets of every histogram, ascending: Envoy's default ones (source/common/stats/histogram_impl.cc), which Istio's
 * dashboards count on. Milliseconds or bytes.
 */
export const HISTOGRAM_BOUNDS: readonly number[] = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
  3_600_000,
];
/** A histogram has so many slots in a row: each bucket's own count, the count above all bounds, and the sum. */
export const HISTOGRAM_SLOTS = HISTOGRAM_BOUNDS.length + 2;
export const DESCRIPTOR_BITS = 1 << 20;

export type ToWorker =
  /** The worker's certificate; the private key is PKCS #8 PEM and exists in memory only. */
  | {
      readonly type: 'identity';
      readonly spiffeId: string;
      readonly chain: string;
      readonly privateKey: string;
      readonly notAfter: number;
    }
  /** A delta of the control plane's, or (after a worker was replaced) everything as one full delta. */
  | {
      readonly type: 'resources';
      readonly version: string;
      readonly full: boolean;
      readonly upserts: readonly Resource[];
      readonly removes: readonly ResourceKey[];
    }
  /** The control plane's name now stands for these addresses. */
  | { readonly type: 'control-plane'; readonly addresses: readonly SocketAddress[] }
  /** Lame duck: ask whoever comes in to go elsewhere, and take it all the same. Until the end; outbound does not notice. */
  | { readonly type: 'drain-inbound' }
  /** Stop accepting, let connections end, close what is left at the deadline; then `drained`. */
  | { readonly type: 'drain'; readonly deadlineMs: number }
  | { readonly type: 'log-level'; readonly level: string }
  | { readonly type: 'query'; readonly id: number; readonly what: WorkerQuestion };

/** `load` is answered by a `WorkerLoad`. */
export type WorkerQuestion = 'connections' | 'resources' | 'load';

/** Live connections. */
export interface WorkerLoad {
  readonly inbound: number;
  readonly outbound: number;
}

export type MetricName = string;

/** One span, as OTLP wants it (opentelemetry-proto trace/v1). IDs in lower-case hexadecimal, times in Unix nanoseconds as decimal strings. */
export interface SpanData {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string | null;
  readonly name: string;
  readonly kind: 'server' | 'client';
  readonly start: string;
  readonly end: string;
  readonly attributes: { readonly [key: string]: string | number | boolean };
  readonly failed: boolean;
}

export type FromWorker =
  /** Listeners are open. */
  | { readonly type: 'ready'; readonly eventFd: number }
  /** The worker cannot start (address in use, no privilege, unsupported platform); it has ended itself. */
  | { readonly type: 'fatal'; readonly code: string; readonly message: string }
  /** One for each `resources`, in order. */
  | { readonly type: 'applied'; readonly version: string; readonly rejected: readonly RejectedResource[] }
  /** Slot `slot` of the counters (of a histogram the first of its slots) now belongs to this series; it starts at 0. */
  | {
      readonly type: 'series';
      readonly slot: number;
      readonly metric: MetricName;
      readonly labels: { readonly [label: string]: string };
    }
  /** The series was idle for long; its last value may be forgotten and the slot (of a histogram: all of them) is free. */
  | { readonly type: 'series-dropped'; readonly slots: readonly number[] }
  | {
      readonly type: 'log';
      readonly level: string;
      readonly msg: string;
      readonly fields: { readonly [key: string]: unknown };
    }
  /** Whole lines of JSON, each with its newline. */
  | { readonly type: 'access'; readonly lines: string }
  /** Finished spans, at most 512 in one message; what is too much was dropped and counted. */
  | { readonly type: 'spans'; readonly spans: readonly SpanData[] }
  | { readonly type: 'reply'; readonly id: number; readonly data: unknown }
  | { readonly type: 'drained'; readonly forced: number };
