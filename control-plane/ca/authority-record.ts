import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';
import type { AuthorityState, GenerationState, RotationPhase } from './authority-state.ts';
import type { AuthorityStore } from './authority-store.ts';
import {
  createGeneration,
  createIntermediate,
  type Generation,
  intermediateEnd,
  type Lifetimes,
} from './generation.ts';

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
    this.#checkValidity();
    store.removeUnused(state);
  }

  /** Makes the first root. */
  static create(store: AuthorityStore, options: RecordOptions): AuthorityRecord {
    const { trustDomain, clock, lifetimes } = options;
    const first = createGeneration(1, trustDomain, clock(), lifetimes);
    const state: GenerationState = { id: 1, intermediate: first.intermediate.number, leavesExpireBy: 0 };
    store.create({ version: 1, trustDomain, rotation: 'none', generations: [state] }, [first]);
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
    this.#expectPhase('none');
    const { trustDomain, clock, lifetimes } = this.#options;
    const next = createGeneration(this.#lastGeneration + 1, trustDomain, clock(), lifetimes);
    this.#lastGeneration = next.id;
    this.#store.writeGeneration(next);
    const added: GenerationState = { id: next.id, intermediate: next.intermediate.number, leavesExpireBy: 0 };
    this.#write({ ...this.#state, rotation: 'begun', generations: [this.#issuingState, added] });
    this.#generations = [this.#generations[0], next];
  }

  activateRotation(): void {
    this.#expectPhase('begun');
    const [, next] = this.#state.generations;
    const [oldGeneration, nextGeneration] = this.#generations;
    if (next === undefined || nextGeneration === undefined) throw withoutRoot();
    const old: GenerationState = { ...this.#issuingState, leavesExpireBy: this.#latestLeafEnd };
    this.#write({ ...this.#state, rotation: 'activated', generations: [next, old] });
    this.#generations = [nextGeneration, oldGeneration];
    this.#latestLeafEnd = next.leavesExpireBy;
  }

  finishRotation(): void {
    this.#expectPhase('activated');
    const end = this.#state.generations[1]?.leavesExpireBy ?? Number.POSITIVE_INFINITY;
    if (this.#options.clock() <= end) {
      const message = `the old root is still needed: the last certificate under it ends at ${isoTime(end)}`;
      throw new PosternError('ERR_CA_ROTATION', message, { exitCode: EXIT.temporary });
    }
    this.#write({ ...this.#state, rotation: 'none', generations: [this.#issuingState] });
    this.#generations = [this.#generations[0]];
    this.#removeUnused();
  }

  get #issuingState(): GenerationState {
    const [state] = this.#state.generations;
    if (state === undefined) throw withoutRoot();
    return state;
  }

  #withIssuing(change: Partial<GenerationState>): GenerationState[] {
    return [{ ...this.#issuingState, ...change }, ...this.#state.generations.slice(1)];
  }

  /** In the last third of its life, and never so late that leaves would have to be cut short. */
  #renewIntermediateWhenDue(): void {
    const { clock, lifetimes, maxTtlSeconds, trustDomain } = this.#options;
    const [generation, ...others] = this.#generations;
    const { notBefore, notAfter } = generation.intermediate.certificate;
    const now = clock();
    const reserve = Math.max((notAfter - notBefore) / 3, 2 * maxTtlSeconds * 1000);
    if (notAfter - now > reserve || now < this.#renewalNotBefore) return;
    // At the end of the root's life, or with a lifetime under the reserve, a renewal gains next to nothing: not one for each leaf.
    const gained = intermediateEnd(generation.root, now, lifetimes) - notAfter;
    if (gained < lifetimes.intermediateSeconds * 100) return;
    const number = this.#lastIntermediate + 1;
    this.#lastIntermediate = number;
    const renewed = {
      ...generation,
      intermediate: createIntermediate(generation.root, number, trustDomain, now, lifetimes),
    };
    try {
      this.#store.writeIntermediate(renewed);
      this.#write({ ...this.#state, generations: this.#withIssuing({ intermediate: number }) });
    } catch (error) {
      this.#renewalNotBefore = now + RENEWAL_RETRY_MS;
      this.#warn(`the intermediate certificate, which ends at ${isoTime(notAfter)}, could not be renewed`, error);
      return;
    }
    this.#generations = [renewed, ...others];
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

  #expectPhase(phase: RotationPhase): void {
    if (this.#state.rotation === phase) return;
    const message = `the rotation of the root is at step "${this.#state.rotation}", not "${phase}": see postern ca show`;
    throw new PosternError('ERR_CA_ROTATION', message, { exitCode: EXIT.temporary });
  }

  #checkValidity(): void {
    const now = this.#options.clock();
    for (const { root } of this.#generations) {
      const { notBefore, notAfter } = root.certificate;
      if (now > notAfter) {
        const message =
          `the root certificate in ${this.#store.directory} expired at ${isoTime(notAfter)} and every identity with it: ` +
          'check the clock; if it is right, move that directory away and let all workloads join again';
        throw new PosternError('ERR_CA_EXPIRED', message, { exitCode: EXIT.dataError });
      }
      if (now < notBefore) {
        const message =
          `the clock says ${isoTime(now)}, but the root certificate in ${this.#store.directory} ` +
          `begins only at ${isoTime(notBefore)}: set the clock`;
        throw new PosternError('ERR_CA_EXPIRED', message, { exitCode: EXIT.config });
      }
    }
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

const isoTime = (unixMs: number): string => new Date(unixMs).toISOString();

const withoutRoot = (): PosternError =>
  new PosternError('ERR_CA_DAMAGED', 'the certificate authority has no root', { exitCode: EXIT.software });

function nonEmpty(generations: readonly Generation[]): readonly [Generation, ...Generation[]] {
  const [first, ...others] = generations;
  if (first === undefined) throw withoutRoot();
  return [first, ...others];
}
