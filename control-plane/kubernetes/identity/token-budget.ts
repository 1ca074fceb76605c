import { RateLimit } from '../../server/rate-limit.ts';

/** Of one address: some restarts in a row. */
const BURST_OF_ONE = 20;
const PER_SECOND_OF_ONE = 1;

/** Bounds the questions to the API server that anybody may cause who can make up a token: of all together, and of one address. */
export class TokenBudget {
  readonly #all: RateLimit;
  readonly #ofOne: RateLimit;

  /** @param now milliseconds, monotonic */
  constructor(all: { readonly burst: number; readonly perSecond: number }, now?: () => number) {
    this.#all = new RateLimit(all.burst, all.perSecond, now);
    this.#ofOne = new RateLimit(BURST_OF_ONE, PER_SECOND_OF_ONE, now);
  }

  /** Takes one question. @returns why it may not be asked now; null: it may */
  refusal(peerAddress: string): string | null {
    if (!this.#ofOne.take(peerAddress)) return `too many tokens come from ${peerAddress}`;
    return this.#all.take('') ? null : 'too many tokens are being verified';
  }
}
