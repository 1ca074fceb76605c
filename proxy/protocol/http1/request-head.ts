import type { HttpVersion, RequestHead } from '../http-head.ts';
import type { FieldScanner } from './field-scanner.ts';
import { NO_LENGTH } from './field-scanner.ts';
import { Http1Fields } from './fields.ts';
import type { BodyFraming, ConnectionDirective } from './framing.ts';
import { MAX_TAIL_BYTES, writeConnection, writeFraming } from './head-writer.ts';
import { isSendableTarget } from './request-target.ts';

/** What the parser found in the request line and in Host. */
export interface RequestLine {
  readonly version: 'http/1.0' | 'http/1.1';
  readonly method: string;
  readonly target: string;
  readonly authority: string;
  /** The authority came with the target alone (HTTP/1.0): Host is to be added. */
  readonly addsHost: boolean;
  /** The line can be sent on as it is. */
  readonly verbatim: boolean;
  readonly upgrade: string | null;
}

/** The head of an HTTP/1 request: of the next hop's, too, by `encode`. */
export class Http1RequestHead extends Http1Fields implements RequestHead {
  readonly version: HttpVersion;
  readonly method: string;
  readonly authority: string;
  readonly upgrade: string | null;
  readonly contentLength: number | null;
  readonly receivedBytes: number;
  readonly #te: boolean;
  #target: string;
  #verbatim: boolean;

  /** Made by the parser only. `section`: offset of the empty line in `text`. */
  constructor(line: RequestLine, text: string, scanner: FieldScanner, section: number, receivedBytes: number) {
    super(text, scanner.entries, scanner.count, section);
    this.version = line.version;
    this.method = line.method;
    this.authority = line.authority;
    this.upgrade = line.upgrade;
    this.contentLength = scanner.contentLength === NO_LENGTH ? null : scanner.contentLength;
    this.receivedBytes = receivedBytes;
    this.#target = line.target;
    this.#verbatim = line.verbatim;
    this.#te = scanner.teTrailers;
    if (scanner.teTrailers) this.add('te', 'trailers');
    if (line.addsHost) this.add('host', line.authority);
  }

  get target(): string {
    return this.#target;
  }

  /** @throws RangeError where it is neither a path of visible ASCII without `#` nor `*`, and for CONNECT, which has none */
  setTarget(target: string): void {
    if (target === this.#target) return;
    if (this.method === 'CONNECT' || !isSendableTarget(target)) throw new RangeError('not a request target');
    this.#target = target;
    this.#verbatim = false;
  }

  /** Bytes that `encode` writes at most. */
  encodedBytes(): number {
    const line = this.method.length + this.#target.length + this.authority.length;
    return this.linesBytes() + line + (this.upgrade?.length ?? 0) + MAX_TAIL_BYTES;
  }

  /**
   * Writes the whole head for the next hop: as HTTP/1.1, but for a request of HTTP/1.0 without any authority, which would not be valid there.
   * @returns the position after it
   * @throws RangeError where there is less room than `encodedBytes`, the framing leaves a body of known length out, or there is nothing to upgrade to
   */
  encode(to: Buffer, at: number, framing: BodyFraming, connection: ConnectionDirective): number {
    if (to.length - at < this.encodedBytes()) throw new RangeError('no room for the head of a request');
    if (framing.kind === 'none' && (this.contentLength ?? 0) > 0) throw new RangeError('a body that is not sent');
    const old = this.authority === '';
    let p = at;
    if (!this.#verbatim) {
      const target = this.method === 'CONNECT' ? this.authority : this.#target;
      p += to.latin1Write(`${this.method} ${target} HTTP/1.${old ? 0 : 1}\r\n`, p);
    }
    p = this.encodeLines(to, p, this.#verbatim ? 0 : this.fieldsStart);
    p = writeFraming(to, p, framing, this.contentLength);
    return writeConnection(to, p, connection, this.upgrade, this.#te && this.has('te'), old);
  }
}
