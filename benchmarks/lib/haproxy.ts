import { mkdirSync, writeFileSync } from 'node:fs';
import { makeCertificates } from './certificates.ts';
import { type Contender, type Endpoint, hostPort } from './contender.ts';
import { answersOk } from './http.ts';
import { freePort } from './ports.ts';
import type { RunningProcess } from './processes.ts';
import { ProxyPair } from './proxy-pair.ts';
import type { Workbench } from './workbench.ts';

/**
 * The yardstick: two HAProxy processes in TCP mode, one thread each, mutual TLS 1.3 with P-256 certificates between them, at their leanest:
 * no log, no statistics, no rule, and the cheaper AES-128-GCM that Debian's own haproxy.cfg prefers. Session reuse stays at its default (on).
 */
export class HaproxyContender implements Contender {
  readonly name = 'HAProxy';
  readonly #bench: Workbench;
  readonly #backend: Endpoint;
  readonly #probePath: string;
  #address: Endpoint | null = null;
  readonly #pair = new ProxyPair('HAProxy');

  constructor(bench: Workbench, backend: Endpoint, probePath: string) {
    this.#bench = bench;
    this.#backend = backend;
    this.#probePath = probePath;
  }

  get clientAddress(): Endpoint {
    if (this.#address === null) throw new Error('HAProxy is not started');
    return this.#address;
  }

  get pids(): readonly [number, number] {
    return this.#pair.pids;
  }

  async start(): Promise<void> {
    const directory = this.#bench.path('haproxy');
    mkdirSync(directory);
    await makeCertificates(this.#bench, directory, ['client', 'server']);
    const client = { address: '127.0.0.1', port: await freePort() };
    const server = { address: '127.0.0.1', port: await freePort() };
    const mutual = `ca-file ${directory}/ca.pem verify required ssl-min-ver TLSv1.3`;
    const serverSide = this.#launch('server', [
      `bind ${hostPort(server)} ssl crt ${directory}/server.pem ${mutual}`,
      `server backend ${hostPort(this.#backend)}`,
    ]);
    const clientSide = this.#launch('client', [
      `bind ${hostPort(client)}`,
      `server peer ${hostPort(server)} ssl crt ${directory}/client.pem ${mutual}`,
    ]);
    this.#pair.set(clientSide, serverSide);
    this.#address = client;
    await this.#bench.until('HAProxy relays', 10_000, async () => {
      await this.settle();
      return await answersOk(client, this.#probePath);
    });
  }

  settle(): Promise<void> {
    this.#pair.assertRunning();
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    await this.#pair.stop();
  }

  #launch(side: 'client' | 'server', listener: readonly string[]): RunningProcess {
    const file = this.#bench.path('haproxy', `${side}.cfg`);
    writeFileSync(file, configuration(side, listener));
    return this.#bench.processes.start({
      name: `HAProxy's ${side} side`,
      command: this.#bench.tools.haproxy,
      args: ['-db', '-f', file],
      core: this.#bench.cores.proxies,
      stderr: this.#bench.path('haproxy', `${side}.stderr`),
    });
  }
}

function configuration(side: string, listener: readonly string[]): string {
  return `global
  nbthread 1
  maxconn 8192
  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
  ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256

defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h

listen ${side}
${listener.map((line) => `  ${line}`).join('\n')}
`;
}
