/** Where the keys of a rule come from. */
export type JwksSource =
  /** RFC 7517 JWK Set in the manifest itself. */
  | { readonly kind: 'inline'; readonly text: string }
  /** `name` is that of the Jwks resource: the URI that is fetched. */
  | { readonly kind: 'uri'; readonly name: string }
  /** OpenID Connect Discovery 1.0, 4: `name` is the URI of the issuer's configuration, which names that of the keys. */
  | { readonly kind: 'discovery'; readonly name: string; readonly issuer: string };

/** Null where there is neither an issuer nor keys. */
export function jwksSource(rule: {
  readonly issuer: string | null;
  readonly uri: string | null;
  readonly inline: string | null;
}): JwksSource | null {
  const { issuer, uri, inline } = rule;
  if (inline !== null) return { kind: 'inline', text: inline };
  if (uri !== null) return { kind: 'uri', name: uri };
  return issuer === null ? null : { kind: 'discovery', name: discoveryUri(issuer), issuer };
}

/** An issuer's path may end with a slash, which is not doubled (OpenID Connect Discovery 1.0, 4.1). */
export function discoveryUri(issuer: string): string {
  return `${issuer.endsWith('/') ? issuer.slice(0, -1) : issuer}/.well-known/openid-configuration`;
}
