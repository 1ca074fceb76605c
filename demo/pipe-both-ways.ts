import type { Socket } from 'node:net';

/** Joins two sockets (made with `allowHalfOpen`) until both directions have ended; the failure of one ends the other. */
export function pipeBothWays(a: Socket, b: Socket): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.on('error', () => to.destroy());
    from.on('close', (failed) => {
      if (failed) to.destroy();
    });
    from.pipe(to);
  }
}
