import { mkdirSync, writeFileSync } from 'node:fs';
import { type Backend, FORBIDDEN_PATH, SMALL_PATH } from './backend.ts';
import { makeCertificates } from './certificates.ts';
import { type Endpoint, type HttpContender, hostPort } from './contender.ts';
import { answers, answersOk } from './http.ts';
import { nginxConfiguration } from './nginx.ts';
import { freePort } from './ports.ts';
import type { RunningProcess } from './processes.ts';
import { ProxyPair } from './proxy-pair.ts';
import type { Workbench } from './workbench.ts';

/** Idle connections kept to the next hop: more than any workload needs at a time. */
const KEPT_CONNECTIONS = 512;

/**
 * Two nginx processes, one worker each, mutual TLS 1.3 with P-256 certificates between them, pools of kept-alive connections, a path rule on the server side,
 * no log. HTTP/1.1 only: nginx speaks no HTTP/2 to what it passes requests on to.
 */
export class NginxContender implements HttpContender {
  readonly name = 'nginx';
  readonly h2Address = null;
  readonly #bench: Workbench;
  readonly #backend: Backend;
  #address: Endpoint | null = null;
  readonly #pair = new ProxyPair('nginx');

  constructor(bench: Workbench, backend: Backend) {
    this.#bench = bench;
    this.#backend = backend;
  }

  get clientAddress(): Endpoint {
    if (this.#address === null) throw new Error('nginx is not started');
    return this.#address;
  }

  get pids(): readonly [number, number] {
    return this.#pair.pids;
  }

  async start(): Promise<void> {
    const directory = this.#bench.path('nginx');
    mkdirSync(directory);
    await makeCertificates(this.#bench, directory, ['client', 'server']);
    const client = { address: '127.0.0.1', port: await freePort() };
    const server = { address: '127.0.0.1', port: await freePort() };
    const file = (name: string): string => `${directory}/${name}`;
    const serverSide = this.#launch('server', this.#backend.endpoint, [
      `listen ${hostPort(server)} ssl backlog=4096;`,
      `ssl_certificate ${file('server.pem')};`,
      `ssl_certificate_key ${file('server.pem')};`,
      `ssl_client_certificate ${file('ca.pem')};`,
      'ssl_verify_client on;',
      'ssl_protocols TLSv1.3;',
      'ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;',
      'location /admin/ { return 403; }',
      'location / { proxy_pass http://next; }',
    ]);
    const clientSide = this.#launch('client', server, [
      `listen ${hostPort(client)} backlog=4096;`,
      `proxy_ssl_certificate ${file('client.pem')};`,
      `proxy_ssl_certificate_key ${file('client.pem')};`,
      `proxy_ssl_trusted_certificate ${file('ca.pem')};`,
      'proxy_ssl_verify on;',
      'proxy_ssl_name server;',
      'proxy_ssl_protocols TLSv1.3;',
      'proxy_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;',
      'location / { proxy_pass https://next; }',
    ]);
    this.#pair.set(clientSide, serverSide);
    this.#address = client;
    await this.#bench.until('nginx serves, and refuses by its rule', 10_000, async () => {
      await this.settle();
      return (await answersOk(client, SMALL_PATH)) && (await answers(client, FORBIDDEN_PATH, 403));
    });
  }

  settle(): Promise<void> {
    this.#pair.assertRunning();
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    await this.#pair.stop();
  }

  #launch(side: 'client' | 'server', next: Endpoint, server: readonly string[]): RunningProcess {
    const directory = this.#bench.path('nginx', side);
    mkdirSync(directory);
    writeFileSync(`${directory}/nginx.conf`, configuration(directory, next, server));
    return this.#bench.processes.start({
      name: `nginx's ${side} side`,
      command: this.#bench.tools.nginx,
      args: ['-c', `${directory}/nginx.conf`, '-p', directory, '-e', 'stderr'],
      core: this.#bench.cores.proxies,
      stderr: `${directory}/stderr`,
    });
  }
}

function configuration(directory: string, next: Endpoint, server: readonly string[]): string {
  return nginxConfiguration(
    directory,
    `  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_buffers 8 64k;
  proxy_buffer_size 64k;
  upstream next {
    server ${hostPort(next)};
    keepalive ${KEPT_CONNECTIONS};
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }
  server {
${server.map((line) => `    ${line}`).join('\n')}
  }
`,
  );
}
