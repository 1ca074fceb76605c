import { parseSpiffeId } from '../../mesh/spiffe-id.ts';
import { field, isAbsent } from '../json.ts';
import { quoted } from '../quoted.ts';
import type { JsonObject } from '../types.ts';
import type { Findings } from './findings.ts';

const SPEC = ['spec'];
/** Hexadecimal, plain or with colons as openssl prints it; RFC 5280, section 4.1.2.2: at most 20 octets. */
const SERIAL = /^(?:[0-9a-f]{1,40}|[0-9a-f]{1,2}(?::[0-9a-f]{2}){1,19})$/i;
const ZERO = /^[0:]*$/;
const MAX_REASON = 1024;

/** What is no longer trusted: an identity with all its certificates, or one certificate by its serial number. */
export function validateRevocation(object: JsonObject, findings: Findings): void {
  const spec = findings.object(field(object, 'spec'), SPEC, ['spiffeId', 'serial', 'reason']) ?? {};
  const written = field(spec, 'spiffeId');
  if (isAbsent(written) === isAbsent(field(spec, 'serial'))) {
    findings.error(SPEC, 'a Revocation names exactly one of spiffeId and serial');
  }
  const spiffeId = findings.string(written, [...SPEC, 'spiffeId']);
  if (spiffeId !== null && parseSpiffeId(spiffeId) === null) {
    const form = 'spiffe://<trust domain>/ns/<namespace>/sa/<service account>';
    findings.error([...SPEC, 'spiffeId'], `${quoted(spiffeId)} is not an identity of the mesh: ${form}`);
  }
  const serial = findings.string(field(spec, 'serial'), [...SPEC, 'serial']);
  if (serial !== null && (!SERIAL.test(serial) || ZERO.test(serial))) {
    findings.error(
      [...SPEC, 'serial'],
      `${quoted(serial)} is not the serial number of a certificate: up to 40 hexadecimal digits, colons allowed`,
    );
  }
  const reason = findings.string(field(spec, 'reason'), [...SPEC, 'reason']);
  if (reason !== null && reason.length > MAX_REASON) {
    findings.error([...SPEC, 'reason'], `a reason has at most ${MAX_REASON} characters`);
  }
}
