import type { ResourceKey } from '../../../mesh/resources.ts';
import type { SidecarStatus } from '../../admin/status.ts';
import type { Enforcement } from '../../push/enforcement.ts';

/**
 * What replicas of the control plane tell each other: `POST /v1/replica` on port 15012, `ReplicaQuestion` → `ReplicaReport`. Only the control plane's
 * own identity may ask, and only that is believed.
 */
export interface ReplicaQuestion {
  /** SHA-256 (base64url of the PEM text) of roots: which connected sidecars have not acknowledged a trust bundle that holds all of them? */
  readonly roots: readonly string[];
  /** Whether `sidecars` and `policies` are wanted. */
  readonly sidecars: boolean;
  readonly policies: boolean;
}

export interface ReplicaReport {
  readonly pod: string;
  readonly connected: number;
  /** Workloads that have not acknowledged the roots asked for: at most `MAX_NAMES` names, and how many in all. */
  readonly untrusting: { readonly count: number; readonly names: readonly string[] };
  /** Null where it was not asked for. */
  readonly sidecars: readonly SidecarStatus[] | null;
  /** By key of the resource, `AuthorizationPolicy/shop/deny-all`. */
  readonly policies: { readonly [key: string]: Enforcement } | null;
}

export const REPLICA_PATH = '/v1/replica';
export const MAX_NAMES = 100;
/** Of a report; a peer that says more is not believed. */
export const MAX_REPORT_BYTES = 64 * 1024 * 1024;
const MAX_ROOTS = 64;

export class MalformedReport extends Error {}

/** @throws MalformedReport */
export function readQuestion(value: unknown): ReplicaQuestion {
  const { roots, sidecars, policies } = objectOf(value, 'the question');
  if (!isTexts(roots) || roots.length > MAX_ROOTS)
    throw new MalformedReport(`roots must be at most ${MAX_ROOTS} digests`);
  if (typeof sidecars !== 'boolean' || typeof policies !== 'boolean') {
    throw new MalformedReport('sidecars and policies must be true or false');
  }
  return { roots, sidecars, policies };
}

/** @throws MalformedReport */
export function readReport(value: unknown): ReplicaReport {
  const { pod, connected, untrusting, sidecars, policies } = objectOf(value, 'the report');
  const { count, names } = objectOf(untrusting, 'untrusting');
  if (typeof pod !== 'string' || !isCount(connected)) throw new MalformedReport('no pod or number of sidecars');
  if (!isCount(count) || !isTexts(names) || names.length > MAX_NAMES)
    throw new MalformedReport('untrusting is not right');
  return {
    pod,
    connected,
    untrusting: { count, names },
    sidecars: sidecars === null ? null : listOf(sidecars).map(readSidecar),
    policies:
      policies === null
        ? null
        : Object.fromEntries(
            Object.entries(objectOf(policies, 'policies')).map(([key, one]) => [key, readEnforcement(one)]),
          ),
  };
}

/** Together, of several replicas. */
export function addEnforcement(a: Enforcement | undefined, b: Enforcement): Enforcement {
  if (a === undefined) return b;
  return {
    wanted: a.wanted + b.wanted,
    inForce: a.inForce + b.inForce,
    rejected: a.rejected + b.rejected,
    reason: a.reason ?? b.reason,
  };
}

function readEnforcement(value: unknown): Enforcement {
  const { wanted, inForce, rejected, reason } = objectOf(value, 'a policy');
  if (!isCount(wanted) || !isCount(inForce) || !isCount(rejected)) throw new MalformedReport('a policy without counts');
  return { wanted, inForce, rejected, reason: typeof reason === 'string' ? reason : null };
}

/** Shown to operators only; what is missing or odd in it must not hide the rest. */
function readSidecar(value: unknown): SidecarStatus {
  const one = objectOf(value, 'a sidecar');
  const textOf = (key: string) => (typeof one[key] === 'string' ? one[key] : '');
  const textOrNull = (key: string) => (typeof one[key] === 'string' ? one[key] : null);
  return {
    workload: textOf('workload'),
    identity: textOf('identity'),
    addresses: isTexts(one.addresses) ? one.addresses : [],
    peerAddress: textOf('peerAddress'),
    proxyVersion: textOf('proxyVersion'),
    certificateSerial: textOf('certificateSerial'),
    certificateExpiresAt: textOf('certificateExpiresAt'),
    connectedSince: textOf('connectedSince'),
    versionSent: textOrNull('versionSent'),
    versionAcknowledged: textOrNull('versionAcknowledged'),
    rejected: listOf(one.rejected).flatMap((entry) => {
      const { key, reason } = objectOf(entry, 'a rejection');
      return typeof key === 'string' && typeof reason === 'string' ? [{ key: key as ResourceKey, reason }] : [];
    }),
  };
}

function objectOf(value: unknown, what: string): { readonly [key: string]: unknown } {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new MalformedReport(`${what} is no object`);
  return value as { readonly [key: string]: unknown };
}

function listOf(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw new MalformedReport('a list was expected');
  return value;
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
