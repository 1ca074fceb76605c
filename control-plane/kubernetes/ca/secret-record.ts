import { isReason } from '../../../kubernetes/api/errors.ts';
import { EXIT, messageOf, PosternError } from '../../../mesh/errors.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { isIntermediateDue, isoTime, withIntermediate, withoutRoot } from '../../ca/authority-steps.ts';
import { createIntermediate, type Generation, type Lifetimes } from '../../ca/generation.ts';
import type { Complaints } from '../complaints.ts';
import { sameData } from './object-data.ts';
import { readSecret, type SharedAuthority, writeSecret } from './secret-contents.ts';
import { type CaObjects, presentTerm, type SharedCaOptions } from './shared-ca.ts';
import type { Reading } from './shared-object.ts';
import { refusalOf, sameRoots } from './transition.ts';
import { trustStateOf, writeTrustState } from './trust-state.ts';

export interface SecretRecordOptions
  extends Pick<SharedCaOptions, 'trustDomain' | 'clock' | 'term' | 'log'>,
    Required<Pick<SharedCaOptions, 'slackMs'>>,
    CaObjects {
  readonly lifetimes: Lifetimes;
  /** By this replica's settings. */
  readonly maxTtlSeconds: number;
  readonly complaints: Complaints;
  /** The roots, or their order, are others than before. */
  readonly onRootsChanged: () => void;
}

/** A write that another came before is decided again; more than this many in a row are not an accident. */
const MAX_CONFLICTS = 5;

/**
 * The CA as this replica holds it in memory, and its reading and writing of the Secret that all replicas share. Its calls must not run beside each other.
 *
 * NEVER is a Secret that exists written over unless it was read whole, checked and found to continue what is held.
 */
export class SecretRecord {
  readonly #options: SecretRecordOptions;
  readonly #complaints: Complaints;
  #held: SharedAuthority;
  #confirmedAt: number;

  constructor(options: SecretRecordOptions, opened: { readonly held: SharedAuthority; readonly askedAt: number }) {
    this.#options = options;
    this.#held = opened.held;
    this.#confirmedAt = opened.askedAt;
    this.#complaints = options.complaints;
  }

  get held(): SharedAuthority {
    return this.#held;
  }

  get issuing(): Generation {
    const [generation] = this.#held.generations;
    if (generation === undefined) throw withoutRoot();
    return generation;
  }

  /** Unix time, milliseconds, at which the API was last asked and said that what is held is what is stored. */
  get confirmedAt(): number {
    return this.#confirmedAt;
  }

  /** End of the last leaf that any replica can have issued until the last confirmation, Unix time in milliseconds. */
  get leavesEnd(): number {
    return this.#confirmedAt + this.#held.maxTtlSeconds * 1000;
  }

  /**
   * Reads the Secret and takes it over where that is right; the leader also brings it up to date. Returns whether there is something to read again.
   *
   * @throws KubernetesError
   */
  async refresh(): Promise<boolean> {
    const reading = await this.#options.secret.read();
    if (reading.object === null) return await this.#putBack();
    if (!this.#observe(reading, reading.object) || presentTerm(this.#options) === null) return false;
    const changed = await this.#tend(reading.object);
    await this.#remember();
    return changed;
  }

  /**
   * Reads, decides, writes; again where another write came in between. `step` is asked of what is stored, not of what was held before.
   *
   * @throws PosternError ERR_CA_ROTATION; what `step` throws; KubernetesError, after which the write may have happened or not
   */
  async change(step: (held: SharedAuthority) => SharedAuthority): Promise<void> {
    const { secret } = this.#options;
    for (let attempt = 1; ; attempt++) {
      const reading = await secret.read();
      if (reading.object === null || !this.#observe(reading, reading.object)) {
        const message = `${secret.where} is not the CA that is in use: see the log of this control plane, and put it in order first`;
        throw new PosternError('ERR_CA_ROTATION', message, { exitCode: EXIT.temporary });
      }
      const next = step(this.#held);
      try {
        await this.#write(reading.object, next);
        break;
      } catch (error) {
        if (!isReason(error, 'Conflict') || attempt === MAX_CONFLICTS) throw error;
      }
    }
    const after = await secret.read();
    if (after.object !== null) this.#observe(after, after.object);
  }

  /** Takes over what was read where that is right. Returns whether what is held is what is stored. */
  #observe({ askedAt }: Reading, object: JsonObject): boolean {
    const { secret, trustDomain, clock, slackMs } = this.#options;
    let next: SharedAuthority;
    try {
      next = readSecret(object, trustDomain, secret.where);
    } catch (error) {
      this.#complaints.raise('secret', `${messageOf(error)}. The CA in memory stays in use`, 'error');
      return false;
    }
    const refusal = refusalOf(this.#held, next, { now: clock(), leavesEnd: this.leavesEnd, slackMs });
    if (refusal !== null) {
      const remedy =
        'put the right one back, or delete it and the leader does; to adopt it all the same, restart every control plane';
      const text = `${secret.where} holds another CA, which ${refusal}: the one in memory stays in use; ${remedy}`;
      this.#complaints.raise('secret', text, 'error');
      return false;
    }
    this.#complaints.settle('secret', `${secret.where} is in order again`);
    const before = this.#held;
    this.#held = next;
    // Not the latest of all: a clock that was ahead and has been set back must not count for ever.
    this.#confirmedAt = askedAt;
    if (!sameRoots(before, next)) this.#options.onRootsChanged();
    return true;
  }

  /** The Secret is gone. Any replica could put it back; but two that disagree must not take turns. */
  async #putBack(): Promise<boolean> {
    const { secret, log } = this.#options;
    const term = presentTerm(this.#options);
    const who = term === null ? ', and the leader is to put it back' : ' and is being put back';
    this.#complaints.raise('secret', `${secret.where} has been deleted: the CA in memory stays in use${who}`, 'error');
    if (term === null) return false;
    try {
      await secret.create({ type: 'Opaque', data: writeSecret(this.#held) }, term);
      log.warn(`${secret.where} had been deleted and has been put back: find out who deleted it`);
    } catch (error) {
      // Another's is read next, like any other.
      if (!isReason(error, 'AlreadyExists')) throw error;
    }
    return true;
  }

  /** What the leader does in time: a new intermediate, and a lifetime that settings have raised. Returns whether it has written. */
  async #tend(object: JsonObject): Promise<boolean> {
    const { secret, trustDomain, clock, lifetimes, log } = this.#options;
    const held = this.#held;
    const maxTtlSeconds = Math.max(held.maxTtlSeconds, this.#options.maxTtlSeconds);
    const { root, intermediate } = this.issuing;
    const due = isIntermediateDue(this.issuing, clock(), { lifetimes, maxTtlSeconds });
    if (!due && maxTtlSeconds === held.maxTtlSeconds) return false;
    const renewed = due
      ? withIntermediate(held, createIntermediate(root, intermediate.number + 1, trustDomain, clock(), lifetimes))
      : held;
    try {
      await this.#write(object, { ...renewed, maxTtlSeconds });
    } catch (error) {
      const end = isoTime(intermediate.certificate.notAfter);
      const text = `${secret.where} could not be brought up to date (its intermediate ends at ${end}): ${messageOf(error)}`;
      this.#complaints.raise('tend', text, 'warn');
      return false;
    }
    this.#complaints.settle('tend', `${secret.where} is up to date again`);
    if (due) log.info('the intermediate certificate of the CA has been renewed');
    return true;
  }

  /** Keeps the ConfigMap that says that there is a CA, and which roots it has. */
  async #remember(): Promise<void> {
    const { state } = this.#options;
    const term = presentTerm(this.#options);
    if (term === null) return;
    const data = writeTrustState(trustStateOf(this.#held));
    try {
      const { object } = await state.read();
      if (object === null) await state.create({ data }, term);
      else if (!sameData(object, data)) await state.replace(object, { data }, term);
      this.#complaints.settle('state', `${state.where} can be written again`);
    } catch (error) {
      this.#complaints.raise('state', `${state.where} could not be written: ${messageOf(error)}`, 'warn');
    }
  }

  async #write(read: JsonObject, next: SharedAuthority): Promise<void> {
    const term = presentTerm(this.#options);
    if (term === null) {
      const message = 'this control plane does not lead: try again, another one does or will';
      throw new PosternError('ERR_CA_ROTATION', message, { exitCode: EXIT.temporary });
    }
    await this.#options.secret.replace(read, { data: writeSecret(next) }, term);
  }
}
