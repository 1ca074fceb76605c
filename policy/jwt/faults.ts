/**
 * Why a token is not accepted, in Envoy's words (its `getStatusString`): they are the body of the answer, and what people search for. One of a
 * fixed set: NEVER anything of the token itself.
 */
export const FAULTS = {
  badFormat: 'Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections',
  tooLarge: 'Jwt is too large',
  headerEncoding: 'Jwt header is an invalid Base64url encoded',
  headerJson: 'Jwt header is an invalid JSON',
  headerAlgorithm: 'Jwt header [alg] field is required and must be a string',
  algorithmUnsupported: 'Jwt header [alg] is not supported',
  headerKeyId: 'Jwt header [kid] field is not a string',
  headerCritical: 'Jwt header [crit] is not supported',
  payloadEncoding: 'Jwt payload is an invalid Base64url encoded',
  payloadJson: 'Jwt payload is an invalid JSON',
  issuerType: 'Jwt payload [iss] field is not a string',
  subjectType: 'Jwt payload [sub] field is not a string',
  issuedAtType: 'Jwt payload [iat] field is not a positive 64 bit integer',
  notBeforeType: 'Jwt payload [nbf] field is not a positive 64 bit integer',
  expiryType: 'Jwt payload [exp] field is not a positive 64 bit integer',
  tokenIdType: 'Jwt payload [jti] field is not a string',
  audienceType: 'Jwt payload [aud] field is not a string or string list',
  signatureEncoding: 'Jwt signature is an invalid Base64url encoded',
  unknownIssuer: 'Jwt issuer is not configured',
  notYetValid: 'Jwt not yet valid',
  expired: 'Jwt is expired',
  audience: 'Audiences in Jwt are not allowed',
  noMatchingKey: "Jwks doesn't have key to match kid or alg from Jwt",
  signature: 'Jwt verification fails',
  keysUnavailable: 'Jwks remote fetch is failed',
  noValidKeys: "Jwks doesn't have any valid public key",
  multipleTokens: 'Found multiple Jwt tokens',
} as const;

export type TokenFault = (typeof FAULTS)[keyof typeof FAULTS];
