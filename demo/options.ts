import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { EXIT, messageOf, PosternError } from '../mesh/errors.ts';

export interface DemoOptions {
  /** Everything that the demo writes is in here. Absolute. */
  readonly directory: string;
  /** Tell the story as a check and end, instead of staying up. */
  readonly once: boolean;
  /** Addresses of the loopback interface even where namespaces would be possible. */
  readonly loopback: boolean;
  readonly help: boolean;
}

export const USAGE = `npm start [-- OPTIONS]: a small mesh of real processes on this machine

  --once       tell the story as a check: exits 0 only if every expectation held
  --dir DIR    where manifests, certificates, logs and sockets go (default: .postern)
  --loopback   no network namespaces: addresses of the loopback interface, explicit upstreams
  --help       this text

Without --loopback it uses network namespaces with nftables redirection: as root, or else in a user
namespace where the system permits those; where neither is possible it says so and uses loopback.
`;

/** @throws PosternError ERR_USAGE */
export function parseOptions(args: readonly string[], root: string): DemoOptions {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        once: { type: 'boolean', default: false },
        dir: { type: 'string' },
        loopback: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    const directory = resolve(values.dir ?? `${root}/.postern`);
    return { directory, once: values.once, loopback: values.loopback, help: values.help };
  } catch (error) {
    throw new PosternError('ERR_USAGE', `${messageOf(error)}\n\n${USAGE}`, { exitCode: EXIT.usage });
  }
}
