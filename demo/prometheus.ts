/** A sample of the Prometheus text format. */
interface Sample {
  /** The text between the braces. */
  readonly labels: string;
  readonly value: number;
}

function samplesOf(text: string, metric: string): Sample[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith(`${metric}{`) || line.startsWith(`${metric} `))
    .map((line) => ({
      labels: line.slice(metric.length, line.lastIndexOf(' ')),
      value: Number(line.slice(line.lastIndexOf(' ') + 1)),
    }));
}

/** The sum over all series of a metric. */
export function sumOf(text: string, metric: string): number {
  return samplesOf(text, metric).reduce((sum, { value }) => sum + value, 0);
}

/** The sums by the values of one label, of the series that carry `having` (`reporter="destination"`). */
export function sumsBy(text: string, metric: string, label: string, having: string): ReadonlyMap<string, number> {
  const sums = new Map<string, number>();
  for (const { labels, value } of samplesOf(text, metric)) {
    const found = new RegExp(`[{,]${label}="([^"]*)"`).exec(labels)?.[1];
    if (found !== undefined && labels.includes(having)) sums.set(found, (sums.get(found) ?? 0) + value);
  }
  return sums;
}

/** The upper bound of the bucket in which the quantile lies, as Grafana would show it without interpolation; null where nothing was observed. */
export function quantileBound(text: string, histogram: string, q: number, having: string): string | null {
  const buckets = [...sumsBy(text, `${histogram}_bucket`, 'le', having)].sort(([a], [b]) => boundOf(a) - boundOf(b));
  const total = buckets.at(-1)?.[1] ?? 0;
  if (total === 0) return null;
  return buckets.find(([, count]) => count >= q * total)?.[0] ?? null;
}

const boundOf = (le: string): number => (le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le));
