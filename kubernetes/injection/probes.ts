import type { InterceptOptions } from '../../mesh/intercept/options.ts';
import { portsContain } from '../../mesh/intercept/port-list.ts';
import { asObject, asString, field, isAbsent, isList } from '../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';
import type { Findings, Path } from '../../policy/validate/findings.ts';
import { containersOf, type PodContainer, tcpPortsOf } from './pod.ts';

/**
 * The kubelet asks in plaintext and from outside the mesh: redirected to the sidecar, its probes would fail where mutual TLS is required or a policy
 * denies. So they are turned to the sidecar's health port, which asks the application in their place.
 *
 * Lifecycle hooks over HTTP are NEVER turned: they do something rather than ask, and the health port answers anybody. They are warned of.
 */

export const HEALTH_PORT = 15_021;
const METRICS_PORT = 15_020;

const PROBES = [
  ['readinessProbe', 'readyz'],
  ['livenessProbe', 'livez'],
  ['startupProbe', 'startupz'],
] as const;

/** Where the health port answers a probe. */
export function probePath(container: string, word: string): string {
  return `/app-health/${container}/${word}`;
}

export interface Rewritten {
  /** The container with its probes turned to the sidecar. */
  readonly container: JsonObject;
  /** The sidecar's settings for them: entries of `probes`. */
  readonly probes: readonly JsonObject[];
}

/** Turns the probes of one container where they would be redirected; what cannot be turned is left alone and warned of. */
export function rewriteProbes(container: PodContainer, redirected: InterceptOptions, findings: Findings): Rewritten {
  const probes: JsonObject[] = [];
  let { object } = container;
  for (const [key, word] of PROBES) {
    const probe = asObject(field(object, key));
    const path = [...container.path, key];
    const reader = new ProbeReader(container, redirected, findings);
    const asked = probe === null ? null : reader.read(probe, path);
    if (probe === null || asked === null) continue;
    const where = probePath(container.name, word);
    probes.push({ path: where, timeout: timeoutOf(probe), [asked.kind]: asked.settings });
    object = { ...object, [key]: withHandler(probe, 'httpGet', { path: where, port: HEALTH_PORT }) };
  }
  return { container: object, probes };
}

/** Where `probes` (settings of a sidecar) has a probe of the container, the probe as its author wrote it, but for names of ports. */
export function restoreProbes(container: JsonObject, probes: readonly JsonObject[]): JsonObject {
  const name = asString(field(container, 'name')) ?? '';
  let restored = container;
  for (const [key, word] of PROBES) {
    const probe = asObject(field(container, key));
    const handler = asObject(field(probe, 'httpGet'));
    const where = probePath(name, word);
    if (probe === null || field(handler, 'path') !== where || field(handler, 'port') !== HEALTH_PORT) continue;
    const settings = probes.find((entry) => field(entry, 'path') === where);
    const original = settings === undefined ? null : originalHandler(settings);
    if (original !== null) restored = { ...restored, [key]: withHandler(probe, ...original) };
  }
  return restored;
}

function originalHandler(settings: JsonObject): [kind: string, handler: JsonObject] | null {
  const tcp = asObject(field(settings, 'tcp'));
  if (tcp !== null) return ['tcpSocket', tcp];
  const grpc = asObject(field(settings, 'grpc'));
  if (grpc !== null) return ['grpc', grpc];
  const http = asObject(field(settings, 'http'));
  if (http === null) return null;
  const { host, headers, ...rest } = http;
  const list = isList(headers) ? headers : [];
  const all = isAbsent(host) ? list : [{ name: 'Host', value: host }, ...list];
  return ['httpGet', all.length === 0 ? rest : { ...rest, httpHeaders: all }];
}

/** The probe with another handler in the place of its own. */
function withHandler(probe: JsonObject, kind: string, handler: JsonObject): JsonObject {
  return Object.fromEntries(
    Object.entries(probe).map(([key, value]) => (HANDLERS.includes(key) ? [kind, handler] : [key, value])),
  );
}

const HANDLERS: readonly string[] = ['httpGet', 'tcpSocket', 'grpc'];

/** The kubelet's default, 1 s; the sidecar takes an hour at most. */
function timeoutOf(probe: JsonObject): string {
  const seconds = field(probe, 'timeoutSeconds');
  return `${typeof seconds === 'number' && Number.isInteger(seconds) ? Math.min(Math.max(seconds, 1), 3600) : 1}s`;
}

interface Asked {
  readonly kind: 'http' | 'tcp' | 'grpc';
  readonly settings: JsonObject;
}

// What the sidecar's settings take (proxy/config-pod.ts).
const REQUEST_PATH = /^[\x21-\x7e]{0,4095}$/;
const HOST = /^[A-Za-z0-9._[\]:-]{1,260}$/;
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$/;
const HEADER_VALUE = /^[\t\x20-\x7e]{0,4096}$/;
const MAX_HEADERS = 100;
const MAX_SERVICE_BYTES = 1024;

class ProbeReader {
  readonly #container: PodContainer;
  readonly #redirected: InterceptOptions;
  readonly #findings: Findings;

  constructor(container: PodContainer, redirected: InterceptOptions, findings: Findings) {
    this.#container = container;
    this.#redirected = redirected;
    this.#findings = findings;
  }

  /** What the sidecar is to ask; null where the probe stays as it is. */
  read(probe: JsonObject, path: Path): Asked | null {
    const http = asObject(field(probe, 'httpGet'));
    if (http !== null) return this.#http(http, [...path, 'httpGet']);
    const tcp = asObject(field(probe, 'tcpSocket'));
    if (tcp !== null) return this.#tcp(tcp, [...path, 'tcpSocket']);
    const grpc = asObject(field(probe, 'grpc'));
    return grpc === null ? null : this.#grpc(grpc, [...path, 'grpc']);
  }

  #http(http: JsonObject, path: Path): Asked | null {
    if (this.#hasHost(http, path)) return null;
    const port = this.#port(field(http, 'port'), path);
    if (port === null) return null;
    const target = asString(field(http, 'path')) ?? '/';
    if (!REQUEST_PATH.test(target)) return this.#leave(path, 'its path is too long or not printable ASCII');
    const headers = this.#headers(field(http, 'httpHeaders'), path);
    if (headers === null) return null;
    const scheme = asString(field(http, 'scheme'));
    const settings = { port, path: target, ...(scheme === null ? {} : { scheme }), ...headers };
    return { kind: 'http', settings };
  }

  /** `host` and `headers` of the settings: the first Host header is the kubelet's Host. */
  #headers(value: JsonValue | undefined, path: Path): JsonObject | null {
    const written = (isList(value) ? value : []).map((entry) => ({
      name: asString(field(asObject(entry), 'name')) ?? '',
      value: asString(field(asObject(entry), 'value')) ?? '',
    }));
    const isHost = ({ name }: { readonly name: string }): boolean => name.toLowerCase() === 'host';
    const host = written.find(isHost)?.value ?? '';
    const headers = written.filter((header) => !isHost(header));
    const good =
      (host === '' || HOST.test(host)) &&
      headers.length <= MAX_HEADERS &&
      headers.every((header) => HEADER_NAME.test(header.name) && HEADER_VALUE.test(header.value));
    if (!good) return this.#leave([...path, 'httpHeaders'], 'its headers are too many, or not printable ASCII');
    return { ...(host === '' ? {} : { host }), ...(headers.length === 0 ? {} : { headers }) };
  }

  #tcp(tcp: JsonObject, path: Path): Asked | null {
    if (this.#hasHost(tcp, path)) return null;
    const port = this.#port(field(tcp, 'port'), path);
    return port === null ? null : { kind: 'tcp', settings: { port } };
  }

  #grpc(grpc: JsonObject, path: Path): Asked | null {
    const port = this.#port(field(grpc, 'port'), path);
    if (port === null) return null;
    const service = asString(field(grpc, 'service')) ?? '';
    if (Buffer.byteLength(service) > MAX_SERVICE_BYTES) return this.#leave(path, 'the name of its service is too long');
    return { kind: 'grpc', settings: { port, ...(service === '' ? {} : { service }) } };
  }

  /** A probe of another address does not come in here: it is none of the sidecar's business. */
  #hasHost(handler: JsonObject, path: Path): boolean {
    const host = asString(field(handler, 'host')) ?? '';
    if (host === '') return false;
    this.#leave([...path, 'host'], 'it names a host, at which the sidecar cannot ask');
    return true;
  }

  /** By number, or by its name in this container; null where the probe is to stay. */
  #port(value: JsonValue | undefined, path: Path): number | null {
    const own = tcpPortsOf(this.#container);
    // A number in quotes is taken for one by the kubelet too.
    const port =
      typeof value === 'string' && !/^[0-9]{1,5}$/.test(value)
        ? own.find(({ name }) => name === value)?.port
        : Number(value);
    if (port === undefined || !Number.isInteger(port) || port < 1 || port > 65_535) {
      this.#leave([...path, 'port'], `its port ${JSON.stringify(value)} is none of container ${this.#container.name}`);
      return null;
    }
    const { includePorts, excludePorts } = this.#redirected.inbound;
    const isSidecars = port === HEALTH_PORT || port === METRICS_PORT;
    const isRedirected =
      !isSidecars && !portsContain(excludePorts, port) && (includePorts === null || portsContain(includePorts, port));
    return isRedirected ? port : null;
  }

  #leave(path: Path, reason: string): null {
    this.#findings.warn(
      path,
      `the probe of container ${this.#container.name} is left as it is, since ${reason}: it fails where mutual TLS is required`,
    );
    return null;
  }
}

/** Hooks that the kubelet sends by HTTP: see above. */
export function warnOfLifecycleHooks(pod: JsonObject, redirected: InterceptOptions, findings: Findings): void {
  for (const { object, name, path } of containersOf(pod)) {
    const lifecycle = asObject(field(object, 'lifecycle'));
    for (const hook of ['postStart', 'preStop']) {
      const http = asObject(field(asObject(field(lifecycle, hook)), 'httpGet'));
      const port = field(http, 'port');
      if (http === null || (typeof port === 'number' && portsContain(redirected.inbound.excludePorts, port))) continue;
      findings.warn(
        [...path, 'lifecycle', hook, 'httpGet'],
        `the ${hook} hook of container ${name} comes from the kubelet in plaintext and fails where mutual TLS is required: use exec, or a port in postern.dev/exclude-inbound-ports`,
      );
    }
  }
}
