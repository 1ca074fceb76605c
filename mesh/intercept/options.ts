import { EXIT, PosternError } from '../errors.ts';
import { type Cidr, disjointCidrs, parseCidr } from './cidr.ts';
import { mergePortRanges, type PortRange, parsePortRange } from './port-list.ts';

/**
 * Which connections of one direction are redirected. Every list narrows: a connection is redirected when no exclude list names it and
 * each include list that is given does. CIDRs are those of the other side: the destination outbound, the source inbound.
 */
export interface Selection {
  /** Null: all ports. */
  readonly includePorts: readonly PortRange[] | null;
  readonly excludePorts: readonly PortRange[];
  /** Null: all addresses. */
  readonly includeCidrs: readonly Cidr[] | null;
  readonly excludeCidrs: readonly Cidr[];
}

/** Everything the rules depend on. Lists are canonical (sorted, disjoint): equal options give equal rules. */
export interface InterceptOptions {
  /** Where the sidecar accepts redirected outbound connections. */
  readonly outboundPort: number;
  /** Where the sidecar accepts redirected inbound connections. */
  readonly inboundPort: number;
  /** The sidecar's own connections are exempt by UID, GID or SO_MARK; at least one of the three is not null, else it would intercept itself. */
  readonly uid: number | null;
  readonly gid: number | null;
  readonly mark: number | null;
  readonly inbound: Selection;
  readonly outbound: Selection;
  /** Neither what comes in nor what goes out by these is redirected. */
  readonly excludeInterfaces: readonly string[];
}

/** Admin, tunnel, metrics, health: reached directly from outside, whatever the lists say (Istio's numbers). */
export const SIDECAR_PORTS: readonly PortRange[] = [15_000, 15_008, 15_020, 15_021].map((port) => ({
  from: port,
  to: port,
}));

export const DEFAULTS = { outboundPort: '15001', inboundPort: '15006', uid: '1337', gid: '1337' } as const;

/** The command line's texts, each as given; absent: the default. */
export interface RawInterceptOptions {
  readonly outboundPort?: string;
  readonly inboundPort?: string;
  readonly uid?: string;
  readonly gid?: string;
  readonly mark?: string;
  readonly includeInboundPorts?: string;
  readonly excludeInboundPorts?: string;
  readonly includeInboundCidrs?: string;
  readonly excludeInboundCidrs?: string;
  readonly includeOutboundPorts?: string;
  readonly excludeOutboundPorts?: string;
  readonly includeOutboundCidrs?: string;
  readonly excludeOutboundCidrs?: string;
  readonly excludeInterfaces?: string;
}

/** More than any real list; it bounds the rules the kernel has to walk for each new connection. */
const MAX_ITEMS = 1024;
/** (uid_t)-1 means "no user" to the kernel. */
const MAX_ID = 0xffff_fffe;
/** IFNAMSIZ less its zero; the kernel allows more characters, but none of them occurs and `+` or `*` would be wildcards. */
const INTERFACE = /^[A-Za-z0-9_.][A-Za-z0-9_.-]{0,14}$/;

function usage(flag: string, reason: string): PosternError {
  return new PosternError('ERR_INTERCEPT_OPTION', `${flag}: ${reason}`, { exitCode: EXIT.usage });
}

function items(flag: string, text: string): string[] {
  const parts = text.split(',').map((part) => part.trim());
  if (parts.length > MAX_ITEMS)
    throw usage(flag, `${parts.length} entries are more than the ${MAX_ITEMS} that it may have`);
  if (parts.includes('')) throw usage(flag, 'an entry is empty; leave the option out where there is nothing to list');
  return parts;
}

function list<Item>(flag: string, text: string, parse: (part: string) => Item | string): Item[] {
  return items(flag, text).map((part) => {
    const parsed = parse(part);
    if (typeof parsed === 'string') throw usage(flag, parsed);
    return parsed;
  });
}

const ports = (flag: string, text: string | undefined): PortRange[] =>
  text === undefined ? [] : mergePortRanges(list(flag, text, parsePortRange));
const cidrs = (flag: string, text: string | undefined): Cidr[] =>
  text === undefined ? [] : disjointCidrs(list(flag, text, parseCidr));

/** `*` is how Istio's annotations spell "all". */
const isAll = (text: string | undefined): boolean => text === undefined || text === '*';

function port(flag: string, text: string): number {
  const range = parsePortRange(text);
  if (typeof range === 'string' || range.from !== range.to) {
    throw usage(flag, `${JSON.stringify(text)} is not a port (1 to 65535)`);
  }
  return range.from;
}

function id(flag: string, text: string): number | null {
  if (text === 'none') return null;
  const value = /^(0|[1-9][0-9]{0,9})$/.test(text) ? Number(text) : Number.NaN;
  if (!(value <= MAX_ID)) throw usage(flag, `${JSON.stringify(text)} is not a number from 0 to ${MAX_ID}, or "none"`);
  return value;
}

function mark(flag: string, text: string | undefined): number | null {
  if (text === undefined || text === 'none') return null;
  const value = /^(0x[0-9a-fA-F]{1,8}|[1-9][0-9]{0,9})$/.test(text) ? Number(text) : Number.NaN;
  // 0 is the mark of every packet that nobody marked.
  if (!(value >= 1 && value <= 0xffff_ffff)) {
    throw usage(flag, `${JSON.stringify(text)} is not a packet mark from 1 to 4294967295 (or 0x1 to 0xffffffff)`);
  }
  return value;
}

function interfaceName(text: string): string {
  return INTERFACE.test(text) && text !== '.' && text !== '..' ? text : '';
}

function interfaces(text: string | undefined): string[] {
  if (text === undefined) return [];
  const flag = '--exclude-interfaces';
  for (const part of items(flag, text)) {
    if (interfaceName(part) === '') throw usage(flag, `${JSON.stringify(part)} is not the name of a network interface`);
  }
  return [...new Set(items(flag, text))].sort();
}

function selection(raw: RawInterceptOptions, direction: 'Inbound' | 'Outbound'): Selection {
  const name = direction.toLowerCase();
  const includePorts = raw[`include${direction}Ports`];
  const includeCidrs = raw[`include${direction}Cidrs`];
  return {
    includePorts: isAll(includePorts) ? null : ports(`--include-${name}-ports`, includePorts),
    excludePorts: ports(`--exclude-${name}-ports`, raw[`exclude${direction}Ports`]),
    includeCidrs: isAll(includeCidrs) ? null : cidrs(`--include-${name}-cidrs`, includeCidrs),
    excludeCidrs: cidrs(`--exclude-${name}-cidrs`, raw[`exclude${direction}Cidrs`]),
  };
}

/** @throws PosternError ERR_INTERCEPT_OPTION that names the option, what it holds, and what it may hold. */
export function parseInterceptOptions(raw: RawInterceptOptions): InterceptOptions {
  const options: InterceptOptions = {
    outboundPort: port('--outbound-port', raw.outboundPort ?? DEFAULTS.outboundPort),
    inboundPort: port('--inbound-port', raw.inboundPort ?? DEFAULTS.inboundPort),
    uid: id('--uid', raw.uid ?? DEFAULTS.uid),
    gid: id('--gid', raw.gid ?? DEFAULTS.gid),
    mark: mark('--mark', raw.mark),
    inbound: selection(raw, 'Inbound'),
    outbound: selection(raw, 'Outbound'),
    excludeInterfaces: interfaces(raw.excludeInterfaces),
  };
  if (options.outboundPort === options.inboundPort) {
    throw usage('--outbound-port', `is ${options.outboundPort}, as --inbound-port: the sidecar needs two listeners`);
  }
  if (options.uid === null && options.gid === null && options.mark === null) {
    throw usage('--uid', 'with --gid none and no --mark nothing exempts the sidecar, which would intercept itself');
  }
  return options;
}
