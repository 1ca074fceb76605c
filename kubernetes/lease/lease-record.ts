import { asObject, asString, field } from '../../policy/json.ts';
import type { JsonObject } from '../../policy/types.ts';
import { resourceVersionOf } from '../api/object-meta.ts';

/** A `coordination.k8s.io/v1` Lease as elections use it. */
export interface LeaseRecord {
  /** Empty: nobody holds it. */
  readonly holder: string;
  /** Seconds; null where it says none that makes sense. */
  readonly durationSeconds: number | null;
  /** As written: compared for equality only, since others' clocks are not ours. */
  readonly renewTime: string;
  readonly acquireTime: string;
  readonly transitions: number;
  readonly resourceVersion: string;
}

/** A holder cannot keep others away for longer by a word of its own. Seconds. */
const MAX_DURATION = 3600;

export function readLease(object: JsonObject): LeaseRecord {
  const spec = asObject(field(object, 'spec'));
  const duration = field(spec, 'leaseDurationSeconds');
  const transitions = field(spec, 'leaseTransitions');
  const valid = typeof duration === 'number' && duration > 0 && duration <= MAX_DURATION;
  return {
    holder: asString(field(spec, 'holderIdentity')) ?? '',
    durationSeconds: valid ? duration : null,
    renewTime: asString(field(spec, 'renewTime')) ?? '',
    acquireTime: asString(field(spec, 'acquireTime')) ?? '',
    transitions: typeof transitions === 'number' && transitions >= 0 ? transitions : 0,
    resourceVersion: resourceVersionOf(object) ?? '',
  };
}

export interface LeaseClaim {
  readonly namespace: string;
  readonly name: string;
  readonly identity: string;
  readonly durationMs: number;
  /** Wall clock, for people to read. */
  readonly now: Date;
}

/** The Lease with us as its holder, made anew or in the place of `before`. */
export function claimed(before: LeaseRecord | null, claim: LeaseClaim): JsonObject {
  const now = microTime(claim.now);
  const ours = before?.holder === claim.identity;
  return leaseObject(claim, before, {
    holderIdentity: claim.identity,
    leaseDurationSeconds: Math.max(1, Math.round(claim.durationMs / 1000)),
    acquireTime: ours && before.acquireTime !== '' ? before.acquireTime : now,
    renewTime: now,
    leaseTransitions: before === null ? 0 : before.transitions + (ours ? 0 : 1),
  });
}

/** The Lease without a holder, so that nobody has to wait for it to run out. */
export function released(before: LeaseRecord, claim: LeaseClaim): JsonObject {
  const now = microTime(claim.now);
  return leaseObject(claim, before, {
    holderIdentity: '',
    leaseDurationSeconds: 1,
    acquireTime: now,
    renewTime: now,
    leaseTransitions: before.transitions,
  });
}

function leaseObject({ namespace, name }: LeaseClaim, before: LeaseRecord | null, spec: JsonObject): JsonObject {
  const version = before === null ? {} : { resourceVersion: before.resourceVersion };
  return { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { namespace, name, ...version }, spec };
}

/** Kubernetes' MicroTime has exactly six digits of a second. */
function microTime(time: Date): string {
  return time.toISOString().replace('Z', '000Z');
}
