import type { HeaderList } from '../../protocol/hpack/header-list.ts';
import type { Fields } from '../../protocol/http-head.ts';
import { isAdmissibleValue, isLowerCaseToken } from '../../protocol/http1/grammar.ts';

export type Field = readonly [name: string, value: string];

/** Fields of a message as HPACK gives them, without pseudo-header fields. */
export class Http2Fields implements Fields {
  #lines: Field[];

  /** @param lines checked (see `field-rules.ts`), and owned from now on */
  constructor(lines: Field[]) {
    this.#lines = lines;
  }

  get(name: string): string | null {
    let found: string | null = null;
    const lines = this.#lines;
    for (let i = 0; i < lines.length; i++) {
      const line = lines[i];
      if (line === undefined || line[0] !== name) continue;
      const value = line[1];
      // A cookie may come in crumbs (RFC 9113, 8.2.3).
      found = found === null ? value : `${found}${name === 'cookie' ? '; ' : ', '}${value}`;
    }
    return found;
  }

  all(name: string): readonly string[] {
    // To whoever decides they are what the application puts together of them: one line.
    if (name === 'cookie') {
      const cookie = this.get(name);
      return cookie === null ? [] : [cookie];
    }
    const values: string[] = [];
    for (const [each, value] of this.#lines) if (each === name) values.push(value);
    return values;
  }

  has(name: string): boolean {
    const lines = this.#lines;
    for (let i = 0; i < lines.length; i++) if (lines[i]?.[0] === name) return true;
    return false;
  }

  remove(name: string): void {
    if (this.has(name)) this.#lines = this.#lines.filter(([each]) => each !== name);
  }

  removeWhere(predicate: (name: string) => boolean, initial = 0): void {
    const lines = this.#lines;
    for (let i = 0; i < lines.length; i++) {
      const name = lines[i]?.[0] ?? '';
      if (initial !== 0 && name.charCodeAt(0) !== initial) continue;
      if (!predicate(name)) continue;
      // Mostly nothing goes.
      this.#lines = lines.filter(([each]) => !predicate(each));
      return;
    }
  }

  set(name: string, value: string): void {
    if (!isLowerCaseToken(name) || !isAdmissibleValue(value)) {
      throw new RangeError(`not admissible as a field: ${JSON.stringify(name)}`);
    }
    this.put(name, value);
  }

  put(name: string, value: string): void {
    this.remove(name);
    this.#lines.push([name, value]);
  }

  lines(): readonly Field[] {
    return this.#lines;
  }
}

/** What of a message's fields its codec writes itself, or that HTTP/2 has no place for (RFC 9113, 8.2.2). */
const NOT_SENT: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'host',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
]);

/** Adds the fields of any message to a header list. */
export function appendFields(list: Field[], fields: Fields): void {
  if (fields instanceof Http2Fields) {
    for (const line of fields.lines()) list.push(line);
    return;
  }
  for (const line of fields.lines()) if (!NOT_SENT.has(line[0])) list.push(line);
}

export function trailerList(trailers: Fields): HeaderList {
  const list: Field[] = [];
  appendFields(list, trailers);
  return list;
}
