import { AffixIndex } from './affix-index.ts';

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

/** The values of one list, OR-ed. What it costs to ask hardly grows with their number. */
export class StringSet {
  readonly #exact = new Set<string>();
  /** Each null where no value is of that form, as in most lists. */
  #prefixes: Affixes | null = null;
  #suffixes: Affixes | null = null;
  #present = false;

  constructor(values: Iterable<string>) {
    for (const value of values) this.#add(parseStringMatch(value));
  }

  /** Whether `*` is among the values. */
  get present(): boolean {
    return this.#present;
  }

  #add(match: StringMatch): void {
    if (match.kind === 'present') {
      this.#present = true;
    } else if (match.kind === 'exact') {
      this.#exact.add(match.text);
    } else if (match.kind === 'prefix') {
      this.#prefixes ??= new Affixes('prefix');
      this.#prefixes.add(match.text);
    } else {
      this.#suffixes ??= new Affixes('suffix');
      this.#suffixes.add(match.text);
    }
  }

  has(text: string): boolean {
    if (this.#present && text !== '') return true;
    if (this.#exact.has(text)) return true;
    return (this.#prefixes?.anyOf(text) ?? false) || (this.#suffixes?.anyOf(text) ?? false);
  }
}

/** Up to here it is quicker to try one after another. */
const FEW = 8;

class Affixes {
  readonly #kind: 'prefix' | 'suffix';
  readonly #texts: string[] = [];
  #index: AffixIndex<true> | null = null;

  constructor(kind: 'prefix' | 'suffix') {
    this.#kind = kind;
  }

  add(text: string): void {
    this.#texts.push(text);
    if (this.#index !== null) this.#index.add(text, true);
    else if (this.#texts.length > FEW) {
      this.#index = new AffixIndex(this.#kind);
      for (const one of this.#texts) this.#index.add(one, true);
    }
  }

  /** Whether the text has one of them. */
  anyOf(text: string): boolean {
    if (this.#index !== null) return this.#index.has(text);
    if (this.#kind === 'prefix') {
      for (const prefix of this.#texts) if (text.startsWith(prefix)) return true;
    } else {
      for (const suffix of this.#texts) if (text.endsWith(suffix)) return true;
    }
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

const NOT_ASCII = /[^\0-\x7f]/;
const UPPER_CASE = /[A-Z]+/g;

/** A text of a manifest as it stands in a head: its UTF-8 bytes, one a character. */
export function wireText(text: string): string {
  return NOT_ASCII.test(text) ? Buffer.from(text, 'utf8').toString('latin1') : text;
}

/** Lower case of ASCII letters alone: other bytes of a head have no case. */
export function asciiLowerCase(text: string): string {
  return NOT_ASCII.test(text) ? text.replace(UPPER_CASE, (letters) => letters.toLowerCase()) : text.toLowerCase();
}
