import { bytes, collectorUrl, duration, integer, ratio } from '../mesh/config/decoders.ts';
import type { Section } from '../mesh/config/reader.ts';
import type { HttpLimits } from './worker/messages.ts';

/** Where finished spans go, and how many are made. */
export interface TracingConfig {
  /** Base URL of an OTLP/HTTP collector; spans are posted to `<endpoint>/v1/traces`. No trailing slash. */
  readonly endpoint: string;
  /** Share of the traces begun here that are recorded, 0 to 1; a caller's own decision is kept. Default 0.01, as Istio. */
  readonly sampling: number;
}

const SECOND = 1000;
const HOUR = 3600 * SECOND;
const KIB = 1024;
const MAX_LISTED_PORTS = 1_000;

/** Linkerd's list: SMTP, MySQL, Galera, PostgreSQL, Redis, Elasticsearch's transport, memcached. */
const OPAQUE_PORTS: readonly number[] = [25, 587, 3306, 4444, 5432, 6379, 9300, 11_211];

/** `http: { … }`: what peers and applications may make us hold or wait for. Meanings, units and defaults: `HttpLimits`. */
export function readHttpLimits(section: Section | null): HttpLimits {
  const time = (key: string, min: number, max: number, fallback: number): number =>
    section?.optional(key, duration(min, max), fallback) ?? fallback;
  const size = (key: string, min: number, max: number, fallback: number): number =>
    section?.optional(key, bytes(min, max), fallback) ?? fallback;
  const count = (key: string, max: number, fallback: number): number =>
    section?.optional(key, integer(1, max), fallback) ?? fallback;
  return {
    // The upper bound keeps a head within one read of the reactor (256 KiB).
    headerBytes: size('headerBytes', 4 * KIB, 192 * KIB, 60 * KIB),
    headerCount: count('headerCount', 1_000, 100),
    targetBytes: size('targetBytes', 1 * KIB, 64 * KIB, 16 * KIB),
    headersTimeoutMs: time('headersTimeout', 100, HOUR, 10 * SECOND),
    keepAliveTimeoutMs: time('keepAliveTimeout', 100, 24 * HOUR, HOUR),
    streamIdleTimeoutMs: time('streamIdleTimeout', 0, 24 * HOUR, 300 * SECOND),
    requestTimeoutMs: time('requestTimeout', 0, 24 * HOUR, 0),
    maxConcurrentStreams: count('maxConcurrentStreams', 10_000, 100),
    maxConnectionsPerEndpoint: count('maxConnectionsPerEndpoint', 100_000, 1_024),
    maxPendingRequests: count('maxPendingRequests', 100_000, 1_024),
    maxIdlePerEndpoint: count('maxIdlePerEndpoint', 10_000, 128),
    idlePoolTimeoutMs: time('idlePoolTimeout', 100, 24 * HOUR, 60 * SECOND),
    detectTimeoutMs: time('detectTimeout', 10, 60 * SECOND, 200),
  };
}

/** `opaquePorts: [ … ]` takes the place of the default list; an empty list means that nothing undeclared is opaque. */
export function readOpaquePorts(root: Section): readonly number[] {
  if (!root.has('opaquePorts')) return OPAQUE_PORTS;
  const ports = root.list('opaquePorts', integer(1, 65_535));
  if (ports.length > MAX_LISTED_PORTS) root.problem('opaquePorts', `opaquePorts lists more than ${MAX_LISTED_PORTS}`);
  return ports;
}

/** `tracing: { endpoint, sampling }`; null where the section is absent: no spans are made. */
export function readTracing(root: Section): TracingConfig | null {
  const section = root.section('tracing');
  if (section === null) return null;
  return { endpoint: section.required('endpoint', collectorUrl), sampling: section.optional('sampling', ratio, 0.01) };
}
