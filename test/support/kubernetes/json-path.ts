import { asObject } from '../../../policy/json.ts';
import type { JsonValue } from '../../../policy/types.ts';
import { at } from './objects.ts';

/**
 * The values at a JSON path as printer columns write it: fields (dots in a name escaped), `[0]`, `[*]`, `['name']` and `[?(@.type=="Ready")]`.
 */
export function jsonPath(value: JsonValue, path: string): readonly JsonValue[] {
  const text = path.replaceAll(/\\\./g, '\u0000');
  let values: readonly JsonValue[] = [value];
  let position = 0;
  while (position < text.length) {
    const [whole, step] = stepAt(text, position);
    values = values.flatMap(step);
    position += whole;
  }
  return values;
}

type Step = (value: JsonValue) => readonly JsonValue[];

const FIELD = /^\.?([^.[\]]+)/;
const BRACKET = /^\.?\[(?:'([^']+)'|(\d+)|(\*)|\?\(@\.([\w.]+)\s*==\s*["']([^"']*)["']\))\]/;

function stepAt(text: string, position: number): readonly [number, Step] {
  const rest = text.slice(position);
  const bracket = BRACKET.exec(rest);
  if (bracket !== null) {
    const [whole, quoted, index, all, key, wanted] = bracket;
    if (quoted !== undefined) return [whole.length, fieldStep(quoted)];
    if (index !== undefined) return [whole.length, (value) => elements(value).slice(Number(index), Number(index) + 1)];
    if (all !== undefined) return [whole.length, elements];
    return [whole.length, (value) => elements(value).filter((one) => at(one, ...(key ?? '').split('.')) === wanted)];
  }
  const [whole, name] = FIELD.exec(rest) ?? [];
  if (whole === undefined || name === undefined)
    throw new Error(`the stand-in cannot read the JSON path ${JSON.stringify(text)}`);
  return [whole.length, fieldStep(name.replaceAll('\u0000', '.'))];
}

const fieldStep =
  (name: string): Step =>
  (value) => {
    const found = name === '*' ? null : at(value, name);
    if (name === '*') return Object.values(asObject(value) ?? {});
    return found === undefined || found === null ? [] : [found];
  };

const elements: Step = (value) => (Array.isArray(value) ? value : []);
