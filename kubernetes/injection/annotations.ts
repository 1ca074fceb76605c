import { collectorUrl, type Decoder, duration, integer, oneOf, parsed, ratio } from '../../mesh/config/decoders.ts';
import type { RawInterceptOptions } from '../../mesh/intercept/options.ts';
import {
  type Annotation,
  flagText,
  interceptText,
  numbers,
  numeric,
  type Reading,
  type Target,
  written,
} from './annotation.ts';
import { cpuQuantity, memoryQuantity } from './quantity.ts';

/** Prefix of every annotation and label of Postern. */
export const PREFIX = 'postern.dev/';

const SECOND = 1000;
const HOUR = 3600 * SECOND;
/** As many as the sidecar's settings may list. */
const MAX_OPAQUE_PORTS = 1_000;

const PORTS = 'ports and ranges, such as 80,8000-8999';
const CIDRS = 'addresses and CIDR blocks, such as 10.0.0.0/8,fd00::/8';

/** A registry's host, a repository, and a tag or digest: what the kubelet takes; nothing that could be mistaken for something else. */
const imageName: Decoder<string> = parsed('an image such as registry.example/postern:1.2', '', (text) =>
  text.length <= 512 && /^[A-Za-z0-9]([A-Za-z0-9._:/@-]*[A-Za-z0-9])?$/.test(text) ? text : null,
);

/**
 * Every annotation that pods may carry besides `postern.dev/inject` and `postern.dev/status`. Bounds are those of the sidecar's settings
 * (proxy/config.ts), so that no pod is admitted whose sidecar then refuses to start; a test holds the two against each other.
 */
export const ANNOTATIONS: readonly Annotation[] = [
  intercept('include-inbound-ports', 'includeInboundPorts', `${PORTS}, or *`, 'all', {
    meaning: 'redirect only inbound connections to these ports',
    istio: 'traffic.sidecar.istio.io/includeInboundPorts',
  }),
  intercept('exclude-inbound-ports', 'excludeInboundPorts', PORTS, 'none', {
    meaning:
      'do not redirect inbound connections to these ports: they reach the application without mutual TLS and without any policy',
    istio: 'traffic.sidecar.istio.io/excludeInboundPorts',
  }),
  intercept('include-inbound-cidrs', 'includeInboundCidrs', `${CIDRS}, or *`, 'all', {
    meaning: 'redirect only inbound connections from these addresses',
  }),
  intercept('exclude-inbound-cidrs', 'excludeInboundCidrs', CIDRS, 'none', {
    meaning: 'do not redirect inbound connections from these addresses',
  }),
  intercept('include-outbound-ports', 'includeOutboundPorts', `${PORTS}, or *`, 'all', {
    meaning: 'redirect only outbound connections to these ports',
    istio: 'traffic.sidecar.istio.io/includeOutboundPorts',
  }),
  intercept('exclude-outbound-ports', 'excludeOutboundPorts', PORTS, 'none', {
    meaning: 'do not redirect outbound connections to these ports',
    istio: 'traffic.sidecar.istio.io/excludeOutboundPorts',
  }),
  intercept('include-outbound-cidrs', 'includeOutboundCidrs', `${CIDRS}, or *`, 'all', {
    meaning: 'redirect only outbound connections to these addresses',
    istio: 'traffic.sidecar.istio.io/includeOutboundIPRanges',
  }),
  intercept('exclude-outbound-cidrs', 'excludeOutboundCidrs', CIDRS, 'none', {
    meaning: 'do not redirect outbound connections to these addresses',
    istio: 'traffic.sidecar.istio.io/excludeOutboundIPRanges',
  }),
  intercept('exclude-interfaces', 'excludeInterfaces', 'names of network interfaces, such as net1,net2', 'none', {
    meaning: 'redirect nothing that goes in or out by these interfaces',
    istio: 'traffic.sidecar.istio.io/excludeInterfaces',
  }),
  word('log-level', ['logLevel'], oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'), 'info', {
    meaning: "the sidecar's own log",
  }),
  word('access-log', ['accessLog'], oneOf('on', 'off', 'denied'), 'on', {
    meaning: 'a line at the end of each connection and request; denied: of those refused only',
  }),
  count('workers', ['workers'], integer(1, 64), '1', { meaning: 'data-plane threads' }),
  word('drain-timeout', ['drainTimeout'], duration(0, HOUR), '30s', {
    meaning: 'how long connections may take to end once the sidecar is asked to stop',
  }),
  setting('opaque-ports', ['opaquePorts'], 'ports, such as 3306,6379, or none', "the sidecar's list", {
    meaning: 'ports of undeclared protocol that are never looked into, instead of the usual list',
    read: numbers(integer(1, 65_535), MAX_OPAQUE_PORTS),
  }),
  word('request-timeout', ['http', 'requestTimeout'], duration(0, 24 * HOUR), '0s (none)', {
    meaning: 'for a whole HTTP request and its response',
  }),
  word('headers-timeout', ['http', 'headersTimeout'], duration(100, HOUR), '10s', {
    meaning: 'until the head of an HTTP message is complete',
  }),
  word('stream-idle-timeout', ['http', 'streamIdleTimeout'], duration(0, 24 * HOUR), '5m', {
    meaning: 'an HTTP request in which nothing moves',
  }),
  word('keep-alive-timeout', ['http', 'keepAliveTimeout'], duration(100, 24 * HOUR), '1h', {
    meaning: 'an HTTP connection without a request',
  }),
  word('idle-timeout', ['limits', 'idleTimeout'], duration(10, 24 * HOUR), '1h', {
    meaning: 'a TCP connection without a byte in either direction',
  }),
  word('connect-timeout', ['limits', 'connectTimeout'], duration(10, 24 * HOUR), '10s', {
    meaning: 'until a connection to an endpoint or to the application stands',
  }),
  count('max-connections', ['limits', 'maxConnections'], integer(1, 1_000_000), '10000', {
    meaning: 'live connections of one worker, both directions',
  }),
  word('tracing-endpoint', ['tracing', 'endpoint'], collectorUrl, 'none: no spans are made', {
    meaning: 'where spans go, an OTLP collector over HTTP',
  }),
  count('tracing-sampling', ['tracing', 'sampling'], ratio, '0.01', {
    meaning: 'share of the traces begun here that are recorded',
  }),
  word('certificate-ttl', ['certificate', 'ttl'], duration(10 * SECOND, 24 * HOUR), "the CA's", {
    meaning: "lifetime of the sidecar's certificates",
  }),
  resource('cpu-request', 'requests', 'cpu', cpuQuantity, 'sidecar.istio.io/proxyCPU'),
  resource('cpu-limit', 'limits', 'cpu', cpuQuantity, 'sidecar.istio.io/proxyCPULimit'),
  resource('memory-request', 'requests', 'memory', memoryQuantity, 'sidecar.istio.io/proxyMemory'),
  resource('memory-limit', 'limits', 'memory', memoryQuantity, 'sidecar.istio.io/proxyMemoryLimit'),
  injection('image', 'image', imageName.expects, "the mesh's", {
    meaning: 'image of sidecar and init container',
    read: written(imageName),
  }),
  injection('native-sidecar', 'nativeSidecar', 'true or false', "the mesh's", {
    meaning: 'sidecar as an init container that stays (Kubernetes 1.29), or as an ordinary container',
    istio: 'sidecar.istio.io/nativeSidecar',
    read: flagText,
  }),
  injection('rewrite-probes', 'rewriteProbes', 'true or false', 'true', {
    meaning:
      "whether the sidecar answers the kubelet's probes in the application's place; false: they fail where mutual TLS is required",
    istio: 'sidecar.istio.io/rewriteAppHTTPProbers',
    read: flagText,
  }),
];

interface Words {
  readonly meaning: string;
  readonly istio?: string;
}

type WordsAndReader = Words & { readonly read: (text: string) => Reading };

function annotation(name: string, target: Target, values: string, fallback: string, rest: WordsAndReader): Annotation {
  return { name, target, values, fallback, meaning: rest.meaning, istio: rest.istio ?? null, read: rest.read };
}

function intercept(
  name: string,
  option: keyof RawInterceptOptions,
  values: string,
  fallback: string,
  words: Words,
): Annotation {
  return annotation(name, { to: 'intercept', option }, values, fallback, { ...words, read: interceptText(option) });
}

type SettingPath = readonly [string] | readonly [string, string];

function setting(name: string, at: SettingPath, values: string, fallback: string, rest: WordsAndReader): Annotation {
  return annotation(name, { to: 'setting', at }, values, fallback, rest);
}

function word(name: string, at: SettingPath, decoder: Decoder<unknown>, fallback: string, words: Words): Annotation {
  return setting(name, at, decoder.expects, fallback, { ...words, read: written(decoder) });
}

function count(name: string, at: SettingPath, decoder: Decoder<number>, fallback: string, words: Words): Annotation {
  return setting(name, at, decoder.expects, fallback, { ...words, read: numeric(decoder) });
}

function resource(
  name: string,
  kind: 'requests' | 'limits',
  of: 'cpu' | 'memory',
  decoder: Decoder<string>,
  istio: string,
): Annotation {
  const meaning = `the sidecar's ${of} ${kind === 'requests' ? 'request' : 'limit'}`;
  const read = written(decoder);
  return annotation(name, { to: 'resource', kind, resource: of }, decoder.expects, "the mesh's", {
    meaning,
    istio,
    read,
  });
}

function injection(
  name: string,
  option: 'image' | 'nativeSidecar' | 'rewriteProbes',
  values: string,
  fallback: string,
  rest: WordsAndReader,
): Annotation {
  return annotation(name, { to: 'injection', option }, values, fallback, rest);
}
