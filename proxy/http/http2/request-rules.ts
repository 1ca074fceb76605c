import type { HeaderList } from '../../protocol/hpack/header-list.ts';
import { isAuthority } from '../../protocol/http1/authority.ts';
import { isSendableTarget } from '../../protocol/http1/request-target.ts';
import type { HttpLimits } from '../../worker/messages.ts';
import { type Fault, malformed, type OwnFields, readFields } from './field-rules.ts';
import type { Field } from './fields.ts';
import { Http2RequestHead, type Scheme } from './heads.ts';

const COLON = 0x3a;
/** Methods are tokens in capitals, as in HTTP/1.1. */
const METHOD = /^[A-Z][A-Z-]{0,19}$/;

interface Pseudo {
  method: string | null;
  scheme: string | null;
  authority: string | null;
  path: string | null;
}

/** The last method that was found good. */
let goodMethod = 'GET';

function isGoodMethod(method: string): boolean {
  if (method === goodMethod) return true;
  if (!METHOD.test(method)) return false;
  goodMethod = method;
  return true;
}

/** The last authority that was found good: mostly the next request has the same. NEVER empty, which is none. */
let goodAuthority = 'localhost';

function isGoodAuthority(authority: string, needsPort: boolean): boolean {
  if (authority === goodAuthority && !needsPort) return true;
  const bytes = Buffer.from(authority, 'latin1');
  if (!isAuthority(bytes, 0, bytes.length, needsPort)) return false;
  goodAuthority = authority;
  return true;
}

/** @returns how many fields were pseudo-header fields; a string: what is wrong */
function readPseudo(headers: HeaderList, pseudo: Pseudo, own: OwnFields): number | string {
  let count = 0;
  for (; count < headers.length; count++) {
    const field = headers[count] as Field;
    const name = field[0];
    const value = field[1];
    if (name.charCodeAt(0) !== COLON) break;
    own.bytes += name.length + value.length;
    if (!takePseudo(name, value, pseudo)) return 'a pseudo-header field that is unknown or doubled';
  }
  return count;
}

/** @returns false where it is unknown, or was there already */
function takePseudo(name: string, value: string, pseudo: Pseudo): boolean {
  let before: string | null;
  switch (name) {
    case ':method':
      before = pseudo.method;
      pseudo.method = value;
      break;
    case ':scheme':
      before = pseudo.scheme;
      pseudo.scheme = value;
      break;
    case ':authority':
      before = pseudo.authority;
      pseudo.authority = value;
      break;
    case ':path':
      before = pseudo.path;
      pseudo.path = value;
      break;
    default:
      return false;
  }
  return before === null;
}

/** The control data of CONNECT (RFC 9113, 8.5) and of all others (8.3.1). */
function checkTarget(method: string, pseudo: Pseudo): string | null {
  const { scheme, path } = pseudo;
  if (method === 'CONNECT') return scheme === null && path === null ? null : 'CONNECT with :scheme or :path';
  if (scheme !== 'http' && scheme !== 'https') return ':scheme is neither http nor https';
  if (path === null || !isSendableTarget(path)) return ':path is missing or not admissible';
  return path === '*' && method !== 'OPTIONS' ? ':path is * and the method not OPTIONS' : null;
}

/** :authority, or Host in its place; where there are both they agree. */
function authorityOf(method: string, pseudo: Pseudo, host: string | null): string | null {
  const authority = pseudo.authority ?? (method === 'CONNECT' ? null : host);
  if (authority === null || !isGoodAuthority(authority, method === 'CONNECT')) return null;
  return host === null || host.toLowerCase() === authority.toLowerCase() ? authority : null;
}

/** Reads and checks the head of a request (RFC 9113, section 8). @param ends: and there is no body */
export function readRequest(headers: HeaderList, ends: boolean, limits: HttpLimits): Http2RequestHead | Fault {
  const pseudo: Pseudo = { method: null, scheme: null, authority: null, path: null };
  const own: OwnFields = { contentLength: null, host: null, lines: [], bytes: 0 };
  const count = readPseudo(headers, pseudo, own);
  if (typeof count === 'string') return malformed(count);
  const fault = readFields(headers, count, own, true);
  if (fault !== null) return malformed(fault);
  const { method } = pseudo;
  if (method === null || !isGoodMethod(method)) return malformed(':method is missing or not admissible');
  if (pseudo.path !== null && pseudo.path.length > limits.targetBytes) {
    return { status: 414, detail: `:path is longer than ${limits.targetBytes} bytes` };
  }
  const wrong = checkTarget(method, pseudo);
  if (wrong !== null) return malformed(wrong);
  const authority = authorityOf(method, pseudo, own.host);
  if (authority === null) return malformed(':authority is missing, not admissible, or not what Host says');
  if (headers.length - count > limits.headerCount || own.bytes > limits.headerBytes) {
    return { status: 431, detail: 'the head is larger than allowed' };
  }
  if (own.contentLength !== null && (method === 'CONNECT' || (ends && own.contentLength > 0))) {
    return malformed('content-length does not agree with the body');
  }
  const facts = {
    method,
    target: pseudo.path ?? '',
    authority,
    scheme: (pseudo.scheme ?? 'http') as Scheme,
    contentLength: own.contentLength,
    receivedBytes: own.bytes,
  };
  return new Http2RequestHead(facts, own.lines);
}
