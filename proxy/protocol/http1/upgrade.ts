import type { FieldScanner } from './field-scanner.ts';
import { TOKEN_LOWER } from './grammar.ts';

const SLASH = 0x2f;
/** Longest name of a protocol that is passed on. */
const MAX_PROTOCOL = 64;

/**
 * The one protocol that a message asks to change to, in lower case (RFC 9110, section 7.8); null where the message is to be read as if it did not ask,
 * which a recipient may always do: no `upgrade` in Connection, a choice of several, or a protocol that would carry requests past policy (HTTP/2, TLS).
 */
export function readUpgrade(
  bytes: Buffer,
  { connection, upgrades, upgradeStart, upgradeEnd }: FieldScanner,
): string | null {
  const length = upgradeEnd - upgradeStart;
  if (!connection.upgrade || upgrades !== 1 || length === 0 || length > MAX_PROTOCOL) return null;
  for (let p = upgradeStart; p < upgradeEnd; p++) {
    const byte = bytes[p] ?? 0;
    if (TOKEN_LOWER[byte] === 0 && byte !== SLASH) return null;
  }
  const protocol = bytes.latin1Slice(upgradeStart, upgradeEnd).toLowerCase();
  return /^(?:h2|h2c|h3|http|tls)(?:\/|$)/.test(protocol) ? null : protocol;
}
