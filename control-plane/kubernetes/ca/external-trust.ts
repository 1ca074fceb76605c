import type { TrustedRoot, TrustState } from './trust-state.ts';

/** What replicas agree on while an external CA replaces its root, as pure steps from one `TrustState` to the next. */

export interface RootOffer {
  readonly pem: string;
  readonly fingerprint: string;
}

/** The first state, or the one with the root of the Secret added: trusted, not issuing yet. The same object where nothing changes. */
export function announced(
  state: TrustState | null,
  offer: RootOffer,
  { trustDomain, maxTtlSeconds }: { readonly trustDomain: string; readonly maxTtlSeconds: number },
): TrustState {
  const entry: TrustedRoot = { ...offer, trustedUntil: null };
  if (state === null) return { version: 1, trustDomain, issuing: offer.fingerprint, maxTtlSeconds, roots: [entry] };
  const longest = Math.max(state.maxTtlSeconds, maxTtlSeconds);
  const known = state.roots.find(({ fingerprint }) => fingerprint === offer.fingerprint);
  // One that was to go and has come back stays.
  if (known?.trustedUntil === null)
    return longest === state.maxTtlSeconds ? state : { ...state, maxTtlSeconds: longest };
  const others = state.roots.filter(({ fingerprint }) => fingerprint !== offer.fingerprint);
  return { ...state, maxTtlSeconds: longest, roots: [...others, entry] };
}

/** The root of the Secret issues; every other one is trusted until the last leaf that a replica can have issued under it is over. */
export function moved(state: TrustState, fingerprint: string, trustedUntil: number): TrustState {
  if (state.issuing === fingerprint) return state;
  const roots = state.roots.map((root) => ({
    ...root,
    trustedUntil: root.fingerprint === fingerprint ? null : (root.trustedUntil ?? trustedUntil),
  }));
  return { ...state, issuing: fingerprint, roots };
}

/** Without the roots whose time is over. A root that is neither issuing nor offered any more is given its time first. */
export function pruned(
  state: TrustState,
  { now, offered, trustedUntil }: { readonly now: number; readonly offered: string; readonly trustedUntil: number },
): TrustState {
  const keeps = ({ fingerprint }: TrustedRoot): boolean => fingerprint === state.issuing || fingerprint === offered;
  const roots = state.roots
    .map((root) => (root.trustedUntil === null && !keeps(root) ? { ...root, trustedUntil } : root))
    .filter((root) => keeps(root) || root.trustedUntil === null || root.trustedUntil > now);
  const unchanged = roots.length === state.roots.length && roots.every((root, index) => root === state.roots[index]);
  return unchanged ? state : { ...state, roots };
}

/** PEM of all roots to trust: the one that issues first, then the one that is to, then those that are going. */
export function rootsInOrder(state: TrustState | null, offer: RootOffer, issuing: string): readonly string[] {
  const known = new Map<string, { readonly pem: string; readonly trustedUntil: number | null }>(
    (state?.roots ?? []).map((root) => [root.fingerprint, root]),
  );
  if (!known.has(offer.fingerprint)) known.set(offer.fingerprint, { pem: offer.pem, trustedUntil: null });
  const rank = ([fingerprint, { trustedUntil }]: readonly [
    string,
    { readonly trustedUntil: number | null },
  ]): number => (fingerprint === issuing ? 0 : trustedUntil === null ? 1 : 2);
  return [...known].sort((a, b) => rank(a) - rank(b)).map(([, { pem }]) => pem);
}
