import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, YAMLMap } from 'yaml';
import { EXIT, PosternError } from '../errors.ts';
import type { Decoder } from './decoders.ts';

/** One thing wrong in a settings file; lines and columns count from 1. */
export interface SettingsProblem {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

const MAX_FILE_BYTES = 1024 * 1024;

/**
 * Reads a settings file strictly: `read` sees its top-level map, which is empty where the file is; all problems end in one error.
 * @throws PosternError ERR_CONFIG (exit 78).
 */
export function readSettings<T>(text: string, file: string, read: (root: Section) => T): T {
  const problems: SettingsProblem[] = [];
  const lines = new LineCounter();
  const report = (offset: number, message: string): void => {
    const { line, col } = lines.linePos(offset);
    problems.push({ file, line: Math.max(line, 1), column: Math.max(col, 1), message });
  };
  if (Buffer.byteLength(text) > MAX_FILE_BYTES) {
    throw settingsError([
      { file, line: 1, column: 1, message: `larger than ${MAX_FILE_BYTES} bytes: not a settings file` },
    ]);
  }
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, strict: true, uniqueKeys: true });
  for (const { pos, message } of [...document.errors, ...document.warnings]) report(pos[0], message);
  if (problems.length > 0) throw settingsError(problems);
  const contents = document.contents ?? new YAMLMap();
  if (!isMap(contents)) {
    report(contents.range?.[0] ?? 0, 'the file must be a map of settings, such as `logLevel: info`');
    throw settingsError(problems);
  }
  const root = new Section(contents, '', report);
  const value = read(root);
  root.finish();
  if (problems.length > 0) throw settingsError(problems);
  return value;
}

function settingsError(problems: readonly SettingsProblem[]): PosternError {
  const sorted = [...problems].sort((a, b) => a.line - b.line || a.column - b.column);
  const text = sorted.map((p) => `${p.file}:${p.line}:${p.column}: ${p.message}`).join('\n');
  return new PosternError('ERR_CONFIG', text, { exitCode: EXIT.config });
}

type Report = (offset: number, message: string) => void;

/** One map of the file. Every key that nobody asked for is a problem, so `finish` comes after the last question. */
export class Section {
  readonly #map: YAMLMap;
  readonly #path: string;
  readonly #report: Report;
  readonly #asked = new Set<string>();
  readonly #children = new Map<string, Section>();

  constructor(map: YAMLMap, path: string, report: Report) {
    this.#map = map;
    this.#path = path;
    this.#report = report;
  }

  required<T>(key: string, decoder: Decoder<T>): T {
    const node = this.#node(key);
    if (node !== null) return this.#decode(node, this.#name(key), decoder);
    this.problem(null, `${this.#name(key)} is missing: it must be ${decoder.expects}`);
    return decoder.placeholder;
  }

  optional<T, F>(key: string, decoder: Decoder<T>, fallback: F): T | F {
    const node = this.#node(key);
    return node === null ? fallback : this.#decode(node, this.#name(key), decoder);
  }

  /** A nested map; null where the key is absent. */
  section(key: string): Section | null {
    const node = this.#node(key);
    return node === null ? null : this.#enter(node, this.#name(key));
  }

  /** Whether the key is there at all: for lists whose absence is not the same as being empty. */
  has(key: string): boolean {
    return this.#node(key) !== null;
  }

  /** A list of maps; empty where the key is absent. */
  sections(key: string): readonly Section[] {
    const node = this.#node(key);
    if (node === null) return [];
    if (!isSeq(node)) {
      this.#wrong(node, this.#name(key), 'a list of maps');
      return [];
    }
    return node.items.flatMap((item, index) => this.#enter(item as Node, `${this.#name(key)}[${index}]`) ?? []);
  }

  list<T>(key: string, decoder: Decoder<T>): readonly T[] {
    const node = this.#node(key);
    if (node === null) return [];
    if (!isSeq(node)) {
      this.#wrong(node, this.#name(key), `a list, each ${decoder.expects}`);
      return [];
    }
    return node.items.map((item, index) => this.#decode(item as Node, `${this.#name(key)}[${index}]`, decoder));
  }

  /** A list, or one string of values with commas between them, as Kubernetes writes a pod's addresses into the environment. */
  listOrText<T>(key: string, decoder: Decoder<T>): readonly T[] {
    const node = this.#node(key);
    if (!isScalar(node) || typeof node.value !== 'string') return this.list(key, decoder);
    const values = node.value.split(',').map((part) => decoder.read(part));
    if (values.includes(null))
      this.#wrong(node, this.#name(key), `a list, or one string with commas, each ${decoder.expects}`);
    return values.map((value) => value ?? decoder.placeholder);
  }

  /** A map of free keys, each of the form `keys`, to values of one kind; empty where the key is absent. */
  record<T>(key: string, keys: RegExp, decoder: Decoder<T>): Readonly<Record<string, T>> {
    const entries = this.section(key);
    if (entries === null) return {};
    for (const name of entries.#keys()) {
      if (!keys.test(name)) entries.problem(name, `${this.#name(key)} cannot have the key ${JSON.stringify(name)}`);
    }
    return Object.fromEntries(entries.#keys().map((name) => [name, entries.required(name, decoder)]));
  }

  /** Reports something that is wrong with `key` (null: with the section itself). */
  problem(key: string | null, message: string): void {
    const node = key === null ? null : this.#node(key);
    this.#report((node ?? this.#map).range?.[0] ?? 0, message);
  }

  finish(): void {
    for (const pair of this.#map.items) {
      const key = isScalar(pair.key) ? String(pair.key.value) : null;
      if (key !== null && this.#asked.has(key)) continue;
      const offset = (pair.key as Node).range?.[0] ?? 0;
      const known = [...this.#asked].join(', ');
      this.#report(offset, `unknown setting ${JSON.stringify(this.#name(key ?? '?'))}: known here are ${known}`);
    }
    for (const child of this.#children.values()) child.finish();
  }

  #name(key: string): string {
    return this.#path === '' ? key : `${this.#path}.${key}`;
  }

  #keys(): string[] {
    return this.#map.items.flatMap((pair) => (isScalar(pair.key) ? [String(pair.key.value)] : []));
  }

  #node(key: string): Node | null {
    this.#asked.add(key);
    const pair = this.#map.items.find((item) => isScalar(item.key) && String(item.key.value) === key);
    return (pair?.value as Node | null | undefined) ?? null;
  }

  #enter(node: Node, path: string): Section | null {
    if (isMap(node)) {
      const child = this.#children.get(path) ?? new Section(node, path, this.#report);
      this.#children.set(path, child);
      return child;
    }
    this.#wrong(node, path, 'a map');
    return null;
  }

  #decode<T>(node: Node, path: string, decoder: Decoder<T>): T {
    const value = isScalar(node) ? decoder.read(node.value) : null;
    if (value !== null) return value;
    this.#wrong(node, path, decoder.expects);
    return decoder.placeholder;
  }

  #wrong(node: Node, path: string, expects: string): void {
    const found = isScalar(node)
      ? JSON.stringify(node.value)
      : isAlias(node)
        ? 'a YAML alias'
        : isMap(node)
          ? 'a map'
          : 'a list';
    this.#report(node.range?.[0] ?? 0, `${path} must be ${expects}, not ${found}`);
  }
}
