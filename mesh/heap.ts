import { flushCompileCache } from 'node:module';

/**
 * Collects all garbage of this thread, and gives back what of memory only its start has needed: node's copies of cached code among it (2 MB of a
 * worker), which it would keep for ever. Takes some ten milliseconds, and throws compiled code away that has not run for a while.
 *
 * The collector's function is there with `--expose-gc` (cli/sidecar/launch.ts); without it, the garbage stays until V8 wants the room.
 */
export function collectAllGarbage(): void {
  flushCompileCache();
  globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}
