import type { HttpLimits } from '../../worker/messages.ts';
import { mayBeTrailer } from './field-names.ts';
import { FieldScanner, REFUSED, UNFINISHED } from './field-scanner.ts';
import { DROPPED, Http1Trailers } from './fields.ts';
import { LF } from './grammar.ts';

/** Scratch of one scan: scanning never yields and keeps nothing. */
const scanner = new FieldScanner();
const FIRST_ROOM = 256;

/**
 * The fields after the last chunk, until their empty line. They may come in pieces and are held together meanwhile: as many bytes and fields as a head
 * may have. Fields that must not come late (RFC 9110, section 6.5.1) are refused, not dropped: whoever sends them hopes that somebody merges them.
 */
export class TrailerSection {
  readonly #limits: HttpLimits;
  #held = Buffer.allocUnsafe(FIRST_ROOM);
  #length = 0;
  done = false;
  failure: string | null = null;
  trailers: Http1Trailers | null = null;

  constructor(limits: HttpLimits) {
    this.#limits = limits;
  }

  /** @returns the position after the section; `end` where it is not complete */
  take(bytes: Buffer, start: number, end: number): number {
    const before = this.#length;
    // One byte above the limit is enough to see that it is broken.
    const taken = Math.min(end - start, this.#limits.headerBytes + 1 - before);
    this.#hold(bytes, start, start + taken);
    const full = this.#length > this.#limits.headerBytes;
    if (!full && !hasNewline(bytes, start, start + taken)) return end;
    const after = scanner.scan(this.#held, 0, 0, this.#length, 0, this.#limits);
    if (after === UNFINISHED) return end;
    if (after === REFUSED) {
      this.failure = `trailers: ${scanner.reason}`;
      return end;
    }
    this.#finish(after);
    return start + after - before;
  }

  #finish(after: number): void {
    for (let i = 0; i < scanner.count; i++) {
      if (scanner.entries[2 * i + 1] === DROPPED) this.failure = FORBIDDEN;
    }
    const trailers = new Http1Trailers(this.#held.latin1Slice(0, after), scanner.entries, scanner.count, after - 2);
    for (const [name] of trailers.lines()) if (!mayBeTrailer(name)) this.failure = FORBIDDEN;
    if (this.failure !== null) return;
    this.done = true;
    if (scanner.count > 0) this.trailers = trailers;
  }

  #hold(bytes: Buffer, start: number, end: number): void {
    const length = this.#length + end - start;
    if (length > this.#held.length) {
      const larger = Buffer.allocUnsafe(Math.max(length, 2 * this.#held.length));
      this.#held.copy(larger, 0, 0, this.#length);
      this.#held = larger;
    }
    bytes.copy(this.#held, this.#length, start, end);
    this.#length = length;
  }
}

const FORBIDDEN = 'a field that must not be a trailer';

function hasNewline(bytes: Buffer, start: number, end: number): boolean {
  for (let p = start; p < end; p++) if (bytes[p] === LF) return true;
  return false;
}
