import { type Decoder, duration, flag, integer, oneOf, parsed } from '../mesh/config/decoders.ts';
import type { Section } from '../mesh/config/reader.ts';

/**
 * A probe of the application that the health port answers in the application's place: in a pod the kubelet cannot ask it itself, because its
 * plaintext would be redirected to the sidecar, where a STRICT mode refuses it.
 */
export interface ProbeConfig {
  /** Where the health port answers it: `/app-health/<container>/<readyz|livez|startupz>`. */
  readonly path: string;
  /** For the whole of it, redirects included. Default 1s, as Kubernetes. */
  readonly timeoutMs: number;
  /** What the application is asked, at the workload's first address. */
  readonly ask: HttpProbe | TcpProbe | GrpcProbe;
}

/** GET; 200 to 399 is success. */
export interface HttpProbe {
  readonly kind: 'http';
  readonly port: number;
  /** With its query, beginning with a slash. Default `/`. */
  readonly path: string;
  /** The server's certificate is not verified with HTTPS, as by the kubelet. Default HTTP. */
  readonly scheme: 'HTTP' | 'HTTPS';
  /** The Host header. Default: address and port. */
  readonly host: string | null;
  readonly headers: readonly { readonly name: string; readonly value: string }[];
}

/** A connection that is accepted is success. */
export interface TcpProbe {
  readonly kind: 'tcp';
  readonly port: number;
}

/** `grpc.health.v1.Health/Check` over plaintext HTTP/2; SERVING is success. */
export interface GrpcProbe {
  readonly kind: 'grpc';
  readonly port: number;
  /** Default: the empty name, which stands for the whole server. */
  readonly service: string;
}

/** What SIGTERM means to the sidecar. */
export interface DrainConfig {
  /**
   * After SIGTERM the application's own connections are still taken, until the control plane says that the application has ended, nothing has been
   * open for 2 s, or `drainTimeout` is over: for pods in which the sidecar is told to stop together with the application. Default false.
   */
  readonly keepOutbound: boolean;
}

const SECOND = 1000;
const MAX_PROBES = 300;
const MAX_HEADERS = 100;
const PORT = integer(1, 65_535);

/** `probes: [ { path, timeout, http | tcp | grpc } ]` */
export function readProbes(root: Section): readonly ProbeConfig[] {
  const seen = new Set<string>();
  const probes = root.sections('probes').map((entry) => readProbe(entry));
  if (probes.length > MAX_PROBES) root.problem('probes', `probes lists more than ${MAX_PROBES}`);
  for (const { path } of probes) {
    if (path !== '' && seen.has(path)) root.problem('probes', `probes names the path ${path} twice`);
    seen.add(path);
  }
  return probes;
}

function readProbe(entry: Section): ProbeConfig {
  const path = entry.required('path', PROBE_PATH);
  const timeoutMs = entry.optional('timeout', duration(100, 3600 * SECOND), SECOND);
  const http = entry.section('http');
  const tcp = entry.section('tcp');
  const grpc = entry.section('grpc');
  const kinds = ['http', 'tcp', 'grpc'].filter((key) => entry.has(key));
  if (kinds.length !== 1) {
    entry.problem(
      null,
      `a probe asks in exactly one way: write one of http, tcp and grpc, not ${kinds.join(' and ') || 'none'}`,
    );
  }
  if (http !== null) return { path, timeoutMs, ask: readHttpProbe(http) };
  if (tcp !== null) return { path, timeoutMs, ask: { kind: 'tcp', port: tcp.required('port', PORT) } };
  return {
    path,
    timeoutMs,
    ask: {
      kind: 'grpc',
      port: grpc?.required('port', PORT) ?? 0,
      service: grpc?.optional('service', GRPC_SERVICE, '') ?? '',
    },
  };
}

function readHttpProbe(section: Section): HttpProbe {
  const headers = section.sections('headers').map((header) => ({
    name: header.required('name', HEADER_NAME),
    value: header.required('value', HEADER_VALUE),
  }));
  if (headers.length > MAX_HEADERS) section.problem('headers', `headers lists more than ${MAX_HEADERS}`);
  return {
    kind: 'http',
    port: section.required('port', PORT),
    path: section.optional('path', REQUEST_PATH, '/'),
    scheme: section.optional('scheme', oneOf('HTTP', 'HTTPS'), 'HTTP'),
    host: section.optional('host', HOST, null),
    headers,
  };
}

/** `drain: { keepOutbound }` */
export function readDrain(root: Section): DrainConfig {
  return { keepOutbound: root.section('drain')?.optional('keepOutbound', flag, false) ?? false };
}

const PROBE_PATH: Decoder<string> = parsed('a path such as /app-health/web/readyz (…/livez, …/startupz)', '', (text) =>
  /^\/app-health\/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\/(readyz|livez|startupz)$/.test(text) ? text : null,
);

/** Kubernetes takes paths without their slash as well, and the kubelet puts it there. */
const REQUEST_PATH: Decoder<string> = parsed('a path of printable characters, such as /healthz', '', (text) =>
  text.length <= 4096 && /^[\x21-\x7e]*$/.test(text) ? (text.startsWith('/') ? text : `/${text}`) : null,
);

const HOST: Decoder<string> = parsed('a host, such as shop.example or shop.example:8080', '', (text) =>
  /^[A-Za-z0-9._[\]:-]{1,260}$/.test(text) ? text : null,
);

const HEADER_NAME: Decoder<string> = parsed('the name of a header field', '', (text) =>
  text.length <= 256 && /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(text) ? text : null,
);

const HEADER_VALUE: Decoder<string> = parsed('the value of a header field: printable characters', '', (text) =>
  text.length <= 4096 && /^[\t\x20-\x7e]*$/.test(text) ? text : null,
);

const GRPC_SERVICE: Decoder<string> = parsed("a gRPC service's name of at most 1024 bytes", '', (text) =>
  Buffer.byteLength(text) <= 1024 ? text : null,
);
