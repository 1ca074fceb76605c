import { DynamicTable } from './dynamic-table.ts';
import { FIELD_OVERHEAD, type HeaderField, type HeaderList, TABLE_SIZE, VARYING } from './header-list.ts';
import { huffmanDecode } from './huffman.ts';
import { FIRST_DYNAMIC, STATIC_TABLE } from './static-table.ts';

/** Most fields of a list that are kept, where nobody says; and how many times as many a block may hold at all: beyond, it is an attack. */
const MAX_FIELDS = 128;
const EMITTED_PER_FIELD = 4;
/** Table size updates at the beginning of a block: the smallest since the last block and the one in force (RFC 7541, 4.2). */
const MAX_UPDATES = 2;
/** No index or length of ours needs more (RFC 7541, 5.1: an implementation sets a bound). */
const MAX_INTEGER = 0xfffff;

export type DecodeResult =
  | { readonly kind: 'headers'; readonly headers: HeaderList }
  /** The block is malformed: the connection's tables are lost (RFC 9113, 4.3: COMPRESSION_ERROR). */
  | { readonly kind: 'broken' }
  /** More than `maxBytes` (RFC 9113, 6.5.2 counting) or too many fields; the tables are still in step. */
  | { readonly kind: 'too-large' };

const BROKEN: DecodeResult = { kind: 'broken' };
const TOO_LARGE: DecodeResult = { kind: 'too-large' };

/** Literals that a decoder remembers as they came, each at its place of a list; and the longest of them in bytes. */
const REPEATS = 16;
const REPEAT_BYTES = 64;

/** A field as it came, which means the same whenever it comes: it points into the static table alone. */
interface Repeat {
  field: HeaderField;
  length: number;
  readonly bytes: Uint8Array;
}

/** Decoded strings; grows to the longest block that ever came, which the connection's limits bound. */
let huffmanText = Buffer.allocUnsafeSlow(4096);

/** Decodes the header blocks of one connection, in order (RFC 7541). Fields found in a table are shared objects: NEVER change them. */
export class HpackDecoder {
  readonly #table = new DynamicTable();
  /** By place in the list: servers (nginx, for one) send the same literals with each response. Empty until there is one. */
  readonly #repeats: (Repeat | null)[] = [];
  // The block being decoded.
  #bytes: Buffer = huffmanText;
  #at = 0;
  #end = 0;
  #failed = false;

  /** One complete header block. A list over the bound is decoded to its end, but not kept. */
  decode(bytes: Buffer, start: number, end: number, maxBytes: number, maxFields = MAX_FIELDS): DecodeResult {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
    this.#failed = false;
    const headers: HeaderField[] = [];
    let size = 0;
    let count = 0;
    let updates = 0;
    while (this.#at < end) {
      const byte = bytes[this.#at] ?? 0;
      if ((byte & 0xe0) === 0x20) {
        // Only at the beginning of a block.
        if (count > 0 || ++updates > MAX_UPDATES || !this.#resize()) return BROKEN;
        continue;
      }
      const field = byte < 0x10 || (byte & 0xc0) === 0x40 ? this.#literal(byte, count) : this.#field(byte);
      if (field === null || ++count > EMITTED_PER_FIELD * maxFields) return BROKEN;
      size += field[0].length + field[1].length + FIELD_OVERHEAD;
      if (size <= maxBytes && count <= maxFields) headers.push(field);
    }
    return size > maxBytes || count > maxFields ? TOO_LARGE : { kind: 'headers', headers };
  }

  #resize(): boolean {
    const capacity = this.#integer(5);
    if (this.#failed || capacity > TABLE_SIZE) return false;
    this.#table.resize(capacity);
    return true;
  }

  #field(byte: number): HeaderField | null {
    if ((byte & 0x80) !== 0) {
      const index = this.#integer(7);
      return this.#failed ? null : this.#lookUp(index);
    }
    // Literal with indexing has six bits of index, without or never four.
    const indexing = (byte & 0x40) !== 0;
    const index = this.#integer(indexing ? 6 : 4);
    const name = index === 0 ? this.#string() : this.#lookUp(index)?.[0];
    if (this.#failed || name === undefined) return null;
    const value = this.#string();
    if (this.#failed) return null;
    const field: HeaderField = [name, value];
    if (indexing) this.#table.insert(field);
    return field;
  }

  /** A literal, with indexing or without: decoded only where it is not just what came at this place before. */
  #literal(byte: number, place: number): HeaderField | null {
    const known = place < this.#repeats.length ? (this.#repeats[place] ?? null) : null;
    if (known !== null && this.#comesAgain(known)) {
      this.#at += known.length;
      if (byte >= 0x40) this.#table.insert(known.field);
      return known.field;
    }
    const from = this.#at;
    const field = this.#field(byte);
    if (field === null || place >= REPEATS || this.#at - from > REPEAT_BYTES) return field;
    if (this.#isFixed(byte, from) && !VARYING.has(field[0])) this.#keep(place, field, from);
    return field;
  }

  /** Whether the literal at `from` has a name of its own or of the static table: what is of the dynamic one is another name soon. */
  #isFixed(byte: number, from: number): boolean {
    if (byte >= 0x40) return byte < 0x40 + FIRST_DYNAMIC;
    // 15, and what follows (RFC 7541, 5.1).
    return byte < 0x0f || (this.#bytes[from + 1] ?? 0) < FIRST_DYNAMIC - 0x0f;
  }

  #comesAgain({ bytes: known, length }: Repeat): boolean {
    const from = this.#at;
    if (length > this.#end - from) return false;
    const bytes = this.#bytes;
    for (let i = 0; i < length; i++) if (bytes[from + i] !== known[i]) return false;
    return true;
  }

  #keep(place: number, field: HeaderField, from: number): void {
    while (this.#repeats.length <= place) this.#repeats.push(null);
    let known = this.#repeats[place] ?? null;
    if (known === null) {
      known = { field, length: 0, bytes: new Uint8Array(REPEAT_BYTES) };
      this.#repeats[place] = known;
    }
    known.field = field;
    known.length = this.#at - from;
    for (let i = 0; i < known.length; i++) known.bytes[i] = this.#bytes[from + i] ?? 0;
  }

  #lookUp(index: number): HeaderField | null {
    if (index >= FIRST_DYNAMIC) return this.#table.at(index - FIRST_DYNAMIC) ?? null;
    return STATIC_TABLE[index - 1] ?? null;
  }

  /** RFC 7541, 5.1. Sets `#failed` where it is cut short or beyond any use. */
  #integer(prefix: number): number {
    const bytes = this.#bytes;
    const mask = (1 << prefix) - 1;
    let value = (bytes[this.#at++] ?? 0) & mask;
    if (value < mask) return value;
    for (let shift = 0; this.#at < this.#end && shift <= 21; shift += 7) {
      const byte = bytes[this.#at++] ?? 0;
      value += (byte & 0x7f) << shift;
      if (value > MAX_INTEGER) break;
      if ((byte & 0x80) === 0) return value;
    }
    this.#failed = true;
    return 0;
  }

  /** RFC 7541, 5.2. */
  #string(): string {
    if (this.#failed || this.#at >= this.#end) return this.#fail();
    const huffman = ((this.#bytes[this.#at] ?? 0) & 0x80) !== 0;
    const length = this.#integer(7);
    const from = this.#at;
    if (this.#failed || length > this.#end - from) return this.#fail();
    this.#at += length;
    if (!huffman) return this.#bytes.latin1Slice(from, this.#at);
    if (length * 2 > huffmanText.length) huffmanText = Buffer.allocUnsafeSlow(length * 2);
    const decoded = huffmanDecode(this.#bytes, from, this.#at, huffmanText);
    return decoded < 0 ? this.#fail() : huffmanText.latin1Slice(0, decoded);
  }

  #fail(): string {
    this.#failed = true;
    return '';
  }
}
