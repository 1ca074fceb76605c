/**
 * Runs inside a network namespace and makes some of its loopback ports reachable from outside as Unix sockets, which know no namespaces:
 * what `kubectl port-forward` is to a pod. Arguments: pairs of a socket path and a port. Ends with its standard input.
 */
import { connect, createServer } from 'node:net';
import { pipeBothWays } from './pipe-both-ways.ts';

const args = process.argv.slice(2);
const pairs: { readonly path: string; readonly port: number }[] = [];
for (let i = 0; i + 1 < args.length; i += 2) pairs.push({ path: args[i] ?? '', port: Number(args[i + 1]) });

await Promise.all(
  pairs.map(async ({ path, port }) => {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      pipeBothWays(socket, connect({ host: '127.0.0.1', port, allowHalfOpen: true }));
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
  }),
);
process.stdout.write('ready\n');
process.stdin.resume().on('end', () => process.exit(0));
