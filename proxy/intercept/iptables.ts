import { formatCidr } from '../../mesh/intercept/cidr.ts';
import { type InterceptOptions, type Selection, SIDECAR_PORTS } from '../../mesh/intercept/options.ts';
import type { PortRange } from '../../mesh/intercept/port-list.ts';
import { ofFamily } from './matching.ts';

/** Everything that is ours: these chains of the nat table, and the jumps to them from the built-in ones. All four always exist together. */
const CHAINS = ['POSTERN_INBOUND', 'POSTERN_INBOUND_CIDRS', 'POSTERN_OUTBOUND', 'POSTERN_OUTBOUND_CIDRS'] as const;

type Chain = (typeof CHAINS)[number];

/** What of ours stands in the nat table now. */
export interface IptablesState {
  readonly chains: readonly Chain[];
  /** Rules of chains that are not ours and jump to one that is, as iptables-save prints them (`-A OUTPUT -p tcp -j POSTERN_OUTBOUND`). */
  readonly jumps: readonly string[];
}

const isOurs = (name: string | undefined): name is Chain => CHAINS.some((chain) => chain === name);

/** Finds ours in the output of iptables-save. */
export function readIptablesState(saved: string): IptablesState {
  const chains: Chain[] = [];
  const jumps: string[] = [];
  let table = '';
  for (const line of saved.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1).trim();
    if (table !== 'nat') continue;
    const declared = /^:(\S+)/.exec(line)?.[1];
    if (isOurs(declared)) chains.push(declared);
    const [, from, target] = /^-A (\S+) (?:.* )?-[jg] (\S+)$/.exec(line.trimEnd()) ?? [];
    if (isOurs(target) && !isOurs(from)) jumps.push(line.trimEnd());
  }
  return { chains, jumps };
}

// iptables writes a range of ports with a colon.
const dport = (range: PortRange): string =>
  range.from === range.to ? `--dport ${range.from}` : `--dport ${range.from}:${range.to}`;

/** The lists of one direction: ports are sorted out in the first chain, addresses in the second, which redirects what is left. */
function selectionRules(
  selection: Selection,
  family: 4 | 6,
  side: '-s' | '-d',
  chains: readonly [Chain, Chain],
  to: number,
): string[] {
  const [first, second] = chains;
  const redirect = `-j REDIRECT --to-ports ${to}`;
  const included = selection.includeCidrs === null ? null : ofFamily(selection.includeCidrs, family);
  return [
    ...selection.excludePorts.map((range) => `-A ${first} -p tcp ${dport(range)} -j RETURN`),
    ...ofFamily(selection.excludeCidrs, family).map((cidr) => `-A ${first} ${side} ${formatCidr(cidr)} -j RETURN`),
    ...(selection.includePorts === null
      ? [`-A ${first} -p tcp -j ${second}`]
      : selection.includePorts.map((range) => `-A ${first} -p tcp ${dport(range)} -j ${second}`)),
    ...(included === null
      ? [`-A ${second} -p tcp ${redirect}`]
      : included.map((cidr) => `-A ${second} -p tcp ${side} ${formatCidr(cidr)} ${redirect}`)),
  ];
}

function outboundRules(options: InterceptOptions, family: 4 | 6): string[] {
  const exempt = [
    // What stays in the workload: the application calling itself, and the sidecar calling it at 127.0.0.1 or its own address.
    '-o lo',
    ...(options.mark === null ? [] : [`-m mark --mark ${options.mark}`]),
    ...(options.uid === null ? [] : [`-m owner --uid-owner ${options.uid}`]),
    ...(options.gid === null ? [] : [`-m owner --gid-owner ${options.gid}`]),
    ...options.excludeInterfaces.map((name) => `-o ${name}`),
  ];
  const chains = ['POSTERN_OUTBOUND', 'POSTERN_OUTBOUND_CIDRS'] as const;
  return [
    ...exempt.map((match) => `-A POSTERN_OUTBOUND ${match} -j RETURN`),
    ...selectionRules(options.outbound, family, '-d', chains, options.outboundPort),
  ];
}

function inboundRules(options: InterceptOptions, family: 4 | 6): string[] {
  const exempt = [
    '-i lo',
    ...options.excludeInterfaces.map((name) => `-i ${name}`),
    ...SIDECAR_PORTS.map((range) => `-p tcp ${dport(range)}`),
  ];
  const chains = ['POSTERN_INBOUND', 'POSTERN_INBOUND_CIDRS'] as const;
  return [
    ...exempt.map((match) => `-A POSTERN_INBOUND ${match} -j RETURN`),
    ...selectionRules(options.inbound, family, '-s', chains, options.inboundPort),
  ];
}

const deletions = (state: IptablesState): string[] => state.jumps.map((jump) => jump.replace(/^-A /, '-D '));
const transaction = (lines: readonly string[]): string => `${['*nat', ...lines, 'COMMIT'].join('\n')}\n`;

/**
 * Input of `iptables-restore --noflush` (or ip6tables-restore): one transaction that replaces ours and leaves the rest. Declaring a chain
 * that exists empties it; the jumps found in `state` go before the new ones come, and come first so that no earlier rule bypasses them.
 */
export function iptablesScript(options: InterceptOptions, family: 4 | 6, state: IptablesState): string {
  return transaction([
    ...CHAINS.map((chain) => `:${chain} - [0:0]`),
    ...deletions(state),
    ...outboundRules(options, family),
    ...inboundRules(options, family),
    '-I OUTPUT 1 -p tcp -j POSTERN_OUTBOUND',
    '-I PREROUTING 1 -p tcp -j POSTERN_INBOUND',
  ]);
}

/** Input that removes what `state` found; null where that is nothing. */
export function iptablesRemoval(state: IptablesState): string | null {
  if (state.chains.length === 0 && state.jumps.length === 0) return null;
  return transaction([
    ...state.chains.map((chain) => `:${chain} - [0:0]`),
    ...deletions(state),
    ...state.chains.map((chain) => `-X ${chain}`),
  ]);
}
