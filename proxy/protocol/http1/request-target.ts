import { isAuthority } from './authority.ts';

const [SLASH, ASTERISK, QUESTION] = [0x2f, 0x2a, 0x3f];
/** The one scheme: whoever speaks plaintext to us does not ask for `https`, and a gateway for other schemes we are not. */
const SCHEME = 'http://';

/** What a request target says, as ranges of its bytes. */
export interface TargetParts {
  /** Path and query as they are sent on; null: leave the target as it is. */
  readonly target: string | null;
  /** The authority that the target has, as a range; an empty one where it has none. */
  readonly start: number;
  readonly end: number;
}

const ORIGIN_FORM: TargetParts = { target: null, start: 0, end: 0 };

/** Reads a target of visible ASCII without `#` (RFC 9112, section 3.2); null where its form is not one of this method. */
export function readTarget(bytes: Buffer, start: number, end: number, method: string): TargetParts | null {
  if (method === 'CONNECT') {
    return isAuthority(bytes, start, end, true) ? { target: '', start, end } : null;
  }
  if (bytes[start] === SLASH) return ORIGIN_FORM;
  if (bytes[start] === ASTERISK) return end - start === 1 && method === 'OPTIONS' ? ORIGIN_FORM : null;
  return readAbsolute(bytes, start, end, method);
}

function readAbsolute(bytes: Buffer, start: number, end: number, method: string): TargetParts | null {
  const from = start + SCHEME.length;
  if (end <= from || bytes.latin1Slice(start, from).toLowerCase() !== SCHEME) return null;
  let p = from;
  while (p < end && bytes[p] !== SLASH && bytes[p] !== QUESTION) p++;
  if (!isAuthority(bytes, from, p, false)) return null;
  const rest = bytes.latin1Slice(p, end);
  if (rest.startsWith('/')) return { target: rest, start: from, end: p };
  // An empty path is `/`, and `*` for OPTIONS of a whole server (RFC 9112, section 3.2.4).
  return { target: rest === '' && method === 'OPTIONS' ? '*' : `/${rest}`, start: from, end: p };
}

/** Whether this may be sent as a target: visible ASCII in origin form, or `*`. */
export function isSendableTarget(target: string): boolean {
  if (target === '*') return true;
  if (target.charCodeAt(0) !== SLASH) return false;
  for (let i = 1; i < target.length; i++) {
    const code = target.charCodeAt(i);
    if (code <= 0x20 || code >= 0x7f || code === 0x23) return false;
  }
  return true;
}
