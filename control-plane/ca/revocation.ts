import { EXIT, PosternError } from '../../mesh/errors.ts';
import { parseSpiffeId } from '../../mesh/spiffe-id.ts';

/** What is revoked: an identity with all its certificates, present and future, or one certificate. */
export interface Revocation {
  readonly kind: 'spiffeId' | 'serial';
  /** SPIFFE ID, or serial as upper-case hexadecimal without leading zeros. */
  readonly value: string;
  /** Unix time, milliseconds. */
  readonly revokedAt: number;
}

const COLONS = /^[0-9a-f]{1,2}(:[0-9a-f]{2})+$/i;
// RFC 5280, section 4.1.2.2: at most 20 octets.
const SERIAL = /^[0-9A-F]{1,40}$/;

/**
 * Reads what an operator names: a SPIFFE ID of the mesh's form, or a serial in hexadecimal, plain or with colons as openssl prints it.
 *
 * @throws PosternError ERR_REVOCATION_SUBJECT
 */
export function parseSubject(text: string): Pick<Revocation, 'kind' | 'value'> {
  if (parseSpiffeId(text) !== null) return { kind: 'spiffeId', value: text };
  const digits = (COLONS.test(text) ? text.replaceAll(':', '') : text).toUpperCase();
  const value = digits.replace(/^0+/, '');
  if (SERIAL.test(digits) && value !== '') return { kind: 'serial', value };
  const message =
    `${JSON.stringify(text.slice(0, 200))} is neither a SPIFFE ID (spiffe://<trust domain>/ns/<namespace>/sa/<service account>) ` +
    'nor a certificate serial (up to 40 hexadecimal digits, colons allowed)';
  throw new PosternError('ERR_REVOCATION_SUBJECT', message, { exitCode: EXIT.usage });
}
