import { type Cidr, commonBits, type IpAddress, prefixEquals } from './ip.ts';

/**
 * A node's bits are a prefix of those of every node below it, and two children differ in the first bit after it: a path-compressed
 * binary trie. A look-up therefore visits at most one node for each stored block that holds the address, plus one for each fork on the way.
 */
interface Node<T> {
  readonly words: readonly number[];
  readonly prefix: number;
  readonly values: T[];
  zero: Node<T> | null;
  one: Node<T> | null;
}

/** Values by address block; finds those of every block that holds an address, without looking at the others. */
export class CidrIndex<T> {
  readonly #ipv4: Node<T> = leaf([0], 0);
  readonly #ipv6: Node<T> = leaf([0, 0, 0, 0], 0);

  add(cidr: Cidr, value: T): void {
    const { words } = cidr.address;
    let node = this.#root(cidr.address);
    while (node.prefix < cidr.prefix) {
      const next = child(node, words);
      if (next === null) {
        attach(node, leaf(words, cidr.prefix, value));
        return;
      }
      const common = commonBits(next.words, words, Math.min(next.prefix, cidr.prefix));
      if (common < next.prefix) {
        const fork = leaf<T>(words, common);
        attach(node, fork);
        attach(fork, next);
        if (common === cidr.prefix) fork.values.push(value);
        else attach(fork, leaf(words, cidr.prefix, value));
        return;
      }
      node = next;
    }
    node.values.push(value);
  }

  /** Appends the values of each block that holds the address, one list a block. */
  collect(address: IpAddress, into: (readonly T[])[]): void {
    for (let node: Node<T> | null = this.#root(address); node !== null; node = holder(node, address)) {
      if (node.values.length > 0) into.push(node.values);
    }
  }

  /** Whether any block holds the address. */
  has(address: IpAddress): boolean {
    for (let node: Node<T> | null = this.#root(address); node !== null; node = holder(node, address)) {
      if (node.values.length > 0) return true;
    }
    return false;
  }

  #root(address: IpAddress): Node<T> {
    return address.family === 4 ? this.#ipv4 : this.#ipv6;
  }
}

function leaf<T>(words: readonly number[], prefix: number, ...values: T[]): Node<T> {
  return { words, prefix, values, zero: null, one: null };
}

function bitAt(words: readonly number[], position: number): number {
  return ((words[position >>> 5] ?? 0) >>> (31 - (position & 31))) & 1;
}

function child<T>(node: Node<T>, words: readonly number[]): Node<T> | null {
  return bitAt(words, node.prefix) === 0 ? node.zero : node.one;
}

function attach<T>(parent: Node<T>, node: Node<T>): void {
  if (bitAt(node.words, parent.prefix) === 0) parent.zero = node;
  else parent.one = node;
}

/** The child whose block holds the address. */
function holder<T>(node: Node<T>, address: IpAddress): Node<T> | null {
  if (node.prefix === address.words.length * 32) return null;
  const next = child(node, address.words);
  return next !== null && prefixEquals(next.words, address.words, next.prefix) ? next : null;
}
