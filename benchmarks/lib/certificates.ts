import { readFileSync, writeFileSync } from 'node:fs';
import type { Workbench } from './workbench.ts';

/**
 * A throw-away P-256 CA and a leaf for each name, by the openssl command: `ca.pem`, and `<name>.pem` with certificate and key as HAProxy wants them.
 * Keys lie in the workbench's directory (mode 0700) and go with it.
 */
export async function makeCertificates(bench: Workbench, directory: string, names: readonly string[]): Promise<void> {
  const openssl = async (...args: string[]): Promise<string> =>
    bench.processes.run(
      {
        name: `openssl ${args[0] ?? ''}`,
        command: bench.tools.openssl,
        args,
        core: bench.cores.load,
        stderr: `${directory}/openssl.stderr`,
      },
      10_000,
    );
  const file = (name: string): string => `${directory}/${name}`;
  writeFileSync(file('openssl.cnf'), '[req]\ndistinguished_name = name\n[name]\n'); // not the machine's: it adds extensions of its own
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const request = ['req', '-config', file('openssl.cnf'), '-x509', '-days', '2', ...key];
  const authority = ['-addext', 'basicConstraints=critical,CA:TRUE'];
  await openssl(...request, '-subj', '/CN=bench CA', ...authority, '-keyout', file('ca.key'), '-out', file('ca.pem'));
  for (const name of names) {
    const issuer = ['-CA', file('ca.pem'), '-CAkey', file('ca.key')];
    const extensions = [
      ['-addext', 'basicConstraints=critical,CA:FALSE'],
      ['-addext', 'extendedKeyUsage=serverAuth,clientAuth'],
      ['-addext', `subjectAltName=URI:spiffe://cluster.local/ns/bench/sa/${name}`],
    ].flat();
    const output = ['-keyout', file(`${name}.key`), '-out', file(`${name}.crt`)];
    await openssl(...request, ...issuer, '-subj', `/CN=${name}`, ...extensions, ...output);
    const parts = [`${name}.crt`, `${name}.key`].map((part) => readFileSync(file(part), 'utf8'));
    writeFileSync(file(`${name}.pem`), parts.join(''), { mode: 0o600 });
  }
}
