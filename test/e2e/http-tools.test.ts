import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TcpAddress } from '../support/apps.ts';
import { eventually } from '../support/eventually.ts';
import { ask, type HttpApp, http1App, readAll, type Seen, tellWhatYouSaw } from '../support/http-apps.ts';
import { Mesh, serviceManifest } from '../support/mesh.ts';
import { Nginx } from '../support/nginx.ts';
import { runTool, toolTests, urlOf } from '../support/tools.ts';

const HTTP1 = 'web.shop:8080';
const HTTP2 = 'web.shop:8081';
const ORDERS = 'web.shop:8082';
const SMALL = Buffer.from('hello from nginx\n');
const BIG = randomBytes(4 * 1024 * 1024);
const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

const WEB = ((): string => {
  const service = JSON.parse(serviceManifest('web', 8080)) as { spec: { ports: object[] } };
  service.spec.ports = [
    { name: 'http-nginx', port: 8080 },
    { name: 'http2-nginx', port: 8081 },
    { name: 'http-orders', port: 8082 },
  ];
  return JSON.stringify(service);
})();

toolTests(
  'curl',
  'nginx',
  'nghttp',
  'h2load',
  'wrk',
)('tools that people use, through two sidecars', () => {
  let directory: string;
  let nginx: Nginx;
  let orders: HttpApp;
  let mesh: Mesh;
  const at = (service: string): TcpAddress => mesh.workload('frontend').upstream(service);
  const curl = async (...args: readonly string[]): Promise<string> =>
    (await runTool('curl', '-sS', '--fail-with-body', '--max-time', '30', ...args)).stdout;
  const downloaded = (): Buffer => readFileSync(join(directory, 'downloaded'));

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'postern-tools-'));
    writeFileSync(join(directory, 'big'), BIG);
    nginx = await Nginx.start({ 'small.txt': SMALL, 'big.bin': BIG });
    orders = await http1App((request, response) => {
      if (request.url === '/digest') void readAll(request).then((body) => response.end(digest(body)));
      else tellWhatYouSaw(request, response);
    });
    mesh = await Mesh.start({
      manifests: { 'web.yaml': WEB },
      workloads: [
        {
          name: 'web',
          expose: [
            { port: 8080, application: nginx.http1 },
            { port: 8081, application: nginx.http2 },
            { port: 8082, application: orders },
          ],
        },
        { name: 'frontend', upstreams: [HTTP1, HTTP2, ORDERS] },
      ],
    });
    await eventually(async () => (await ask(at(HTTP1), '/small.txt')).status === 200, { what: 'the mesh to work' });
  });

  afterAll(async () => {
    await mesh?.stop();
    await orders?.close();
    await nginx?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  test.each([
    ['HTTP/1.1', '--http1.1', HTTP1],
    ['HTTP/2', '--http2-prior-knowledge', HTTP2],
  ])('curl downloads from nginx over %s', async (_, version, service) => {
    const output = join(directory, 'downloaded');
    const told = await curl(
      version,
      '-o',
      output,
      '-w',
      '%{http_version} %{http_code}',
      urlOf(at(service), '/big.bin'),
    );
    expect(told).toBe(version === '--http1.1' ? '1.1 200' : '2 200');
    expect(digest(downloaded())).toBe(digest(BIG));
  });

  test.each([
    ['HTTP/1.1', '--http1.1', HTTP1],
    ['HTTP/2', '--http2-prior-knowledge', HTTP2],
  ])('curl uploads to nginx over %s', async (_, version, service) => {
    const url = urlOf(at(service), `/uploaded${version}`);
    expect(await curl(version, '-T', join(directory, 'big'), '-w', '%{http_code}', url)).toBe('201');
    await curl(version, '-o', join(directory, 'downloaded'), url);
    expect(digest(downloaded())).toBe(digest(BIG));
  });

  test('curl asks for a part, and gets no more', async () => {
    expect(await curl('-r', '6-9', urlOf(at(HTTP1), '/small.txt'))).toBe('from');
  });

  test('curl posts a form, and several requests over one connection', async () => {
    const url = urlOf(at(ORDERS), '/form');
    const told = await curl(
      '-d',
      'a=1&b=2',
      '-H',
      'X-Team: blue',
      url,
      '--next',
      '-sS',
      '-w',
      '\n%{num_connects}',
      url,
    );
    const [posted = '', second = '', connects] = told.replaceAll('}{', '}\n{').split('\n');
    const seen = JSON.parse(posted) as Seen;
    expect(seen).toMatchObject({ method: 'POST', body: 'a=1&b=2' });
    expect(seen.headers).toMatchObject({ 'x-team': 'blue', 'content-type': 'application/x-www-form-urlencoded' });
    expect(JSON.parse(second)).toMatchObject({ method: 'GET', url: '/form' });
    expect(connects).toBe('0');
  });

  test('curl waits for 100 Continue before it sends a body, and gets it', async () => {
    const args = ['-sSv', '--expect100-timeout', '20', '-H', 'Expect: 100-continue', '-T', join(directory, 'big')];
    const { stdout, stderr } = await runTool('curl', ...args, urlOf(at(ORDERS), '/digest'));
    expect(stdout).toBe(digest(BIG));
    expect(stderr).toMatch(/^< HTTP\/1\.1 100 Continue/m);
    expect(stderr).not.toMatch(/Done waiting for 100-continue/);
  });

  test('curl sends a body whose length it does not know', async () => {
    const told = await curl(
      '-T',
      join(directory, 'big'),
      '-H',
      'Transfer-Encoding: chunked',
      urlOf(at(ORDERS), '/digest'),
    );
    expect(told).toBe(digest(BIG));
  });

  test('nghttp gets several files at a time, with priorities', async () => {
    const urls = ['/small.txt', '/big.bin', '/small.txt?again'].map((path) => urlOf(at(HTTP2), path));
    const { stdout } = await runTool('nghttp', '-n', '-v', ...urls);
    expect(stdout.match(/:status: 200/g)).toHaveLength(3);
    expect(stdout).not.toMatch(/RST_STREAM/);
    expect(stdout).toMatch(/recv SETTINGS frame/);
  });

  test.each([
    ['HTTP/2', [], HTTP2],
    ['HTTP/1.1', ['--h1'], HTTP1],
  ])('h2load: no request of five hundred fails over %s', async (_, version, service) => {
    const args = ['-n', '500', '-c', '5', '-m', '20', ...version, urlOf(at(service), '/small.txt')];
    const { stdout } = await runTool('h2load', ...args);
    expect(stdout).toMatch(/500 succeeded, 0 failed, 0 errored, 0 timeout/);
    expect(stdout).toMatch(/status codes: 500 2xx/);
  });

  test('wrk: a second of requests without an error', async () => {
    const { stdout } = await runTool('wrk', '-t', '1', '-c', '16', '-d', '1s', urlOf(at(HTTP1), '/small.txt'));
    expect(Number(/(\d+) requests in/.exec(stdout)?.[1])).toBeGreaterThan(16);
    expect(stdout).not.toMatch(/Socket errors|Non-2xx/);
  });
});
