import type { Fields } from '../http-head.ts';
import { HASH_MASK, hashOf, isCodecField, lowerCaseName, nameEquals } from './field-names.ts';
import { COLON, CR, isAdmissibleValue, isLowerCaseToken, LF, SPACE, TAB } from './grammar.ts';

/** Bits of an index entry that hold the length of a name; the others hold its hash. */
export const NAME_BITS = 11;
/** Longest name of a field, in bytes. */
export const MAX_NAME = (1 << NAME_BITS) - 1;
/** What a capital letter lacks of the small one. */
const CASE_BIT = 0x20;
/** Index entry of a line that is not sent on. */
export const DROPPED = -1;

/**
 * The field lines of a message over one copy of its bytes. Lines stay where they are: what is removed is marked, what is set is kept beside and
 * comes after the others. Strings that it gives may be slices of that copy: whoever keeps one for long keeps all of it alive.
 */
export class Http1Fields implements Fields {
  /** The section, a byte a character; for a head with its first line, always with the empty line. */
  readonly #text: string;
  /** Two numbers a line: its offset, and `hash << NAME_BITS | length` of its name, or DROPPED; then the offset of the empty line. */
  readonly #index: number[];
  /** Names and values in turn. */
  #added: string[] | null = null;

  /** @param entries two numbers for each of `count` lines, copied @param section offset of the empty line in `text` */
  constructor(text: string, entries: Int32Array, count: number, section: number) {
    this.#text = text;
    const index = new Array<number>(2 * count + 1);
    for (let i = 0; i < 2 * count; i++) index[i] = entries[i] ?? 0;
    index[2 * count] = section;
    this.#index = index;
  }

  get(name: string): string | null {
    let found: string | null = null;
    const index = this.#index;
    const hash = hashOf(name);
    for (let i = 1; i < index.length; i += 2) {
      if (!this.#is(i, hash, name)) continue;
      const value = this.#value(i);
      found = found === null ? value : `${found}, ${value}`;
    }
    const added = this.#added;
    if (added === null) return found;
    for (let i = 0; i < added.length; i += 2) {
      if (added[i] === name) found = found === null ? (added[i + 1] ?? '') : `${found}, ${added[i + 1]}`;
    }
    return found;
  }

  all(name: string): readonly string[] {
    const values: string[] = [];
    const hash = hashOf(name);
    for (let i = 1; i < this.#index.length; i += 2) if (this.#is(i, hash, name)) values.push(this.#value(i));
    const added = this.#added ?? [];
    for (let i = 0; i < added.length; i += 2) if (added[i] === name) values.push(added[i + 1] ?? '');
    return values;
  }

  has(name: string): boolean {
    const hash = hashOf(name);
    for (let i = 1; i < this.#index.length; i += 2) if (this.#is(i, hash, name)) return true;
    const added = this.#added;
    if (added === null) return false;
    for (let i = 0; i < added.length; i += 2) if (added[i] === name) return true;
    return false;
  }

  /** Host is part of the request's target: it stays. */
  remove(name: string): void {
    if (name !== 'host') this.#removeNamed(name, hashOf(name));
  }

  #removeNamed(name: string, hash: number): void {
    const index = this.#index;
    for (let i = 1; i < index.length; i += 2) if (this.#is(i, hash, name)) index[i] = DROPPED;
    const added = this.#added;
    if (added === null) return;
    for (let i = added.length - 2; i >= 0; i -= 2) if (added[i] === name) added.splice(i, 2);
  }

  /** Host is part of the request's target: it stays. */
  removeWhere(predicate: (name: string) => boolean, initial = 0): void {
    const index = this.#index;
    for (let i = 1; i < index.length; i += 2) {
      if (index[i] === DROPPED) continue;
      if (initial !== 0 && (this.#text.charCodeAt(index[i - 1] ?? 0) | CASE_BIT) !== initial) continue;
      const name = this.#name(i);
      if (name !== 'host' && predicate(name)) index[i] = DROPPED;
    }
    const added = this.#added;
    if (added === null) return;
    for (let i = added.length - 2; i >= 0; i -= 2) {
      const name = added[i] ?? '';
      if (initial !== 0 && name.charCodeAt(0) !== initial) continue;
      if (name !== 'host' && predicate(name)) added.splice(i, 2);
    }
  }

  /** @throws RangeError where the name is no token in lower case, the value is not admissible, or the field is the codec's own (framing, connection, Host) */
  set(name: string, value: string): void {
    if (!isLowerCaseToken(name)) throw new RangeError('a field name is not a token in lower case');
    if (!isAdmissibleValue(value)) throw new RangeError(`the value of ${name} has control or wide characters`);
    if (isCodecField(name, hashOf(name))) throw new RangeError(`${name} is not set by hand`);
    this.put(name, value);
  }

  put(name: string, value: string): void {
    this.#removeNamed(name, hashOf(name));
    this.add(name, value);
  }

  *lines(): Generator<readonly [name: string, value: string]> {
    for (let i = 1; i < this.#index.length; i += 2) {
      if (this.#index[i] !== DROPPED) yield [this.#name(i), this.#value(i)];
    }
    const added = this.#added ?? [];
    for (let i = 0; i < added.length; i += 2) yield [added[i] ?? '', added[i + 1] ?? ''];
  }

  /** Adds a line that is known to be admissible. */
  protected add(name: string, value: string): void {
    if (this.#added === null) this.#added = [name, value];
    else this.#added.push(name, value);
  }

  /** Bytes that `encodeLines` writes at most. */
  protected linesBytes(): number {
    let bytes = this.#text.length;
    const added = this.#added;
    if (added === null) return bytes;
    for (let i = 0; i < added.length; i += 2) bytes += (added[i]?.length ?? 0) + (added[i + 1]?.length ?? 0) + 4;
    return bytes;
  }

  /**
   * Writes what is kept, runs of lines in one copy each, then what was added; all from offset `from` of the text on: 0 writes the first line too.
   * @returns the position after it; there must be room
   */
  protected encodeLines(to: Buffer, at: number, from: number): number {
    const index = this.#index;
    const text = this.#text;
    let position = at;
    let run = from;
    for (let i = 1; i < index.length; i += 2) {
      if (index[i] !== DROPPED) continue;
      const line = index[i - 1] ?? 0;
      if (line > run) position += writeRun(to, position, text, run, line);
      run = index[i + 1] ?? 0;
    }
    const section = index[index.length - 1] ?? 0;
    if (section > run) position += writeRun(to, position, text, run, section);
    const added = this.#added;
    if (added === null) return position;
    for (let i = 0; i < added.length; i += 2) position = writeLine(to, position, added[i] ?? '', added[i + 1] ?? '');
    return position;
  }

  /** The first line with its CRLF ends where the field lines begin. */
  protected get fieldsStart(): number {
    return this.#index[0] ?? 0;
  }

  #is(i: number, hash: number, name: string): boolean {
    const entry = this.#index[i] ?? DROPPED;
    return (
      entry !== DROPPED &&
      ((entry >>> NAME_BITS) & HASH_MASK) === hash &&
      nameEquals(this.#text, this.#index[i - 1] ?? 0, entry & MAX_NAME, name)
    );
  }

  #name(i: number): string {
    const entry = this.#index[i] ?? 0;
    return lowerCaseName(this.#text, this.#index[i - 1] ?? 0, entry & MAX_NAME, entry >>> NAME_BITS);
  }

  /** Without the white space around it (RFC 9110, section 5.5). */
  #value(i: number): string {
    const text = this.#text;
    let start = (this.#index[i - 1] ?? 0) + ((this.#index[i] ?? 0) & MAX_NAME) + 1;
    let end = (this.#index[i + 1] ?? 0) - 2;
    while (start < end && isWhitespace(text.charCodeAt(start))) start++;
    while (end > start && isWhitespace(text.charCodeAt(end - 1))) end--;
    return text.slice(start, end);
  }
}

/** A run at the beginning needs no slice, which would cost as much as the copy. */
function writeRun(to: Buffer, at: number, text: string, start: number, end: number): number {
  return to.latin1Write(start === 0 ? text : text.slice(start, end), at, end - start);
}

/** Piece by piece: to join them first would cost more than the calls. */
function writeLine(to: Buffer, at: number, name: string, value: string): number {
  let p = at + to.latin1Write(name, at);
  to[p++] = COLON;
  to[p++] = SPACE;
  p += to.latin1Write(value, p);
  to[p++] = CR;
  to[p++] = LF;
  return p;
}

function isWhitespace(code: number): boolean {
  return code === SPACE || code === TAB;
}

/** The fields after a chunked body (RFC 9112, section 7.1.2). */
export class Http1Trailers extends Http1Fields {
  /** Bytes that `encode` writes at most. */
  encodedBytes(): number {
    return this.linesBytes();
  }

  /** Writes the field lines without the empty line. @throws RangeError where there is less room than `encodedBytes` */
  encode(to: Buffer, at: number): number {
    if (to.length - at < this.encodedBytes()) throw new RangeError('no room for the trailers');
    return this.encodeLines(to, at, 0);
  }
}
