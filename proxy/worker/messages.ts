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
  /** Where the control plane listens, as far as its name could be resolved: always reachable. */
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

export const COUNTER_SLOTS = 16_384;
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
  /** Stop accepting, let connections end, close what is left at the deadline; then `drained`. */
  | { readonly type: 'drain'; readonly deadlineMs: number }
  | { readonly type: 'log-level'; readonly level: string }
  | { readonly type: 'query'; readonly id: number; readonly what: 'connections' | 'resources' };

export type MetricName = string;

export type FromWorker =
  /** Listeners are open. */
  | { readonly type: 'ready'; readonly eventFd: number }
  /** The worker cannot start (address in use, no privilege, unsupported platform); it has ended itself. */
  | { readonly type: 'fatal'; readonly code: string; readonly message: string }
  /** One for each `resources`, in order. */
  | { readonly type: 'applied'; readonly version: string; readonly rejected: readonly RejectedResource[] }
  /** Slot `slot` of the counters now belongs to this series; it starts at 0. */
  | {
      readonly type: 'series';
      readonly slot: number;
      readonly metric: MetricName;
      readonly labels: { readonly [label: string]: string };
    }
  /** The series was idle for long; its last value may be forgotten and the slot is free. */
  | { readonly type: 'series-dropped'; readonly slots: readonly number[] }
  | {
      readonly type: 'log';
      readonly level: string;
      readonly msg: string;
      readonly fields: { readonly [key: string]: unknown };
    }
  /** Whole lines of JSON, each with its newline. */
  | { readonly type: 'access'; readonly lines: string }
  | { readonly type: 'reply'; readonly id: number; readonly data: unknown }
  | { readonly type: 'drained'; readonly forced: number };
