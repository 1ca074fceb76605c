import type { RejectedResource, ResourceKey } from '../../mesh/resources.ts';
import type { Scope } from '../registry/scope.ts';
import type { Snapshot } from '../registry/snapshot.ts';

/** How far the connected sidecars are with one policy. */
export interface Enforcement {
  /** Those that it selects now. */
  readonly wanted: number;
  /** Those of them that have acknowledged it as it is now, and not refused it. */
  readonly inForce: number;
  /** Those of them that refused it, and what one of them said. */
  readonly rejected: number;
  readonly reason: string | null;
}

/** One connected sidecar. */
export interface Holder {
  /** What it should hold now. */
  readonly wanted: Scope;
  /** What it last acknowledged. */
  readonly acknowledged: Scope | null;
  readonly rejected: readonly RejectedResource[];
}

type Counts = { wanted: number; inForce: number; rejected: number; reason: string | null };

/** By key, of all policies of the snapshot. Sidecars of one class are counted together: they share their scopes. */
export function enforcementOf(
  snapshot: Pick<Snapshot, 'policies'>,
  holders: readonly Holder[],
): ReadonlyMap<ResourceKey, Enforcement> {
  const counts = new Map<ResourceKey, Counts>();
  for (const policies of snapshot.policies.values()) {
    for (const { resource } of policies) {
      counts.set(`${resource.kind}/${resource.name}`, { wanted: 0, inForce: 0, rejected: 0, reason: null });
    }
  }
  for (const [wanted, byAcknowledged] of countPairs(holders)) {
    for (const [key, resource] of wanted.resources.own.resources) {
      const count = counts.get(key);
      if (count === undefined) continue;
      for (const [acknowledged, sidecars] of byAcknowledged) {
        count.wanted += sidecars;
        if (acknowledged?.resources.get(key) === resource) count.inForce += sidecars;
      }
    }
  }
  for (const holder of holders) for (const one of holder.rejected) countRejection(counts.get(one.key), holder, one);
  return counts;
}

function countPairs(holders: readonly Holder[]): ReadonlyMap<Scope, ReadonlyMap<Scope | null, number>> {
  const pairs = new Map<Scope, Map<Scope | null, number>>();
  for (const { wanted, acknowledged } of holders) {
    const counts = pairs.get(wanted) ?? new Map<Scope | null, number>();
    pairs.set(wanted, counts);
    counts.set(acknowledged, (counts.get(acknowledged) ?? 0) + 1);
  }
  return pairs;
}

function countRejection(count: Counts | undefined, holder: Holder, { key, reason }: RejectedResource): void {
  const resource = holder.wanted.resources.get(key);
  // One that does not select it any more is not waited for.
  if (count === undefined || resource === undefined) return;
  count.rejected += 1;
  count.reason ??= reason;
  if (holder.acknowledged?.resources.get(key) === resource) count.inForce -= 1;
}
