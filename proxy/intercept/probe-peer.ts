import { text } from 'node:stream/consumers';
import { type DialResult, dial } from './probe-dial.ts';

/*
 * Program: the other side of an inbound probe, run in a network namespace of its own. It says `ready`, reads one PeerTask (JSON) from its
 * standard input up to its end, dials all targets and prints the results, one DialResult a target, as a JSON array.
 */

export interface PeerTask {
  readonly targets: readonly { readonly address: string; readonly port: number }[];
  readonly timeoutMs: number;
}

if (import.meta.main) {
  process.stdout.write('ready\n');
  const task: PeerTask = JSON.parse(await text(process.stdin));
  const results: DialResult[] = await Promise.all(
    task.targets.map(({ address, port }) => dial(address, port, task.timeoutMs)),
  );
  process.stdout.write(JSON.stringify(results));
}
