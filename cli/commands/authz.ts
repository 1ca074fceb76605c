import { once } from 'node:events';
import type { Command } from 'commander';
import { EXIT } from '../../mesh/errors.ts';
import type { AuthzEvalOptions } from '../authz/eval.ts';

/** What a line may say, by example: all there is. */
const REQUEST_FORM = `
A request, on one line; workload is the one that is called:
  {"id":"c1",
   "workload":{"namespace":"shop","serviceAccount":"orders","labels":{"app":"orders"}},
   "connection":{"protocol":"http","sourcePrincipal":"cluster.local/ns/shop/sa/frontend",
                 "sourceIp":"10.1.0.5","destinationIp":"10.1.0.9","destinationPort":8080,"sni":""},
   "request":{"method":"GET","path":"/a?x=1","host":"orders.shop:8080","headers":{"x-a":"1"}},
   "jwt":{"iss":"https://idp.example","sub":"alice","aud":["a"]}}
Always needed: namespace, protocol, addresses and port; method and path, unless protocol is tcp (then there is no
request). The line of a denial in the access log has all of it but labels, headers and claims.
`;

export function register(program: Command): void {
  program
    .command('authz')
    .description('How connections and requests are authorized')
    .command('eval')
    .description('Decide requests as a sidecar would: a JSON object per line in, one per line out, in order')
    .requiredOption('--manifests <path>', 'file or directory of manifests')
    .requiredOption('--requests <file>', 'file of requests, one JSON object a line; - for standard input')
    .option('--mesh-config <file>', 'YAML file of mesh settings (rootNamespace, …), instead of the MeshConfig manifest')
    .option('--explain', 'add the trace: each policy and rule considered, and the first condition that failed')
    .addHelpText(
      'after',
      `${REQUEST_FORM}\nExits 0, or 1 where a line is no request: it is answered by an object with "error". 65: manifests or settings are not admissible.`,
    )
    .action(evaluate);
}

async function evaluate(options: AuthzEvalOptions): Promise<void> {
  const { authzEval } = await import('../authz/eval.ts');
  const wellFormed = await authzEval(options, async (line) => {
    if (!process.stdout.write(line)) await once(process.stdout, 'drain');
  });
  if (!wellFormed) process.exitCode = EXIT.failure;
}
