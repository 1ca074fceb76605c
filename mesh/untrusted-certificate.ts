const CODES = new Set([
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'CERT_SIGNATURE_FAILURE',
]);

/** Whether node:tls refused a server because its certificate does not lead to a CA that was given (OpenSSL's X509_V_ERR_* as node names them). */
export function isUntrustedCertificate(error: unknown): boolean {
  return error instanceof Error && 'code' in error && CODES.has(String(error.code));
}
