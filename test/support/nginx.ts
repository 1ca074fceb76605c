import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../benchmarks/lib/ports.ts';
import type { TcpAddress } from './apps.ts';
import { Child } from './child.ts';
import { eventually } from './eventually.ts';
import { pathOf } from './tools.ts';

/** nginx as an application on 127.0.0.1: serves the files of a directory, and takes new ones by PUT (RFC 4918). */
export class Nginx {
  readonly http1: TcpAddress;
  /** HTTP/2 with prior knowledge. */
  readonly http2: TcpAddress;
  readonly #directory: string;
  readonly #child: Child;

  private constructor(directory: string, http1: TcpAddress, http2: TcpAddress) {
    this.http1 = http1;
    this.http2 = http2;
    this.#directory = directory;
    const args = ['-c', join(directory, 'nginx.conf'), '-p', directory, '-e', 'stderr'];
    this.#child = Child.start('nginx', pathOf('nginx'), args);
  }

  /** @param files name → content */
  static async start(files: { readonly [name: string]: Buffer }): Promise<Nginx> {
    const directory = mkdtempSync(join(tmpdir(), 'postern-nginx-'));
    mkdirSync(join(directory, 'files'), { recursive: true });
    for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, 'files', name), content);
    const at = async (): Promise<TcpAddress> => ({ address: '127.0.0.1', port: await freePort() });
    const [http1, http2] = [await at(), await at()];
    writeFileSync(join(directory, 'nginx.conf'), configuration(directory, http1.port, http2.port));
    const nginx = new Nginx(directory, http1, http2);
    await eventually(() => nginx.#listens(), { what: 'nginx to listen' });
    return nginx;
  }

  async stop(): Promise<void> {
    await this.#child.stop(5_000);
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #listens(): Promise<boolean> {
    if (!this.#child.alive) throw new Error(this.#child.tail());
    return new Promise((resolve) => {
      const socket = connect(this.http2.port, this.http2.address);
      socket.on('error', () => resolve(false));
      socket.on('connect', () => {
        socket.destroy();
        resolve(true);
      });
    });
  }
}

function configuration(directory: string, http1: number, http2: number): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `  ${kind}_temp_path ${directory}/${kind};`)
    .join('\n');
  const user = process.getuid?.() === 0 ? 'user root;\n' : '';
  return `${user}daemon off;
master_process off;
pid ${directory}/pid;
error_log stderr error;
events { worker_connections 1024; }
http {
${temporary}
  access_log off;
  keepalive_requests 100000;
  client_max_body_size 64m;
  server {
    listen 127.0.0.1:${http1};
    listen 127.0.0.1:${http2} http2;
    root ${directory}/files;
    dav_methods PUT;
  }
}
`;
}
