import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { PosternError } from '../../mesh/errors.ts';
import type { Endpoint } from './contender.ts';
import { answersOk, fetchOnce } from './http.ts';
import { freePort } from './ports.ts';
import type { RunningProcess } from './processes.ts';
import type { Workbench } from './workbench.ts';

export const SMALL_PATH = '/small';
export const BULK_PATH = '/bulk';
export const BULK_BYTES = 100_000_000;

/** nginx on the load core: one process, small answers from memory, bulk from the page cache, and a counter of requests. */
export class Backend {
  readonly endpoint: Endpoint;
  readonly #process: RunningProcess;

  private constructor(endpoint: Endpoint, running: RunningProcess) {
    this.endpoint = endpoint;
    this.#process = running;
  }

  static async start(bench: Workbench): Promise<Backend> {
    const endpoint = { address: '127.0.0.1', port: await freePort() };
    const directory = bench.path('backend');
    mkdirSync(directory);
    writeFileSync(`${directory}/bulk`, '');
    truncateSync(`${directory}/bulk`, BULK_BYTES); // sparse: no disk is read or filled
    writeFileSync(`${directory}/nginx.conf`, configuration(endpoint, directory));
    const running = bench.processes.start({
      name: 'the backend (nginx)',
      command: bench.tools.nginx,
      args: ['-c', `${directory}/nginx.conf`, '-p', directory, '-e', 'stderr'],
      core: bench.cores.load,
      stderr: `${directory}/stderr`,
    });
    const backend = new Backend(endpoint, running);
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

function configuration(endpoint: Endpoint, directory: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `  ${kind}_temp_path ${directory}/${kind};`)
    .join('\n');
  return `daemon off;
master_process off;
pid ${directory}/pid;
error_log stderr error;
events { worker_connections 16384; }
http {
${temporary}
  access_log off;
  sendfile on;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  default_type application/octet-stream;
  server {
    listen ${endpoint.address}:${endpoint.port} backlog=4096;
    root ${directory};
    location = ${SMALL_PATH} { return 200 "${'postern '.repeat(12)}"; }
    location = ${BULK_PATH} { }
    location = /status { stub_status; }
  }
}
`;
}
