/** How a value of a policy matches a string: section 1.5 of Istio's semantics. Always the whole string, always case-sensitive. */
export type StringMatch =
  | { readonly kind: 'present' }
  | { readonly kind: 'exact' | 'prefix' | 'suffix'; readonly text: string };

export function parseStringMatch(value: string): StringMatch {
  if (value === '*') return { kind: 'present' };
  // The suffix form is tried first, so that `*a*` is the suffix `a*` with a literal asterisk.
  if (value.startsWith('*')) return { kind: 'suffix', text: value.slice(1) };
  if (value.endsWith('*')) return { kind: 'prefix', text: value.slice(0, -1) };
  return { kind: 'exact', text: value };
}

/** The values of one list, OR-ed. Exact values cost one look-up however many they are. */
export class StringSet {
  readonly #exact = new Set<string>();
  readonly #prefixes: string[] = [];
  readonly #suffixes: string[] = [];
  #present = false;

  constructor(values: Iterable<string>) {
    for (const value of values) this.#add(parseStringMatch(value));
  }

  #add(match: StringMatch): void {
    if (match.kind === 'present') this.#present = true;
    else if (match.kind === 'exact') this.#exact.add(match.text);
    else if (match.kind === 'prefix') this.#prefixes.push(match.text);
    else this.#suffixes.push(match.text);
  }

  has(text: string): boolean {
    if (this.#present && text !== '') return true;
    if (this.#exact.has(text)) return true;
    for (const prefix of this.#prefixes) if (text.startsWith(prefix)) return true;
    for (const suffix of this.#suffixes) if (text.endsWith(suffix)) return true;
    return false;
  }
}

/**
 * Whether `text` holds the pieces one after another, with anything before, between and after: `.*a.*b.*` for `['a', 'b']`. Taking each piece
 * where it first occurs is enough for that form, so the cost is that of one pass, where a backtracking RegExp may need exponential time.
 */
export function holdsInOrder(text: string, pieces: readonly string[]): boolean {
  let from = 0;
  for (const piece of pieces) {
    const at = text.indexOf(piece, from);
    if (at < 0) return false;
    from = at + piece.length;
  }
  return true;
}
