import { DynamicTable } from './dynamic-table.ts';
import {
  type HeaderField,
  type HeaderList,
  MEMO_SLOTS,
  memoSlot,
  SENSITIVE,
  TABLE_SIZE,
  VARYING,
} from './header-list.ts';
import { huffmanBytes, huffmanEncode } from './huffman.ts';
import { FIRST_DYNAMIC, STATIC_TABLE } from './static-table.ts';

/** Values of a name that are remembered, to tell those that come again from those that never will. */
const RECENT = 4;
/** Names that an encoder remembers; whoever chooses names freely must not make us remember all of them. */
const MAX_NAMES = 256;
/** An instruction's index and two lengths (RFC 7541, 6) take at most this beside the strings. */
const FIELD_ROOM = 12;

const staticNames = new Map<string, number>();
const staticFields = new Map<string, Map<string, number>>();
for (const [i, [name, value]] of STATIC_TABLE.entries()) {
  if (!staticNames.has(name)) staticNames.set(name, i + 1);
  const values = staticFields.get(name) ?? new Map<string, number>();
  staticFields.set(name, values.set(value, i + 1));
}

/** What is known of one field name. */
class Name {
  /** Its index in the static table; 0: not there. */
  readonly fixed: number;
  readonly fixedValues: ReadonlyMap<string, number> | undefined;
  readonly sensitive: boolean;
  readonly varying: boolean;
  /** By value: the number in the dynamic table. */
  readonly inserted = new Map<string, number>();
  readonly #recent: string[] = [];
  #next = 0;

  constructor(name: string) {
    this.fixed = staticNames.get(name) ?? 0;
    this.fixedValues = staticFields.get(name);
    this.sensitive = SENSITIVE.has(name);
    this.varying = VARYING.has(name);
  }

  /** Whether the value was among the last few, and remembers it. */
  comesAgain(value: string): boolean {
    if (this.#recent.includes(value)) return true;
    this.#recent[this.#next] = value;
    this.#next = (this.#next + 1) % RECENT;
    return false;
  }
}

/**
 * Encodes the header lists of one connection, in order (RFC 7541). A field enters the dynamic table when its value comes the second time: what
 * differs in every request (IDs, dates) never does, so the table holds what repeats and a usual list becomes a few bytes.
 */
export class HpackEncoder {
  readonly #table = new DynamicTable((field, number) => this.#onEvict(field, number));
  readonly #names = new Map<string, Name>();
  /**
   * Fields seen lately that are in a table, by `memoSlot`: most of a list was in the one before. Their place: an index of the static table, or below 0,
   * `-1 - number` in the dynamic one. Null until there is one.
   */
  #memo: (HeaderField | null)[] | null = null;
  readonly #places: number[] = [];
  /** Sizes that the next block has to announce; -1: none. */
  #smallest = -1;
  #announced = -1;

  /** The peer's SETTINGS_HEADER_TABLE_SIZE; more than our own bound is not used. */
  setTableSize(size: number): void {
    const capacity = Math.min(size, TABLE_SIZE);
    if (capacity === this.#table.capacity && this.#announced < 0) return;
    this.#smallest = this.#smallest < 0 ? capacity : Math.min(this.#smallest, capacity);
    this.#announced = capacity;
    this.#table.resize(capacity);
  }

  /**
   * Writes the header block into `[at, limit)`. @returns the position after it.
   * @throws RangeError where it may not fit; nothing has happened then.
   */
  encode(headers: HeaderList, to: Buffer, at: number, limit: number): number {
    let most = FIELD_ROOM;
    for (let i = 0; i < headers.length; i++) {
      const field = headers[i] as HeaderField;
      most += field[0].length + field[1].length + FIELD_ROOM;
    }
    if (most > limit - at) throw new RangeError(`a header list of up to ${most} bytes does not fit`);
    let p = this.#announced < 0 ? at : this.#announce(to, at);
    for (let i = 0; i < headers.length; i++) {
      const field = headers[i] as HeaderField;
      const slot = memoSlot(field[0], field[1]);
      const index = this.#remembered(field, slot);
      p = index > 0 ? writeInteger(to, p, 0x80, 7, index) : this.#field(field, to, p, slot);
    }
    return p;
  }

  /** The index of the field; 0 where it is not remembered, or has left the table. */
  #remembered(field: HeaderField, slot: number): number {
    const known = this.#memo?.[slot] ?? null;
    if (known === null || (known !== field && (known[1] !== field[1] || known[0] !== field[0]))) return 0;
    const place = this.#places[slot] ?? 0;
    if (place > 0) return place;
    const number = -1 - place;
    return number >= this.#table.inserted - this.#table.count ? this.#indexOf(number) : 0;
  }

  #remember(slot: number, field: HeaderField, place: number): void {
    if (this.#memo === null) {
      this.#memo = [];
      // Filled from the front, so that the arrays have no holes.
      for (let i = 0; i < MEMO_SLOTS; i++) {
        this.#memo.push(null);
        this.#places.push(0);
      }
    }
    this.#memo[slot] = field;
    this.#places[slot] = place;
  }

  #announce(to: Buffer, at: number): number {
    let p = at;
    if (this.#smallest < this.#announced) p = writeInteger(to, p, 0x20, 5, this.#smallest);
    p = writeInteger(to, p, 0x20, 5, this.#announced);
    this.#smallest = -1;
    this.#announced = -1;
    return p;
  }

  #field(field: HeaderField, to: Buffer, at: number, slot: number): number {
    const [name, value] = field;
    const known = this.#name(name);
    if (known === null) return this.#literal(0x00, 4, 0, field, to, at);
    const fixed = known.fixedValues?.get(value);
    if (fixed !== undefined) {
      this.#remember(slot, field, fixed);
      return writeInteger(to, at, 0x80, 7, fixed);
    }
    // Its first value enters the table for the name's sake: what follows is sent, and read, without it.
    const nameKnown = known.varying ? this.#nameIndex(known) : 0;
    if (nameKnown > 0) return this.#literal(0x00, 4, nameKnown, field, to, at);
    const number = known.inserted.get(value);
    if (number !== undefined) {
      this.#remember(slot, field, -1 - number);
      return writeInteger(to, at, 0x80, 7, this.#indexOf(number));
    }
    if (known.sensitive) return this.#literal(0x10, 4, this.#nameIndex(known), field, to, at);
    if (!known.varying && !known.comesAgain(value))
      return this.#literal(0x00, 4, this.#nameIndex(known), field, to, at);
    // First the index of the name, then the insertion, which shifts every index.
    const p = this.#literal(0x40, 6, this.#nameIndex(known), field, to, at);
    if (this.#table.insert(field)) known.inserted.set(value, this.#table.inserted - 1);
    return p;
  }

  #name(name: string): Name | null {
    const known = this.#names.get(name);
    if (known !== undefined) return known;
    if (this.#names.size >= MAX_NAMES) return null;
    const made = new Name(name);
    this.#names.set(name, made);
    return made;
  }

  #indexOf(number: number): number {
    return FIRST_DYNAMIC + this.#table.inserted - 1 - number;
  }

  #nameIndex(name: Name): number {
    if (name.fixed !== 0) return name.fixed;
    for (const number of name.inserted.values()) return this.#indexOf(number);
    return 0;
  }

  #literal(pattern: number, prefix: number, index: number, field: HeaderField, to: Buffer, at: number): number {
    let p = writeInteger(to, at, pattern, prefix, index);
    // What enters the table is sent once and may be short; the rest is cheaper as it is.
    const huffman = pattern === 0x40;
    if (index === 0) p = writeString(to, p, field[0], huffman);
    return writeString(to, p, field[1], huffman);
  }

  #onEvict([name, value]: HeaderField, number: number): void {
    const known = this.#names.get(name);
    if (known?.inserted.get(value) === number) known.inserted.delete(value);
  }
}

/** RFC 7541, 5.1. */
function writeInteger(to: Buffer, at: number, pattern: number, prefix: number, value: number): number {
  const mask = (1 << prefix) - 1;
  if (value < mask) {
    to[at] = pattern | value;
    return at + 1;
  }
  let p = at;
  to[p++] = pattern | mask;
  let rest = value - mask;
  while (rest >= 0x80) {
    to[p++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  to[p++] = rest;
  return p;
}

function writeString(to: Buffer, at: number, text: string, mayHuffman: boolean): number {
  const short = mayHuffman ? huffmanBytes(text) : text.length;
  if (short < text.length) return huffmanEncode(text, to, writeInteger(to, at, 0x80, 7, short));
  const p = writeInteger(to, at, 0x00, 7, text.length);
  return p + to.latin1Write(text, p);
}
