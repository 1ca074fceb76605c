/** A node stands for the labels on the way to it, one after another: a compressed trie. Children differ in the first character of their labels. */
interface Node<T> {
  label: string;
  readonly values: T[];
  children: Map<number, Node<T>> | null;
}

/**
 * Values by prefix (or suffix); finds those of every prefix that a text has, in one walk along the text that ends where no stored prefix goes on.
 */
export class AffixIndex<T> {
  readonly #fromEnd: boolean;
  readonly #root: Node<T> = { label: '', values: [], children: null };

  constructor(kind: 'prefix' | 'suffix') {
    this.#fromEnd = kind === 'suffix';
  }

  add(affix: string, value: T): void {
    this.bucket(affix).push(value);
  }

  /** The values stored under `affix` itself, to be added to. */
  bucket(affix: string): T[] {
    // Labels of suffixes are stored back to front.
    const text = this.#fromEnd ? reversed(affix) : affix;
    let node = this.#root;
    let at = 0;
    while (at < text.length) {
      node.children ??= new Map();
      const first = text.charCodeAt(at);
      const next = node.children.get(first);
      if (next === undefined) {
        const leaf: Node<T> = { label: text.slice(at), values: [], children: null };
        node.children.set(first, leaf);
        return leaf.values;
      }
      const common = commonLength(next.label, text, at);
      node = common === next.label.length ? next : split(node.children, first, next, common);
      at += common;
    }
    return node.values;
  }

  /** Appends the values of each affix that the text has, one list an affix, shortest first. */
  collect(text: string, into: (readonly T[])[]): void {
    let node: Node<T> | null = this.#root;
    for (let at = 0; node !== null; at += node?.label.length ?? 0) {
      if (node.values.length > 0) into.push(node.values);
      node = this.#next(node, text, at);
    }
  }

  /** Whether the text has any of the affixes. */
  has(text: string): boolean {
    let node: Node<T> | null = this.#root;
    for (let at = 0; node !== null; at += node?.label.length ?? 0) {
      if (node.values.length > 0) return true;
      node = this.#next(node, text, at);
    }
    return false;
  }

  /** The child whose label the text goes on with after its first (last) `at` characters. */
  #next(node: Node<T>, text: string, at: number): Node<T> | null {
    if (node.children === null || at >= text.length) return null;
    const last = text.length - 1 - at;
    const next = node.children.get(text.charCodeAt(this.#fromEnd ? last : at));
    if (next === undefined) return null;
    const { label } = next;
    for (let index = 1; index < label.length; index++) {
      // Past an end of the text there is not-a-number, which equals nothing.
      const code = text.charCodeAt(this.#fromEnd ? last - index : at + index);
      if (code !== label.charCodeAt(index)) return null;
    }
    return next;
  }
}

/** Puts a node between a parent and its child, where their labels part after `common` characters. */
function split<T>(siblings: Map<number, Node<T>>, first: number, child: Node<T>, common: number): Node<T> {
  const between: Node<T> = { label: child.label.slice(0, common), values: [], children: new Map() };
  child.label = child.label.slice(common);
  between.children?.set(child.label.charCodeAt(0), child);
  siblings.set(first, between);
  return between;
}

function commonLength(label: string, text: string, from: number): number {
  let length = 0;
  while (length < label.length && label.charCodeAt(length) === text.charCodeAt(from + length)) length++;
  return length;
}

function reversed(text: string): string {
  // By code unit, as the walk goes.
  let result = '';
  for (let at = text.length - 1; at >= 0; at--) result += text.charAt(at);
  return result;
}
