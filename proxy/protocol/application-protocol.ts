/** `http`: HTTP of some version by declaration; `opaque`: never looked into; `sniff`: nobody says. */
export type ApplicationProtocol = 'http' | 'opaque' | 'sniff';

const HTTP: readonly string[] = ['http', 'http2', 'grpc', 'grpc-web'];

/**
 * What a port carries. @param declared of the service port (Istio's conventions, lower case); null: undeclared
 * @param opaquePorts undeclared ports that are never looked into
 */
export function applicationProtocol(
  declared: string | null,
  port: number,
  opaquePorts: ReadonlySet<number>,
): ApplicationProtocol {
  if (declared !== null) return HTTP.includes(declared) ? 'http' : 'opaque';
  return opaquePorts.has(port) ? 'opaque' : 'sniff';
}

export type Sniffed = 'http/1' | 'h2' | 'opaque' | 'incomplete';

/** RFC 9113, 3.4; what comes before the second line tells it from every HTTP/1 request. */
const H2_PREFACE = Buffer.from('PRI * HTTP/2.0\r\n', 'latin1');
/** A request line may be as long as this before it is taken for one on its beginning alone. */
const MAX_LINE = 4_096;
const LONGEST_METHOD = 20;
const [LF, CR, SPACE, SLASH, ASTERISK] = [10, 13, 32, 47, 42];

/**
 * What the first bytes of a connection are. HTTP/1 is a line `METHOD target HTTP/1.x` (RFC 9112, section 3) with a method in capitals: a text
 * protocol that happens to begin with `GET ` is none.
 */
export function sniffProtocol(bytes: Buffer, start: number, end: number): Sniffed {
  const length = end - start;
  const have = Math.min(length, H2_PREFACE.length);
  if (have > 0 && bytes.compare(H2_PREFACE, 0, have, start, start + have) === 0) {
    return have === H2_PREFACE.length ? 'h2' : 'incomplete';
  }
  let p = start;
  while (p < end && p - start <= LONGEST_METHOD && isMethodByte(bytes[p] ?? 0)) p++;
  if (p === end) return p - start > LONGEST_METHOD ? 'opaque' : 'incomplete';
  if (p === start || bytes[p] !== SPACE) return 'opaque';
  p++;
  if (p === end) return 'incomplete';
  const newline = bytes.indexOf(LF, p);
  if (newline < 0 || newline >= end) {
    if (length < MAX_LINE) return 'incomplete';
    return bytes[p] === SLASH || bytes[p] === ASTERISK ? 'http/1' : 'opaque';
  }
  const lineEnd = bytes[newline - 1] === CR ? newline - 1 : newline;
  const version = bytes.toString('latin1', Math.max(p, lineEnd - 9), lineEnd);
  return /^ HTTP\/1\.[0-9]$/.test(version) ? 'http/1' : 'opaque';
}

/** Methods are tokens in capitals (RFC 9110, 9.1), a few with a hyphen. */
function isMethodByte(byte: number): boolean {
  return (byte >= 0x41 && byte <= 0x5a) || byte === 0x2d;
}
