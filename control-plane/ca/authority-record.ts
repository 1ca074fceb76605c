import { messageOf } from '../../mesh/errors.ts';
import type { StoredAuthority } from './authority-contents.ts';
import type { AuthorityState, GenerationState } from './authority-state.ts';
import {
  activated,
  begun,
  checkRootsValid,
  expectPhase,
  finished,
  firstAuthority,
  isIntermediateDue,
  isoTime,
  withIntermediate,
  withoutRoot,
} from './authority-steps.ts';
import type { AuthorityStore } from './authority-store.ts';
import { createGeneration, createIntermediate, type Generation, type Lifetimes } from './generation.ts';

export interface RecordOptions {
  readonly trustDomain: string;
  /** Unix time, milliseconds. */
  readonly clock: () => number;
  readonly lifetimes: Lifetimes;
  readonly maxTtlSeconds: number;
  readonly onWarning: (message: string) => void;
}

/** After a failed renewal of the intermediate, how long until the next try. It is due months ahead. */
const RENEWAL_RETRY_MS = 60_000;

/**
 * The authority's keys and state in memory, and the only writer of those on disk: every change is written first and in force after.
 *
 * ALWAYS: `generations[0]` issues.
 * ALWAYS: what the disk says about the end of the last leaf of a root is at or after the truth.
 */
export class AuthorityRecord {
  readonly #store: AuthorityStore;
  readonly #options: RecordOptions;
  #state: AuthorityState;
  /** As in the state. */
  #generations: readonly [Generation, ...Generation[]];
  /** Unix time, milliseconds: end of the last leaf of the issuing root. */
  #latestLeafEnd: number;
  /** The earliest end of leaves that the disk may name for the issuing root: a write that failed may have happened or not. */
  #persistedLeafEnd: number;
  #renewalNotBefore = 0;
  // Highest numbers used: a file that a state on disk may name is never written over.
  #lastGeneration: number;
  #lastIntermediate: number;

  private constructor(store: AuthorityStore, options: RecordOptions) {
    const { state, generations } = store.load(options.trustDomain);
    this.#store = store;
    this.#options = options;
    this.#state = state;
    this.#generations = nonEmpty(generations);
    this.#latestLeafEnd = this.#issuingState.leavesExpireBy;
    this.#persistedLeafEnd = this.#latestLeafEnd;
    this.#lastGeneration = Math.max(...generations.map(({ id }) => id));
    this.#lastIntermediate = Math.max(...generations.map(({ intermediate }) => intermediate.number));
    checkRootsValid(generations, options.clock(), {
      location: store.directory,
      remedy: 'move that directory away and let all workloads join again',
    });
    store.removeUnused(state);
  }

  /** Makes the first root. */
  static create(store: AuthorityStore, options: RecordOptions): AuthorityRecord {
    const { trustDomain, clock, lifetimes } = options;
    const first = createGeneration(1, trustDomain, clock(), lifetimes);
    store.create(firstAuthority(trustDomain, first).state, [first]);
    return new AuthorityRecord(store, options);
  }

  static load(store: AuthorityStore, options: RecordOptions): AuthorityRecord {
    return new AuthorityRecord(store, options);
  }

  get state(): AuthorityState {
    return this.#state;
  }

  get generations(): readonly Generation[] {
    return this.#generations;
  }

  get latestLeafEnd(): number {
    return this.#latestLeafEnd;
  }

  /** The generation that issues, its intermediate renewed where that is due. */
  issuing(): Generation {
    this.#renewIntermediateWhenDue();
    return this.#generations[0];
  }

  /**
   * Makes sure that the disk knows how long leaves live before one is given out. Written ahead by one lifetime and renewed at half of that: a write
   * every half lifetime instead of one a certificate, and a full disk stops issuing only after that long, not at once.
   */
  reserve(notAfter: number, lifetimeMs: number): void {
    const persisted = this.#persistedLeafEnd;
    if (notAfter + lifetimeMs / 2 > persisted) {
      const leavesExpireBy = Math.max(notAfter + lifetimeMs, this.#latestLeafEnd);
      try {
        this.#write({ ...this.#state, generations: this.#withIssuing({ leavesExpireBy }) });
      } catch (error) {
        if (notAfter > persisted) throw error;
        this.#warn(`certificates cannot be issued any more from ${isoTime(persisted - lifetimeMs)} on`, error);
      }
    }
    this.#latestLeafEnd = Math.max(this.#latestLeafEnd, notAfter);
  }

  beginRotation(): void {
    expectPhase(this.#state, 'none');
    const { trustDomain, clock, lifetimes } = this.#options;
    const next = createGeneration(this.#lastGeneration + 1, trustDomain, clock(), lifetimes);
    this.#lastGeneration = next.id;
    this.#store.writeGeneration(next);
    this.#take(begun(this.#stored, next));
  }

  activateRotation(): void {
    this.#take(activated(this.#stored, this.#latestLeafEnd));
    this.#latestLeafEnd = this.#issuingState.leavesExpireBy;
  }

  finishRotation(): void {
    this.#take(finished(this.#stored, this.#options.clock()));
    this.#removeUnused();
  }

  get #stored(): StoredAuthority {
    return { state: this.#state, generations: this.#generations };
  }

  #take({ state, generations }: StoredAuthority): void {
    this.#write(state);
    this.#generations = nonEmpty(generations);
  }

  get #issuingState(): GenerationState {
    const [state] = this.#state.generations;
    if (state === undefined) throw withoutRoot();
    return state;
  }

  #withIssuing(change: Partial<GenerationState>): GenerationState[] {
    return [{ ...this.#issuingState, ...change }, ...this.#state.generations.slice(1)];
  }

  #renewIntermediateWhenDue(): void {
    const { clock, lifetimes, trustDomain } = this.#options;
    const [generation] = this.#generations;
    const now = clock();
    if (now < this.#renewalNotBefore || !isIntermediateDue(generation, now, this.#options)) return;
    const number = this.#lastIntermediate + 1;
    this.#lastIntermediate = number;
    const intermediate = createIntermediate(generation.root, number, trustDomain, now, lifetimes);
    try {
      this.#store.writeIntermediate({ ...generation, intermediate });
      this.#take(withIntermediate(this.#stored, intermediate));
    } catch (error) {
      this.#renewalNotBefore = now + RENEWAL_RETRY_MS;
      const end = isoTime(generation.intermediate.certificate.notAfter);
      this.#warn(`the intermediate certificate, which ends at ${end}, could not be renewed`, error);
      return;
    }
    this.#removeUnused();
  }

  #write(state: AuthorityState): void {
    const issuingId = this.#issuingState.id;
    const named = state.generations.find(({ id }) => id === issuingId)?.leavesExpireBy ?? 0;
    this.#persistedLeafEnd = Math.min(this.#persistedLeafEnd, named);
    this.#store.writeState(state);
    this.#state = state;
    this.#persistedLeafEnd = this.#issuingState.leavesExpireBy;
  }

  #removeUnused(): void {
    try {
      this.#store.removeUnused(this.#state);
    } catch (error) {
      this.#warn(`files of replaced keys stay in ${this.#store.directory} until the next start`, error);
    }
  }

  #warn(consequence: string, error: unknown): void {
    this.#options.onWarning(`${consequence}: ${messageOf(error)}`);
  }
}

function nonEmpty(generations: readonly Generation[]): readonly [Generation, ...Generation[]] {
  const [first, ...others] = generations;
  if (first === undefined) throw withoutRoot();
  return [first, ...others];
}
