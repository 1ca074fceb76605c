import type { BodyFraming, ConnectionDirective } from './framing.ts';
import { CR, LF } from './grammar.ts';

/** Most bytes of what these functions write after the fields, but for the upgrade's protocol. */
export const MAX_TAIL_BYTES = 128;

/** Content-Length or Transfer-Encoding. @param emptyLength the Content-Length where no body follows; null: it is not written */
export function writeFraming(to: Buffer, at: number, framing: BodyFraming, emptyLength: number | null): number {
  if (framing.kind === 'chunked') return at + to.latin1Write('Transfer-Encoding: chunked\r\n', at);
  const length = framing.kind === 'length' ? framing.length : framing.kind === 'none' ? emptyLength : null;
  return length === null ? at : at + to.latin1Write(`Content-Length: ${length}\r\n`, at);
}

/**
 * Connection, Upgrade and the empty line.
 * @param te the fields have a TE that is for the next hop alone
 * @param persistent HTTP/1.0 is written, where a connection that stays must be asked for
 * @throws RangeError where an upgrade is asked for and `upgrade` is null
 */
export function writeConnection(
  to: Buffer,
  at: number,
  directive: ConnectionDirective,
  upgrade: string | null,
  te: boolean,
  persistent: boolean,
): number {
  let p = at;
  if (directive === 'upgrade') {
    if (upgrade === null) throw new RangeError('an upgrade to nothing');
    p += to.latin1Write(`Connection: ${te ? 'upgrade, TE' : 'upgrade'}\r\nUpgrade: ${upgrade}\r\n`, p);
  } else if (directive === 'close') {
    p += to.latin1Write(te ? 'Connection: close, TE\r\n' : 'Connection: close\r\n', p);
  } else if (persistent) {
    p += to.latin1Write(te ? 'Connection: keep-alive, TE\r\n' : 'Connection: keep-alive\r\n', p);
  } else if (te) {
    p += to.latin1Write('Connection: TE\r\n', p);
  }
  to[p] = CR;
  to[p + 1] = LF;
  return p + 2;
}
