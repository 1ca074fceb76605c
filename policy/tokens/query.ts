/** Query parameters of a request target (WHATWG URL, 5.1), read strictly enough that no reader behind finds another token than we did. */

/** The values of every parameter of that name, decoded; empty ones are left out. */
export function parameterValues(target: string, name: string): readonly string[] {
  const start = target.indexOf('?');
  if (start < 0) return [];
  const values: string[] = [];
  for (const pair of target.slice(start + 1).split('&')) {
    if (!isNamed(pair, name)) continue;
    const at = pair.indexOf('=');
    const value = at < 0 ? '' : decoded(pair.slice(at + 1));
    if (value !== '') values.push(value);
  }
  return values;
}

/** The target without the parameters of that name; the others stay byte for byte. */
export function withoutParameter(target: string, name: string): string {
  const start = target.indexOf('?');
  if (start < 0) return target;
  const kept = target
    .slice(start + 1)
    .split('&')
    .filter((pair) => !isNamed(pair, name));
  return kept.length === 0 ? target.slice(0, start) : `${target.slice(0, start)}?${kept.join('&')}`;
}

function isNamed(pair: string, name: string): boolean {
  const end = pair.indexOf('=');
  const written = end < 0 ? pair : pair.slice(0, end);
  // `%61ccess_token` is the same parameter to whoever decodes it.
  return written === name || ((written.includes('%') || written.includes('+')) && decoded(written) === name);
}

/** What cannot be decoded stays as it is: such a value is no token. */
function decoded(text: string): string {
  const spaced = text.replaceAll('+', ' ');
  if (!spaced.includes('%')) return spaced;
  try {
    return decodeURIComponent(spaced);
  } catch {
    return text;
  }
}
