import type { Logger } from 'pino';
import { EXIT, PosternError } from '../mesh/errors.ts';
import { type AcknowledgementResult, RootRotation, type RotationProgress } from './ca/rotation.ts';
import type { Platform } from './platform.ts';
import type { Pusher } from './push/pusher.ts';

/** The rotation of the root, for as long as this process leads; and who trusts which roots, whoever leads. */
export class LeaderRotation {
  readonly #platform: Platform;
  readonly #pusher: Pusher;
  readonly #log: Logger;
  /** Null while another replica leads. */
  #rotation: RootRotation | null = null;
  #hasLed = false;

  constructor(platform: Platform, pusher: Pusher, log: Logger) {
    this.#platform = platform;
    this.#pusher = pusher;
    this.#log = log;
  }

  /** This process alone changes the root, until `term` aborts. A rotation that another leader activated is finished in time. */
  lead(term: AbortSignal): void {
    const rotation = new RootRotation({
      authority: this.#platform.authority,
      // In a later term there are sidecars of the replicas that led before.
      isNew: this.#platform.isNew && !this.#hasLed,
      clock: () => Date.now(),
      awaitAcknowledgement: (roots, signal) => this.awaitTrust(roots, signal),
      onNotice: (message) => this.#log.info(message),
    });
    this.#rotation = rotation;
    this.#hasLed = true;
    term.addEventListener(
      'abort',
      () => {
        rotation.close();
        if (this.#rotation === rotation) this.#rotation = null;
      },
      { once: true },
    );
  }

  /** @throws PosternError ERR_NOT_LEADER that says who leads; and what `RootRotation.rotate` throws */
  rotate(report: (progress: RotationProgress) => void): Promise<void> {
    if (this.#rotation !== null) return this.#rotation.rotate(report);
    const leader = this.#platform.leader();
    const where = leader === null ? 'no replica leads at this moment: try again soon' : `run it in the pod ${leader}`;
    throw new PosternError('ERR_NOT_LEADER', `only the leading replica changes the root: ${where}`, {
      exitCode: EXIT.temporary,
    });
  }

  /** Of the sidecars of all replicas. */
  async awaitTrust(roots: readonly string[], signal: AbortSignal): Promise<AcknowledgementResult> {
    const [here, elsewhere] = await Promise.all([
      this.#pusher.awaitTrust(roots, signal),
      this.#platform.awaitTrustElsewhere(roots, signal),
    ]);
    return {
      connected: here.connected + elsewhere.connected,
      missing: [...here.missing, ...elsewhere.missing],
    };
  }

  close(): void {
    this.#rotation?.close();
  }
}
