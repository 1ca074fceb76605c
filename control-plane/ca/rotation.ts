import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';
import type { Authority } from '../platform.ts';

/** One line of what `postern ca rotate` prints. */
export interface RotationProgress {
  readonly step: 'begun' | 'resumed' | 'settling' | 'waiting' | 'acknowledged' | 'activated';
  readonly message: string;
}

export interface AcknowledgementResult {
  /** Sidecars connected. */
  readonly connected: number;
  /** Those of them that have not acknowledged the bundle, as an operator knows them. */
  readonly missing: readonly string[];
}

/** Resolves when every connected sidecar has acknowledged a trust bundle that holds all these roots, or at once when `signal` aborts. */
export type AwaitAcknowledgement = (roots: readonly string[], signal: AbortSignal) => Promise<AcknowledgementResult>;

export interface RotationOptions {
  readonly authority: Authority;
  /** The CA is so new that there cannot be sidecars of an earlier life of this process: nothing to settle. Default false. */
  readonly isNew?: boolean;
  /** Unix time, milliseconds. */
  readonly clock: () => number;
  readonly awaitAcknowledgement: AwaitAcknowledgement;
  /** Told of the end of a rotation, which comes long after it was asked for, and of what delays it. */
  readonly onNotice?: (message: string) => void;
  /** Milliseconds; default 60 s. */
  readonly acknowledgementDeadlineMs?: number;
  /** How long after a start the sidecars of an earlier life may take to come back, milliseconds; default 30 s. */
  readonly settleMs?: number;
}

/** Longest sleep before looking again whether the old root may go: the clock may be set meanwhile. Milliseconds. */
const MAX_SLEEP_MS = 60_000;
/** After the last leaf's end, for verifiers whose clock is behind. Milliseconds. */
const GRACE_MS = 1_000;

/**
 * Takes the authority through a rotation of its root with no connection lost: the new root is trusted everywhere before anything is issued under it,
 * and the old one until the last certificate under it has expired. Each step is stored before the next; a restart goes on where it stopped.
 */
export class RootRotation {
  readonly #options: RotationOptions;
  readonly #startedAt: number;
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | null = null;
  #running = false;

  /** Finishes a rotation that an earlier life had activated. One that it had only begun waits for the operator's `rotate`. */
  constructor(options: RotationOptions) {
    this.#options = options;
    this.#startedAt = options.clock();
    this.#scheduleFinish();
  }

  /**
   * Begins a rotation or goes on with one that was begun; returns when the new root issues. The old root is dropped later, in the background.
   * Goes on when the one who asked has gone away.
   *
   * @throws PosternError ERR_CA_ROTATION while another is running or finishing, ERR_CA_ROTATION_WAIT where a sidecar does not acknowledge in time: the
   * rotation stays begun, which harms nothing, and may be asked for again.
   */
  async rotate(report: (progress: RotationProgress) => void): Promise<void> {
    if (this.#running) {
      throw new PosternError('ERR_CA_ROTATION', 'a rotation is running already', { exitCode: EXIT.temporary });
    }
    this.#running = true;
    try {
      await this.#begin(report);
      await this.#settle(report);
      await this.#acknowledged(report);
      const { authority } = this.#options;
      await authority.activateRotation();
      const end = authority.retiringLeavesExpireBy ?? 0;
      const when = end > this.#options.clock() ? ` (${new Date(end).toISOString()})` : ', which is now';
      report({
        step: 'activated',
        message: `the new root issues from now on; the old one is dropped by itself once its last certificate has expired${when}`,
      });
    } finally {
      this.#running = false;
      this.#scheduleFinish();
    }
  }

  /** Ends waits and timers; the rotation stays where it is. */
  close(): void {
    this.#stop.abort();
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  async #begin(report: (progress: RotationProgress) => void): Promise<void> {
    const { authority } = this.#options;
    const end = authority.retiringLeavesExpireBy;
    if (end !== null) {
      const message = `the last rotation is not finished: its old root is needed until ${new Date(end).toISOString()}; try again after that`;
      throw new PosternError('ERR_CA_ROTATION', message, { exitCode: EXIT.temporary });
    }
    if (authority.rotationPhase === 'begun') {
      report({ step: 'resumed', message: 'going on with the rotation that was begun' });
      return;
    }
    await authority.beginRotation();
    report({ step: 'begun', message: 'a new root has been made and is being sent to the sidecars' });
  }

  /** Right after a restart nobody is connected, and nobody having acknowledged would look like everybody having. */
  async #settle(report: (progress: RotationProgress) => void): Promise<void> {
    const { isNew = false, clock, settleMs = 30_000 } = this.#options;
    const remaining = Math.min(this.#startedAt + settleMs - clock(), settleMs);
    if (isNew || remaining <= 0) return;
    const message = `the control plane has just started: giving the sidecars ${Math.ceil(remaining / 1000)} s to reconnect`;
    report({ step: 'settling', message });
    await sleep(remaining, this.#stop.signal);
  }

  async #acknowledged(report: (progress: RotationProgress) => void): Promise<void> {
    const { authority, awaitAcknowledgement, acknowledgementDeadlineMs = 60_000 } = this.#options;
    report({ step: 'waiting', message: 'waiting until every connected sidecar trusts the new root' });
    const deadline = AbortSignal.timeout(acknowledgementDeadlineMs);
    const { connected, missing } = await awaitAcknowledgement(
      authority.roots,
      AbortSignal.any([deadline, this.#stop.signal]),
    );
    if (this.#stop.signal.aborted) throw stopped();
    if (missing.length > 0) {
      const shown = missing.slice(0, 10).join(', ') + (missing.length > 10 ? `, and ${missing.length - 10} more` : '');
      const message =
        `${missing.length} of ${connected} sidecars have not confirmed the new root within ${acknowledgementDeadlineMs / 1000} s: ${shown}. ` +
        'The old root goes on issuing. Look at postern status, restart what is stuck, and run postern ca rotate again to go on';
      throw new PosternError('ERR_CA_ROTATION_WAIT', message, { exitCode: EXIT.temporary });
    }
    report({ step: 'acknowledged', message: `all ${connected} connected sidecars trust the new root` });
  }

  #scheduleFinish(): void {
    const { authority, clock } = this.#options;
    const end = authority.retiringLeavesExpireBy;
    if (end === null || this.#timer !== null || this.#stop.signal.aborted) return;
    const sleepMs = Math.min(Math.max(end + GRACE_MS - clock(), 0), MAX_SLEEP_MS);
    this.#wake(sleepMs);
  }

  #wake(milliseconds: number): void {
    if (this.#stop.signal.aborted) return;
    this.#timer = setTimeout(() => {
      // Kept while it runs: nobody else schedules meanwhile.
      void this.#finish();
    }, milliseconds);
    // The process lives for its servers, not for this.
    this.#timer.unref();
  }

  /** Never rejects. */
  async #finish(): Promise<void> {
    const { authority, clock, onNotice } = this.#options;
    const end = authority.retiringLeavesExpireBy;
    if (end === null || clock() < end + GRACE_MS) {
      this.#timer = null;
      this.#scheduleFinish();
      return;
    }
    try {
      await authority.finishRotation();
      this.#timer = null;
      onNotice?.('the rotation of the root is finished: the old root is no longer trusted and its keys are deleted');
    } catch (error) {
      onNotice?.(`the old root could not be dropped yet: ${messageOf(error)}`);
      this.#wake(MAX_SLEEP_MS);
    }
  }
}

const stopped = (): PosternError =>
  new PosternError(
    'ERR_CA_ROTATION_WAIT',
    'the control plane is stopping: run postern ca rotate again when it is back',
    {
      exitCode: EXIT.temporary,
    },
  );

function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(stopped());
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(stopped());
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    }, milliseconds);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}
