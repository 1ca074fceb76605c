import { isJoinToken } from '../../ca/new-join-token.ts';
import type { BearerTokens, ProvenToken, TokenCircumstances } from '../../platform.ts';

/** What proves an identity in a cluster: of pods their service account's token, of machines outside a join token. */
export class ClusterProofs implements BearerTokens {
  readonly #pods: BearerTokens;
  readonly #machines: BearerTokens;

  constructor(parts: { readonly pods: BearerTokens; readonly machines: BearerTokens }) {
    this.#pods = parts.pods;
    this.#machines = parts.machines;
  }

  /** @throws what those throw */
  redeem(token: string, circumstances: TokenCircumstances): ProvenToken | Promise<ProvenToken> {
    return (isJoinToken(token) ? this.#machines : this.#pods).redeem(token, circumstances);
  }
}
