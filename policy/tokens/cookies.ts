import type { TokenHead } from './head.ts';

/** The values of every cookie of that name (RFC 6265, 4.2), of all Cookie lines, without the quotes that may be around one; empty ones are left out. */
export function cookieValues(head: TokenHead, name: string): readonly string[] {
  const values: string[] = [];
  for (const line of head.all('cookie')) {
    for (const pair of line.split(';')) {
      const at = pair.indexOf('=');
      if (at < 0 || pair.slice(0, at).trim() !== name) continue;
      const value = unquoted(pair.slice(at + 1).trim());
      if (value !== '') values.push(value);
    }
  }
  return values;
}

function unquoted(value: string): string {
  return value.length >= 2 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value;
}
