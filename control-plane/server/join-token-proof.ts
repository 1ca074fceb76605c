import { PosternError } from '../../mesh/errors.ts';
import { ApiError } from '../api-error.ts';
import type { JoinTokens } from '../ca/join-tokens.ts';
import type { BearerTokens, ProvenToken, TokenCircumstances } from '../platform.ts';

const REFUSALS = ['token-unknown', 'token-used', 'token-expired'];

/** Join tokens as proof of identity: each is good for one key. */
export class JoinTokenProof implements BearerTokens {
  readonly #tokens: Pick<JoinTokens, 'redeem'>;

  constructor(tokens: Pick<JoinTokens, 'redeem'>) {
    this.#tokens = tokens;
  }

  redeem(token: string, { publicKeyHash }: TokenCircumstances): ProvenToken {
    try {
      return this.#tokens.redeem(token, publicKeyHash);
    } catch (error) {
      if (!(error instanceof PosternError) || !REFUSALS.includes(error.code)) throw error;
      throw new ApiError(401, error.code, error.message);
    }
  }
}
