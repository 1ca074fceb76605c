import type { TokenHead } from '../../policy/tokens/head.ts';

/** Envoy's bound of the path in a challenge. */
const MAX_PATH = 256;
/** What RFC 3986 has in an authority or path; whatever else is encoded, since the text is quoted. */
const PLAIN = /[^-\w.~:/[\]@!$&'()*+,;=%]/g;

/**
 * Value of `WWW-Authenticate` of a refused token (RFC 6750, 3), as Envoy writes it but for the query: that is where tokens may stand.
 */
export function challengeFor(head: TokenHead): string {
  const scheme = head.get('x-forwarded-proto') === 'https' ? 'https' : 'http';
  const end = head.target.indexOf('?');
  const path = head.target.slice(0, end < 0 ? MAX_PATH : Math.min(end, MAX_PATH));
  return `Bearer realm="${scheme}://${plain(head.authority)}${plain(path)}", error="invalid_token"`;
}

function plain(text: string): string {
  return text.replace(PLAIN, (character) => {
    // One byte a character.
    return `%${character.charCodeAt(0).toString(16).padStart(2, '0').toUpperCase()}`;
  });
}
