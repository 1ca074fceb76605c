import { cookieValues } from './cookies.ts';
import type { TokenHead } from './head.ts';
import { parameterValues, withoutParameter } from './query.ts';

/** Where a rule looks for tokens. Header names are in lower case. */
export interface TokenLocations {
  readonly headers: readonly HeaderLocation[];
  readonly params: readonly string[];
  readonly cookies: readonly string[];
}

export interface HeaderLocation {
  readonly name: string;
  /** Stands before the token and is no part of it. A value without it has no token. */
  readonly prefix: string;
  /** The prefix is an authentication scheme, whose case does not matter and which any number of spaces follow (RFC 9110, 11.1 and 11.4). */
  readonly scheme: boolean;
}

/** Of a rule that names none (RFC 6750, 2.1 and 2.3). */
export const DEFAULT_LOCATIONS: TokenLocations = {
  headers: [{ name: 'authorization', prefix: 'Bearer ', scheme: true }],
  params: ['access_token'],
  cookies: [],
};

/** A token as it was found. */
export interface FoundToken {
  readonly text: string;
  readonly in: 'header' | 'param' | 'cookie';
  readonly name: string;
}

/** Every token at the locations, in their order: of headers each line, of parameters and cookies each of several. */
export function findTokens(head: TokenHead, locations: TokenLocations): readonly FoundToken[] {
  const found: FoundToken[] = [];
  for (const { name, prefix, scheme } of locations.headers) {
    for (const line of head.all(name)) {
      const text = scheme ? afterScheme(line, prefix) : afterPrefix(line, prefix);
      if (text !== '') found.push({ text, in: 'header', name });
    }
  }
  for (const name of locations.params) {
    for (const text of parameterValues(head.target, name)) found.push({ text, in: 'param', name });
  }
  for (const name of locations.cookies) {
    for (const text of cookieValues(head, name)) found.push({ text, in: 'cookie', name });
  }
  return found;
}

/** The application gets no token that it did not ask for. A cookie stays, as in Envoy. */
export function removeTokens(head: TokenHead, tokens: readonly FoundToken[]): void {
  for (const { in: place, name } of tokens) {
    if (place === 'header') head.remove(name);
    else if (place === 'param') head.setTarget(withoutParameter(head.target, name));
  }
}

function afterPrefix(line: string, prefix: string): string {
  return line.startsWith(prefix) ? line.slice(prefix.length).trim() : '';
}

function afterScheme(line: string, prefix: string): string {
  const found = line.slice(0, prefix.length);
  return found === prefix || found.toLowerCase() === prefix.toLowerCase() ? line.slice(prefix.length).trim() : '';
}
