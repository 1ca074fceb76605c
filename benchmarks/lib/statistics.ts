/** Quantile by linear interpolation between the closest ranks (type 7 of Hyndman and Fan), `q` from 0 to 1. NaN for no values. */
export function quantile(values: readonly number[], q: number): number {
  return quantileOfSorted(Float64Array.from(values).sort(), q);
}

/** As `quantile`, of values that are already in ascending order. */
export function quantileOfSorted(sorted: ArrayLike<number>, q: number): number {
  if (sorted.length === 0) return Number.NaN;
  const rank = (sorted.length - 1) * q;
  const low = Math.floor(rank);
  const below = sorted[low] ?? Number.NaN;
  const above = sorted[Math.min(low + 1, sorted.length - 1)] ?? below;
  return below + (above - below) * (rank - low);
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** A figure over the rounds of a run: its median, and how far the rounds strayed. */
export interface Spread {
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

export function spread(values: readonly number[]): Spread {
  return { median: median(values), low: quantile(values, 0), high: quantile(values, 1) };
}

/**
 * Ratios within rounds, then their spread: the machine drifts between rounds, so dividing two medians of different rounds would compare two machines.
 * @throws RangeError where the rounds do not pair up.
 */
export function ratioWithinRounds(numerators: readonly number[], denominators: readonly number[]): Spread {
  if (numerators.length !== denominators.length || numerators.length === 0) {
    throw new RangeError(`rounds do not pair up: ${numerators.length} and ${denominators.length}`);
  }
  return spread(numerators.map((numerator, round) => numerator / (denominators[round] ?? Number.NaN)));
}

/** Four significant digits: more would pretend a precision that no round has. Not-a-number becomes null, as JSON has none. */
export function significant(value: number): number | null {
  return Number.isFinite(value) ? Number(value.toPrecision(4)) : null;
}
