import { crypto } from '../../policy/jwt/crypto.ts';
import { FAULTS, type TokenFault } from '../../policy/jwt/faults.ts';
import type { VerificationKey } from '../../policy/jwt/jwk.ts';
import type { KeySet } from '../../policy/jwt/key-set.ts';
import { type ParsedToken, parseToken } from '../../policy/jwt/token.ts';
import type { ReadToken, TokenVerifier } from '../../policy/tokens/acceptance.ts';

export interface VerifiedTokensLimits {
  readonly entries: number;
  /** Estimated bytes of what the entries hold. */
  readonly bytes: number;
  /** Digests of tokens whose signature did not hold. */
  readonly failures: number;
}

export const VERIFIED_TOKENS_LIMITS: VerifiedTokensLimits = { entries: 10_000, bytes: 8 * 1024 * 1024, failures: 512 };

/** What an entry costs besides what grows with its token: map slot, digest, objects. */
const ENTRY_OVERHEAD = 400;
/** Bytes of parsed claims for a byte of a token, by measurement of typical ones. */
const CLAIMS_FACTOR = 2;

/** A token whose signature one key set has verified. What depends on the clock or on a rule is asked each time. */
interface Entry extends ReadToken {
  readonly keys: KeySet;
  /** Of these the one that has signed it. */
  readonly signer: VerificationKey;
  readonly bytes: number;
}

/** Deterministic for a token and a key set: only what its signature makes of it, NEVER that it has expired. */
interface Failure {
  readonly keys: KeySet;
  readonly fault: TokenFault;
}

/**
 * Verifies tokens, and remembers those it has verified, by SHA-256 digest: a verification costs 20 to 60 µs, finding it again 1 µs. Bounded by two
 * generations: what was used lately is in the young one; when that holds half of what is allowed it becomes the old one, whose rest is forgotten.
 * A token that fails is remembered apart, in a small table: a flood of bad ones pushes no good one out. The owner calls `clear` when keys or
 * rules change.
 */
export class VerifiedTokens implements TokenVerifier {
  /** Signatures that were computed and did not hold, ever: what is remembered of a token costs nothing. */
  forgeries = 0;
  readonly #limits: VerifiedTokensLimits;
  #young = new Map<string, Entry>();
  #old = new Map<string, Entry>();
  #youngBytes = 0;
  #failures = new Map<string, Failure>();
  /** Some rule passes the payload on: entries keep it. */
  #keepPayload = false;
  /** The token at hand, which every rule asks for. */
  #text = '';
  #digest = '';
  #entry: Entry | null = null;
  #parsed: ParsedToken | TokenFault | null = null;

  constructor(limits: VerifiedTokensLimits = VERIFIED_TOKENS_LIMITS) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#young.size + this.#old.size;
  }

  clear(keepPayload: boolean): void {
    this.#young = new Map();
    this.#old = new Map();
    this.#youngBytes = 0;
    this.#failures = new Map();
    this.#keepPayload = keepPayload;
    this.#take('');
  }

  read(text: string): ReadToken | TokenFault {
    if (text !== this.#text) this.#take(text);
    if (this.#entry !== null) return this.#entry;
    this.#parsed ??= parseToken(text);
    return this.#parsed;
  }

  signatureFault(text: string, keys: KeySet): TokenFault | null {
    if (text !== this.#text) this.#take(text);
    if (this.#entry?.keys === keys) return null;
    const failure = this.#failures.get(this.#digest);
    if (failure?.keys === keys) return failure.fault;
    this.#parsed ??= parseToken(text);
    if (typeof this.#parsed === 'string') return this.#parsed;
    const signer = keys.signerOf(this.#parsed);
    if (typeof signer === 'string') {
      if (signer === FAULTS.signature) this.forgeries++;
      this.#rememberFailure({ keys, fault: signer });
      return signer;
    }
    this.#remember(this.#parsed, keys, signer);
    return null;
  }

  /** Whose signature of a token `signatureFault` has found good; null: nobody's, or it is forgotten. */
  signerOf(text: string): VerificationKey | null {
    if (text !== this.#text) this.#take(text);
    return this.#entry?.signer ?? null;
  }

  /** The end of a request: nothing of its token is held any longer than the cache holds it. */
  release(): void {
    if (this.#text !== '') this.#take('');
  }

  #take(text: string): void {
    this.#text = text;
    this.#parsed = null;
    this.#entry = null;
    this.#digest = '';
    if (text === '') return;
    this.#digest = crypto().hash('sha256', text, 'latin1');
    const young = this.#young.get(this.#digest);
    if (young !== undefined) {
      this.#entry = young;
      return;
    }
    const old = this.#old.get(this.#digest);
    if (old === undefined) return;
    this.#old.delete(this.#digest);
    this.#put(old);
  }

  #remember({ claims, payload }: ParsedToken, keys: KeySet, signer: VerificationKey): void {
    // A copy: a slice would keep the whole head that it was cut out of.
    const kept = this.#keepPayload ? Buffer.from(payload, 'latin1').toString('latin1') : '';
    const bytes = ENTRY_OVERHEAD + payload.length * CLAIMS_FACTOR + kept.length;
    this.#put({ claims, payload: kept, keys, signer, bytes });
  }

  #put(entry: Entry): void {
    this.#entry = entry;
    const full =
      this.#young.size >= this.#limits.entries / 2 || this.#youngBytes + entry.bytes > this.#limits.bytes / 2;
    if (full && this.#young.size > 0) {
      this.#old = this.#young;
      this.#young = new Map();
      this.#youngBytes = 0;
    }
    this.#youngBytes += entry.bytes - (this.#young.get(this.#digest)?.bytes ?? 0);
    this.#young.set(this.#digest, entry);
  }

  #rememberFailure(failure: Failure): void {
    if (this.#failures.size >= this.#limits.failures) this.#failures.clear();
    this.#failures.set(this.#digest, failure);
  }
}
