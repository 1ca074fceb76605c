import {
  Composer,
  CST,
  type Document,
  isMap,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  type Pair,
  Parser,
  type YAMLMap,
} from 'yaml';
import { quoted } from './quoted.ts';
import type { JsonObject, JsonValue, PathPart, Problem, SourceLocation } from './types.ts';

/** One document of a YAML (or JSON) file. */
export interface YamlDocument {
  readonly value: JsonValue;
  /**
   * Where the value at `path` starts, or its key where that is asked for or the value is a list or a map; of a path that does not exist, what is
   * nearest above it.
   */
  locate(path: readonly (string | number)[], part?: PathPart): SourceLocation;
}

/** What one file may cost to read. */
export interface YamlLimits {
  readonly bytes: number;
  /** Collections inside one another. */
  readonly depth: number;
  /** Lexical tokens; about one for each word, indicator and stretch of blanks. */
  readonly tokens: number;
  /** Separators, `---` and `...`: every document but the first has one. */
  readonly documents: number;
  /** Problems that are reported before the rest is left unsaid. */
  readonly problems: number;
}

/** What a cluster's policies written into one file need; reading so much costs seconds and half a gigabyte. */
export const YAML_LIMITS: YamlLimits = {
  bytes: 4 * 1024 * 1024,
  depth: 64,
  tokens: 2_000_000,
  documents: 10_000,
  problems: 100,
};

/**
 * Reads YAML 1.2 as plain data, strictly. What can make a small file large (anchors, aliases, merge keys), change the meaning of what is read
 * (tags, directives) or say two things at once (duplicate keys) is refused; limits hold before anything is built from the text.
 * Documents that have a problem are left out.
 */
export function parseYaml(
  text: string,
  file: string,
  limits: YamlLimits = YAML_LIMITS,
): { readonly documents: readonly YamlDocument[]; readonly problems: readonly Problem[] } {
  const reader = new YamlReader(file, limits);
  try {
    return { documents: reader.read(text), problems: reader.problems };
  } catch (error) {
    // The library is to report, not to throw; whatever it throws on hostile text is a fault of the text.
    if (!(error instanceof Refusal)) reader.report(0, `cannot be read as YAML: ${String(error)}`);
    return { documents: [], problems: reader.problems };
  }
}

/** Ends the reading of a file; the problem is already reported. */
class Refusal extends Error {}

class YamlReader {
  readonly problems: Problem[] = [];
  readonly #file: string;
  readonly #limits: YamlLimits;
  readonly #lines = new LineCounter();

  constructor(file: string, limits: YamlLimits) {
    this.#file = file;
    this.#limits = limits;
  }

  read(text: string): YamlDocument[] {
    this.#lines.addNewLine(0);
    const bytes = Buffer.byteLength(text);
    if (bytes > this.#limits.bytes) {
      this.#refuse(0, `is ${bytes} bytes; at most ${this.#limits.bytes} are read: split the file`);
    }
    const tokens = this.#tokens(text);
    const documents: YamlDocument[] = [];
    const composer = new Composer({
      version: '1.2',
      schema: 'core',
      merge: false,
      // Looks at all pairs of keys; `#map` does it by a set.
      uniqueKeys: false,
      prettyErrors: false,
      logLevel: 'silent',
    });
    for (const document of composer.compose(tokens)) {
      const value = this.#document(document);
      if (value !== undefined) documents.push({ value, locate: (path, part) => this.#locate(document, path, part) });
    }
    return documents;
  }

  report(offset: number, message: string, severity: Problem['severity'] = 'error'): void {
    if (this.problems.length > this.#limits.problems) return;
    const isLast = this.problems.length === this.#limits.problems;
    this.problems.push({
      severity: isLast ? 'error' : severity,
      message: isLast ? 'has more problems; the rest is not shown' : message,
      location: this.#location(offset),
      resource: null,
    });
  }

  #refuse(offset: number, message: string): never {
    this.report(offset, message);
    throw new Refusal(message);
  }

  /** Lexes and parses to flat tokens, which needs no recursion, holding every limit on the way. */
  #tokens(text: string): CST.Token[] {
    const parser = new Parser(this.#lines.addNewLine);
    const tokens: CST.Token[] = [];
    let lexemes = 0;
    let documents = 0;
    for (const lexeme of new Lexer().lex(text)) {
      const at = parser.offset;
      const type = CST.tokenType(lexeme);
      if (++lexemes > this.#limits.tokens) this.#refuse(at, `has over ${this.#limits.tokens} tokens: split the file`);
      if ((type === 'doc-start' || type === 'doc-end') && ++documents > this.#limits.documents) {
        this.#refuse(at, `has over ${this.#limits.documents} documents: split the file`);
      }
      const refused = refusedToken(type, lexeme);
      if (refused !== null) this.#refuse(at, refused);
      for (const token of parser.next(lexeme)) tokens.push(token);
      if (parser.stack.length > this.#limits.depth) {
        this.#refuse(at, `is nested over ${this.#limits.depth} levels deep`);
      }
    }
    for (const token of parser.end()) tokens.push(token);
    return tokens;
  }

  /** Undefined where the document has an error. */
  #document(document: Document.Parsed): JsonValue | undefined {
    for (const { pos, message } of document.warnings) this.report(pos[0], message, 'warning');
    for (const { pos, message } of document.errors) this.report(pos[0], message);
    const before = this.problems.length;
    if (document.errors.length > 0) return undefined;
    const value = this.#value(document.contents);
    return this.problems.length === before ? value : undefined;
  }

  #value(node: unknown): JsonValue {
    if (isMap(node)) return this.#map(node);
    if (isSeq(node)) return node.items.map((item) => this.#value(item));
    if (!isScalar(node)) return null;
    const { value } = node;
    if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
    if (typeof value === 'number' && Number.isFinite(value)) return value;
    this.report(offsetOf(node), `${String(value)} is no JSON value`);
    return null;
  }

  #map(map: YAMLMap): JsonObject {
    const object: { [key: string]: JsonValue } = {};
    for (const pair of map.items) {
      const key = keyOf(pair);
      if (key === null) {
        this.report(offsetOf(pair.key), 'a key must be a string: put it in quotes');
      } else if (key === '<<' || key === '__proto__') {
        this.report(offsetOf(pair.key), `the key ${quoted(key)} is refused`);
      } else if (Object.hasOwn(object, key)) {
        this.report(offsetOf(pair.key), `the key ${quoted(key)} stands twice in one map`);
      } else {
        object[key] = this.#value(pair.value);
      }
    }
    return object;
  }

  #locate(document: Document.Parsed, path: readonly (string | number)[], wanted: PathPart = 'value'): SourceLocation {
    let node: unknown = document.contents;
    let offset = offsetOf(node);
    for (const part of path) {
      const pair = isMap(node) ? node.items.find((item) => keyOf(item) === String(part)) : undefined;
      if (pair !== undefined) {
        node = pair.value;
        const isValue = wanted === 'value' && isScalar(node) && node.value !== null;
        offset = offsetOf(isValue ? node : pair.key);
      } else if (isSeq(node) && typeof part === 'number' && part < node.items.length) {
        node = node.items[part];
        offset = offsetOf(node);
      } else {
        break;
      }
    }
    return this.#location(offset);
  }

  #location(offset: number): SourceLocation {
    const { line, col } = this.#lines.linePos(offset);
    return { file: this.#file, line: Math.max(line, 1), column: Math.max(col, 1) };
  }
}

function refusedToken(type: CST.TokenType | null, lexeme: string): string | null {
  if (type === 'alias' || type === 'anchor') return 'YAML anchors and aliases are refused: write the value out';
  if (type === 'tag') return 'YAML tags are refused: put the value in quotes where it is to be a string';
  const isKnownVersion = /^%YAML[ \t]+1\.2[ \t]*$/.test(lexeme);
  return type === 'directive-line' && !isKnownVersion ? 'YAML directives other than "%YAML 1.2" are refused' : null;
}

/** A string, or an integer as it was written (the ports of `portLevelMtls`); null for any other key. */
function keyOf({ key }: Pair): string | null {
  if (!isScalar(key)) return null;
  if (typeof key.value === 'string') return key.value;
  const written = key.source ?? '';
  return typeof key.value === 'number' && /^(?:0|[1-9][0-9]*)$/.test(written) ? written : null;
}

function offsetOf(node: unknown): number {
  return (isScalar(node) || isMap(node) || isSeq(node)) && node.range ? node.range[0] : 0;
}
