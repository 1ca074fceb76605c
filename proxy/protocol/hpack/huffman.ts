/**
 * The static Huffman code of HPACK (RFC 7541, section 5.2). The code of Appendix B is canonical (of equal length, codes rise with their symbols), so
 * that the lengths say all of it.
 */
// biome-ignore format: sixteen symbols a line
const CODE_BITS: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
  28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
  5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
  6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
  24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
  21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
  26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
  30,
];
const EOS = 256;
const LONGEST = 30;

const codes = new Uint32Array(CODE_BITS.length);
/** A state is an inner node of the code's tree; there are as many as symbols but one. */
const STATES = CODE_BITS.length - 1;
/** By state and the next four bits: the state after them, and what they complete, or NOTHING or REFUSED. The shortest code has five bits: never two symbols. */
const nextState = new Uint16Array(STATES * 16);
const emitted = new Int16Array(STATES * 16);
const NOTHING = -1;
const REFUSED = -2;
/** States in which a string may end: at most seven bits into a code, all of them ones (section 5.2: padding is the beginning of EOS). */
const mayEnd = new Uint8Array(STATES);

build();

function build(): void {
  const children = assignCodes();
  for (let state = 0; state < STATES; state++) {
    for (let bits = 0; bits < 16; bits++) step(children, state, bits);
  }
  for (let depth = 0, state = 0; depth <= 7; depth++) {
    mayEnd[state] = 1;
    state = children[state * 2 + 1] ?? 0;
  }
}

/** @returns the tree: for each inner node its two children, an inner node's number, or minus a symbol minus 1. */
function assignCodes(): Int16Array {
  const children = new Int16Array(STATES * 2);
  let nodes = 1;
  let code = 0;
  for (let length = 1; length <= LONGEST; length++, code <<= 1) {
    for (let symbol = 0; symbol < CODE_BITS.length; symbol++) {
      if (CODE_BITS[symbol] !== length) continue;
      codes[symbol] = code;
      let node = 0;
      for (let bit = length - 1; bit > 0; bit--) {
        const at = node * 2 + ((code >>> bit) & 1);
        if (children[at] === 0) children[at] = nodes++;
        node = children[at] ?? 0;
      }
      children[node * 2 + (code & 1)] = -symbol - 1;
      code++;
    }
  }
  return children;
}

function step(children: Int16Array, from: number, bits: number): void {
  const at = from * 16 + bits;
  let node = from;
  emitted[at] = NOTHING;
  for (let bit = 3; bit >= 0; bit--) {
    const child = children[node * 2 + ((bits >>> bit) & 1)] ?? 0;
    if (child >= 0) {
      node = child;
      continue;
    }
    const symbol = -child - 1;
    emitted[at] = symbol === EOS ? REFUSED : symbol;
    node = 0;
    if (symbol === EOS) break;
  }
  nextState[at] = node;
}

/** @returns how many bytes of `to` were written, -1 where the string is malformed. `to` holds at least 8/5 of the encoded bytes. */
export function huffmanDecode(bytes: Buffer, start: number, end: number, to: Buffer): number {
  let state = 0;
  let length = 0;
  for (let p = start; p < end; p++) {
    const byte = bytes[p] ?? 0;
    for (let shift = 4; shift >= 0; shift -= 4) {
      const at = state * 16 + ((byte >>> shift) & 15);
      const symbol = emitted[at] ?? REFUSED;
      if (symbol >= 0) to[length++] = symbol;
      else if (symbol === REFUSED) return -1;
      state = nextState[at] ?? 0;
    }
  }
  return mayEnd[state] === 1 ? length : -1;
}

/** Bytes that `text` (a byte a character) takes when encoded. */
export function huffmanBytes(text: string): number {
  let bits = 0;
  for (let i = 0; i < text.length; i++) bits += CODE_BITS[text.charCodeAt(i) & 0xff] ?? LONGEST;
  return (bits + 7) >>> 3;
}

/** Writes `text` at `at`, which has room for `huffmanBytes`. @returns the position after it. */
export function huffmanEncode(text: string, to: Buffer, at: number): number {
  let pending = 0;
  let count = 0;
  let p = at;
  for (let i = 0; i < text.length; i++) {
    const symbol = text.charCodeAt(i) & 0xff;
    const code = codes[symbol] ?? 0;
    // At most 7 bits wait and a code has at most 30: in two parts, so that 32 bits hold them.
    const bits = CODE_BITS[symbol] ?? 0;
    const high = Math.max(0, bits - 16);
    pending = ((pending << high) | (code >>> (bits - high))) >>> 0;
    count += high;
    while (count >= 8) {
      count -= 8;
      to[p++] = (pending >>> count) & 0xff;
    }
    pending = (((pending & 0x7f) << (bits - high)) | (code & ((1 << (bits - high)) - 1))) >>> 0;
    count += bits - high;
    while (count >= 8) {
      count -= 8;
      to[p++] = (pending >>> count) & 0xff;
    }
    pending &= 0x7f;
  }
  if (count > 0) to[p++] = ((pending << (8 - count)) | (0xff >>> count)) & 0xff;
  return p;
}
