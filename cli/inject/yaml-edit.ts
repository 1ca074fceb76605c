import { Composer, CST, Document, isMap, isScalar, isSeq, Pair, Parser, Scalar, visit, YAMLMap, YAMLSeq } from 'yaml';
import type { Edit } from '../../kubernetes/injection/json-patch.ts';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import { isList } from '../../policy/json.ts';
import type { JsonValue } from '../../policy/types.ts';

/** The same document read again: whether it means what it is to mean. */
export type Check = (index: number, printed: string) => boolean;

/**
 * The text with the documents of `edits` (by their place in the file) changed, and every other one byte for byte as it was. Changed documents keep
 * comments, order, and the spelling of every scalar: they are read without a schema, so that `0644` and `yes` stay what they are.
 * @throws PosternError ERR_INJECT where a document cannot be printed so that it passes `check`.
 */
export function editYaml(text: string, edits: ReadonlyMap<number, readonly Edit[]>, check: Check): string {
  let index = -1;
  const parts = [...new Parser().parse(text)].map((token) => {
    if (token.type === 'document') index++;
    const wanted = token.type === 'document' ? edits.get(index) : undefined;
    if (wanted === undefined || wanted.length === 0) return CST.stringify(token);
    return editDocument(token, wanted, text, (printed) => check(index, printed));
  });
  return parts.join('');
}

function editDocument(
  token: CST.Token,
  edits: readonly Edit[],
  text: string,
  check: (printed: string) => boolean,
): string {
  const composer = new Composer({ version: '1.2', schema: 'failsafe', keepSourceTokens: false, logLevel: 'silent' });
  const [document] = composer.compose([token]);
  if (document === undefined) throw uneditable('the document is empty');
  const style = styleOf(document, text);
  for (const edit of edits) applyEdit(document, edit);
  // The library does not print every text and list well at every indentation: at its own it does.
  for (const other of [{}, { indent: 2 }, { indent: 2, indentSeq: true }]) {
    const printed = document.toString({ ...style, ...other, lineWidth: 0, minContentWidth: 0 });
    if (check(printed)) return printed;
  }
  throw uneditable('the document');
}

function applyEdit(document: Document.Parsed, edit: Edit): void {
  const parent = edit.at.slice(0, -1).reduce<unknown>(childOf, document.contents);
  const last = edit.at.at(-1) ?? '';
  if (isMap(parent)) {
    const at = parent.items.findIndex((pair) => keyOf(pair) === String(last));
    if (edit.op === 'add') parent.items.push(new Pair(scalarOf(String(last)), nodeOf(edit.value)));
    else if (at < 0) throw uneditable(edit.at.join('.'));
    else if (edit.op === 'remove') parent.items.splice(at, 1);
    else replaceValue(parent.items[at], edit.value);
  } else if (isSeq(parent) && typeof last === 'number') {
    if (edit.op === 'remove') parent.items.splice(last, 1);
    else parent.items.splice(last, edit.op === 'add' ? 0 : 1, nodeOf(edit.value));
  } else {
    throw uneditable(edit.at.join('.'));
  }
}

function replaceValue(pair: Pair | undefined, value: JsonValue): void {
  if (pair === undefined) return;
  const node = nodeOf(value);
  // What is written behind the value speaks of the field.
  if (isScalar(pair.value) && isScalar(node)) node.comment = pair.value.comment ?? null;
  pair.value = node;
}

function childOf(node: unknown, part: string | number): unknown {
  if (isMap(node)) return node.items.find((pair) => keyOf(pair) === String(part))?.value;
  return isSeq(node) && typeof part === 'number' ? node.items[part] : undefined;
}

function keyOf(pair: Pair): string | null {
  return isScalar(pair.key) ? String(pair.key.value) : null;
}

function nodeOf(value: JsonValue): YAMLMap | YAMLSeq | Scalar {
  if (isList(value)) {
    const list = new YAMLSeq();
    list.items = value.map(nodeOf);
    list.flow = value.length === 0;
    return list;
  }
  if (value === null || typeof value !== 'object') return scalarOf(value);
  const map = new YAMLMap();
  map.items = Object.entries(value).map(([key, item]) => new Pair(scalarOf(key), nodeOf(item)));
  map.flow = map.items.length === 0;
  return map;
}

/** Text stays text for every reader: quoted where YAML 1.1, which kubectl reads, would take it for something else. */
function scalarOf(value: null | boolean | number | string): Scalar {
  const scalar = new Scalar(String(value));
  scalar.type = 'PLAIN';
  if (typeof value === 'string') {
    const [first = ''] = new Document(value, { version: '1.1' }).toString({ lineWidth: 0 });
    if (first === "'") scalar.type = 'QUOTE_SINGLE';
    else if (first === '"' || first === '|' || first === '>' || value === '') scalar.type = 'QUOTE_DOUBLE';
  }
  return scalar;
}

/** How the author indents, as the first nested list and map of the document show. */
function styleOf(document: Document.Parsed, text: string) {
  let indent: number | null = null;
  let indentSeq: boolean | null = null;
  visit(document, {
    Pair(_, { key, value }) {
      if (!isScalar(key) || !key.range) return;
      if (isSeq(value) && value.flow !== true && value.range) {
        indentSeq ??= columnOf(text, value.range[0]) > columnOf(text, key.range[0]);
      } else if (isMap(value) && value.flow !== true && value.range) {
        indent ??= columnOf(text, value.range[0]) - columnOf(text, key.range[0]);
      }
    },
  });
  const [from = 0, , to = from] = document.range;
  return {
    indent: indent !== null && indent >= 1 && indent <= 8 ? indent : 2,
    indentSeq: indentSeq ?? false,
    flowCollectionPadding: /[{[] +[^ \n]/.test(text.slice(from, to)),
  };
}

function columnOf(text: string, offset: number): number {
  return offset - (text.lastIndexOf('\n', offset - 1) + 1);
}

function uneditable(what: string): PosternError {
  return new PosternError('ERR_INJECT', `cannot edit ${what}: write this part of the file as plain YAML`, {
    exitCode: EXIT.dataError,
  });
}
