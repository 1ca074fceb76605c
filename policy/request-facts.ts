import { claimTexts, type DelimitedClaims } from './claims.ts';
import { type IpAddress, parseIp } from './ip.ts';
import { asString, field } from './json.ts';
import { asciiLowerCase } from './string-match.ts';
import type { Claims, RequestAttributes } from './types.ts';

const NO_LINES: readonly string[] = [];
const NO_REQUEST: RequestAttributes = { method: '', path: '', query: '', host: '', header: () => NO_LINES };

/**
 * The attributes of a request as conditions ask for them, each found when it is first asked for. One object serves the requests of a
 * connection in turn: deciding is synchronous, and nothing is allocated for what no rule asks.
 */
export class RequestFacts {
  readonly #delimited: DelimitedClaims;
  #request = NO_REQUEST;
  #claims: Claims = null;
  #host: string | undefined;
  #forwardedFor: IpAddress | null | undefined;

  constructor(delimited: DelimitedClaims) {
    this.#delimited = delimited;
  }

  begin(request: RequestAttributes, claims: Claims): void {
    this.#request = request;
    this.#claims = claims;
    this.#host = undefined;
    this.#forwardedFor = undefined;
  }

  /** Keeps nothing of a request that is over. */
  end(): void {
    this.begin(NO_REQUEST, null);
  }

  get method(): string {
    return this.#request.method;
  }

  get path(): string {
    return this.#request.path;
  }

  /** In lower case; empty where there is none. */
  get host(): string {
    this.#host ??= asciiLowerCase(this.#request.host);
    return this.#host;
  }

  get hostText(): string {
    return this.#request.host;
  }

  /** Path and query. */
  get target(): string {
    return this.#request.path + this.#request.query;
  }

  /** Each line of a header; `name` in lower case. */
  header(name: string): readonly string[] {
    return this.#request.header(name);
  }

  /** The right-most address of X-Forwarded-For; null where there is none that can be read. */
  get forwardedFor(): IpAddress | null {
    if (this.#forwardedFor === undefined) this.#forwardedFor = readForwardedFor(this.forwardedForText);
    return this.#forwardedFor;
  }

  get forwardedForText(): string | null {
    const line = this.#request.header('x-forwarded-for').at(-1);
    return line === undefined ? null : line.slice(line.lastIndexOf(',') + 1).trim();
  }

  get hasClaims(): boolean {
    return this.#claims !== null;
  }

  get issuer(): string | null {
    return asString(field(this.#claims, 'iss'));
  }

  get subject(): string | null {
    return asString(field(this.#claims, 'sub'));
  }

  claim(path: readonly string[]): readonly string[] {
    return claimTexts(this.#claims, path, this.#delimited);
  }
}

function readForwardedFor(text: string | null): IpAddress | null {
  return text === null ? null : parseIp(text);
}
