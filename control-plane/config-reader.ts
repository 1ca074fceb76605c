import { isMap, isNode, isScalar, LineCounter, type ParsedNode, parseDocument } from 'yaml';
import { EXIT, PosternError } from '../mesh/errors.ts';

/** Positions and strictness for a configuration file: every complaint names file, line and column. */
export class ConfigReader {
  readonly #file: string;
  readonly #lines: LineCounter;
  readonly #root: ParsedNode | null;

  /** @throws PosternError ERR_CONFIG where the text is not one YAML document. */
  constructor(text: string, file: string) {
    this.#file = file;
    this.#lines = new LineCounter();
    const document = parseDocument(text, { lineCounter: this.#lines, uniqueKeys: true, prettyErrors: false });
    const [error] = document.errors;
    if (error !== undefined) this.fail(error.pos[0], error.message);
    this.#root = document.contents;
  }

  root(known: readonly string[]): ConfigSection {
    return new ConfigSection(this, this.#root, '', known);
  }

  fail(position: number | null, message: string): never {
    const at = this.#lines.linePos(position ?? 0);
    const place = `${this.#file}:${Math.max(at.line, 1)}:${Math.max(at.col, 1)}`;
    throw new PosternError('ERR_CONFIG', `${place}: ${message}`, { exitCode: EXIT.config });
  }
}

/** One mapping of the file. A key that is not among the known ones is an error. */
export class ConfigSection {
  readonly #reader: ConfigReader;
  readonly #path: string;
  readonly #values = new Map<string, { readonly node: unknown; readonly position: number | null }>();

  constructor(reader: ConfigReader, node: unknown, path: string, known: readonly string[]) {
    this.#reader = reader;
    this.#path = path;
    if (node === null || node === undefined || (isScalar(node) && node.value === null)) return;
    if (!isMap(node))
      reader.fail(positionOf(node), `${path === '' ? 'the file' : path} must be a mapping of keys to values`);
    for (const pair of node.items) {
      const key = isScalar(pair.key) ? String(pair.key.value) : '';
      const position = positionOf(pair.key);
      if (!known.includes(key)) {
        reader.fail(position, `unknown key ${JSON.stringify(this.#name(key))}; known here: ${known.join(', ')}`);
      }
      this.#values.set(key, { node: pair.value, position });
    }
  }

  section(key: string, known: readonly string[]): ConfigSection {
    return new ConfigSection(this.#reader, this.#values.get(key)?.node, this.#name(key), known);
  }

  /** The string at `key`, read by `parse` (null: not acceptable, `wanted` says what would be). */
  read<T>(key: string, fallback: T, wanted: string, parse: (text: string) => T | null): T {
    const found = this.#values.get(key);
    if (found === undefined) return fallback;
    const text = scalarText(found.node);
    const value = text === null ? null : parse(text);
    if (value === null) this.fail(key, `must be ${wanted}`);
    return value;
  }

  list<T>(key: string, wanted: string, parse: (text: string) => T | null): T[] {
    const found = this.#values.get(key);
    if (found === undefined) return [];
    const node = found.node;
    const items = isNode(node) && 'items' in node && !isMap(node) && Array.isArray(node.items) ? node.items : null;
    if (items === null) this.fail(key, `must be a list of ${wanted}`);
    return items.map((item: unknown) => {
      const text = scalarText(item);
      const value = text === null ? null : parse(text);
      if (value === null) this.#reader.fail(positionOf(item), `${this.#name(key)}: each must be ${wanted}`);
      return value;
    });
  }

  fail(key: string, message: string): never {
    const found = this.#values.get(key);
    this.#reader.fail(positionOf(found?.node) ?? found?.position ?? null, `${this.#name(key)} ${message}`);
  }

  #name(key: string): string {
    return this.#path === '' ? key : `${this.#path}.${key}`;
  }
}

function positionOf(node: unknown): number | null {
  return isNode(node) && node.range !== null && node.range !== undefined ? node.range[0] : null;
}

function scalarText(node: unknown): string | null {
  if (!isScalar(node)) return null;
  return typeof node.value === 'string' || typeof node.value === 'number' ? String(node.value) : null;
}
