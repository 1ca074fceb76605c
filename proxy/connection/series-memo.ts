import type { SeriesSet } from './series.ts';

type Part = string | number | null;

interface Entry {
  readonly a: Part;
  readonly b: Part;
  readonly c: Part;
  readonly set: SeriesSet;
}

const MAX_ENTRIES = 16;

/**
 * The sets of series asked for lately, by the three values that tell them apart: whoever counts something like before builds no key. Bounded;
 * what it has forgotten the bank finds by its key.
 */
export class SeriesMemo {
  /** What is asked for most stands near the front. */
  readonly #entries: Entry[] = [];

  find(a: Part, b: Part, c: Part, now: number): SeriesSet | null {
    const entries = this.#entries;
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i];
      if (entry === undefined || entry.a !== a || entry.b !== b || entry.c !== c) continue;
      if (entry.set.dropped) {
        entries.splice(i, 1);
        return null;
      }
      entry.set.lastUsed = now;
      if (i > 0) {
        // One step forward each time: a rare one in between does not push the usual one back.
        entries[i] = entries[i - 1] ?? entry;
        entries[i - 1] = entry;
      }
      return entry.set;
    }
    return null;
  }

  keep(a: Part, b: Part, c: Part, set: SeriesSet): void {
    if (set.overflow) return;
    if (this.#entries.length === MAX_ENTRIES) this.#entries.pop();
    this.#entries.push({ a, b, c, set });
  }
}
