import { asObject, isAbsent, isList } from '../json.ts';
import { quoted } from '../quoted.ts';
import type { JsonObject, JsonValue, PathPart, Problem } from '../types.ts';

export type Path = readonly (string | number)[];

/** Something wrong or doubtful in an object, and where in it. */
export interface Finding {
  readonly path: (string | number)[];
  /** What of `path` is wrong; its value where absent. */
  readonly part?: PathPart;
  readonly severity: Problem['severity'];
  readonly message: string;
}

/** Errors, and warnings, of one object: a report is for a person. Counted apart, so that no warning can displace an error. */
const MAX_FINDINGS = 100;

/**
 * What the validation of one object has found, with the readings that every kind needs: each reports what does not fit and returns what does.
 * `null` stands for absent, as in Kubernetes.
 */
export class Findings {
  readonly #findings: Finding[] = [];
  readonly #counts = { error: 0, warning: 0 };

  get all(): readonly Finding[] {
    return this.#findings;
  }

  error(path: Path, message: string, part?: PathPart): void {
    this.#add({ path: [...path], severity: 'error', message, ...(part === undefined ? {} : { part }) });
  }

  warn(path: Path, message: string): void {
    this.#add({ path: [...path], severity: 'warning', message });
  }

  /** The object at `path`, null where there is none. With `fields`, any other field is an error. */
  object(value: JsonValue | undefined, path: Path, fields?: Iterable<string>): JsonObject | null {
    if (isAbsent(value)) return null;
    const object = asObject(value);
    if (object === null) this.error(path, `${last(path)} must be a map`);
    else if (fields !== undefined) this.onlyFields(object, path, fields);
    return object;
  }

  /** Unknown fields would be dropped in silence, and with them what their author meant to forbid. */
  onlyFields(object: JsonObject, path: Path, fields: Iterable<string>): void {
    const known = [...fields];
    for (const name of Object.keys(object)) {
      // An object that is all unknown fields has been refused; measuring every name against the known ones would take long.
      if (this.#counts.error >= MAX_FINDINGS) return;
      if (!known.includes(name)) this.error([...path, name], unknownField(name, known), 'key');
    }
  }

  items(value: JsonValue | undefined, path: Path, most = Number.POSITIVE_INFINITY): readonly JsonValue[] {
    if (isAbsent(value)) return [];
    if (!isList(value)) {
      this.error(path, `${last(path)} must be a list`);
      return [];
    }
    if (value.length > most) this.error(path, `${last(path)} has ${value.length} items; at most ${most} are allowed`);
    return value;
  }

  /** A string that is not empty; null where there is none. */
  string(value: JsonValue | undefined, path: Path): string | null {
    return isAbsent(value) ? null : this.#string(value, path);
  }

  #string(value: JsonValue, path: Path): string | null {
    if (typeof value === 'string' && value !== '') return value;
    const isScalar = typeof value === 'number' || typeof value === 'boolean';
    if (isScalar) this.error(path, `${last(path)} must be a string: write it in quotes, "${value}"`);
    else this.error(path, `${last(path)} must be a string that is not empty`);
    return null;
  }

  /** The same of one that must be there; `missing` is said where it is not. */
  requiredString(value: JsonValue | undefined, path: Path, missing: string): string | null {
    if (isAbsent(value)) this.error(path, missing);
    return this.string(value, path);
  }

  /** The strings of a list, each with its path. */
  strings(
    value: JsonValue | undefined,
    path: Path,
    most?: number,
  ): readonly { readonly text: string; readonly path: Path }[] {
    return this.items(value, path, most).flatMap((item, index) => {
      const at = [...path, index];
      if (item === null) this.error(at, `${last(at)} must be a string that is not empty`);
      const text = this.string(item, at);
      return text === null ? [] : [{ text, path: at }];
    });
  }

  oneOf(value: JsonValue | undefined, path: Path, allowed: readonly string[]): string | null {
    const text = this.string(value, path);
    if (text === null || allowed.includes(text)) return text;
    this.error(path, `${last(path)} ${quoted(text)} is unknown; it must be ${allowed.join(', ')}`);
    return null;
  }

  integer(value: JsonValue | undefined, path: Path, least: number, most: number): number | null {
    if (isAbsent(value)) return null;
    if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most) return value;
    this.error(path, `${last(path)} must be a whole number from ${least} to ${most}`);
    return null;
  }

  boolean(value: JsonValue | undefined, path: Path): void {
    if (!isAbsent(value) && typeof value !== 'boolean') this.error(path, `${last(path)} must be true or false`);
  }

  /** A map of strings, such as labels. */
  stringMap(value: JsonValue | undefined, path: Path): void {
    for (const [key, entry] of Object.entries(this.object(value, path) ?? {})) {
      // Unlike elsewhere, a string may be empty.
      if (entry !== '') this.#string(entry, [...path, key]);
    }
  }

  #add(finding: Finding): void {
    if (this.#counts[finding.severity] >= MAX_FINDINGS) return;
    this.#counts[finding.severity]++;
    this.#findings.push(finding);
  }
}

/** `spec.rules[0].from[1]`. */
export function pathText(path: Path): string {
  return path.reduce<string>(
    (text, part) => (typeof part === 'number' ? `${text}[${part}]` : text === '' ? part : `${text}.${part}`),
    '',
  );
}

/** The name of what a path leads to: `ipBlocks[2]`. */
function last(path: Path): string {
  const named = path.findLastIndex((part) => typeof part === 'string');
  const name = pathText(path.slice(Math.max(named, 0)));
  return name.length > MAX_NAME ? quoted(name) : name;
}

export function unknownField(name: string, known: readonly string[]): string {
  const near = nearest(name, known);
  const advice = near === null ? `known are ${known.join(', ')}` : `did you mean ${near}?`;
  return `unknown field ${quoted(name)}; ${advice}`;
}

/** Longer names are no typing errors, and are nothing to read. */
const MAX_NAME = 64;

/** The known name that a third of its letters at most tells from `name`. */
export function nearest(name: string, known: readonly string[]): string | null {
  if (name.length > MAX_NAME) return null;
  let best: { readonly candidate: string; readonly distance: number } | null = null;
  for (const candidate of known) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance <= Math.max(1, candidate.length / 3) && (best === null || distance < best.distance)) {
      best = { candidate, distance };
    }
  }
  return best?.candidate ?? null;
}

/** Levenshtein's distance, two neighbouring letters swapped being one slip as well. */
function editDistance(a: string, b: string): number {
  let beforeLast: readonly number[] = [];
  let last: readonly number[] = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = at(last, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const isSwapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swapped = isSwapped ? at(beforeLast, j - 2) + 1 : substituted;
      row.push(Math.min(substituted, swapped, at(last, j) + 1, at(row, j - 1) + 1));
    }
    beforeLast = last;
    last = row;
  }
  return at(last, b.length);
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? 0;
}
