import { bind } from './library.ts';
import { NativeBuffer, readBytes, readText, receiveBytes } from './memory.ts';
import * as ssl from './openssl.ts';

/**
 * What the data plane asks of a certificate, from OpenSSL's own reading of it: the one that verified the chain. (node:crypto would do it, too, but
 * costs every worker 1.4 MB of private memory.)
 */

const X509_get_ext_d2i = bind<(x509: number, nid: number, critical: number, index: number) => number>(
  'uintptr_t X509_get_ext_d2i(uintptr_t, int, uintptr_t, uintptr_t)',
);
const GENERAL_NAMES_free = bind<(names: number) => void>('void GENERAL_NAMES_free(uintptr_t)');
const GENERAL_NAME_get0_value = bind<(name: number, type: number) => number>(
  'uintptr_t GENERAL_NAME_get0_value(uintptr_t, uintptr_t)',
);
const ASN1_STRING_get0_data = bind<(string: number) => number>('uintptr_t ASN1_STRING_get0_data(uintptr_t)');
const ASN1_STRING_length = bind<(string: number) => number>('int ASN1_STRING_length(uintptr_t)');
const X509_get0_serialNumber = bind<(x509: number) => number>('uintptr_t X509_get0_serialNumber(uintptr_t)');
const X509_get0_notBefore = bind<(x509: number) => number>('uintptr_t X509_get0_notBefore(uintptr_t)');
const X509_get0_notAfter = bind<(x509: number) => number>('uintptr_t X509_get0_notAfter(uintptr_t)');
const ASN1_TIME_diff = bind<(days: number, seconds: number, from: number, to: number) => number>(
  'int ASN1_TIME_diff(uintptr_t, uintptr_t, uintptr_t, uintptr_t)',
);
const ASN1_TIME_set = bind<(time: number, seconds: number) => number>('uintptr_t ASN1_TIME_set(uintptr_t, long)');
const X509_check_ca = bind<(x509: number) => number>('int X509_check_ca(uintptr_t)');
const X509_digest = bind<(x509: number, type: number, digest: number, length: number) => number>(
  'int X509_digest(uintptr_t, uintptr_t, uintptr_t, uintptr_t)',
);
const EVP_sha256 = bind<() => number>('uintptr_t EVP_sha256()');

const X509_get_subject_name = bind<(x509: number) => number>('uintptr_t X509_get_subject_name(uintptr_t)');
const X509_NAME_entry_count = bind<(name: number) => number>('int X509_NAME_entry_count(uintptr_t)');
const X509_NAME_print_ex = bind<(bio: number, name: number, indent: number, flags: number) => number>(
  'int X509_NAME_print_ex(uintptr_t, uintptr_t, int, ulong)',
);
const BIO_s_mem = bind<() => number>('uintptr_t BIO_s_mem()');
const BIO_new = bind<(method: number) => number>('uintptr_t BIO_new(uintptr_t)');
const BIO_read = bind<(bio: number, to: number, length: number) => number>('int BIO_read(uintptr_t, uintptr_t, int)');

/** XN_FLAG_RFC2253 of openssl/x509.h: what Envoy prints subjects with. */
const RFC_2253 = 0x111_0317;
const MAX_SUBJECT = 1024;
const NID_subject_alt_name = 85;
const GEN_URI = 6;
const MAX_NAMES = 64;
const MAX_URI = 2048;
const DAY_MS = 86_400_000;

const scratch = new NativeBuffer(16);
/** 1 January 1970: times are read as distances from it. */
const epoch = ASN1_TIME_set(0, 0);

/** The subject alternative names of a leaf: its URIs, and how many names it has in all. */
export interface LeafFacts {
  readonly uris: readonly string[];
  readonly names: number;
  readonly isAuthority: boolean;
  /** Upper-case hexadecimal without leading zeros. */
  readonly serial: string;
  /** Unix time, milliseconds; NaN where it cannot be read. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** SHA-256 of the DER, hex. */
  readonly fingerprint: string;
  /** RFC 2253, ASCII; empty where there is none or it is longer than 1 KiB. */
  readonly subject: string;
}

function timeOf(asn1Time: number): number {
  if (ASN1_TIME_diff(scratch.address, scratch.address + 4, epoch, asn1Time) !== 1) return Number.NaN;
  return scratch.bytes.readInt32LE(0) * DAY_MS + scratch.bytes.readInt32LE(4) * 1000;
}

function uriOf(name: number): string | null {
  const value = GENERAL_NAME_get0_value(name, scratch.address);
  if (scratch.bytes.readInt32LE(0) !== GEN_URI || value === 0) return null;
  const length = ASN1_STRING_length(value);
  return length <= 0 || length > MAX_URI ? '' : readText(ASN1_STRING_get0_data(value), length);
}

function subjectOf(x509: number): string {
  const name = X509_get_subject_name(x509);
  // The mesh's own certificates have none.
  if (name === 0 || X509_NAME_entry_count(name) === 0) return '';
  const bio = BIO_new(BIO_s_mem());
  if (bio === 0) return '';
  const printed = X509_NAME_print_ex(bio, name, 0, RFC_2253);
  const text = printed > 0 && printed <= MAX_SUBJECT ? receiveBytes((to) => BIO_read(bio, to, printed)) : null;
  ssl.BIO_free(bio);
  return text?.toString('latin1') ?? '';
}

/** @param x509 an X509 pointer, which stays the caller's. */
export function leafFacts(x509: number): LeafFacts {
  const uris: string[] = [];
  let count = 0;
  const names = X509_get_ext_d2i(x509, NID_subject_alt_name, 0, 0);
  if (names !== 0) {
    count = ssl.OPENSSL_sk_num(names);
    for (let i = 0; i < Math.min(count, MAX_NAMES); i++) {
      const uri = uriOf(ssl.OPENSSL_sk_value(names, i));
      if (uri !== null) uris.push(uri);
    }
    GENERAL_NAMES_free(names);
  }
  const serial = X509_get0_serialNumber(x509);
  const digits = readBytes(ASN1_STRING_get0_data(serial), ASN1_STRING_length(serial)).toString('hex').toUpperCase();
  return {
    uris,
    names: count,
    isAuthority: X509_check_ca(x509) !== 0,
    serial: digits.replace(/^0+(?=.)/, ''),
    notBefore: timeOf(X509_get0_notBefore(x509)),
    notAfter: timeOf(X509_get0_notAfter(x509)),
    fingerprint: fingerprintOf(x509),
    subject: subjectOf(x509),
  };
}

/** SHA-256 of the certificate's DER, hex. @param x509 an X509 pointer, which stays the caller's. */
export function fingerprintOf(x509: number): string {
  const digest = receiveBytes((address) => (X509_digest(x509, EVP_sha256(), address, 0) === 1 ? 32 : 0));
  return digest === null ? '' : digest.toString('hex');
}

/** A root of a trust bundle. @returns its fingerprint, or why it is none. */
export function readRoot(pem: string): { readonly fingerprint: string } | { readonly reason: string } {
  const bytes = Buffer.from(pem);
  const bio = ssl.BIO_new_mem_buf(bytes, bytes.length);
  if (bio === 0) return { reason: 'out of memory' };
  const x509 = ssl.PEM_read_bio_X509(bio, 0, 0, 0);
  ssl.BIO_free(bio);
  ssl.ERR_clear_error();
  if (x509 === 0) return { reason: 'is not a certificate' };
  const result =
    X509_check_ca(x509) !== 0 ? { fingerprint: fingerprintOf(x509) } : { reason: 'is not a CA certificate' };
  ssl.X509_free(x509);
  return result;
}
