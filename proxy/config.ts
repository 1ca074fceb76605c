import { isIPv6 } from 'node:net';
import { dirname } from 'node:path';
import {
  address,
  bytes,
  type Decoder,
  duration,
  flag,
  integer,
  ip,
  name,
  oneOf,
  path,
  trustDomain,
} from '../mesh/config/decoders.ts';
import type { Section } from '../mesh/config/reader.ts';
import { LABEL_KEY, LABEL_VALUE } from '../mesh/labels.ts';
import { TUNNEL_PORT } from '../mesh/resources.ts';
import { readHttpLimits, readOpaquePorts, readTracing, type TracingConfig } from './config-http.ts';
import { type DrainConfig, type ProbeConfig, readDrain, readProbes } from './config-pod.ts';
import type { SocketAddress, WorkerConfig } from './worker/messages.ts';

/**
 * Every setting of `postern proxy --config proxy.yaml`, its unit and its default. Paths are relative to the file. Required: `workload.name`,
 * `workload.namespace`, `workload.serviceAccount`, `controlPlane.address`, `controlPlane.caFile`, and at least one of `inbound`, `outbound`,
 * `expose`, `upstreams`. In the file, durations are written 30s, 5m, 1h and sizes 256KiB; here they are milliseconds and bytes.
 */
export interface ProxyConfig {
  /** Absolute path of the file that was read, or `env:NAME`. */
  readonly file: string;
  readonly workload: {
    readonly name: string;
    readonly namespace: string;
    readonly serviceAccount: string;
    /** Default: none. */
    readonly labels: { readonly [key: string]: string };
    /** IP addresses at which the mesh reaches the workload; in the file a list, or one string with commas. Default: the one that the control plane sees. */
    readonly addresses: readonly string[];
    /** Named ports, for services whose targetPort is a name. Default: none. */
    readonly ports: { readonly [name: string]: number };
  };
  readonly controlPlane: {
    /** Origin, `https://host:port`. */
    readonly address: string;
    /** PEM of the roots by which the control plane is known until it has pushed its own. */
    readonly caFile: string;
    /** The proof of identity for the first certificate. Default: none, which fails unless the control plane asks for no token. */
    readonly joinTokenFile: string | null;
    /**
     * A Kubernetes service account token, which the kubelet keeps fresh: the proof of identity for every certificate, read anew each time. Excludes
     * `joinTokenFile`. Default: none.
     */
    readonly serviceAccountTokenFile: string | null;
  };
  /** Default: that of the control plane's certificate, which `caFile` vouches for. */
  readonly trustDomain: string | null;
  readonly certificate: {
    /** Wanted lifetime, 10s to 24h. Default: the CA's own. */
    readonly ttlMs: number | null;
  };
  /** `listen`: connections redirected to the sidecar; `tunnel`: HBONE from other sidecars. Default: neither. */
  readonly inbound: { readonly listen: SocketAddress | null; readonly tunnel: SocketAddress | null };
  /** `listen`: the application's connections, redirected. `mark`: SO_MARK of what the sidecar dials, default 0 (none). */
  readonly outbound: { readonly listen: SocketAddress | null; readonly mark: number };
  readonly expose: WorkerConfig['expose'];
  readonly upstreams: WorkerConfig['upstreams'];
  /** Where other sidecars reach the tunnel, if not at inbound.tunnel's port. Default: that port. */
  readonly tunnelPort: number | null;
  /** Default 127.0.0.1:15000. An address that is not loopback needs `allowRemote: true`: the admin port has no authentication. */
  readonly admin: { readonly listen: SocketAddress };
  /** Default 0.0.0.0:15020. */
  readonly metrics: { readonly listen: SocketAddress };
  /** Default 0.0.0.0:15021. */
  readonly health: { readonly listen: SocketAddress };
  /** Data-plane threads, 1 to 64. Default 1. */
  readonly workers: number;
  /** One line at the end of each connection: on, off or denied (only those refused). Default on. */
  readonly accessLog: 'on' | 'off' | 'denied';
  /** trace, debug, info, warn, error, fatal or silent. Default info. */
  readonly logLevel: LogLevel;
  /** How long connections may take to end once the sidecar is asked to stop. Default 30s. */
  readonly drainTimeoutMs: number;
  readonly drain: DrainConfig;
  /** Probes of the application that the health port answers in its place. Default: none. */
  readonly probes: readonly ProbeConfig[];
  readonly limits: WorkerConfig['limits'];
  /** Bounds and timeouts of HTTP; each has its default. */
  readonly http: WorkerConfig['http'];
  /** Ports of undeclared protocol that are never looked into. Default 25, 587, 3306, 4444, 5432, 6379, 9300, 11211. */
  readonly opaquePorts: readonly number[];
  /** Default: none, no spans are made. */
  readonly tracing: TracingConfig | null;
}

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

const SECOND = 1000;
const HOUR = 3600 * SECOND;
const PORT = integer(1, 65_535);

/** Of the top-level map of a settings file; what is wrong is reported to `root`. `file` is absolute, or `env:NAME`: paths are relative to the working directory then. */
export function readProxy(root: Section, file: string): ProxyConfig {
  const beside = path(dirname(file));
  const workload = root.section('workload');
  if (workload === null) root.problem(null, 'workload is missing: write workload: { name, namespace, serviceAccount }');
  const controlPlane = root.section('controlPlane');
  if (controlPlane === null)
    root.problem(null, 'controlPlane is missing: write controlPlane: { address, caFile, joinTokenFile }');
  const inbound = root.section('inbound');
  const outbound = root.section('outbound');
  const config: ProxyConfig = {
    file,
    workload: {
      name: workload?.required('name', name) ?? '',
      namespace: workload?.required('namespace', name) ?? '',
      serviceAccount: workload?.required('serviceAccount', name) ?? '',
      labels: workload?.record('labels', LABEL_KEY, LABEL) ?? {},
      addresses: workload?.listOrText('addresses', ip) ?? [],
      ports: workload?.record('ports', PORT_NAME, PORT) ?? {},
    },
    controlPlane: {
      address: controlPlane?.required('address', ORIGIN) ?? '',
      caFile: controlPlane?.required('caFile', beside) ?? '',
      joinTokenFile: controlPlane?.optional('joinTokenFile', beside, null) ?? null,
      serviceAccountTokenFile: controlPlane?.optional('serviceAccountTokenFile', beside, null) ?? null,
    },
    trustDomain: root.optional('trustDomain', trustDomain, null),
    certificate: {
      ttlMs: root.section('certificate')?.optional('ttl', duration(10 * SECOND, 24 * HOUR), null) ?? null,
    },
    inbound: {
      listen: inbound?.optional('listen', address, null) ?? null,
      tunnel: inbound?.optional('tunnel', address, null) ?? null,
    },
    outbound: {
      listen: outbound?.optional('listen', address, null) ?? null,
      mark: outbound?.optional('mark', integer(0, 0xffff_ffff), 0) ?? 0,
    },
    expose: root.sections('expose').map((entry) => ({
      port: entry.required('port', PORT),
      application: entry.required('application', address),
    })),
    upstreams: root.sections('upstreams').map((entry) => ({
      listen: entry.required('listen', address),
      ...entry.required('service', SERVICE),
    })),
    tunnelPort: root.optional('tunnelPort', PORT, null),
    admin: readAdmin(root),
    metrics: { listen: readListener(root, 'metrics', '0.0.0.0', 15_020) },
    health: { listen: readListener(root, 'health', '0.0.0.0', 15_021) },
    workers: root.optional('workers', integer(1, 64), 1),
    accessLog: root.optional('accessLog', oneOf('on', 'off', 'denied'), 'on'),
    logLevel: root.optional('logLevel', oneOf(...LOG_LEVELS), 'info'),
    drainTimeoutMs: root.optional('drainTimeout', duration(0, HOUR), 30 * SECOND),
    drain: readDrain(root),
    probes: readProbes(root),
    limits: readLimits(root.section('limits')),
    http: readHttpLimits(root.section('http')),
    opaquePorts: readOpaquePorts(root),
    tracing: readTracing(root),
  };
  checkWhole(config, root);
  return config;
}

function readLimits(section: Section | null): ProxyConfig['limits'] {
  const time = (key: string, fallback: number): number =>
    section?.optional(key, duration(10, 24 * HOUR), fallback) ?? fallback;
  const count = (key: string, max: number, fallback: number): number =>
    section?.optional(key, integer(1, max), fallback) ?? fallback;
  return {
    /** Live connections of one worker, both directions. */
    maxConnections: count('maxConnections', 1_000_000, 10_000),
    connectTimeoutMs: time('connectTimeout', 10 * SECOND),
    handshakeTimeoutMs: time('handshakeTimeout', 10 * SECOND),
    /** How long a PERMISSIVE port waits for a first byte before it takes the protocol to be server-first plaintext. */
    peekTimeoutMs: time('peekTimeout', 5 * SECOND),
    /** A connection without a byte in either direction. */
    idleTimeoutMs: time('idleTimeout', HOUR),
    /** A tunnel without a stream. */
    tunnelIdleTimeoutMs: time('tunnelIdleTimeout', 300 * SECOND),
    /** Held for one connection whose reader is slow, each direction. */
    bufferBytes: section?.optional('bufferBytes', bytes(16 * 1024, 64 * 1024 * 1024), 256 * 1024) ?? 256 * 1024,
    maxStreamsPerTunnel: count('maxStreamsPerTunnel', 10_000, 100),
  };
}

function readListener(root: Section, key: string, host: string, port: number): SocketAddress {
  return root.section(key)?.optional('listen', address, null) ?? { address: host, port };
}

function readAdmin(root: Section): ProxyConfig['admin'] {
  const listen = readListener(root, 'admin', '127.0.0.1', 15_000);
  const allowRemote = root.section('admin')?.optional('allowRemote', flag, false) ?? false;
  if (!allowRemote && !isLoopback(listen.address)) {
    root.problem(
      'admin',
      'admin.listen is not a loopback address, and the admin port has no authentication: use 127.0.0.1, or add allowRemote: true',
    );
  }
  return { listen };
}

export function isLoopback(host: string): boolean {
  return host.startsWith('127.') || host === '::1';
}

const isWildcard = (host: string): boolean => host === '0.0.0.0' || host === '::';

/** What no single value shows. */
function checkWhole(config: ProxyConfig, root: Section): void {
  const { inbound, outbound, expose, upstreams, workload, controlPlane } = config;
  if (controlPlane.joinTokenFile !== null && controlPlane.serviceAccountTokenFile !== null) {
    root.problem(
      'controlPlane',
      'controlPlane has two proofs of identity: write joinTokenFile, or in a pod serviceAccountTokenFile, not both',
    );
  }
  if (!inbound.listen && !inbound.tunnel && !outbound.listen && expose.length === 0 && upstreams.length === 0) {
    root.problem(null, 'nothing to do: write at least one of inbound, outbound, expose and upstreams');
  }
  if (expose.length > 0 && !inbound.tunnel && !inbound.listen) {
    root.problem('expose', 'expose needs a way in: write inbound: { tunnel: "0.0.0.0:15008" }');
  }
  const port = config.tunnelPort ?? inbound.tunnel?.port;
  if (inbound.tunnel && isWildcard(inbound.tunnel.address) && port !== TUNNEL_PORT && workload.addresses.length === 0) {
    root.problem(
      'inbound',
      `a tunnel on port ${port} of every address cannot be announced: add workload.addresses, or listen on one address`,
    );
  }
  const seen: { what: string; at: SocketAddress }[] = [];
  for (const listener of listenersOf(config)) {
    const other = seen.find(({ at }) => overlaps(at, listener.at));
    if (other)
      root.problem(
        listener.key,
        `${listener.what} and ${other.what} listen on the same port ${listener.at.port}: give each its own`,
      );
    seen.push(listener);
  }
  const ports = new Set<number>();
  for (const entry of expose) {
    if (ports.has(entry.port)) root.problem('expose', `expose names port ${entry.port} twice: one application a port`);
    ports.add(entry.port);
  }
}

function overlaps(a: SocketAddress, b: SocketAddress): boolean {
  if (a.port !== b.port) return false;
  if (a.address === b.address) return true;
  // The IPv6 wildcard takes IPv4 connections too; any other address takes its own family only.
  if (isIPv6(a.address) !== isIPv6(b.address)) return a.address === '::' || b.address === '::';
  return isWildcard(a.address) || isWildcard(b.address);
}

/** Every listener of the sidecar. `shared`: opened by each worker with SO_REUSEPORT; the others belong to the control thread. */
export function listenersOf(
  config: ProxyConfig,
): readonly { readonly key: string; readonly what: string; readonly at: SocketAddress; readonly shared: boolean }[] {
  const { inbound, outbound, upstreams } = config;
  return [
    ...(inbound.listen ? [{ key: 'inbound', what: 'inbound.listen', at: inbound.listen, shared: true }] : []),
    ...(inbound.tunnel ? [{ key: 'inbound', what: 'inbound.tunnel', at: inbound.tunnel, shared: true }] : []),
    ...(outbound.listen ? [{ key: 'outbound', what: 'outbound.listen', at: outbound.listen, shared: true }] : []),
    ...upstreams.map(({ listen }, index) => ({
      key: 'upstreams',
      what: `upstreams[${index}].listen`,
      at: listen,
      shared: true,
    })),
    { key: 'admin', what: 'admin.listen', at: config.admin.listen, shared: false },
    { key: 'metrics', what: 'metrics.listen', at: config.metrics.listen, shared: false },
    { key: 'health', what: 'health.listen', at: config.health.listen, shared: false },
  ];
}

/** Where the tunnel is announced; null: on port 15008 of the workload's first address, or there is none. */
export function announcedTunnel(config: ProxyConfig): SocketAddress | null {
  const { tunnel } = config.inbound;
  if (tunnel === null) return null;
  const [first = null] = config.workload.addresses;
  const port = config.tunnelPort ?? tunnel.port;
  const host = isWildcard(tunnel.address) ? first : tunnel.address;
  return host === null || (host === first && port === TUNNEL_PORT) ? null : { address: host, port };
}

// Kubernetes: a port's name is a DNS label.
const PORT_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

const LABEL: Decoder<string> = {
  expects: 'a label value: at most 63 letters, digits, "-", "_" and "." (quote numbers: version: "1")',
  placeholder: '',
  read: (value) => (typeof value === 'string' && LABEL_VALUE.test(value) ? value : null),
};

const ORIGIN: Decoder<string> = {
  expects: 'an https origin such as "https://127.0.0.1:15012"',
  placeholder: '',
  read(value) {
    const url = typeof value === 'string' ? URL.parse(value) : null;
    if (url === null || url.protocol !== 'https:' || url.hostname === '') return null;
    const bare =
      url.pathname === '/' && url.search === '' && url.hash === '' && url.username === '' && url.password === '';
    return bare ? url.origin : null;
  },
};

/** `payments.shop:8080`, also `payments.shop.svc.cluster.local:8080`, as the service's name in the registry. */
const SERVICE: Decoder<{ service: string; port: number }> = {
  expects: 'a service, its namespace and its port, such as "payments.shop:8080"',
  placeholder: { service: '', port: 0 },
  read(value) {
    const label = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?';
    const form = new RegExp(`^(${label})\\.(${label})(?:\\.svc(?:\\.cluster\\.local)?)?:([0-9]{1,5})$`);
    const parts = typeof value === 'string' ? form.exec(value) : null;
    const port = Number(parts?.[3]);
    return parts !== null && port >= 1 && port <= 65_535 ? { service: `${parts[2]}/${parts[1]}`, port } : null;
  },
};
