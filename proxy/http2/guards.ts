import { FloodGuard } from '../protocol/flood-guard.ts';

export interface FloodLimits {
  /** Streams that may be given up in 2 s. */
  readonly resets: number;
  /** PINGs and frames of no meaning in 10 s. */
  readonly trifles: number;
}

/** What a hostile peer pays nothing for and we do; the bounds are far above what a sidecar or an application sends. */
export class FloodGuards {
  /** SETTINGS, GOAWAY, and small CONTINUATIONs. */
  readonly control = new FloodGuard(400, 10_000);
  /** PING, which some gRPC libraries measure with all the time, and frames that are ignored. */
  readonly trifle: FloodGuard;
  /** Streams given up before they came to anything (rapid reset, CVE-2023-44487), refused, or reset because the peer made us (CVE-2025-8671). */
  readonly reset: FloodGuard;
  /** Empty DATA frames. */
  readonly empty = new FloodGuard(2_000, 10_000);
  /** Small WINDOW_UPDATEs, and resets of streams that lived. */
  readonly window = new FloodGuard(100_000, 10_000);

  constructor(limits: FloodLimits) {
    this.reset = new FloodGuard(limits.resets, 2_000);
    this.trifle = new FloodGuard(limits.trifles, 10_000);
  }
}
