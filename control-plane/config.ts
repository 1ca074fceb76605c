import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { type Decoder, oneOf, parsed, path, trustDomain } from '../mesh/config/decoders.ts';
import { readSettings, type Section } from '../mesh/config/reader.ts';
import { EXIT, messageOf, PosternError } from '../mesh/errors.ts';
import type { ExtensionProvider, PathNormalization } from '../mesh/resources.ts';
import { YAML_LIMITS } from '../policy/index.ts';
import { addressSet, type ListenAddress, parseListenAddress } from './addresses.ts';
import { type KubernetesConfig, readKubernetes } from './config-kubernetes.ts';

/** Mesh-wide settings that a `postern.dev/v1` MeshConfig manifest may override while running. */
export interface MeshSettings {
  readonly trustDomainAliases: readonly string[];
  readonly rootNamespace: string;
  readonly outboundTrafficPolicy: 'ALLOW_ANY' | 'REGISTRY_ONLY';
  readonly defaultAction: 'ALLOW' | 'DENY';
  readonly pathNormalization: PathNormalization;
  /** Named in a MeshConfig manifest only. */
  readonly extensionProviders: readonly ExtensionProvider[];
}

/** Every setting of `postern control-plane`. Paths are absolute. */
export interface ControlPlaneConfig {
  readonly file: string;
  readonly manifests: string;
  readonly dataDir: string;
  readonly listen: ListenAddress;
  readonly adminListen: ListenAddress;
  readonly trustDomain: string;
  /** DNS names, besides `localhost`, that the server's certificate shows. */
  readonly serverNames: readonly string[];
  /** CIDR blocks whose addresses any sidecar may claim as its own, where it does not connect from them (address translation). */
  readonly trustedAddresses: readonly string[];
  readonly certificates: {
    readonly ttlSeconds: number;
    readonly minTtlSeconds: number;
    readonly maxTtlSeconds: number;
  };
  /** How the keys of token issuers are fetched. */
  readonly jwks: {
    /** CIDR blocks that keys may be fetched from although they are refused by default: loopback and link-local addresses. */
    readonly allowedAddresses: readonly string[];
    readonly refreshSeconds: number;
  };
  readonly mesh: MeshSettings;
  /** Null: one machine; manifests, CA and join tokens are files. */
  readonly kubernetes: KubernetesConfig | null;
  readonly logLevel: string;
}

/** Where commands look for the settings that they are not given. */
export const DEFAULT_CONFIG = 'control-plane.yaml';

export const DEFAULTS = {
  manifests: './manifests',
  dataDir: './data',
  listen: { address: '127.0.0.1', port: 15012 },
  adminListen: { address: '127.0.0.1', port: 15014 },
  trustDomain: 'cluster.local',
  certificates: { ttlSeconds: 3600, minTtlSeconds: 300, maxTtlSeconds: 86_400 },
  /** Istio's. */
  jwks: { refreshSeconds: 20 * 60 },
  mesh: {
    trustDomainAliases: [],
    rootNamespace: 'istio-system',
    outboundTrafficPolicy: 'ALLOW_ANY',
    defaultAction: 'ALLOW',
    pathNormalization: 'BASE',
    extensionProviders: [],
  },
  logLevel: 'info',
} as const;

/** What is fixed: limits and rhythms that no mesh has needed to change. Milliseconds and bytes. */
export const FIXED = {
  source: {
    /** Safety net under fs.watch, whose events may be lost. */
    rescanMs: 2_000,
    /** A file must be unchanged this long before it is read: editors and copies write in pieces. */
    settleMs: 40,
    /** Longer where resources would vanish: a truncated file or a replaced one looks like a removal for a moment. */
    removalSettleMs: 250,
    /** Longer still after the directory itself was gone. */
    returnSettleMs: 3_000,
    maxFiles: 2_000,
    maxFileBytes: YAML_LIMITS.bytes,
    maxDirectories: 256,
  },
  push: {
    debounceMs: 100,
    debounceMaxMs: 1_000,
    concurrency: 16,
    /** A write that takes longer gives its place in the queue to others. */
    slowWriteMs: 500,
    /** A sidecar that has not taken what was written for it by then is disconnected. */
    stallMs: 30_000,
    ackDeadlineMs: 30_000,
    resumeMs: 10 * 60_000,
    /** Bound of what is kept for resuming: entries of all remembered scopes together. */
    resumeEntries: 500_000,
    maxOutstanding: 64,
    /** A stream is asked to come back, perhaps to another replica, at this age, more or less by the share that follows. */
    streamAgeMs: 30 * 60_000,
    streamAgeSpread: 0.25,
  },
  registry: {
    /** A workload stays known this long after its stream broke: most come back at once (renewal, a blip). */
    lingerMs: 5_000,
    /** After a restart the workloads known before are believed this long, so that nobody loses its endpoints meanwhile. */
    restartGraceMs: 60_000,
  },
  jwks: {
    /** After a failure: doubling up to Istio's minute. */
    firstRetryMs: 1_000,
    retryMs: 60_000,
    /** Keys that cannot be fetched any more are believed this long. */
    keepMs: 7 * 24 * 3600_000,
    /** Of one document. */
    maxBytes: 1024 * 1024,
    concurrency: 8,
    maxSources: 1_000,
    maxSourcesOfOne: 100,
  },
  server: {
    maxConnections: 20_000,
    maxConnectionsPerAddress: 2_000,
    maxStreamsPerIdentity: 512,
    /** Streams of one workload, one after the other: a burst, then so many a second. */
    streamBurst: 30,
    streamsPerSecond: 1,
    headersTimeoutMs: 10_000,
    requestTimeoutMs: 15_000,
    handshakeTimeoutMs: 10_000,
    keepAliveTimeoutMs: 30_000,
    /** Certificate requests: a burst, then so many a second, for each identity and each address. */
    certificateBurst: 200,
    certificatesPerSecond: 20,
    /** Life of the control plane's own certificate is the CA's; it is renewed at this share of it. */
    renewAt: 0.5,
    stopMs: 3_000,
  },
} as const;

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
const NAMESPACE_FORM = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const DNS_NAME_FORM = /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/i;
/** @throws PosternError ERR_CONFIG with every problem as `file:line:column: …`, exit 78. */
export function parseControlPlaneConfig(text: string, file: string): ControlPlaneConfig {
  return readSettings(text, file, (root) => readControlPlane(root, resolve(file)));
}

function readControlPlane(root: Section, file: string): ControlPlaneConfig {
  const base = dirname(file);
  const jwks = root.section('jwks');
  const domain = root.optional('trustDomain', trustDomain, DEFAULTS.trustDomain);
  return {
    file,
    manifests: root.optional('manifests', path(base), resolve(base, DEFAULTS.manifests)),
    dataDir: root.optional('dataDir', path(base), resolve(base, DEFAULTS.dataDir)),
    listen: root.optional('listen', LISTEN, DEFAULTS.listen),
    adminListen: root.optional('adminListen', LISTEN, DEFAULTS.adminListen),
    trustDomain: domain,
    serverNames: root.list('serverNames', DNS_NAME),
    trustedAddresses: root.list('trustedAddresses', ADDRESS_BLOCK),
    certificates: readCertificates(root.section('certificates')),
    jwks: {
      allowedAddresses: jwks?.list('allowedAddresses', ADDRESS_BLOCK) ?? [],
      refreshSeconds: jwks?.optional('refreshInterval', SECONDS, null) ?? DEFAULTS.jwks.refreshSeconds,
    },
    mesh: readMesh(root),
    kubernetes: readKubernetes(root, base, domain),
    logLevel: root.optional('logLevel', oneOf(...LOG_LEVELS), DEFAULTS.logLevel),
  };
}

function readCertificates(section: Section | null): ControlPlaneConfig['certificates'] {
  if (section === null) return DEFAULTS.certificates;
  const { certificates } = DEFAULTS;
  const ttlSeconds = section.optional('ttl', SECONDS, certificates.ttlSeconds);
  const minTtlSeconds = section.optional('minTtl', SECONDS, certificates.minTtlSeconds);
  const maxTtlSeconds = section.optional('maxTtl', SECONDS, certificates.maxTtlSeconds);
  if (minTtlSeconds > maxTtlSeconds) section.problem('minTtl', 'certificates.minTtl must not be above maxTtl');
  else if (ttlSeconds < minTtlSeconds || ttlSeconds > maxTtlSeconds) {
    section.problem(
      'ttl',
      `certificates.ttl must lie between minTtl (${minTtlSeconds}s) and maxTtl (${maxTtlSeconds}s): set those too`,
    );
  }
  return { ttlSeconds, minTtlSeconds, maxTtlSeconds };
}

function readMesh(root: Section): MeshSettings {
  const { mesh } = DEFAULTS;
  const normalization = root.section('pathNormalization')?.optional('normalization', PATH_NORMALIZATION, 'DEFAULT');
  return {
    trustDomainAliases: root.list('trustDomainAliases', trustDomain),
    rootNamespace: root.optional('rootNamespace', NAMESPACE, mesh.rootNamespace),
    outboundTrafficPolicy: root.optional(
      'outboundTrafficPolicy',
      oneOf('ALLOW_ANY', 'REGISTRY_ONLY'),
      mesh.outboundTrafficPolicy,
    ),
    defaultAction: root.optional('defaultAction', oneOf('ALLOW', 'DENY'), mesh.defaultAction),
    pathNormalization:
      normalization === undefined || normalization === 'DEFAULT' ? mesh.pathNormalization : normalization,
    extensionProviders: mesh.extensionProviders,
  };
}

/** @throws PosternError ERR_CONFIG where the file cannot be read or is not right. */
export function loadControlPlaneConfig(file: string): ControlPlaneConfig {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const message = `cannot read the configuration ${file}: ${messageOf(error)}; give its path with --config`;
    throw new PosternError('ERR_CONFIG', message, { cause: error, exitCode: EXIT.config });
  }
  return parseControlPlaneConfig(text, file);
}

const LISTEN: Decoder<ListenAddress> = parsed(
  'an IP address and port, such as "127.0.0.1:15012" or "[::1]:15012"',
  DEFAULTS.listen,
  parseListenAddress,
);

const ADDRESS_BLOCK: Decoder<string> = parsed('an IP address or CIDR block', '', (block) =>
  addressSet([block]) === null ? null : block,
);

const DNS_NAME: Decoder<string> = parsed('a DNS name', '', (name) => (DNS_NAME_FORM.test(name) ? name : null));

const NAMESPACE: Decoder<string> = parsed('the name of a namespace', '', (name) =>
  NAMESPACE_FORM.test(name) ? name : null,
);

const PATH_NORMALIZATION = oneOf('DEFAULT', 'NONE', 'BASE', 'MERGE_SLASHES', 'DECODE_AND_MERGE_SLASHES');

/** Of `90`, `90s`, `30m`, `1h30m`. */
const SECONDS: Decoder<number> = {
  expects: 'a duration between 1s and 720h, e.g. 90s, 30m or 1h30m',
  /** What is compared with a wrong duration must not be complained about too. */
  placeholder: Number.NaN,
  read(value) {
    const text = typeof value === 'string' || typeof value === 'number' ? String(value) : '';
    const parts = /^(?:(\d{1,5})h)?(?:(\d{1,7})m)?(?:(\d{1,8})s?)?$/.exec(text);
    if (parts === null) return null;
    const seconds = Number(parts[1] ?? 0) * 3600 + Number(parts[2] ?? 0) * 60 + Number(parts[3] ?? 0);
    return seconds >= 1 && seconds <= 720 * 3600 ? seconds : null;
  },
};
