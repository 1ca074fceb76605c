/** Ports `from` to `to`, both included. */
export interface PortRange {
  readonly from: number;
  readonly to: number;
}

const ITEM = /^([1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?$/;

/** Reads `8080` or `9000-9100`; the reason (string) where the text is neither. */
export function parsePortRange(text: string): PortRange | string {
  const match = ITEM.exec(text);
  if (match === null) return `${JSON.stringify(text)} is not a port (1 to 65535) or a range of ports such as 9000-9100`;
  const from = Number(match[1]);
  const to = Number(match[2] ?? match[1]);
  if (from > 65_535 || to > 65_535) return `${JSON.stringify(text)} is beyond the last port, 65535`;
  if (from > to) return `the range ${JSON.stringify(text)} ends before it begins`;
  return { from, to };
}

export function formatPortRange(range: PortRange): string {
  return range.from === range.to ? String(range.from) : `${range.from}-${range.to}`;
}

export function portsContain(ranges: readonly PortRange[], port: number): boolean {
  return ranges.some((range) => range.from <= port && port <= range.to);
}

/** The same ports in order, with no overlap and no two ranges that touch: equal options must give equal rules. */
export function mergePortRanges(ranges: readonly PortRange[]): PortRange[] {
  const merged: PortRange[] = [];
  for (const range of [...ranges].sort((a, b) => a.from - b.from)) {
    const previous = merged.at(-1);
    if (previous === undefined || range.from > previous.to + 1) merged.push(range);
    else merged[merged.length - 1] = { from: previous.from, to: Math.max(previous.to, range.to) };
  }
  return merged;
}
