import { isIPv4 } from 'node:net';
import { type Cidr, cidrContains } from '../../mesh/intercept/cidr.ts';
import { type InterceptOptions, type Selection, SIDECAR_PORTS } from '../../mesh/intercept/options.ts';
import { portsContain } from '../../mesh/intercept/port-list.ts';

/** A new TCP connection as the rules see its first packet. */
export interface Connection {
  readonly direction: 'inbound' | 'outbound';
  /** By which it comes in or leaves. */
  readonly interfaceName: string;
  /** Of the other side: the destination outbound, the source inbound. */
  readonly address: string;
  /** Destination port. */
  readonly port: number;
  /** Of the socket; only outbound. */
  readonly owner: { readonly uid: number; readonly gid: number; readonly mark: number };
}

/** The CIDRs of one family. */
export function ofFamily(cidrs: readonly Cidr[], family: 4 | 6): Cidr[] {
  return cidrs.filter((cidr) => cidr.family === family);
}

function selects(selection: Selection, connection: Connection): boolean {
  const listed = (cidrs: readonly Cidr[]): boolean => cidrs.some((cidr) => cidrContains(cidr, connection.address));
  if (portsContain(selection.excludePorts, connection.port) || listed(selection.excludeCidrs)) return false;
  if (selection.includePorts !== null && !portsContain(selection.includePorts, connection.port)) return false;
  return selection.includeCidrs === null || listed(selection.includeCidrs);
}

/** The meaning of the rules in one place: what both backends must do, and what a probe has to match to be worth dialling. */
export function isRedirected(options: InterceptOptions, connection: Connection): boolean {
  if (connection.interfaceName === 'lo' || options.excludeInterfaces.includes(connection.interfaceName)) return false;
  if (connection.direction === 'inbound') {
    return !portsContain(SIDECAR_PORTS, connection.port) && selects(options.inbound, connection);
  }
  const { uid, gid, mark } = connection.owner;
  if (uid === options.uid || gid === options.gid || mark === options.mark) return false;
  return selects(options.outbound, connection);
}

export function familyOf(address: string): 4 | 6 {
  return isIPv4(address) ? 4 : 6;
}
