/**
 * Reads a TLS ClientHello out of the first bytes of a connection without consuming them: is this TLS at all, which ALPN does it offer, which SNI?
 * The answer for the bytes so far is `incomplete` until it is final: more bytes never change a final answer, however they were split.
 *
 * Records are TLSPlaintext of RFC 8446, section 5.1; the hello is section 4.1.2; SNI is RFC 6066, section 3; ALPN is RFC 7301, section 3.1.
 */

export type PeekResult =
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'plaintext' }
  | {
      readonly kind: 'tls';
      /** In the client's order; each byte of a name is one character (ALPN names are octets). */
      readonly alpn: readonly string[];
      /** Lower case, as Envoy keeps it for `connection.sni`; empty where there was none. */
      readonly sni: string;
    }
  | { readonly kind: 'malformed'; readonly reason: string };

/** Most bytes of the wire, record headers included, that a ClientHello may take; hellos with post-quantum key shares take about 1,700. */
export const MAX_CLIENT_HELLO_BYTES = 16_384;

const RECORD_HEADER = 5;
const RECORD_MAX = 16_384;
const HANDSHAKE_HEADER = 4;
const CONTENT_HANDSHAKE = 0x16;
const MAJOR_VERSION = 0x03;
const TYPE_CLIENT_HELLO = 0x01;
const EXTENSION_SERVER_NAME = 0;
const EXTENSION_ALPN = 16;
const MAX_EXTENSIONS = 128;
const MAX_ALPN_NAMES = 64;
const MAX_SNI = 255;

const INCOMPLETE: PeekResult = { kind: 'incomplete' };
const PLAINTEXT: PeekResult = { kind: 'plaintext' };
const malformed = (reason: string): PeekResult => ({ kind: 'malformed', reason });

/** Istio's ALPNs for traffic between its sidecars (pilot/pkg/networking/util, `ALPNInMesh*`). */
const MESH_ALPN: ReadonlySet<string> = new Set([
  'istio',
  'istio-peer-exchange',
  'istio-http/1.0',
  'istio-http/1.1',
  'istio-h2',
]);

/** Whether a client that offers these wants the mesh's mutual TLS, rather than the application's own TLS. */
export function isMeshAlpn(alpn: readonly string[]): boolean {
  for (const name of alpn) if (MESH_ALPN.has(name)) return true;
  return false;
}

/** Looks at `buffer[start, end)` only; neither copies nor keeps it. Never throws. */
export function peekTls(buffer: Buffer, start: number, end: number): PeekResult {
  if (start >= end) return INCOMPLETE;
  // Every server and client of SSL 3 and later begins with a handshake record; an SSLv2 hello begins with 0x80 and is not TLS to us.
  if (buffer[start] !== CONTENT_HANDSHAKE) return PLAINTEXT;

  const limit = Math.min(end, start + MAX_CLIENT_HELLO_BYTES);
  const waiting = (): PeekResult =>
    limit - start >= MAX_CLIENT_HELLO_BYTES ? malformed('the ClientHello takes more than 16 KiB') : INCOMPLETE;

  let record = start;
  let seen = 0;
  let length = 0;
  for (;;) {
    if (record >= limit) return waiting();
    if (buffer[record] !== CONTENT_HANDSHAKE)
      return malformed('a record inside the ClientHello is not a handshake record');
    if (record + 1 >= limit) return waiting();
    if (buffer[record + 1] !== MAJOR_VERSION) return malformed('the record is not of TLS');
    if (record + RECORD_HEADER > limit) return waiting();
    const size = buffer.readUInt16BE(record + 3);
    if (size === 0 || size > RECORD_MAX) return malformed('a handshake record has an impossible length');

    const body = record + RECORD_HEADER;
    const available = Math.min(size, limit - body);
    for (let i = 0; i < available && seen + i < HANDSHAKE_HEADER; i++) {
      const byte = buffer[body + i] ?? 0;
      if (seen + i > 0) length = length * 256 + byte;
      else if (byte !== TYPE_CLIENT_HELLO) return malformed('the first handshake message is not a ClientHello');
    }
    seen += available;
    if (seen >= HANDSHAKE_HEADER) {
      if (length > MAX_CLIENT_HELLO_BYTES - RECORD_HEADER - HANDSHAKE_HEADER) {
        return malformed('the ClientHello takes more than 16 KiB');
      }
      if (seen >= HANDSHAKE_HEADER + length) return readHello(new HandshakeReader(buffer, start, length));
    }
    if (available < size) return waiting();
    record = body + size;
  }
}

/**
 * Reads the body of a handshake message that is known to be whole, across the record headers inside it.
 * Reading past `left` answers zeros and sets `failed`, which stays set: callers may look once, at the end.
 */
class HandshakeReader {
  left: number;
  failed = false;
  readonly #buffer: Buffer;
  #position: number;
  #recordEnd: number;

  constructor(buffer: Buffer, start: number, length: number) {
    this.#buffer = buffer;
    this.#position = start + RECORD_HEADER;
    this.#recordEnd = this.#position + buffer.readUInt16BE(start + 3);
    this.left = HANDSHAKE_HEADER + length;
    this.skip(HANDSHAKE_HEADER);
  }

  u8(): number {
    if (this.left === 0) {
      this.failed = true;
      return 0;
    }
    this.#enterRecord();
    this.left--;
    return this.#buffer[this.#position++] ?? 0;
  }

  u16(): number {
    return this.u8() * 256 + this.u8();
  }

  skip(count: number): void {
    if (count > this.left) {
      this.failed = true;
      this.left = 0;
      return;
    }
    this.left -= count;
    for (let rest = count; rest > 0; ) {
      this.#enterRecord();
      const step = Math.min(rest, this.#recordEnd - this.#position);
      this.#position += step;
      rest -= step;
    }
  }

  #enterRecord(): void {
    if (this.#position < this.#recordEnd) return;
    this.#position = this.#recordEnd + RECORD_HEADER;
    this.#recordEnd = this.#position + this.#buffer.readUInt16BE(this.#position - 2);
  }
}

function readHello(reader: HandshakeReader): PeekResult {
  if (reader.u8() !== MAJOR_VERSION) return malformed('the ClientHello is not of TLS');
  reader.skip(1 + 32); // minor version, random
  const sessionId = reader.u8();
  reader.skip(sessionId);
  const suites = reader.u16();
  reader.skip(suites);
  const compressions = reader.u8();
  reader.skip(compressions);
  if (reader.failed || sessionId > 32 || suites < 2 || suites % 2 !== 0 || compressions < 1) {
    return malformed('the ClientHello has an impossible length in it');
  }
  // TLS 1.2 and older may leave the extensions out altogether.
  if (reader.left === 0) return { kind: 'tls', alpn: [], sni: '' };
  return readExtensions(reader);
}

/** Types seen in the hello being read: reading never yields, so one array serves all. */
const seenTypes = new Uint16Array(MAX_EXTENSIONS);

function readExtensions(reader: HandshakeReader): PeekResult {
  if (reader.u16() !== reader.left) return malformed('the extensions of the ClientHello have a wrong length');
  let alpn: readonly string[] = [];
  let sni = '';
  for (let count = 0; reader.left > 0; count++) {
    const type = reader.u16();
    const size = reader.u16();
    if (reader.failed || size > reader.left) return malformed('an extension of the ClientHello has a wrong length');
    if (count === MAX_EXTENSIONS) return malformed('the ClientHello has too many extensions');
    for (let i = 0; i < count; i++) {
      if (seenTypes[i] === type) return malformed(`the ClientHello has extension ${type} twice`);
    }
    seenTypes[count] = type;
    if (type === EXTENSION_SERVER_NAME) {
      const name = readServerName(reader, size);
      if (name === null) return malformed('the server_name of the ClientHello is not one ASCII host name');
      sni = name;
    } else if (type === EXTENSION_ALPN) {
      const names = readAlpn(reader, size);
      if (names === null) return malformed('the ALPN list of the ClientHello is not well-formed');
      alpn = names;
    } else {
      reader.skip(size);
    }
  }
  return reader.failed ? malformed('an extension of the ClientHello has a wrong length') : { kind: 'tls', alpn, sni };
}

/** One entry of type host_name, RFC 6066, section 3; null where it is anything else. */
function readServerName(reader: HandshakeReader, size: number): string | null {
  if (size < 5 || reader.u16() !== size - 2 || reader.u8() !== 0) return null;
  const length = reader.u16();
  if (length !== size - 5 || length === 0 || length > MAX_SNI) return null;
  let name = '';
  for (let i = 0; i < length; i++) {
    const byte = reader.u8();
    if (byte <= 0x20 || byte >= 0x7f) return null;
    name += String.fromCharCode(byte);
  }
  return name.toLowerCase();
}

function readAlpn(reader: HandshakeReader, size: number): string[] | null {
  if (size < 4 || reader.u16() !== size - 2) return null;
  const names: string[] = [];
  for (let left = size - 2; left > 0; ) {
    const length = reader.u8();
    left -= 1 + length;
    if (length === 0 || left < 0 || names.length === MAX_ALPN_NAMES) return null;
    let name = '';
    for (let i = 0; i < length; i++) name += String.fromCharCode(reader.u8());
    names.push(name);
  }
  return names;
}
