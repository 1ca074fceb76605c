import { type Cidr, formatCidr } from '../../mesh/intercept/cidr.ts';
import { type InterceptOptions, type Selection, SIDECAR_PORTS } from '../../mesh/intercept/options.ts';
import { formatPortRange, type PortRange } from '../../mesh/intercept/port-list.ts';
import { ofFamily } from './matching.ts';

/** Everything that is ours lives in this one table, so that removing it removes exactly ours. */
export const NFT_TABLE = 'inet postern';

/**
 * `add` before `delete` because deleting what does not exist is an error and `destroy` needs nft 1.0.8 and Linux 6.3; both happen in one
 * transaction, so no packet ever meets the state in between.
 */
export const NFT_REMOVE = `add table ${NFT_TABLE}\ndelete table ${NFT_TABLE}\n`;

const set = (items: readonly string[]): string => `{ ${items.join(', ')} }`;
const portSet = (ranges: readonly PortRange[]): string => set(ranges.map(formatPortRange));
const cidrSet = (cidrs: readonly Cidr[]): string => set(cidrs.map(formatCidr));

const FAMILIES = [
  { family: 4, protocol: 'ipv4', header: 'ip' },
  { family: 6, protocol: 'ipv6', header: 'ip6' },
] as const;

/** The lists of one direction, as rules that return what is not to be redirected. `field` is the other side's address. */
function selectionRules(selection: Selection, field: 'saddr' | 'daddr'): string[] {
  const rules: string[] = [];
  if (selection.excludePorts.length > 0) rules.push(`tcp dport ${portSet(selection.excludePorts)} return`);
  if (selection.includePorts !== null) rules.push(`tcp dport != ${portSet(selection.includePorts)} return`);
  for (const { family, protocol, header } of FAMILIES) {
    const excluded = ofFamily(selection.excludeCidrs, family);
    // A block of all addresses is said of the family: interval sets of some nft versions do not hold a /0.
    if (excluded.some((cidr) => cidr.prefix === 0)) rules.push(`meta nfproto ${protocol} return`);
    else if (excluded.length > 0) rules.push(`${header} ${field} ${cidrSet(excluded)} return`);
    if (selection.includeCidrs === null) continue;
    const included = ofFamily(selection.includeCidrs, family);
    if (included.length === 0) rules.push(`meta nfproto ${protocol} return`);
    else if (included.every((cidr) => cidr.prefix > 0)) rules.push(`${header} ${field} != ${cidrSet(included)} return`);
  }
  return rules;
}

function outputRules(options: InterceptOptions): string[] {
  const { excludeInterfaces } = options;
  return [
    'meta l4proto != tcp return',
    // What stays in the workload: the application calling itself, and the sidecar calling it at 127.0.0.1 or its own address.
    'oifname "lo" return',
    ...(options.mark === null ? [] : [`meta mark ${options.mark} return`]),
    ...(options.uid === null ? [] : [`meta skuid ${options.uid} return`]),
    ...(options.gid === null ? [] : [`meta skgid ${options.gid} return`]),
    ...(excludeInterfaces.length === 0 ? [] : [`oifname ${set(excludeInterfaces.map((name) => `"${name}"`))} return`]),
    ...selectionRules(options.outbound, 'daddr'),
    `meta l4proto tcp redirect to :${options.outboundPort}`,
  ];
}

function preroutingRules(options: InterceptOptions): string[] {
  const { excludeInterfaces } = options;
  return [
    'meta l4proto != tcp return',
    'iifname "lo" return',
    ...(excludeInterfaces.length === 0 ? [] : [`iifname ${set(excludeInterfaces.map((name) => `"${name}"`))} return`]),
    `tcp dport ${portSet(SIDECAR_PORTS)} return`,
    ...selectionRules(options.inbound, 'saddr'),
    `meta l4proto tcp redirect to :${options.inboundPort}`,
  ];
}

/** Priority -100 is `dstnat`, spelt as a number because the name is not accepted in the output hook by nft before 1.0.7. */
function chain(name: 'output' | 'prerouting', rules: readonly string[]): string {
  const lines = [`type nat hook ${name} priority -100; policy accept;`, ...rules];
  return `\tchain ${name} {\n${lines.map((line) => `\t\t${line}\n`).join('')}\t}\n`;
}

/** Input of `nft -f -`: replaces whatever rules of ours there are, in one transaction. */
export function nftablesScript(options: InterceptOptions): string {
  const chains = [chain('output', outputRules(options)), chain('prerouting', preroutingRules(options))];
  return `${NFT_REMOVE}table ${NFT_TABLE} {\n${chains.join('\n')}}\n`;
}
