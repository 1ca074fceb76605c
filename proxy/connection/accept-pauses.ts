import type { DataPlane } from './data-plane.ts';

/** A listener at its limit pauses many times a second: what is said once holds for this long. */
const SAID_FOR_MS = 10_000;

/**
 * What a listener tells of its pauses: each is counted, and the log says of the first what is exhausted, and again where that lasts or changes.
 *
 * @param what is accepted: `tunnels`
 */
export function acceptPauses(plane: DataPlane, what: string): (reason: string) => void {
  let said = '';
  let saidAt = 0;
  return (reason) => {
    const { metrics, loop, log } = plane;
    metrics.acceptPaused();
    if (reason === said && loop.now - saidAt < SAID_FOR_MS) return;
    said = reason;
    saidAt = loop.now;
    log('warn', `accepting ${what} is paused`, { reason });
  };
}
