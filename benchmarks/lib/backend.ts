import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { PosternError } from '../../mesh/errors.ts';
import { type Endpoint, hostPort } from './contender.ts';
import { answersOk, fetchOnce } from './http.ts';
import { nginxConfiguration } from './nginx.ts';
import { freePort } from './ports.ts';
import type { RunningProcess } from './processes.ts';
import type { Workbench } from './workbench.ts';

export const SMALL_PATH = '/small';
export const BULK_PATH = '/bulk';
export const BULK_BYTES = 100_000_000;
export const MEDIUM_PATH = '/medium';
export const MEDIUM_BYTES = 65_536;
/** A unary call of gRPC: one message of this many bytes each way, status 0 in the trailers. */
export const GRPC_PATH = '/bench.Echo/Unary';
export const GRPC_MESSAGE_BYTES = 100;
/** What every contender's path rule refuses. */
export const FORBIDDEN_PATH = '/admin/users';

/** nginx on the load core: one process, small answers from memory, files from the page cache, and a counter of requests. */
export class Backend {
  readonly endpoint: Endpoint;
  /** The same over HTTP/2 without TLS (RFC 9113, 3.3). */
  readonly h2Endpoint: Endpoint;
  readonly #process: RunningProcess;

  private constructor(endpoint: Endpoint, h2Endpoint: Endpoint, running: RunningProcess) {
    this.endpoint = endpoint;
    this.h2Endpoint = h2Endpoint;
    this.#process = running;
  }

  static async start(bench: Workbench): Promise<Backend> {
    const endpoint = { address: '127.0.0.1', port: await freePort() };
    const h2Endpoint = { address: '127.0.0.1', port: await freePort() };
    const directory = bench.path('backend');
    mkdirSync(`${directory}${dirname(GRPC_PATH)}`, { recursive: true });
    writeFileSync(`${directory}${MEDIUM_PATH}`, 'x'.repeat(MEDIUM_BYTES));
    writeFileSync(`${directory}${GRPC_PATH}`, grpcMessage());
    writeFileSync(`${directory}/bulk`, '');
    truncateSync(`${directory}/bulk`, BULK_BYTES); // sparse: no disk is read or filled
    writeFileSync(`${directory}/nginx.conf`, configuration(endpoint, h2Endpoint, directory));
    const running = bench.processes.start({
      name: 'the backend (nginx)',
      command: bench.tools.nginx,
      args: ['-c', `${directory}/nginx.conf`, '-p', directory, '-e', 'stderr'],
      core: bench.cores.load,
      stderr: `${directory}/stderr`,
    });
    const backend = new Backend(endpoint, h2Endpoint, running);
    await bench.until('the backend (nginx) answers', 10_000, async () => {
      running.assertRunning();
      return await answersOk(endpoint, SMALL_PATH);
    });
    return backend;
  }

  /** Requests served so far, this question among them. */
  async requests(): Promise<number> {
    this.#process.assertRunning();
    const { body } = await fetchOnce(this.endpoint, '/status');
    return parseStubStatus(body);
  }
}

/** The third number below `server accepts handled requests` (ngx_http_stub_status_module). */
export function parseStubStatus(body: string): number {
  const requests = /server accepts handled requests\s+\d+ \d+ (\d+)/.exec(body)?.[1];
  if (requests === undefined) {
    throw new PosternError('ERR_BENCH_BACKEND', `not a status page of nginx: ${JSON.stringify(body.slice(0, 200))}`);
  }
  return Number(requests);
}

/** A length-prefixed message (gRPC over HTTP/2): not compressed, its length in four bytes, then that many. */
export function grpcMessage(): Buffer {
  const message = Buffer.alloc(5 + GRPC_MESSAGE_BYTES);
  message.writeUInt32BE(GRPC_MESSAGE_BYTES, 1);
  return message;
}

function configuration(endpoint: Endpoint, h2Endpoint: Endpoint, directory: string): string {
  return nginxConfiguration(
    directory,
    `  sendfile on;
  default_type application/octet-stream;
  server {
    listen ${hostPort(endpoint)} backlog=4096;
    listen ${hostPort(h2Endpoint)} http2 backlog=4096;
    http2_max_concurrent_streams 1024;
    root ${directory};
    location = ${SMALL_PATH} { return 200 "${'postern '.repeat(12)}"; }
    location = ${BULK_PATH} { }
    location = ${MEDIUM_PATH} { }
    location = ${GRPC_PATH} {
      # A static file answers GET alone; this makes it answer the call.
      error_page 405 =200 $uri;
      default_type application/grpc;
      add_trailer grpc-status 0;
    }
    location = /status { stub_status; }
  }
`,
  );
}
