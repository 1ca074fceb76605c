import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { EXIT, messageOf, PosternError } from '../mesh/errors.ts';
import type { ExtensionProvider, PathNormalization } from '../mesh/resources.ts';
import { isTrustDomain } from '../mesh/spiffe-id.ts';
import { addressSet, type ListenAddress, parseListenAddress } from './addresses.ts';
import { ConfigReader } from './config-reader.ts';

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
  readonly logLevel: string;
}

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
    maxFileBytes: 1024 * 1024,
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
  },
  server: {
    maxConnections: 20_000,
    maxConnectionsPerAddress: 2_000,
    maxStreamsPerIdentity: 512,
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

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'];
const NAMESPACE = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const DNS_NAME = /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/i;
const KEYS = [
  'manifests',
  'dataDir',
  'listen',
  'adminListen',
  'trustDomain',
  'trustDomainAliases',
  'rootNamespace',
  'outboundTrafficPolicy',
  'defaultAction',
  'pathNormalization',
  'certificates',
  'serverNames',
  'trustedAddresses',
  'jwks',
  'logLevel',
];

/** @throws PosternError ERR_CONFIG with file, line and column of what is wrong. */
export function parseControlPlaneConfig(text: string, file: string): ControlPlaneConfig {
  const root = new ConfigReader(text, file).root(KEYS);
  const base = dirname(resolve(file));
  const path = (key: 'manifests' | 'dataDir') =>
    resolve(
      base,
      root.read(key, DEFAULTS[key], 'a path', (value) => (value === '' || value.includes('\0') ? null : value)),
    );
  const listen = (key: 'listen' | 'adminListen') =>
    root.read<ListenAddress>(key, DEFAULTS[key], 'an IP address and port, e.g. 127.0.0.1:15012', parseListenAddress);
  const ttl = root.section('certificates', ['ttl', 'minTtl', 'maxTtl']);
  const duration = (key: string, fallback: number) =>
    ttl.read(key, fallback, 'a duration between 1s and 720h, e.g. 90s, 30m or 1h30m', parseDuration);
  const certificates = {
    ttlSeconds: duration('ttl', DEFAULTS.certificates.ttlSeconds),
    minTtlSeconds: duration('minTtl', DEFAULTS.certificates.minTtlSeconds),
    maxTtlSeconds: duration('maxTtl', DEFAULTS.certificates.maxTtlSeconds),
  };
  if (certificates.minTtlSeconds > certificates.maxTtlSeconds) ttl.fail('minTtl', 'must not be above maxTtl');
  if (certificates.ttlSeconds < certificates.minTtlSeconds || certificates.ttlSeconds > certificates.maxTtlSeconds) {
    const { minTtlSeconds, maxTtlSeconds } = certificates;
    ttl.fail('ttl', `must lie between minTtl (${minTtlSeconds}s) and maxTtl (${maxTtlSeconds}s): set those too`);
  }
  const jwks = root.section('jwks', ['allowedAddresses', 'refreshInterval']);
  const { mesh } = DEFAULTS;
  return {
    file: resolve(file),
    manifests: path('manifests'),
    dataDir: path('dataDir'),
    listen: listen('listen'),
    adminListen: listen('adminListen'),
    trustDomain: root.read(
      'trustDomain',
      DEFAULTS.trustDomain as string,
      'a trust domain (a-z 0-9 . - _)',
      asTrustDomain,
    ),
    serverNames: root.list('serverNames', 'a DNS name', (name) => (DNS_NAME.test(name) ? name : null)),
    trustedAddresses: root.list('trustedAddresses', 'an IP address or CIDR block', asAddressBlock),
    certificates,
    jwks: {
      allowedAddresses: jwks.list('allowedAddresses', 'an IP address or CIDR block', asAddressBlock),
      refreshSeconds: jwks.read(
        'refreshInterval',
        DEFAULTS.jwks.refreshSeconds as number,
        'a duration between 1s and 720h, e.g. 20m',
        parseDuration,
      ),
    },
    mesh: {
      trustDomainAliases: root.list('trustDomainAliases', 'a trust domain (a-z 0-9 . - _)', asTrustDomain),
      rootNamespace: root.read('rootNamespace', mesh.rootNamespace as string, 'a namespace name', asNamespace),
      outboundTrafficPolicy: root.read<MeshSettings['outboundTrafficPolicy']>(
        'outboundTrafficPolicy',
        mesh.outboundTrafficPolicy,
        'ALLOW_ANY or REGISTRY_ONLY',
        oneOf('ALLOW_ANY', 'REGISTRY_ONLY'),
      ),
      defaultAction: root.read<MeshSettings['defaultAction']>(
        'defaultAction',
        mesh.defaultAction,
        'ALLOW or DENY',
        oneOf('ALLOW', 'DENY'),
      ),
      pathNormalization: root
        .section('pathNormalization', ['normalization'])
        .read<PathNormalization>(
          'normalization',
          mesh.pathNormalization,
          'DEFAULT, NONE, BASE, MERGE_SLASHES or DECODE_AND_MERGE_SLASHES',
          asPathNormalization,
        ),
      extensionProviders: mesh.extensionProviders,
    },
    logLevel: root.read(
      'logLevel',
      DEFAULTS.logLevel as string,
      `one of ${LOG_LEVELS.join(', ')}`,
      oneOf(...LOG_LEVELS),
    ),
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

export function oneOf<T extends string>(...values: readonly T[]): (text: string) => T | null {
  return (text) => values.find((value) => value === text) ?? null;
}

export function asTrustDomain(text: string): string | null {
  return isTrustDomain(text) ? text : null;
}

const PATH_NORMALIZATIONS = oneOf('NONE', 'BASE', 'MERGE_SLASHES', 'DECODE_AND_MERGE_SLASHES');

function asPathNormalization(text: string): PathNormalization | null {
  return text === 'DEFAULT' ? DEFAULTS.mesh.pathNormalization : PATH_NORMALIZATIONS(text);
}

export function asNamespace(text: string): string | null {
  return NAMESPACE.test(text) ? text : null;
}

function asAddressBlock(block: string): string | null {
  return addressSet([block]) === null ? null : block;
}

/** Seconds of `90`, `90s`, `30m`, `1h30m`. */
function parseDuration(text: string): number | null {
  const parts = /^(?:(\d{1,5})h)?(?:(\d{1,7})m)?(?:(\d{1,8})s?)?$/.exec(text);
  if (parts === null) return null;
  const seconds = Number(parts[1] ?? 0) * 3600 + Number(parts[2] ?? 0) * 60 + Number(parts[3] ?? 0);
  return seconds >= 1 && seconds <= 720 * 3600 ? seconds : null;
}
