import { accessSync, constants } from 'node:fs';

function locate(program: string): string | null {
  for (const directory of ['/usr/bin', '/bin']) {
    const path = `${directory}/${program}`;
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // The next one.
    }
  }
  return null;
}

const SETPRIV = locate('setpriv');
const SETSID = locate('setsid');

/**
 * A command as the demo runs it: in a session of its own, so that the terminal's Ctrl-C reaches the demo alone, which then ends everything in
 * order; killed by the kernel where the demo dies without having been able to (prctl(2), PR_SET_PDEATHSIG); and as another user where asked.
 * setpriv(1) sets the signal after the user, since a change of user clears it. Neither program forks here: the child's PID stays the command's.
 */
export function dieWithParent(argv: readonly string[], uid: number | null = null): readonly string[] {
  const session = SETSID === null ? [] : [SETSID];
  if (SETPRIV === null) return [...session, ...argv];
  const user = uid === null ? [] : [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
  return [...session, SETPRIV, ...user, '--pdeathsig', 'KILL', '--', ...argv];
}
