import { FIELD_OVERHEAD, type HeaderField, TABLE_SIZE } from './header-list.ts';

/** A ring as large as the most fields that a table can hold (RFC 7541, 4.1), so that it never grows. */
const RING = TABLE_SIZE / FIELD_OVERHEAD;

export const sizeOf = (field: HeaderField): number => field[0].length + field[1].length + FIELD_OVERHEAD;

/** The dynamic table of one direction (RFC 7541, 2.3.2): newest first, evicted from the oldest. */
export class DynamicTable {
  #ring: (HeaderField | undefined)[] | null = null;
  #capacity: number = TABLE_SIZE;
  #size = 0;
  #count = 0;
  /** Fields ever inserted: the newest has the number `inserted - 1`. */
  #inserted = 0;
  readonly #onEvict: ((field: HeaderField, number: number) => void) | null;

  constructor(onEvict: ((field: HeaderField, number: number) => void) | null = null) {
    this.#onEvict = onEvict;
  }

  get count(): number {
    return this.#count;
  }

  get inserted(): number {
    return this.#inserted;
  }

  get capacity(): number {
    return this.#capacity;
  }

  /** @param age 0 is the newest. */
  at(age: number): HeaderField | undefined {
    return age < this.#count ? this.#ring?.[(this.#inserted - 1 - age) % RING] : undefined;
  }

  /** One that is larger than the table empties it (RFC 7541, 4.4), and is not in it. @returns whether it is. */
  insert(field: HeaderField): boolean {
    const size = sizeOf(field);
    this.#evictTo(this.#capacity - size);
    if (size > this.#capacity) return false;
    // Most connections insert something, idle ones need not pay for it.
    this.#ring ??= [];
    this.#ring[this.#inserted % RING] = field;
    this.#inserted++;
    this.#count++;
    this.#size += size;
    return true;
  }

  /** At most `TABLE_SIZE`. */
  resize(capacity: number): void {
    this.#capacity = Math.min(capacity, TABLE_SIZE);
    this.#evictTo(this.#capacity);
  }

  #evictTo(size: number): void {
    while (this.#size > size && this.#count > 0) {
      const number = this.#inserted - this.#count;
      const oldest = this.#ring?.[number % RING];
      this.#count--;
      if (oldest === undefined) continue;
      this.#size -= sizeOf(oldest);
      if (this.#ring !== null) this.#ring[number % RING] = undefined;
      this.#onEvict?.(oldest, number);
    }
  }
}
