/** What a ratio must reach. */
export type Target = { readonly atMost: number } | { readonly atLeast: number };

export function isReached(value: number, target: Target): boolean {
  return 'atMost' in target ? value <= target.atMost : value >= target.atLeast;
}

/** The bound, and whether it is reached: the last two cells of a row. */
export function verdict(value: number, target: Target | null): readonly [string, string] {
  if (target === null) return ['', ''];
  const bound = 'atMost' in target ? `≤ ${target.atMost}` : `≥ ${target.atLeast}`;
  return [bound, isReached(value, target) ? 'yes' : 'NO'];
}

/** Added latency below this is below what a Node generator can tell from none; it stands in for smaller (or negative) differences. Microseconds. */
const LATENCY_FLOOR_US = 10;

/** What a proxy adds to a latency measured without it, microseconds. */
export function addedLatency(through: number, direct: number): number {
  return Math.max(through - direct, LATENCY_FLOOR_US);
}
