/** What a PromQL expression names. */
export interface Selector {
  readonly metric: string;
  /** Label → the text that its matcher compares with. */
  readonly matchers: ReadonlyMap<string, string>;
}

export interface Named {
  readonly selectors: readonly Selector[];
  /** Of `by (…)`, `without (…)`, `on (…)`, `ignoring (…)`. */
  readonly grouping: readonly string[];
}

const GROUPING = new Set(['by', 'without', 'on', 'ignoring', 'group_left', 'group_right']);
const OPERATORS = new Set(['and', 'or', 'unless', 'bool', 'offset', 'inf', 'nan']);
const TOKEN = /"(?:[^"\\]|\\.)*"|[a-zA-Z_:][\w:]*|\d[\w.]*|[{}()[\],]|[=!~<>+\-*/%^]+|\$\w+|\s+/gy;

function tokensOf(expression: string): string[] {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < expression.length) {
    const at = TOKEN.lastIndex;
    const [token] = TOKEN.exec(expression) ?? [];
    if (token === undefined) throw new Error(`no PromQL at ${at}: ${expression}`);
    if (token.trim() !== '') tokens.push(token);
  }
  return tokens;
}

const isName = (token: string | undefined): token is string => token !== undefined && /^[a-zA-Z_:]/.test(token);

/** Metrics and labels that an expression names: enough of the grammar for dashboards and alert rules; what it does not know throws. */
export function namesIn(expression: string): Named {
  const tokens = tokensOf(expression);
  const selectors: Selector[] = [];
  const grouping: string[] = [];
  let at = 0;
  const upTo = (end: string): string[] => {
    const from = at;
    while (tokens[at] !== end) if (at++ >= tokens.length) throw new Error(`no ${end} in ${expression}`);
    return tokens.slice(from, at++);
  };
  while (at < tokens.length) {
    const token = tokens[at++];
    if (token === '[') upTo(']');
    if (!isName(token) || OPERATORS.has(token)) continue;
    if (GROUPING.has(token)) {
      if (tokens[at] === '(') {
        at++;
        grouping.push(...upTo(')').filter(isName));
      }
      continue;
    }
    // A function or an aggregation: `rate(`, `sum(`, `sum by (…) (`.
    if (tokens[at] === '(' || GROUPING.has(tokens[at] ?? '')) continue;
    const matchers = new Map<string, string>();
    if (tokens[at] === '{') {
      at++;
      const inside = upTo('}').filter((part) => part !== ',');
      for (let i = 0; i < inside.length; i += 3) {
        const [label, operator, value] = inside.slice(i, i + 3);
        if (!isName(label) || !/^(?:=|!=|=~|!~)$/.test(operator ?? '') || value === undefined) {
          throw new Error(`no matcher in ${expression}`);
        }
        matchers.set(label, JSON.parse(value) as string);
      }
    }
    selectors.push({ metric: token, matchers });
  }
  return { selectors, grouping };
}
