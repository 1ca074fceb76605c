import type { HttpVersion, ResponseHead } from '../http-head.ts';
import type { FieldScanner } from './field-scanner.ts';
import { NO_LENGTH } from './field-scanner.ts';
import { Http1Fields } from './fields.ts';
import type { BodyFraming, ConnectionDirective } from './framing.ts';
import { MAX_TAIL_BYTES, writeConnection, writeFraming } from './head-writer.ts';

/** What the parser found in the status line. */
export interface StatusLine {
  readonly version: 'http/1.0' | 'http/1.1';
  readonly status: number;
  readonly reason: string;
  /** The line can be sent on as it is. */
  readonly verbatim: boolean;
  readonly upgrade: string | null;
}

/** The head of an HTTP/1 response: of that to the previous hop, too, by `encode`. */
export class Http1ResponseHead extends Http1Fields implements ResponseHead {
  readonly version: HttpVersion;
  readonly status: number;
  /** What 101 changes to, in lower case; null for every other status. The session must compare it with what was asked for. */
  readonly upgrade: string | null;
  /** Of 1xx and 204 always null: they have no body to have a length. */
  readonly contentLength: number | null;
  readonly receivedBytes: number;
  readonly #reason: string;
  readonly #verbatim: boolean;

  /** Made by the parser only. `section`: offset of the empty line in `text`. */
  constructor(line: StatusLine, text: string, scanner: FieldScanner, section: number, receivedBytes: number) {
    super(text, scanner.entries, scanner.count, section);
    this.version = line.version;
    this.status = line.status;
    this.upgrade = line.upgrade;
    const measured = scanner.contentLength !== NO_LENGTH && line.status >= 200 && line.status !== 204;
    this.contentLength = measured ? scanner.contentLength : null;
    this.receivedBytes = receivedBytes;
    this.#reason = line.reason;
    this.#verbatim = line.verbatim;
  }

  /** Bytes that `encode` writes at most. */
  encodedBytes(): number {
    return this.linesBytes() + this.#reason.length + (this.upgrade?.length ?? 0) + MAX_TAIL_BYTES;
  }

  /**
   * Writes the whole head as HTTP/1.1. `none` keeps the Content-Length of an answer to HEAD, of 304 and of an empty body: use it only
   * where the receiver expects no body or `contentLength` is 0.
   * @returns the position after it
   * @throws RangeError where there is less room than `encodedBytes`, or there is nothing to upgrade to
   */
  encode(to: Buffer, at: number, framing: BodyFraming, connection: ConnectionDirective): number {
    if (to.length - at < this.encodedBytes()) throw new RangeError('no room for the head of a response');
    let p = at;
    if (!this.#verbatim) p += to.latin1Write(`HTTP/1.1 ${this.status} ${this.#reason}\r\n`, p);
    p = this.encodeLines(to, p, this.#verbatim ? 0 : this.fieldsStart);
    p = writeFraming(to, p, framing, this.contentLength);
    return writeConnection(to, p, connection, this.upgrade, false, false);
  }
}
