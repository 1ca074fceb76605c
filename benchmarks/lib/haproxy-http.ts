import { mkdirSync, writeFileSync } from 'node:fs';
import { type Backend, FORBIDDEN_PATH, SMALL_PATH } from './backend.ts';
import { makeCertificates } from './certificates.ts';
import { type Endpoint, type HttpContender, hostPort } from './contender.ts';
import { answers, answersOk } from './http.ts';
import { freePort } from './ports.ts';
import type { RunningProcess } from './processes.ts';
import { ProxyPair } from './proxy-pair.ts';
import type { Workbench } from './workbench.ts';

/**
 * Two HAProxy processes in HTTP mode, one thread each, mutual TLS 1.3 with P-256 certificates between them; HTTP/1.1 all the way, and HTTP/2 all the
 * way on ports of its own. Connections are reused wherever it knows how to; one path rule on the server side; no log, no statistics.
 */
export class HaproxyHttpContender implements HttpContender {
  readonly name = 'HAProxy';
  readonly #bench: Workbench;
  readonly #backend: Backend;
  #addresses: { readonly h1: Endpoint; readonly h2: Endpoint } | null = null;
  readonly #pair = new ProxyPair('HAProxy');

  constructor(bench: Workbench, backend: Backend) {
    this.#bench = bench;
    this.#backend = backend;
  }

  get clientAddress(): Endpoint {
    if (this.#addresses === null) throw new Error('HAProxy is not started');
    return this.#addresses.h1;
  }

  get h2Address(): Endpoint {
    if (this.#addresses === null) throw new Error('HAProxy is not started');
    return this.#addresses.h2;
  }

  get pids(): readonly [number, number] {
    return this.#pair.pids;
  }

  async start(): Promise<void> {
    const directory = this.#bench.path('haproxy');
    mkdirSync(directory);
    await makeCertificates(this.#bench, directory, ['client', 'server']);
    const at = async (): Promise<Endpoint> => ({ address: '127.0.0.1', port: await freePort() });
    const [client, clientH2, server, serverH2] = [await at(), await at(), await at(), await at()];
    const mutual = `ca-file ${directory}/ca.pem verify required ssl-min-ver TLSv1.3`;
    const rule = `http-request deny deny_status 403 if { path_beg /admin/ }`;
    const serverSide = this.#launch('server', [
      section('h1', [
        `bind ${hostPort(server)} ssl crt ${directory}/server.pem ${mutual} alpn http/1.1`,
        rule,
        `server backend ${hostPort(this.#backend.endpoint)}`,
      ]),
      section('h2', [
        `bind ${hostPort(serverH2)} ssl crt ${directory}/server.pem ${mutual} alpn h2`,
        rule,
        `server backend ${hostPort(this.#backend.h2Endpoint)} proto h2`,
      ]),
    ]);
    const clientSide = this.#launch('client', [
      section('h1', [
        `bind ${hostPort(client)}`,
        `server peer ${hostPort(server)} ssl crt ${directory}/client.pem ${mutual} alpn http/1.1`,
      ]),
      section('h2', [
        `bind ${hostPort(clientH2)} proto h2`,
        `server peer ${hostPort(serverH2)} ssl crt ${directory}/client.pem ${mutual} alpn h2`,
      ]),
    ]);
    this.#pair.set(clientSide, serverSide);
    this.#addresses = { h1: client, h2: clientH2 };
    await this.#bench.until('HAProxy serves, and refuses by its rule', 10_000, async () => {
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

  #launch(side: 'client' | 'server', sections: readonly string[]): RunningProcess {
    const file = this.#bench.path('haproxy', `${side}.cfg`);
    writeFileSync(file, `${GLOBAL}${sections.join('')}`);
    return this.#bench.processes.start({
      name: `HAProxy's ${side} side`,
      command: this.#bench.tools.haproxy,
      args: ['-db', '-f', file],
      core: this.#bench.cores.proxies,
      stderr: this.#bench.path('haproxy', `${side}.stderr`),
    });
  }
}

const GLOBAL = `global
  nbthread 1
  maxconn 8192
  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
  ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256

defaults
  mode http
  http-reuse always
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 1h
`;

function section(name: string, lines: readonly string[]): string {
  return `\nlisten ${name}\n${lines.map((line) => `  ${line}\n`).join('')}`;
}
