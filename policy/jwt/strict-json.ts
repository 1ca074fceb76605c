import type { JsonValue } from '../types.ts';

const QUOTE = 0x22;
const COMMA = 0x2c;
const MINUS = 0x2d;
const ZERO = 0x30;
const NINE = 0x39;
const OPEN_LIST = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The same of UTF-8 bytes. */
export function parseStrictJsonBytes(bytes: Uint8Array, maxDepth: number): JsonValue | undefined {
  let text: string;
  try {
    text = UTF8.decode(bytes);
  } catch {
    return undefined;
  }
  return parseStrictJson(text, maxDepth);
}

/**
 * JSON that means the same to every reader: no member twice (RFC 8259, 4: what a second one means is left open, RFC 7519, 4 lets it be refused),
 * no number beyond a double, not nested deeper than `maxDepth`. Undefined for anything else.
 */
export function parseStrictJson(text: string, maxDepth: number): JsonValue | undefined {
  let value: JsonValue;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  return isUnambiguous(text, maxDepth) ? value : undefined;
}

/** `text` is JSON already: only its structure is followed here. */
function isUnambiguous(text: string, maxDepth: number): boolean {
  /** The names seen in each object that is open; null for a list. */
  const open: (Set<string> | null)[] = [];
  let expectsName = false;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      const end = endOfString(text, at);
      if (expectsName && !isNewName(open.at(-1) ?? null, text.slice(at, end + 1))) return false;
      expectsName = false;
      at = end;
    } else if (code === OPEN_OBJECT || code === OPEN_LIST) {
      if (open.length === maxDepth) return false;
      expectsName = code === OPEN_OBJECT;
      open.push(expectsName ? new Set() : null);
    } else if (code === CLOSE_OBJECT || code === CLOSE_LIST) {
      open.pop();
      expectsName = false;
    } else if (code === COMMA) {
      expectsName = (open.at(-1) ?? null) !== null;
    } else if (code === MINUS || (code >= ZERO && code <= NINE)) {
      const end = endOfNumber(text, at);
      if (!Number.isFinite(Number(text.slice(at, end)))) return false;
      at = end - 1;
    }
  }
  return true;
}

/** Of the closing quote. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (text.charCodeAt(at) !== QUOTE) at += text.charCodeAt(at) === BACKSLASH ? 2 : 1;
  return at;
}

function endOfNumber(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && '0123456789.eE+-'.includes(text.charAt(at))) at++;
  return at;
}

/** `quoted` is the name as it was written: `"a"` and `"\u0061"` are one name. */
function isNewName(names: Set<string> | null, quoted: string): boolean {
  const name: unknown = JSON.parse(quoted);
  if (names === null || typeof name !== 'string' || names.has(name)) return false;
  names.add(name);
  return true;
}
