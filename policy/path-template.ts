import { quoted } from './quoted.ts';

const ONE_SEGMENT = '{*}';
const ANY_SEGMENTS = '{**}';
const OPERATOR = /\{\*\*?\}/;
/** The characters of a path segment that Istio allows beside an operator; a subset of RFC 3986's pchar. */
const LITERAL = /^[A-Za-z0-9\-._~%!$&'()+,;:@=]+$/;

/** Only a value with an operator is a template; in others `*` is Istio's usual wildcard. */
export function isPathTemplate(value: string): boolean {
  return value.includes(ONE_SEGMENT) || value.includes(ANY_SEGMENTS);
}

/** Why a value of `paths` is not admissible; null where it is. */
export function pathProblem(value: string): string | null {
  if (isPathTemplate(value)) return templateProblem(value);
  return /[{}]/.test(value) ? '"{" and "}" may stand in {*} and {**} only' : null;
}

function templateProblem(template: string): string | null {
  if (!template.startsWith('/')) return 'a path template starts with "/"';
  const segments = template.slice(1).split('/');
  // One slash may end it.
  if (segments.at(-1) === '') segments.pop();
  let rest = false;
  for (const segment of segments) {
    const isOperator = segment === ONE_SEGMENT || segment === ANY_SEGMENTS;
    if (isOperator && rest) return '{**} must be the last operator of a path template';
    if (segment === ANY_SEGMENTS) rest = true;
    if (isOperator) continue;
    if (segment === '') return 'a path template has no empty segment';
    if (segment.includes(ONE_SEGMENT) || segment.includes(ANY_SEGMENTS))
      return 'an operator must fill its segment of a path template';
    if (!LITERAL.test(segment))
      return `the segment ${quoted(segment)} of a path template has a character that is not allowed`;
  }
  return null;
}

/** What an operator may stand for, by character code: Envoy's pchar and `*`. A path with any other character there does not match. */
const COVERED = new Uint8Array(256);
for (const character of "-._~%!$&'()+,;:@=*") COVERED[character.charCodeAt(0)] = 1;
for (const [first, last] of ['09', 'AZ', 'az']) {
  COVERED.fill(1, String(first).charCodeAt(0), String(last).charCodeAt(0) + 1);
}
const SLASH = 0x2f;

/**
 * A path template (Istio's semantics, 1.7): `{*}` is one segment that is not empty, `{**}` any number of characters, slashes among them. A
 * literal that follows `{*}` starts with a slash or is nothing, so one pass decides, whatever the path.
 */
export class PathTemplate {
  /** The text before each operator. */
  readonly #before: readonly string[];
  /** The text after the last operator. */
  readonly tail: string;
  /** Whether the last operator is `{**}`. */
  readonly #endsInRest: boolean;

  /** @param template one for which `pathProblem` is null. */
  constructor(template: string) {
    const literals = template.split(OPERATOR);
    this.#before = literals.slice(0, -1);
    this.tail = literals.at(-1) ?? '';
    this.#endsInRest = template.includes(ANY_SEGMENTS);
  }

  /** The text before the first operator: every path that matches starts with it. */
  get head(): string {
    return this.#before[0] ?? '';
  }

  matches(path: string): boolean {
    const operators = this.#before.length;
    let at = 0;
    for (let index = 0; index < operators; index++) {
      const literal = this.#before[index] ?? '';
      if (!path.startsWith(literal, at)) return false;
      at += literal.length;
      if (this.#endsInRest && index === operators - 1) return this.#restMatches(path, at);
      const start = at;
      while (at < path.length && COVERED[path.charCodeAt(at)] === 1) at++;
      if (at === start) return false;
    }
    return path.length === at + this.tail.length && path.startsWith(this.tail, at);
  }

  #restMatches(path: string, from: number): boolean {
    const end = path.length - this.tail.length;
    if (end < from || !path.endsWith(this.tail)) return false;
    for (let at = from; at < end; at++) {
      const code = path.charCodeAt(at);
      if (code !== SLASH && COVERED[code] !== 1) return false;
    }
    return true;
  }
}
