/** What a value of `requestPrincipals` asks of one of the two claims. */
interface ClaimMatch {
  readonly kind: 'any' | 'exact' | 'prefix' | 'suffix';
  readonly text: string;
}

/** A value of `requestPrincipals`: issuer and subject, each with its own match (Istio's semantics, 1.6). */
export interface RequestPrincipalMatch {
  readonly issuer: ClaimMatch;
  readonly subject: ClaimMatch;
}

const ANY: ClaimMatch = { kind: 'any', text: '' };

/**
 * Reads a value of `requestPrincipals`. It is parted at its last slash; a leading asterisk is then looked at before a trailing one, so that
 * `https://*` asks for the issuer `https:/`.
 */
export function parseRequestPrincipal(value: string): RequestPrincipalMatch {
  if (value === '*') return { issuer: ANY, subject: ANY };
  const slash = value.lastIndexOf('/');
  const issuer = slash < 0 ? value : value.slice(0, slash);
  const subject = slash < 0 ? '' : value.slice(slash + 1);
  if (value.startsWith('*')) {
    if (slash < 0) return { issuer: ANY, subject: { kind: 'suffix', text: value.slice(1) } };
    const end = issuer.slice(1);
    return { issuer: end === '' ? ANY : { kind: 'suffix', text: end }, subject: exact(subject) };
  }
  if (value.endsWith('*')) {
    if (slash < 0) return { issuer: { kind: 'prefix', text: value.slice(0, -1) }, subject: ANY };
    const start = subject.slice(0, -1);
    return { issuer: exact(issuer), subject: start === '' ? ANY : { kind: 'prefix', text: start } };
  }
  return { issuer: exact(issuer), subject: exact(subject) };
}

function exact(text: string): ClaimMatch {
  return { kind: 'exact', text };
}

/** Null where the token has no such claim, or none that is a text. */
export function matchesPrincipal(match: RequestPrincipalMatch, issuer: string | null, subject: string | null): boolean {
  return matchesClaim(match.issuer, issuer) && matchesClaim(match.subject, subject);
}

function matchesClaim({ kind, text }: ClaimMatch, claim: string | null): boolean {
  if (claim === null) return false;
  switch (kind) {
    case 'any':
      return claim !== '';
    case 'exact':
      return claim === text;
    case 'prefix':
      return claim.startsWith(text);
    case 'suffix':
      return claim.endsWith(text);
  }
}
